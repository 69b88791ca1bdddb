"""What the worker does with orders; the stores are given to it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Protocol

from app.errors import UnavailableError
from app.lifecycle import Stop

log = logging.getLogger("app.worker")

OVERDUE_SECONDS = 30.0
SWEEP_SECONDS = 10.0
RETRY_SECONDS = 1.0


class Orders(Protocol):
    """What the worker needs of the database."""

    def ping(self) -> None: ...
    def mark_processed(self, number: int) -> bool: ...
    def overdue_orders(self, seconds: float, limit: int) -> list[int]: ...


class Queue(Protocol):
    """What the worker needs of Redis."""

    def take(self, seconds: int) -> int | None: ...


class Worker:
    """Works until asked to stop; the job in hand is always finished."""

    def __init__(
        self, orders: Orders, queue: Queue, stop: Stop, heartbeat: Path, job_seconds: float = 0.0
    ) -> None:
        """Keep what it works with."""
        self._orders = orders
        self._queue = queue
        self._stop = stop
        self._heartbeat = heartbeat
        self._job_seconds = job_seconds
        self._swept = time.monotonic()

    def run(self) -> None:
        """Take orders until stopped; a dependency that is away is waited for."""
        while not self._stop.is_set():
            try:
                self.step()
            except UnavailableError as error:
                log.warning("%s", error)
                self._stop.wait(RETRY_SECONDS)

    def step(self) -> None:
        """Take at most one order, and show that both dependencies answered."""
        number = self._queue.take(1)
        if number is not None:
            self._process(number)
        else:
            self._orders.ping()
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self.sweep()
        self._heartbeat.touch()

    def sweep(self) -> None:
        """Process orders whose place in the queue was lost with Redis or with a killed worker."""
        self._swept = time.monotonic()
        try:
            overdue = self._orders.overdue_orders(OVERDUE_SECONDS, 100)
        except UnavailableError as error:
            # A worker may start before the first migration; it is healthy and has nothing to do.
            log.warning("cannot look for overdue orders: %s", error)
            return
        for number in overdue:
            if self._stop.is_set():
                return
            self._process(number)

    def _process(self, number: int) -> None:
        time.sleep(self._job_seconds)
        changed = self._orders.mark_processed(number)
        log.info("order %d %s", number, "processed" if changed else "was processed before")
