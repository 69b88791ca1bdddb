"""Values that name a secret instead of holding it: `${provider:target}`, as the whole value.

Grammar::

    value     = reference *( " ?? " reference )
    reference = "${" provider ":" target "}"
    provider  = letter *( letter / digit / "_" / "-" )
    target    = 1*( any character but "{", "}", CR, LF and NUL )

Several references are tried in order: the first that gives a value is taken. Each provider decides what its
target means. Text that does not begin like a reference is none and is taken byte for byte; an environment
warns of one that has a reference further on (`has_inside`). What begins like a reference and is not allowed
today (text after a reference, braces in a target) is an error, so that later forms do not change the meaning
of files that exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from windlass.secrets.providers import registry
from windlass.secrets.providers.base import Provider, ProviderError

OR: Final = " ?? "
_BEGINNING: Final = re.compile(r"\$\{(?P<provider>[A-Za-z][A-Za-z0-9_-]*):")
_WHOLE: Final = re.compile(r"\$\{(?P<provider>[A-Za-z][A-Za-z0-9_-]*):(?P<target>[^{}\r\n\0]+)\}")
_ADDRESS: Final = re.compile(r"(?P<provider>[A-Za-z][A-Za-z0-9_-]*):(?P<target>[^{}\r\n\0]*)")


class InvalidReference(ValueError):
    """A value that begins like a reference and is none.

    Args:
        message: what is wrong, without the value.
        allowed: what would be right.
        nearest: the nearest valid name; empty when there is none.
    """

    def __init__(self, message: str, allowed: str = "", nearest: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.allowed = allowed
        self.nearest = nearest


@dataclass(frozen=True)
class Address:
    """Where one secret is kept: the provider, and under which name."""

    provider: str
    target: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.target}"


@dataclass(frozen=True)
class Reference:
    """Where a variable's value is to be had.

    Args:
        choices: at least one address; the first that gives a value is taken.
    """

    choices: tuple[Address, ...]

    def __str__(self) -> str:
        return OR.join(f"${{{choice}}}" for choice in self.choices)


def parse(value: str) -> Reference | None:
    """Read a value.

    Returns:
        The reference it is, or None when it is plain text.

    Raises:
        InvalidReference: it begins as a reference does and is none.
    """
    if _BEGINNING.match(value) is None:
        return None
    return Reference(tuple(_choice(part) for part in value.split(OR)))


def has_inside(value: str) -> bool:
    """Whether a text has the beginning of a reference to a known provider anywhere but where it begins."""
    found = {match["provider"] for match in _BEGINNING.finditer(value) if match.start() > 0}
    return bool(found) and not found.isdisjoint(registry.names())


def parse_address(text: str, *, as_scope: bool = False) -> Address:
    """Read an address as it is typed in a command: `aws:shop/prod#key`, or the same in `${…}`.

    Args:
        text: the address.
        as_scope: it names a place that holds many secrets, which the provider judges when it is asked.

    Raises:
        InvalidReference: it is none.
    """
    match = _WHOLE.fullmatch(text) or _ADDRESS.fullmatch(text)
    if match is None:
        raise InvalidReference("an address is a provider, `:` and a target", "aws:shop/prod")
    provider = _provider(match["provider"])
    if not as_scope and (fault := provider.fault(match["target"])):
        raise InvalidReference(fault, provider.form)
    return Address(provider.name, match["target"])


def _choice(text: str) -> Address:
    beginning = _BEGINNING.match(text)
    if beginning is None:
        raise InvalidReference(f"after `{OR.strip()}` comes another reference", "${provider:target}")
    provider = _provider(beginning["provider"])
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        raise InvalidReference(
            "a reference must be the whole value, end with `}` and hold no other brace", provider.form
        )
    if fault := provider.fault(whole["target"]):
        raise InvalidReference(fault, provider.form)
    return Address(provider.name, whole["target"])


def _provider(name: str) -> Provider:
    try:
        provider = registry.find(name)
    except ProviderError as error:
        raise InvalidReference(str(error)) from None
    if provider is None:
        raise _unknown_provider(name)
    return provider


def _unknown_provider(name: str) -> InvalidReference:
    close = get_close_matches(name.lower(), registry.names(), 1)
    return InvalidReference(
        f"`${{{name}:` names no known provider of secrets; text that begins like this can be kept in a file "
        "and referenced as `${file:path}`",
        ", ".join(registry.names()),
        close[0] if close else "",
    )
