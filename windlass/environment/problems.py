"""What is wrong with an environment, as data, and as the one error that tells all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from windlass.errors import ConfigurationError


@dataclass(frozen=True)
class Problem:
    """One thing to correct in one file.

    Args:
        file: the file, relative to the repository.
        key: the dotted key or the variable's name; empty when the file itself is the problem.
        what: what is wrong, in a few words, without a secret.
        line: the line it is in, from 1; None where it is not known.
        column: the column in that line, from 1; None where it is not known.
        found: what stands there, as the file writes it; empty when nothing does or when it is secret.
        allowed: what may stand there.
        nearest: the valid name closest to the one found; empty when none is close.
    """

    file: str
    key: str
    what: str
    line: int | None = None
    column: int | None = None
    found: str = ""
    allowed: str = ""
    nearest: str = ""

    @property
    def place(self) -> str:
        """The file with its line and column as far as they are known: `envs/prod.toml:12`."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)

    def __str__(self) -> str:
        parts = [
            ": ".join(part for part in (self.place, self.key, self.what) if part),
            f"found {self.found}" if self.found else "",
            f"allowed: {self.allowed}" if self.allowed else "",
            f"did you mean `{self.nearest}`?" if self.nearest else "",
        ]
        return "; ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as plain data, for `--json`."""
        return asdict(self)


class InvalidEnvironment(ConfigurationError):
    """An environment with problems; the message names every one.

    Args:
        name: the environment's name.
        problems: at least one.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        count = len(self.problems)
        head = f"The environment `{name}` has {count} problem{'s' if count > 1 else ''}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems by file, line and key, each once."""
    return tuple(sorted(set(problems), key=lambda each: (each.file, each.line or 0, each.key, each.what)))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the one of `names` closest to `name`, or an empty text when none is close."""
    close = get_close_matches(name, list(names), 1)
    return close[0] if close else ""
