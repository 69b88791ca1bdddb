"""Takes secret values out of text, bytes, streams and exceptions.

A secret is found as it is and in the forms programs print it in (`windlass.secrets.forms`). Where secrets
overlap, all of what they cover is masked: what is left of a secret is a secret too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from windlass.secrets.forms import forms_of
from windlass.secrets.search import Searcher
from windlass.shell import MASK

_MASK: Final = MASK.encode()


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
        self.searcher = Searcher(form for secret in self._secrets for form in forms_of(secret))

    def __repr__(self) -> str:
        return f"Redactor({self.searcher.count} patterns)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a redactor holds secrets and is not pickled")

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        return self.redact(text)

    def redact(self, text: str) -> str:
        """Return the text with every secret replaced by the mask."""
        if not self.searcher.count:
            return text
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.redact_bytes(data)
        return text if redacted is data else redacted.decode("utf-8", "surrogatepass")

    def redact_bytes(self, data: bytes) -> bytes:
        """Return the bytes with every secret, in UTF-8, replaced by the mask."""
        pieces: list[bytes] = []
        position = 0
        for start, end in self.searcher.spans(data):
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


class StreamRedactor:
    """Redacts bytes that come in chunks of any size, as if they had come at once.

    It holds back only what may be the beginning of a secret; `flush` gives the rest.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        # So many of the bytes held back are part of a secret whose mask was given out already.
        self._masked = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes and return those that are safe to show by now."""
        data = self._held + chunk
        return self._give(data, self._redactor.searcher.unfinished(data))

    def flush(self) -> bytes:
        """Return what was held back; the stream is at its end."""
        return self._give(self._held, len(self._held))

    def _give(self, data: bytes, hold: int) -> bytes:
        """Return what is before `hold`, and hold the rest back."""
        pieces: list[bytes] = []
        position = self._masked
        for start, end in self._redactor.searcher.spans(data):
            if start >= max(hold, position):
                break
            if start >= position:
                pieces += [data[position:start], _MASK]
            position = max(position, end)
        pieces.append(data[position:hold])
        self._held, self._masked = data[hold:], max(position - hold, 0)
        return b"".join(pieces)
