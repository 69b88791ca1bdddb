"""Compares secrets without showing them: by digests under a key that only this run knows.

Two values have the same digest when they are the same, and a digest tells nothing once the run is over.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from windlass.secrets.providers.base import Failure, Resolved
from windlass.shell import Sensitive

State = Literal["same", "differs", "only in a", "only in b", "unknown"]
KEY_BYTES: Final = 32


class Digests:
    """Digests of secrets under one key.

    Args:
        key: the key; without it, a new random one.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)

    def of(self, value: Sensitive) -> str:
        """Return the digest of a value: HMAC-SHA-256, hexadecimal."""
        data = value.reveal().encode("utf-8", "surrogatepass")
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()

    def same(self, one: Sensitive, other: Sensitive) -> bool:
        """Whether two values are the same."""
        return hmac.compare_digest(self.of(one), self.of(other))


@dataclass(frozen=True)
class Difference:
    """How one name compares.

    Args:
        name: the name.
        state: what came of the comparison; `unknown` when a value cannot be had.
        reason: why it is unknown; empty otherwise.
    """

    name: str
    state: State
    reason: str = ""


def compare(
    a: Mapping[str, Resolved],
    b: Mapping[str, Resolved],
    digests: Digests | None = None,
    *,
    names: tuple[str, str] = ("a", "b"),
) -> tuple[Difference, ...]:
    """Compare two sets of secrets by name.

    Args:
        a: values by name; a secret that cannot be had is a `Failure`, one that is missing is none.
        b: the same of the other side.
        digests: what makes the digests; without it, a key of this call's own.
        names: what the two sides are called in a reason.

    Returns:
        One difference for each name, sorted.
    """
    made = digests or Digests()
    return tuple(
        Difference(name, *_state(a.get(name), b.get(name), made, names)) for name in sorted({*a, *b})
    )


def _state(
    a: Resolved | None, b: Resolved | None, digests: Digests, names: tuple[str, str]
) -> tuple[State, str]:
    sides = zip(names, (a, b), strict=True)
    reasons = [f"{side}: {each}" for side, each in sides if isinstance(each, Failure)]
    if reasons:
        return "unknown", "; ".join(reasons)
    if not isinstance(a, Sensitive):
        return "only in b", ""
    if not isinstance(b, Sensitive):
        return "only in a", ""
    return ("same" if digests.same(a, b) else "differs"), ""
