"""A file of variables that a POSIX shell sources."""

from __future__ import annotations

from collections.abc import Mapping

from windlass.secrets.writers.entries import entry_fault, require
from windlass.shell import quote


def shell_file(values: Mapping[str, str]) -> bytes:
    """Return a file that a shell reads with `.` and that exports exactly these values.

    Args:
        values: the values by name; they are written in this order.

    Raises:
        ConfigurationError: a name or a value that no process can be given; the value is not shown.
    """
    require(values, entry_fault)
    return "".join(f"export {name}={quote(value)}\n" for name, value in values.items()).encode()
