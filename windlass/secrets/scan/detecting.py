"""Finds secrets in bytes: the values of a project's own, in any form, and texts that look like secrets.

Patterns for shapes are our own. `detect-secrets` finds more kinds, but takes minutes for what is searched
here in seconds, reports whatever is assigned to a name with `secret` in it, and cannot look for values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import unquote

from windlass.secrets.forms import Kind, forms_of_value, values_in
from windlass.secrets.redaction import Redactor
from windlass.secrets.search import Searcher
from windlass.secrets.shapes import (
    BEFORE,
    PEM_BEGIN,
    SHAPES,
    assigns_secret,
    entropy,
    is_common_word,
    is_stand_in,
    looks_random,
)
from windlass.shell import MASK, Sensitive

How = Literal["plain", "escaped", "base64", "hex", "line", "split", "shape"]

# Shorter values stand in every tree by chance.
MIN_VALUE: Final = 6
_MIN_ENCODED: Final = 8
# Below this a value must stand alone, not within a longer word.
_MIN_WITHIN_WORD: Final = 12
# Shorter pieces with a line end between them are found in ordinary prose.
_MIN_SPLIT: Final = 10
_BLOCK: Final = 1 << 20
_BINARY_PROBE: Final = 8000  # as git does: a NUL among the first 8000 bytes
_MARGIN: Final = 4096
_CONTEXT: Final = 60
_LONGEST_JOINT: Final = 200
# What stands between the halves of a value that was broken: line ends, indentation, quotes, operators,
# signs of comments. Values may hold these too, so that a hit without them is only a candidate.
_JUNK: Final = b" \t\r\n\"'`\\+.,&;#*>|/-_()"
_KEPT: Final = re.compile(b"[^" + re.escape(_JUNK) + b"]+")
# `b"` and `f"` at the begin of a literal; the letter goes, the length stays.
_PREFIXES: Final = tuple(
    (b" %c%c" % (letter, quote), b"  %c" % quote) for letter in b"bf" for quote in b"\"'"
)


@dataclass(frozen=True)
class Match:
    """A secret in a block of bytes.

    Args:
        start: where it begins in the block.
        end: where it ends.
        what: the names of the variables, or what shape it has.
        how: in which form; `shape` for what only looks like a secret.
    """

    start: int
    end: int
    what: str
    how: How


@dataclass(frozen=True)
class Hit:
    """A secret in a file or a message.

    Args:
        line: its line, from 1 on.
        what: the names of the variables, or what shape it has.
        how: in which form; `shape` for what only looks like a secret.
        excerpt: the text around it, with a mask for every secret in it.
        check: 16 bits of a hash of what looks like a secret, to tell one from its successor; of a value
            that is known to be secret nothing, since it may be short.
        pragma: whether the line itself says that it is none.
    """

    line: int
    what: str
    how: How
    excerpt: str
    check: str = ""
    pragma: bool = False


class Detector:
    """Finds the values of secrets and what looks like secrets.

    Args:
        secrets: the values by the names they are reported under.
    """

    def __init__(self, secrets: Mapping[str, Sensitive]) -> None:
        self.unsearched: dict[str, str] = {}
        names: dict[bytes, set[str]] = {}
        kinds: dict[bytes, Kind] = {}
        for name, secret in secrets.items():
            for form, kind in self._forms(name, secret.reveal()):
                names.setdefault(form, set()).add(name)
                kinds.setdefault(form, kind)
        self._names = {form: ", ".join(sorted(found)) for form, found in names.items()}
        self._kinds = kinds
        self._searcher = Searcher(kinds)
        self._broken: dict[bytes, list[bytes]] = {}
        for form, kind in kinds.items():
            squeezed = form.translate(None, _JUNK)
            if kind != "line" and len(squeezed) >= _MIN_SPLIT:
                self._broken.setdefault(squeezed, []).append(form)
        self._broken_searcher = Searcher(self._broken)
        self._redact = Redactor(secret.reveal() for secret in secrets.values()).redact
        self.overlap = self._searcher.longest + _MARGIN

    def __repr__(self) -> str:
        return f"Detector({self._searcher.count} patterns)"

    def redact(self, text: str) -> str:
        """Return a text without the values."""
        return self._redact(text)

    def _forms(self, name: str, secret: str) -> Iterator[tuple[bytes, Kind]]:
        values = [value for value in values_in(secret) if not _fault(value)]
        if not values:
            self.unsearched[name] = _fault(secret.strip())
        for value in values:
            for form, kind in forms_of_value(value).items():
                if len(form) < (MIN_VALUE if kind in {"plain", "escaped"} else _MIN_ENCODED):
                    continue
                if kind != "line" or any(
                    map(looks_random, re.findall(r"[\w+/=-]+", form.decode(errors="ignore")))
                ):
                    yield form, kind

    def search(self, chunks: Iterable[bytes]) -> Iterator[Hit]:
        """Yield what is in the parts of one file, from its beginning to its end.

        No more of it is held than about a megabyte and twice the longest value.
        """
        line = 1
        before: list[Match] = []  # of the block before, by their places in this one
        is_text = None
        for data, is_last in _blocks(chunks, self.overlap):
            is_text = b"\0" not in data[:_BINARY_PROBE] if is_text is None else is_text
            found = self.matches(data, is_text=is_text)
            yield from self._hits(data, line, found, before)
            if not is_last:
                cut = len(data) - self.overlap
                line += data.count(b"\n", 0, cut)
                before = [
                    Match(each.start - cut, each.end - cut, each.what, each.how)
                    for each in (*before, *found)
                    if each.end > cut
                ]

    def matches(self, data: bytes, *, is_text: bool = True) -> list[Match]:
        """Return what is in a block of bytes; in a binary one values alone are looked for."""
        found = [*self._values(data), *self._split_values(data)]
        if is_text:
            taken = sorted((each.start, each.end) for each in found)
            found += _outside(taken, _shapes(data))
        return sorted(found, key=lambda each: (each.start, each.what))

    def _values(self, data: bytes) -> Iterator[Match]:
        for start, form in self._searcher.matches(data):
            end = start + len(form)
            if len(form) >= _MIN_WITHIN_WORD or _stands_alone(data, start, end):
                yield Match(start, end, self._names[form], self._kinds[form])

    def _split_values(self, data: bytes) -> Iterator[Match]:
        """Yield the values that a line end breaks in two or more."""
        if not self._broken:
            return
        for written, blank in _PREFIXES:
            data = data.replace(written, blank)
        squeezed = data.translate(None, _JUNK)
        runs: _Runs | None = None
        for at, pattern in self._broken_searcher.matches(squeezed):
            runs = runs or _Runs(data)
            start, end = runs.place(at), runs.place(at + len(pattern) - 1) + 1
            gaps = _gaps(data[start:end])
            for form in self._broken[pattern]:
                if _is_broken(_gaps(form), gaps):
                    yield Match(start, end, self._names[form], "split")
                    break

    def _hits(self, data: bytes, line: int, found: list[Match], before: list[Match]) -> Iterator[Hit]:
        """Yield what a person is told of the matches in a block whose first line is `line`."""
        spans = _merged((max(0, each.start), each.end) for each in (*before, *found))
        known = {(each.start, each.what) for each in before}
        place = 0
        for each in found:
            if (each.start, each.what) in known:
                continue
            line += data.count(b"\n", place, each.start)
            place = each.start
            check = "" if each.how != "shape" else f"{binascii.crc_hqx(data[each.start : each.end], 0):04x}"
            pragma = each.how == "shape" and _PRAGMA in _line_around(data, each)
            yield Hit(line, each.what, each.how, self._excerpt(data, each, spans), check, pragma)

    def _excerpt(self, data: bytes, match: Match, spans: list[tuple[int, int]]) -> str:
        """Return the line of a match, cut to what is near it, without any secret."""
        begin, end = _line_of(data, match)
        first = max(begin, match.start - _MARGIN)
        last = min(end, match.end + _MARGIN)
        pieces: list[str] = []
        position = first
        focus = 0
        for start, stop in spans:
            if stop <= first or start >= last:
                continue
            if start <= match.start < stop:
                focus = len("".join(pieces)) + max(start - position, 0)
            pieces += [data[position:start].decode(errors="replace"), MASK]
            position = max(position, stop)
        pieces.append(data[position:last].decode(errors="replace"))
        # Values too short to be reported are masked all the same; and all of it before anything is cut.
        text = self._redact("".join(pieces))
        left = max(0, min(focus, len(text)) - _CONTEXT)
        shown = text[left : left + 2 * _CONTEXT + len(MASK)].strip()
        return "".join(char if char.isprintable() else " " for char in shown).strip()


_PRAGMA: Final = b"pragma: allowlist secret"


def _fault(value: str) -> str:
    """Return why a value cannot be searched for; empty when it can."""
    if len(value) < MIN_VALUE:
        return f"has fewer than {MIN_VALUE} characters"
    return "is a word that stands everywhere" if is_common_word(value) else ""


def _blocks(chunks: Iterable[bytes], overlap: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the content in blocks, each beginning with the end of the one before, and whether it is last."""
    size = max(_BLOCK, 4 * overlap)
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > size:
            yield data, False
            data = data[-overlap:]
    yield data, True


