"""A limit on how long a piece of work with child processes may take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class Deadline:
    """Ends what is under its guard after some time; use it as a context manager.

    Args:
        seconds: the time.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._kills: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    @contextmanager
    def guard(self, kill: Callable[[], None]) -> Iterator[None]:
        """Call `kill` when the time is over while the block runs; at once when it is already."""
        with self._lock:
            self._kills.append(kill)
            passed = self.passed
        try:
            if passed:
                kill()
            yield
        finally:
            with self._lock:
                self._kills.remove(kill)

    def _expire(self) -> None:
        with self._lock:
            self.passed = True
            # Under the lock: what is not under guard any more has ended, and its number may be another's.
            for kill in self._kills:
                kill()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
