"""How a process of this application starts and is asked to stop."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from types import FrameType

from app import settings as settings_module
from app.errors import SettingsError
from app.settings import Settings

log = logging.getLogger("app")


class Stop:
    """An event that a signal handler may set.

    `threading.Event` may not: a handler that runs while its own thread is inside `wait` can wait for ever
    for the lock that this thread holds. A byte in a pipe has no such lock.
    """

    def __init__(self) -> None:
        """Start unset."""
        self._set = False
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        """Wake everyone who waits, now and later."""
        if not self._set:
            self._set = True
            os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Tell whether it was set."""
        return self._set

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, or that long."""
        select.select([self._reader], [], [], seconds)
        return self._set

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._reader)
        os.close(self._writer)


def stop_on_signal(ignore: bool = False) -> Stop:
    """Return an event that SIGTERM and SIGINT set.

    A process with number 1 in its container gets no default action for signals: without a handler
    SIGTERM would do nothing at all.
    """
    stop = Stop()

    def handler(_number: int, _frame: FrameType | None) -> None:
        if not ignore:
            stop.set()

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return stop


def exit_on_signal() -> None:
    """Make SIGTERM end a command at once, undoing an open transaction on the way."""

    def handler(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, handler)


def load_settings() -> Settings:
    """Read the settings and set logging up; a wrong environment ends the process with code 2."""
    try:
        settings = settings_module.load(os.environ)
    except SettingsError as error:
        print(f"settings: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stdout,
    )
    return settings


def begin(settings: Settings, stop: Stop) -> bool:
    """Apply the faults that concern the start; False when the process was stopped meanwhile."""
    if settings.start_delay_seconds:
        log.warning("START_DELAY_SECONDS is set: starting in %g s", settings.start_delay_seconds)
        stop.wait(settings.start_delay_seconds)
    if settings.fail_start:
        log.error("FAIL_START is set: not starting")
        raise SystemExit(1)
    return not stop.is_set()