def _line_of(data: bytes, match: Match) -> tuple[int, int]:
    begin = data.rfind(b"\n", 0, match.start) + 1
    end = data.find(b"\n", match.end)
    return begin, len(data) if end < 0 else end


def _line_around(data: bytes, match: Match) -> bytes:
    begin, end = _line_of(data, match)
    return data[begin:end]


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _outside(taken: list[tuple[int, int]], found: Iterable[Match]) -> list[Match]:
    """Return the matches that lie in nothing that is known already, nor in one another."""
    kept: list[Match] = []
    for each in found:
        if not any(start < each.end and each.start < end for start, end in taken):
            kept.append(each)
            taken.append((each.start, each.end))
    return kept


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    return not (
        _is_word(data[start - 1 : start] + data[start : start + 1]) or _is_word(data[end - 1 : end + 1])
    )


def _is_word(pair: bytes) -> bool:
    return len(pair) == 2 and pair.isalnum()


# --- values broken over lines


class _Runs:
    """Tells where in the data a byte of the squeezed data is from."""

    def __init__(self, data: bytes) -> None:
        self._raw: list[int] = []
        self._squeezed: list[int] = []
        done = 0
        for run in _KEPT.finditer(data):
            self._raw.append(run.start())
            self._squeezed.append(done)
            done += run.end() - run.start()

    def place(self, at: int) -> int:
        index = bisect_right(self._squeezed, at) - 1
        return self._raw[index] + at - self._squeezed[index]


