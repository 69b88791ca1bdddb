"""Commands and scripts as values: quoted in one place, and never showing a secret.

`Sensitive` masks itself in `str`, `repr` and format; only `reveal` gives the value, and only the
code that writes to a process's stdin or to a 0600 file calls it.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Final

MASK: Final = "[REDACTED]"
NO_LIMIT: Final = math.inf


class Sensitive:
    """A secret string that shows only a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Sensitive({MASK})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Sensitive", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not pickled")


Word = str | Sensitive


def reveal(word: Word) -> str:
    """Return the text of a word, secret or not."""
    return word.reveal() if isinstance(word, Sensitive) else word


@dataclass(frozen=True)
class Command:
    """A program and its arguments, one word each; no secret may be among them (argv is public)."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, *words: str | int) -> Command:
        """Build a command from its words."""
        return cls(tuple(str(word) for word in words))

    def quoted(self) -> str:
        """Return the command as one line a POSIX shell reads back word for word."""
        return shlex.join(self.words)

    def __str__(self) -> str:
        return self.quoted()


@dataclass(frozen=True)
class Script:
    """A bash script for one phase, sent on stdin so that nothing of it is in any argv.

    Args:
        what: what it does, for errors and events.
        parts: its text; `Sensitive` parts are shell-quoted values.
        timeout: seconds after which the host ends it; None: the host's own limit; `NO_LIMIT`: never.
    """

    what: str
    parts: tuple[Word, ...]
    timeout: float | None = None

    @classmethod
    def of(cls, what: str, *lines: Word, timeout: float | None = None) -> Script:
        """Build a script from whole lines; a `Sensitive` line is taken as it is."""
        parts: list[Word] = []
        for line in lines:
            parts += [line, "\n"]
        return cls(what, tuple(parts), timeout)

    def limit(self, default: float) -> float | None:
        """Return the seconds it may run where the host's own limit is `default`; None for ever."""
        seconds = default if self.timeout is None else self.timeout
        return None if seconds == NO_LIMIT else seconds

    def text(self) -> str:
        """Return the script with its secrets, for stdin only."""
        return "".join(reveal(part) for part in self.parts)

    def __str__(self) -> str:
        return "".join(str(part) for part in self.parts)


def quote(word: str) -> str:
    """Quote one word for a POSIX shell."""
    return shlex.quote(word)


def assign(name: str, value: Word) -> Word:
    """Return the shell line that sets variable `name` to exactly `value`."""
    line = f"{name}={shlex.quote(reveal(value))}"
    return Sensitive(line) if isinstance(value, Sensitive) else line
