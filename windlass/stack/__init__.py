"""The user's Compose project: read, checked, turned into what a release needs."""
