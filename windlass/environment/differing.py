"""Compares two environments: their variables and settings; values of secrets are compared, never shown.

Nothing is fetched for it unless the values themselves are to be compared.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from windlass.environment.inspection import flat
from windlass.environment.keeping import Keeping
from windlass.environment.variables import Entry, is_secret
from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import Failure, Resolved
from windlass.secrets.redaction import Redactor
from windlass.shell import MASK

Part = Literal["variable", "setting"]
# What a side shows that has no such variable or setting.
MISSING: Final = ""
ONLY, KEPT, VALUE, SECRECY, REQUIRED, UNKNOWN, SAME = (
    "only in one",
    "kept in another place",
    "another value",
    "secret in one only",
    "required in one only",
    "not compared",
    "the same value",
)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in both.

    Args:
        part: a variable or a setting.
        name: the variable's name, or the dotted key.
        what: how they differ.
        first: what the first has; a mask for a secret, empty where it has nothing.
        second: the same of the second.
        first_origin: where that stands: `envs/prod.env:3`; empty for settings.
        second_origin: the same of the second.
    """

    part: Part
    name: str
    what: str
    first: str = MISSING
    second: str = MISSING
    first_origin: str = ""
    second_origin: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as plain data, for `--json`."""
        return asdict(self)


def compare(root: Path, first: str, second: str, *, values: bool = False) -> tuple[Difference, ...]:
    """Compare two environments.

    Args:
        root: the repository.
        first: the name of one.
        second: the name of the other.
        values: get all values of both and say which differ.

    Raises:
        ConfigurationError: the files of one have problems.
    """
    with Keeping.of(root, first) as one, Keeping.of(root, second) as other:
        for each in (one, other):
            if each.found.problems:
                listed = "\n".join(f"  {problem}" for problem in each.found.problems)
                raise ConfigurationError(f"The files of {each.environment.name} have problems:\n{listed}")
        found = (*_variables(one, other, values=values), *_settings(one, other))
        redactor = _redactor(one, other)
        if values:
            # A reference may hold a value, as the arguments of a command can.
            for side in (one, other):
                redactor.learn(_fetched(side))
        return tuple(_redacted(each, redactor) for each in found)


def _fetched(side: Keeping) -> Iterator[str]:
    entries = {name: each for name, each in side.found.entries.items() if each.reference is not None}
    for value in side.values(entries).values():
        if not isinstance(value, Failure):
            yield value.reveal()


def _redactor(one: Keeping, other: Keeping) -> Redactor:
    return Redactor(
        entry.value
        for side in (one, other)
        for entry in side.found.entries.values()
        if entry.reference is None and _is_secret(side, entry)
    )


def _redacted(difference: Difference, redactor: Redactor) -> Difference:
    shown = {key: redactor.redact(value) for key, value in difference.as_dict().items()}
    return Difference(**{**shown, "part": difference.part, "what": difference.what})  # type: ignore[arg-type]


def _variables(one: Keeping, other: Keeping, *, values: bool) -> Iterator[Difference]:
    compared = _compared(one, other) if values else {}
    names = dict.fromkeys((*one.found.entries, *other.found.entries, *one.found.schema.declarations))
    for name in names:
        sides = one.found.entries.get(name), other.found.entries.get(name)
        yield from _required(one, other, name)
        if sides[0] is None or sides[1] is None:
            if sides[0] is not sides[1]:
                yield _difference(one, other, name, ONLY)
            continue
        what = compared.get(name) or _how(one, sides[0], other, sides[1])
        if what and (what != SAME or sides[0].reference != sides[1].reference):
            yield _difference(one, other, name, what)
        if _is_secret(one, sides[0]) != _is_secret(other, sides[1]):
            yield _difference(one, other, name, SECRECY)


def _required(one: Keeping, other: Keeping, name: str) -> Iterator[Difference]:
    """Yield a difference when one environment requires a variable and the other does not."""
    declaration = one.found.schema.declarations.get(name)
    if declaration is None:
        return
    needs = [declaration.is_required(each.environment.name) for each in (one, other)]
    if needs[0] != needs[1]:
        words = ["required" if need else "optional" for need in needs]
        origin = f"{declaration.file}:{declaration.line}"
        yield Difference("variable", name, REQUIRED, words[0], words[1], origin, origin)


def _how(one: Keeping, first: Entry, other: Keeping, second: Entry) -> str:
    """Return how two entries differ as far as their files say; empty when they do not."""
    if first.origin == second.origin:
        return ""
    if first.reference != second.reference:
        return KEPT
    if first.reference is not None:
        return ""
    if _is_secret(one, first) or _is_secret(other, second):
        return UNKNOWN
    return VALUE if first.value != second.value else ""


def _difference(one: Keeping, other: Keeping, name: str, what: str) -> Difference:
    sides = [(each, each.found.entries.get(name)) for each in (one, other)]
    secret = any(entry is not None and _is_secret(side, entry) for side, entry in sides)
    shown = [_shown(entry, secret=secret) for _, entry in sides]
    origins = [entry.origin if entry else "" for _, entry in sides]
    return Difference("variable", name, what, shown[0], shown[1], origins[0], origins[1])


def _shown(entry: Entry | None, *, secret: bool) -> str:
    if entry is None:
        return MISSING
    if entry.reference is not None:
        return str(entry.reference)
    return MASK if secret else entry.value


def _is_secret(side: Keeping, entry: Entry) -> bool:
    rules = side.environment.settings.variables
    marked = side.found.schema.sensitive(entry.name)
    return entry.reference is not None or is_secret(entry.name, entry.value, rules, marked)


def _compared(one: Keeping, other: Keeping) -> dict[str, str]:
    """Return whether the values are the same, for the variables both have."""
    # Digests under a key that nobody keeps: what is compared cannot be guessed from what is left of it.
    key = secrets.token_bytes(32)
    sides = [_digests(each.values(each.found.entries), key) for each in (one, other)]
    found: dict[str, str] = {}
    for name in sides[0].keys() & sides[1].keys():
        pair = [side[name] for side in sides]
        failed = [each for each in pair if isinstance(each, Failure)]
        if failed:
            found[name] = f"cannot be had: {failed[0].reason}"
        else:
            found[name] = SAME if pair[0] == pair[1] else VALUE
    return found


def _digests(values: Mapping[str, Resolved], key: bytes) -> dict[str, bytes | Failure]:
    return {
        name: value
        if isinstance(value, Failure)
        else hmac.digest(key, value.reveal().encode(), hashlib.sha256)
        for name, value in values.items()
    }


def _settings(one: Keeping, other: Keeping) -> Iterator[Difference]:
    sides = [dict(flat(_plain(each))) for each in (one, other)]
    for name in dict.fromkeys((*sides[0], *sides[1])):
        first, second = (side.get(name, MISSING) for side in sides)
        if first != second:
            what = VALUE if name in sides[0] and name in sides[1] else ONLY
            yield Difference("setting", name, what, first, second)


def _plain(keeping: Keeping) -> dict[str, Any]:
    return keeping.environment.settings.model_dump(mode="json")
