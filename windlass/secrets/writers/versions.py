"""Names of things that never change: a new value gets a new name, which tells nothing of the value."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

SUFFIX_CHARACTERS: Final = 8


def versioned(name: str, content: bytes, key: bytes, separator: str) -> str:
    """Return a name with the first characters of a keyed digest of the content.

    Args:
        name: what is named; part of what the digest is made of, so equal contents do not look equal.
        content: the content.
        key: a secret of the application that stays the same: without one, short values could be guessed.
        separator: what stands between the name and the digest.

    Raises:
        ValueError: there is no key.
    """
    if not key:
        raise ValueError("a digest that others see needs a key")
    digest = hmac.new(key, f"{name}\0".encode() + content, hashlib.sha256).hexdigest()
    return f"{name}{separator}{digest[:SUFFIX_CHARACTERS]}"
