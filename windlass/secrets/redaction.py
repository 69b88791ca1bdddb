"""Takes secret values out of text, bytes, streams and exceptions.

A secret is found as it is and in the forms programs print it in: base64, URL, JSON, Python, shell and
Compose escapes, the lines of a multi-line value, the password inside a URL.

A regular expression with hundreds of alternatives searches about 1 MB/s, so the search samples instead:
a pattern of eight bytes shows one of its first five groups of four bytes at every fifth place of the
text, and looking only there is more than ten times as fast. Shorter patterns are sampled more densely.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, takewhile
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

from windlass.secrets.writers import compose_quote
from windlass.shell import MASK

MIN_LENGTH: Final = 4
MIN_LINE_LENGTH: Final = 8
# A shifted base64 of a short value is a short word that other text may contain by chance.
_MIN_CORE: Final = 6
_GRAM: Final = 4
_STRIDE: Final = 5
_SAMPLED: Final = _GRAM + _STRIDE - 1
_MASK: Final = MASK.encode()
_PASSWORDS: Final = (
    # Without the scheme in front: searching for it takes quadratic time in a long word.
    re.compile(r"://[^\s/:@]*:([^\s/]+)@"),
    re.compile(r"(?i)(?:^|[;\s?&])(?:password|passwd|pwd|accountkey|sharedaccesskey)=([^;\s&]+)"),
)


class Redactor:
    """Replaces every secret it knows by a mask.

    Args:
        secrets: the values; those shorter than four characters are not searched for, since they
            are part of ordinary words.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(secrets)
        self._prepare()

    def learn(self, secrets: Iterable[str]) -> None:
        """Know more secrets from now on, such as those that stand in the Compose project itself."""
        self._secrets |= frozenset(secrets)
        self._prepare()

    def _prepare(self) -> None:
        patterns = sorted(_patterns(self._secrets), key=len, reverse=True)
        self._longest = len(patterns[0]) if patterns else 0
        self._by_head: dict[bytes, list[bytes]] = {}
        for pattern in patterns:
            self._by_head.setdefault(pattern[:_GRAM], []).append(pattern)
        long = [pattern for pattern in patterns if len(pattern) >= _SAMPLED]
        short = [pattern for pattern in patterns if len(pattern) < _SAMPLED]
        self._samplers = [_Sampler(group) for group in (long, short) if group]
        self._head_starts = {head[:size] for head in self._by_head for size in range(1, _GRAM)}

    def __repr__(self) -> str:
        return f"Redactor({sum(map(len, self._by_head.values()))} patterns)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a redactor holds secrets and is not pickled")

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        return self.redact(text)

    def redact(self, text: str) -> str:
        """Return the text with every secret replaced by the mask."""
        if not self._by_head:
            return text
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.redact_bytes(data)
        return text if redacted is data else redacted.decode("utf-8", "surrogatepass")

    def redact_bytes(self, data: bytes) -> bytes:
        """Return the bytes with every secret, in UTF-8, replaced by the mask."""
        pieces: list[bytes] = []
        position = 0
        for start, end in self._spans(data):
            pieces += [data[position:start], _MASK]
            position = end
        return b"".join([*pieces, data[position:]]) if pieces else data

    def stream(self) -> StreamRedactor:
        """Return a redactor for bytes that come in chunks."""
        return StreamRedactor(self)

    def redact_value(self, value: Any) -> Any:
        """Return a copy of text, bytes or a container of such without secrets; anything else as it is."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, bytes):
            return self.redact_bytes(value)
        if type(value) in {list, tuple, set, frozenset}:
            return type(value)(self.redact_value(each) for each in value)
        if type(value) is dict:
            return {self.redact_value(key): self.redact_value(each) for key, each in value.items()}
        return value

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where secrets are, from left to right, the longest at each place, none overlapping."""
        position = 0
        for start in self._starts(data, 0):
            if start < position:
                continue
            for pattern in self._by_head.get(data[start : start + _GRAM], ()):
                if data.startswith(pattern, start):
                    position = start + len(pattern)
                    yield start, position
                    break

    def _starts(self, data: bytes, begin: int) -> Iterator[int]:
        """Yield every place from `begin` on where a whole pattern may start, in order, and some others."""
        return merge(*(sampler.starts(data, begin) for sampler in self._samplers))

    def _unfinished(self, data: bytes, begin: int) -> int:
        """Return the first place from `begin` on where a secret may go on after the end of `data`."""
        size = len(data)
        begin = max(begin, size - self._longest + 1)
        # Near the end a pattern is too short to be sampled: look at each place there.
        last = range(max(begin, size - _SAMPLED + 1), size)
        before = takewhile(lambda start: start < last.start, self._starts(data, begin))
        for start in chain(before, last):
            if self._may_go_on(data[start:]):
                return start
        return size

    def _may_go_on(self, tail: bytes) -> bool:
        if len(tail) < _GRAM:
            return tail in self._head_starts
        patterns = self._by_head.get(tail[:_GRAM], ())
        return any(len(pattern) > len(tail) and pattern.startswith(tail) for pattern in patterns)


