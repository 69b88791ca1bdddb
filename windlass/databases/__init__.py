"""Databases of the stack, reached with the client tools of their own containers."""