def _gaps(data: bytes) -> dict[int, bytes]:
    """Return the junk within the data by the number of other bytes before it."""
    gaps: dict[int, bytes] = {}
    done = end = 0
    for run in _KEPT.finditer(data):
        if done:
            gaps[done] = data[end : run.start()]
        done += run.end() - run.start()
        end = run.end()
    return gaps


def _is_broken(wanted: dict[int, bytes], there: dict[int, bytes]) -> bool:
    """Whether what is there differs from what is wanted by line ends, and what surrounds these, alone."""
    differ = [at for at in wanted.keys() | there.keys() if wanted.get(at, b"") != there.get(at, b"")]
    return bool(differ) and all(_is_joint(wanted.get(at, b""), there.get(at, b"")) for at in differ)


def _is_joint(wanted: bytes, there: bytes) -> bool:
    if b"\n" not in there or len(there) > _LONGEST_JOINT + len(wanted):
        return False
    ways = range(len(wanted) + 1)
    return b"\n" in wanted or any(
        there.startswith(wanted[:at]) and there.endswith(wanted[at:]) and len(there) > len(wanted)
        for at in ways
    )


# --- what looks like a secret

_Judge = Callable[[re.Match[bytes]], bool]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _is_token(match: re.Match[bytes]) -> bool:
    text = _text(match[0])
    return not is_stand_in(text.split("_", 1)[-1]) and entropy(text) >= 3.0 and any(map(str.isdigit, text))


