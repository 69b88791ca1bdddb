"""Variables for Docker Compose: `--env-file`, `env_file:` and the `.env` beside a Compose file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from windlass.secrets.writers.entries import entry_fault, require

# Compose expands `$`, reads escapes in double quotes, and ends a line at CR as well as at LF.
_ESCAPES: Final = {
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("$"): "\\$",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}


def compose_env_file(values: Mapping[str, str]) -> bytes:
    """Return a file that Docker Compose reads back as exactly these values.

    Args:
        values: the values by name; they are written in this order.

    Returns:
        The file's content, UTF-8; for `--env-file` and for a service's `env_file:`.

    Raises:
        ConfigurationError: a name or a value that no process can be given; the value is not shown.
    """
    require(values, entry_fault)
    return "".join(f"{name}={compose_quote(value)}\n" for name, value in values.items()).encode()


def compose_quote(value: str) -> str:
    """Return the value in the double quotes of a Compose env file."""
    return f'"{value.translate(_ESCAPES)}"'


def compose_text(value: str) -> str:
    """Return a value for a place of a Compose file where Compose expands variables: `$` is doubled."""
    return value.replace("$", "$$")
