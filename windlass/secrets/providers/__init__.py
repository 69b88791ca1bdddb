"""The places secrets are kept in, one module each, and the registry that finds them by name."""
