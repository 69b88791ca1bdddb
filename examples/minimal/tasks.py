"""This project's tasks: `inv --list` shows them."""

from windlass.tasks import namespace as ns

__all__ = ["ns"]
