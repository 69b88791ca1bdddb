"""Makes key material: passwords, random bytes in base64 or hex, UUIDs; all from the system's own source.

A kind is written `password:32`, `base64:32`, `hex:32` or `uuid`. The number counts characters of a password
and random bytes of the others; without it, it is 32. A password is letters and digits only, at least one
small letter, one capital and one digit, so that it stands in a URL, a shell or a file without any escape.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
import uuid
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from windlass.errors import ConfigurationError
from windlass.shell import Sensitive

DEFAULT_SIZE: Final = 32
MOST: Final = 1024
_ALPHABET: Final = string.ascii_letters + string.digits
# 12 letters and digits are 71 bits, 16 bytes are 128: below, a key is no key.
_CHARACTERS: Final = 12
_BYTES: Final = 16
LEAST: Final = {"password": _CHARACTERS, "base64": _BYTES, "hex": _BYTES}
KINDS: Final = (*LEAST, "uuid")
_KIND: Final = re.compile(r"(?P<name>[A-Za-z0-9]+)(?::(?P<size>[0-9]{1,6}))?")
_FORMS: Final = "password:32 (characters), base64:32 or hex:32 (bytes), uuid"


@dataclass(frozen=True)
class _Kind:
    name: str
    size: int


def kind_fault(kind: str) -> str:
    """Return why a text is no kind of key material, with what would be one; empty when it is."""
    parsed = _parsed(kind)
    return parsed if isinstance(parsed, str) else ""


def generate(kind: str) -> Sensitive:
    """Return new key material of a kind.

    Raises:
        ConfigurationError: it is no kind.
    """
    parsed = _parsed(kind)
    if isinstance(parsed, str):
        raise ConfigurationError(f"{kind}: {parsed}.")
    match parsed.name:
        case "password":
            return Sensitive(_password(parsed.size))
        case "base64":
            return Sensitive(base64.b64encode(secrets.token_bytes(parsed.size)).decode("ascii"))
        case "hex":
            return Sensitive(secrets.token_hex(parsed.size))
        case _:
            return Sensitive(str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)))


def _parsed(text: str) -> _Kind | str:
    """Return the kind, or why it is none."""
    match = _KIND.fullmatch(text)
    if match is None or match["name"] not in KINDS:
        close = get_close_matches(match["name"] if match else text, KINDS, 1)
        suggestion = f"; did you mean `{close[0]}`?" if close else ""
        return f"no kind of key material; allowed: {_FORMS}{suggestion}"
    name = match["name"]
    if name == "uuid":
        return "a uuid has no size" if match["size"] else _Kind(name, 16)
    size = int(match["size"] or DEFAULT_SIZE)
    if not LEAST[name] <= size <= MOST:
        unit = "characters" if name == "password" else "bytes"
        return f"the size of a {name} is {LEAST[name]} to {MOST} {unit}"
    return _Kind(name, size)


def _password(size: int) -> str:
    """Return a password that has every class of characters which programs ask for."""
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(size))
        if all(any(character in kind for character in text) for kind in _CLASSES):
            return text


_CLASSES: Final = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
