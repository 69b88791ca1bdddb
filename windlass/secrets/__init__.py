"""References, redaction, one exact writer per target."""
