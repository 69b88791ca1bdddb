"""Windlass: deploy, back up and look after your own Docker Compose stacks."""
