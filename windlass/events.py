"""What happened, as data. The engine emits events; `tasks/` renders them for people or machines.

No event carries a secret: text from commands is redacted before it becomes an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["started", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Event:
    """The base of all events; `at` is seconds since the epoch, from this machine's clock."""

    at: float = field(default_factory=time.time, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain data for JSON Lines, with its type's name under `event`."""
        return {"event": type(self).__name__} | asdict(self)


@dataclass(frozen=True)
class PhaseChanged(Event):
    """A phase of the work began or ended; `seconds` is its duration once it ended."""

    phase: str
    state: State
    detail: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class StepChanged(Event):
    """One step on one host began or ended."""

    host: str
    step: str
    state: State
    detail: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Output(Event):
    """A line a command printed, redacted."""

    host: str
    source: str
    line: str


@dataclass(frozen=True)
class Progress(Event):
    """How far a long transfer is; `total` in bytes is None when it cannot be known."""

    what: str
    done: int
    total: int | None = None


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know; `level` says how much it matters."""

    level: Literal["info", "warning", "error"]
    text: str


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop an event; the default where nobody listens."""
    del event
