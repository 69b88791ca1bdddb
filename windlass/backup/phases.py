"""Phases of a backup or restore as events with their duration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from windlass.events import Emit, PhaseChanged


@contextmanager
def phase(emit: Emit, name: str) -> Iterator[list[str]]:
    """Emit that a phase began and how it ended; what the block appends to the list is the detail."""
    detail: list[str] = []
    began = time.monotonic()
    emit(PhaseChanged(name, "started"))
    try:
        yield detail
    except BaseException:
        emit(PhaseChanged(name, "failed", seconds=time.monotonic() - began))
        raise
    emit(PhaseChanged(name, "done", ", ".join(detail), time.monotonic() - began))