def _is_web_token(match: re.Match[bytes]) -> bool:
    head = match[0].partition(b".")[0]
    with suppress(ValueError, RecursionError):
        decoded = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
        return isinstance(decoded, dict) and "alg" in decoded
    return False


def _is_url_password(match: re.Match[bytes]) -> bool:
    user, password = unquote(_text(match[1])), unquote(_text(match[2]))
    if password == user or len(password) < MIN_VALUE or is_stand_in(password):
        return False
    return not re.fullmatch(r"[a-z]{1,12}|(?i:.*(?:pass|secret|pwd|token|key).*)", password)


def _is_encoded_key(match: re.Match[bytes]) -> bool:
    with suppress(binascii.Error):
        return b"PRIVATE KEY-----" in base64.b64decode(match[0][:80])
    return False


def _is_assigned(match: re.Match[bytes]) -> bool:
    if match[1] and match.string[match.end() : match.end() + 1] != match[1]:
        return False
    # The name first: names repeat, and most of them say no.
    before = match.string[max(0, match.start() - _NAME_REACH) : match.start()]
    name = _NAME_BACKWARDS.match(before[before.rfind(b"\n") + 1 :][::-1])
    if name is None or not _assigns_secret(name[1]):
        return False
    value = _text(match[2])
    if _HASH.match(value) or (not match[1] and _CODE.fullmatch(value)):
        return False
    return looks_random(value)


@lru_cache(maxsize=4096)
def _assigns_secret(backwards: bytes) -> bool:
    return assigns_secret(_text(backwards[::-1]))


_NAME_REACH: Final = 100
_HASH: Final = re.compile(r"(?:sha\d+|md5|blake\w+)[-:]|https?:|/|\.{1,2}/")
_CODE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
# What stands before `=` or `:`, read from there: quotes and brackets, perhaps a type, the name.
_NAME_BACKWARDS: Final = re.compile(rb"[ \t\"'\]]*(?:[\w.\[\] |]{1,30}:[ \t]*)?([\w.-]*[A-Za-z_])(?![\w.:-])")
_PEM: Final = re.compile(
    PEM_BEGIN.encode() + rb"(?:\\[nr]|[\s\"'`+,>#*\\|]|[A-Z][\w-]+: [^\n\\]*){0,80}?[A-Za-z0-9+/=]{40}"
    # All of it, so that an excerpt shows no line of the key.
    rb"[A-Za-z0-9+/=\\\s\"'`,>#*|]*"
)
_RULES: Final[tuple[tuple[str, tuple[bytes, ...], re.Pattern[bytes], _Judge], ...]] = (
    ("private key", (b"PRIVATE KEY",), _PEM, lambda match: b"PRIVATE" in match[0]),
    (
        "private key in base64",
        (b"LS0tLS1CRUdJTi",),
        re.compile(rb"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{66,}"),
        _is_encoded_key,
    ),
    *(
        (
            shape.name,
            tuple(mark.encode() for mark in shape.marks),
            re.compile((BEFORE + shape.pattern).encode()),
            _is_web_token if shape.name == "JSON Web Token" else _is_token,
        )
        for shape in SHAPES
    ),
    (
        "password in a URL",
        (b"://",),
        re.compile(rb"://([^\s/:@\"'`<>]{0,100}):([^\s/@\"'`<>]{3,200})@[\w\[]"),
        _is_url_password,
    ),
    (
        "value of a secret name",
        (b"=", b":"),
        re.compile(rb"[=:]>?[ \t]{0,3}([\"'`]?)([A-Za-z0-9+/_=.~!@#$%^&*-]{16,200})(?![\w(\[])"),
        _is_assigned,
    ),
)


def _shapes(data: bytes) -> Iterator[Match]:
    for name, marks, pattern, judge in _RULES:
        if not any(mark in data for mark in marks):
            continue
        for match in pattern.finditer(data):
            if judge(match):
                group = 2 if pattern.groups else 0
                yield Match(match.start(group), match.end(group), name, "shape")