class _Sampler:
    """Finds where patterns may start, looking at every few places only.

    Args:
        patterns: what is looked for; the shortest decides how many places can be left out.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        wanted = list(patterns)
        self._stride = min(min(map(len, wanted)) - _GRAM + 1, _STRIDE)
        grams: dict[bytes, set[int]] = {}
        for pattern in wanted:
            for offset in range(self._stride):
                grams.setdefault(pattern[offset : offset + _GRAM], set()).add(offset)
        # Descending offsets, so that the starts they give ascend.
        self._grams = {gram: sorted(offsets, reverse=True) for gram, offsets in grams.items()}

    def starts(self, data: bytes, begin: int) -> Iterator[int]:
        """Yield in order every place from `begin` on where a whole pattern starts, and some others."""
        grams = self._grams
        places = range(begin, len(data) - _GRAM + 1, self._stride)
        for place in [at for at in places if data[at : at + _GRAM] in grams]:
            for offset in grams[data[place : place + _GRAM]]:
                if place - offset >= begin:
                    yield place - offset


class StreamRedactor:
    """Redacts bytes that come in chunks of any size, as if they had come at once.

    It holds back only what may be the beginning of a secret; `flush` gives the rest.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes and return those that are safe to show by now."""
        data = self._held + chunk
        position = 0
        hold = self._redactor._unfinished(data, 0)
        pieces: list[bytes] = []
        for start, end in self._redactor._spans(data):
            if start >= hold:
                break
            pieces += [data[position:start], _MASK]
            position = end
            if position > hold:
                hold = self._redactor._unfinished(data, position)
        self._held = data[hold:]
        return b"".join([*pieces, data[position:hold]])

    def flush(self) -> bytes:
        """Return what was held back; the stream is at its end."""
        rest, self._held = self._held, b""
        return self._redactor.redact_bytes(rest)


def _patterns(secrets: Iterable[str]) -> set[bytes]:
    """Return all the byte strings that stand for the secrets, each at least four bytes long."""
    forms: set[bytes] = set()
    for secret in secrets:
        for value in {secret, secret.strip(), *passwords_in(secret)}:
            if len(value) >= MIN_LENGTH:
                forms |= {_encode(form) for form in _escaped(value)} | _base64_forms(_encode(value))
        lines = {line.strip() for line in secret.splitlines()} if len(secret.splitlines()) > 1 else set()
        for line in lines:
            if len(line) >= MIN_LINE_LENGTH:
                forms |= {_encode(form) for form in _escaped(line)}
    return {form for form in forms if len(form) >= _GRAM}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def passwords_in(value: str) -> set[str]:
    """Return the passwords inside a URL or a connection string, as written and decoded."""
    found = {match[1] for pattern in _PASSWORDS for match in pattern.finditer(value)}
    return found | {unquote(each) for each in found}


def _escaped(value: str) -> set[str]:
    """Return the value as the programs around us write it."""
    doubled = value.replace("$", "$$")
    shell = shlex.quote(value)
    # Without the outer quotes, so that it is found in a longer quoted word too.
    forms = {value, doubled, value if shell == value else shell[1:-1]}
    for form in (value, doubled):
        forms |= _quoted_forms(form)
    forms.add(compose_quote(value)[1:-1])
    return forms | _url_forms(value)


def _quoted_forms(value: str) -> set[str]:
    """Return the inside of the value's JSON, Go and Python literals."""
    plain = json.dumps(value, ensure_ascii=False)[1:-1]
    ascii_only = json.dumps(value)[1:-1]
    forms = {plain, ascii_only, repr(value)[1:-1], repr(_encode(value))[2:-1]}
    # Go's encoder escapes these three as well.
    go = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
    return forms | {plain.translate(go), ascii_only.translate(go)}


def _url_forms(value: str) -> set[str]:
    data = _encode(value)
    forms = {quote(data, safe=""), quote(data), quote_plus(data)}
    return forms | {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in forms}


def _base64_forms(data: bytes) -> set[bytes]:
    """Return the value in base64: whole, and as the middle of something longer at each alignment."""
    whole = base64.b64encode(data)
    forms = {whole, whole.rstrip(b"=")}
    for shift in range(3):
        # What the bytes around the value leave untouched.
        first = (0, 2, 3)[shift]
        core = base64.b64encode(bytes(shift) + data)[first : (shift + len(data)) * 8 // 6]
        if len(core) >= _MIN_CORE:
            forms.add(core)
    return forms | {form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms}
