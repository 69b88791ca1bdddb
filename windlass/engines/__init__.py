"""How a release becomes running containers."""
