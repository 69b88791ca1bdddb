"""Writes variables byte for byte, one exact writer per program that reads them.

There is no common env file format: what Compose reads, a shell or `docker run` reads differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from windlass.errors import ConfigurationError

# Linux refuses to start a program with a longer `KEY=VALUE` (MAX_ARG_STRLEN, less the final NUL).
MAX_ENTRY_BYTES: Final = 131071
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Compose expands `$`, reads escapes in double quotes, and ends a line at CR as well as at LF.
_COMPOSE_ESCAPES: Final = {
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("$"): "\\$",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}


def entry_fault(name: str, value: str) -> str:
    """Return why no process can be given this variable, without its value; empty when one can."""
    if _KEY.fullmatch(name) is None:
        return "a variable's name is letters, digits and `_`, and begins with no digit"
    if "\0" in value:
        return "the value holds a NUL byte, which no variable can hold"
    try:
        size = len(f"{name}={value}".encode())
    except UnicodeEncodeError:
        return "the value is not valid Unicode"
    if size > MAX_ENTRY_BYTES:
        return f"name and value have {size} bytes and the system allows {MAX_ENTRY_BYTES}"
    return ""


def compose_env_file(values: Mapping[str, str]) -> bytes:
    """Return a file that Docker Compose reads back as exactly these values.

    Args:
        values: the values by name; they are written in this order.

    Returns:
        The file's content, UTF-8; for `--env-file` and for a service's `env_file:`.

    Raises:
        ConfigurationError: a name or a value that no process can be given; the value is not shown.
    """
    for name, value in values.items():
        if fault := entry_fault(name, value):
            raise ConfigurationError(f"The variable {name!r} cannot be written: {fault}.")
    return "".join(f"{name}={compose_quote(value)}\n" for name, value in values.items()).encode()


def compose_quote(value: str) -> str:
    """Return the value in the double quotes of a Compose env file."""
    return f'"{value.translate(_COMPOSE_ESCAPES)}"'
