"""Phases and steps as events, with their durations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from windlass.events import Emit, PhaseChanged, State, StepChanged


class Detail:
    """A text that is shown at a phase's or step's end, such as what it found."""

    def __init__(self) -> None:
        self.text = ""


@contextmanager
def phase(emit: Emit, name: str) -> Iterator[Detail]:
    """Emit the start and the end of a phase."""
    with _timed(lambda *ended: emit(PhaseChanged(name, *ended))) as detail:
        yield detail


@contextmanager
def step(emit: Emit, host: str, name: str) -> Iterator[Detail]:
    """Emit the start and the end of a step on a host."""
    with _timed(lambda *ended: emit(StepChanged(host, name, *ended))) as detail:
        yield detail


class _Say(Protocol):
    def __call__(self, state: State, detail: str = "", seconds: float | None = None, /) -> None: ...


@contextmanager
def _timed(say: _Say) -> Iterator[Detail]:
    say("started")
    started = time.monotonic()
    detail = Detail()
    try:
        yield detail
    except BaseException:
        say("failed", detail.text, time.monotonic() - started)
        raise
    say("done", detail.text, time.monotonic() - started)
