"""Tells a secret from what people write in its place, and a strong one from a weak one.

Nothing here shows a value. The strength is an estimate from above: what is called weak is weak, what is not
may still be a word of a language nobody listed.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from windlass.secrets.shapes import passwords_in

# What nobody means as a value, whatever the variable.
_STAND_IN: Final = re.compile(
    r"""(?ix)
    < [^<>@]* >
    | (?:please[-_ ])? (?:change|replace|edit) [-_ ]? (?:this|me|it) (?: [^a-z] .* )?
    | (?:insert|enter|put|paste) [-_ ] (?:your|this) (?: [-_ ] .* )?
    | your [-_ ] .* [-_ ] (?:here|key|token|secret|password|pass|value|id|url|host|name)
    | x{3,} (?: [-_.] x+ )*
    | (?:to[-_ ]?be[-_ ]?(?:defined|done|set)|fixme|replaceme|fillmein)
    """
)
# Followed by no character of base64: what is drawn at random begins with `TBD4` one day.
_UPPER_STAND_IN: Final = re.compile(r"(?:TODO|TBD|FIXME|XXX)(?:[^A-Za-z0-9+/].*)?", re.DOTALL)
# For a secret also: signs that stand for anything, and `your-…`.
_SECRET_STAND_IN: Final = re.compile(
    r"(?i)(?P<sign>[*.?_#x0-])(?P=sign){2,}|your[-_ ].*|todo|tbd|n\.?a\.?|\$\{?[a-z_]+\}?|\{\{[^{}]*\}\}"
)
# A secret made of nothing but these words (and digits or signs at their ends) is what everybody tries first.
_WORDS: Final = frozenset(
    """
    a access account admin administrator an and api app application aws backend base64 basic be bit bits bytes
    change changed changeit changeme changethis character characters client cookie cred credential db database
    default demo dev develop development dont dummy encryption env example fake for foo bar baz foobar
    generated guest hello hash hex here hunter i in insecure is it jwt key keys letmein local localhost long
    longer
    master me min minimum mongo must my mypassword mysecret mysql need new no not of one only or owner pass
    passphrase passwd password passwords phrase pg placeholder please postgres postgresql private prod
    production pw pwd qwerty qwertyuiop rabbitmq random read real redis replace root safe salt sample secret
    secrets secure session shop short sign signing some staging strong super supersecret test testing the this
    to token top use user username value very web welcome word world write you your
    """.split()  # noqa: SIM905 - a list of words reads as one
)
_LEET: Final = str.maketrans("@013457$!", "aoleastsi")
_PIECES: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^A-Za-z0-9]+")
_SPLIT: Final = re.compile(r"[-_.,:;+ ]+")
# So many bits an attacker with the hash of a password tries in hours.
LEAST_LENGTH: Final = 8
# More digits are not a word's ending (a date has eight): hex drawn at random may be digits around one `a`.
_MOST_DIGITS: Final = 9
_CLASSES: Final = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
_SIGNS: Final = 32
_HEX: Final = (frozenset("0123456789abcdef"), frozenset("0123456789ABCDEF"))


def is_placeholder(value: str, *, secret: bool) -> bool:
    """Whether a value is what people write where the real one will be: `change-this`, `<password>`, `xxx`.

    Args:
        value: the value; of a URL or a connection string, its password is looked at.
        secret: whether it is meant to be secret: then `password`, `example` or `secret123` count too.
    """
    if any(_is_placeholder(each.strip(), secret) for each in passwords_in(value)):
        return True
    # The words of an address or a path are its own: `postgres://localhost/app` holds no weak secret.
    return _is_placeholder(value.strip(), secret and "/" not in value)


def _is_placeholder(text: str, secret: bool) -> bool:
    if not text or len(text) > 200:
        return False
    if _STAND_IN.fullmatch(text) or _UPPER_STAND_IN.fullmatch(text):
        return True
    return secret and (_SECRET_STAND_IN.fullmatch(text) is not None or is_words(text))


def is_words(text: str) -> bool:
    """Whether a text is made of nothing but the words everybody tries first: `prod-database-password`."""
    parts = [part for part in _SPLIT.split(text) if part]
    return bool(parts) and all(_is_word(part) for part in parts)


def _is_word(part: str) -> bool:
    plain = part.lower().strip(string.punctuation)
    digits = "".join(each for each in plain if each in string.digits)
    if len(digits) > _MOST_DIGITS and not is_regular(digits):
        return False
    stripped = plain.strip(string.digits)
    if not stripped:
        return len(plain) < LEAST_LENGTH or is_regular(plain)
    if any(each in _WORDS for each in (plain, stripped, plain.translate(_LEET), stripped.translate(_LEET))):
        return True
    # `MySecretKey1`: its pieces are words; single letters of a random text are none.
    pieces = [each.lower() for each in _PIECES.findall(part) if each.isalpha()]
    return len(pieces) > 1 and all(len(each) > 1 and each in _WORDS for each in pieces)


def weakness(value: str, *, decoded: bytes | None = None, min_bits: int | None = None) -> str:
    """Return why a secret is easily guessed, without it; empty when it is not known to be.

    Args:
        value: the secret.
        decoded: the bytes it stands for, of a key in base64 or hex.
        min_bits: the least strength in bits; None: the usual rules, 0: none.
    """
    if min_bits == 0:
        return ""
    if len(value) < LEAST_LENGTH and min_bits is None:
        return f"is shorter than {LEAST_LENGTH} characters"
    if is_regular(value) or (decoded is not None and is_regular(decoded)):
        return "repeats or counts up its characters"
    if is_words(value):
        return "is made of words that are tried first"
    found = bits(value) if decoded is None else 8 * len(decoded)
    if min_bits is not None and found < min_bits:
        return f"has less than the {min_bits} bits that `@min_entropy` asks for"
    return ""


def bits(value: str) -> float:
    """Return the most bits a value can hold, if each character was drawn from the kinds that occur in it."""
    if any(set(value) <= each for each in _HEX):
        return len(value) * 4.0
    size = sum(len(each) for each in _CLASSES if set(each) & set(value))
    size += _SIGNS if set(value) - set("".join(_CLASSES)) else 0
    return len(value) * math.log2(size) if size else 0.0


def is_regular(values: Sequence[object]) -> bool:
    """Whether a sequence repeats itself or counts: `aaaaaaaa`, `abcabcabc`, `12345678`."""
    if len(values) < 4:
        return len(set(values)) < len(values)
    if len(set(values)) <= 2 or _period(values) <= len(values) / 2:
        return True
    numbers = [ord(each) if isinstance(each, str) else int(str(each)) for each in values]
    steps = [after - before for before, after in pairwise(numbers)]
    counted = sum(step in {-1, 0, 1} and step == last for last, step in pairwise(steps))
    return counted >= len(values) / 2


def _period(values: Sequence[object]) -> int:
    """Return the length of the shortest piece whose repetition, cut at the end, is the sequence (KMP)."""
    border = [0] * len(values)
    length = 0
    for index in range(1, len(values)):
        while length and values[index] != values[length]:
            length = border[length - 1]
        length += values[index] == values[length]
        border[index] = length
    return len(values) - border[-1]
