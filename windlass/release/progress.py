"""Phases and steps as events, with their durations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from windlass.events import Emit, PhaseChanged, StepChanged


class Detail:
    """A text a step adds to its end, such as what it found."""

    def __init__(self) -> None:
        self.text = ""


@contextmanager
def phase(emit: Emit, name: str) -> Iterator[Detail]:
    """Emit the start and the end of a phase."""
    emit(PhaseChanged(name, "started"))
    started = time.monotonic()
    detail = Detail()
    try:
        yield detail
    except BaseException:
        emit(PhaseChanged(name, "failed", detail.text, time.monotonic() - started))
        raise
    emit(PhaseChanged(name, "done", detail.text, time.monotonic() - started))


@contextmanager
def step(emit: Emit, host: str, name: str) -> Iterator[Detail]:
    """Emit the start and the end of a step on a host."""
    emit(StepChanged(host, name, "started"))
    started = time.monotonic()
    detail = Detail()
    try:
        yield detail
    except BaseException:
        emit(StepChanged(host, name, "failed", detail.text, time.monotonic() - started))
        raise
    emit(StepChanged(host, name, "done", detail.text, time.monotonic() - started))
