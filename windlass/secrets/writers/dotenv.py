"""A `.env` that a program reads itself, in the grammar of python-dotenv.

python-dotenv expands `${NAME}` in every kind of quotes and has no escape for it. So a value with `${` in
it is only read back by a reader that does not expand: `dotenv_values(path, interpolate=False)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from windlass.secrets.writers.entries import entry_fault, require

_ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\r"): "\\r"}


def dotenv_file(values: Mapping[str, str], *, expands: bool = False) -> bytes:
    """Return a file that python-dotenv reads back as exactly these values.

    Args:
        values: the values by name; they are written in this order.
        expands: whether the reader expands `${NAME}`, as python-dotenv does unless told otherwise; a
            value that holds such a text is refused then.

    Raises:
        ConfigurationError: a name or a value that the file cannot hold; the value is not shown.
    """
    require(values, _expanding_fault if expands else entry_fault, _instead)
    return "".join(f"{name}={dotenv_quote(value)}\n" for name, value in values.items()).encode()


def dotenv_quote(value: str) -> str:
    """Return the value in the double quotes of a python-dotenv file."""
    return f'"{value.translate(_ESCAPES)}"'


def _expanding_fault(name: str, value: str) -> str:
    if fault := entry_fault(name, value):
        return fault
    if "${" in value:
        return "the value holds `${`, which a reader of `.env` files expands and has no escape for"
    return ""


def _instead(name: str, value: str) -> str:
    if entry_fault(name, value):
        return "A file can hold it: a Compose, Swarm or Kubernetes secret that is mounted."
    return "An env file that Compose reads can hold it, and so can a shell's."
