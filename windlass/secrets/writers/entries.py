"""What any process can be given as a variable, and how a writer refuses the rest.

A refusal names the variable and never its value, and says which target could hold it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from windlass.errors import ConfigurationError

# Linux refuses to start a program with a longer `KEY=VALUE` (MAX_ARG_STRLEN, less the final NUL).
MAX_ENTRY_BYTES: Final = 131071
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Fault = Callable[[str, str], str]


def name_fault(name: str) -> str:
    """Return why this is no variable's name; empty when it is one."""
    if _KEY.fullmatch(name) is None:
        return "a variable's name is letters, digits and `_`, and begins with no digit"
    return ""


def text_fault(value: str) -> str:
    """Return why a value can be written nowhere as text, without the value; empty when it can."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "the value is not valid Unicode"
    return ""


def entry_fault(name: str, value: str) -> str:
    """Return why no process can be given this variable, without its value; empty when one can."""
    if fault := name_fault(name):
        return fault
    if "\0" in value:
        return "the value holds a NUL byte, which no variable can hold"
    if fault := text_fault(value):
        return fault
    size = len(f"{name}={value}".encode())
    if size > MAX_ENTRY_BYTES:
        return f"name and value have {size} bytes and the system allows {MAX_ENTRY_BYTES}"
    return ""


def instead_of_a_variable(name: str, value: str) -> str:
    """Return which target could hold a value that no process can be given; empty when none can."""
    if text_fault(value) or name_fault(name):
        return ""
    return "A file can hold it: a Compose, Swarm or Kubernetes secret that is mounted."


def require(values: Mapping[str, str], fault: Fault, instead: Fault = instead_of_a_variable) -> None:
    """Refuse the first value that a target cannot hold.

    Args:
        values: the values by name.
        fault: gives why the target cannot hold a name and its value; empty when it can.
        instead: gives which target could; empty when none can.

    Raises:
        ConfigurationError: a sentence with the variable's name, and without its value.
    """
    for name, value in values.items():
        if why := fault(name, value):
            raise ConfigurationError(f"The variable {name!r} cannot be written: {why}.", instead(name, value))
