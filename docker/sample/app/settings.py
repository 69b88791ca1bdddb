"""Settings from environment variables, all of them read here and nowhere else.

The one exception is the connection to PostgreSQL: libpq reads `PGHOST`, `PGPASSWORD` and their like itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import SettingsError

LARGEST_PORT = 65_535
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the API and the worker can be told."""

    version: str = "dev"
    greeting: str = ""
    secret: bytes = b""
    log_level: str = "info"
    port: int = 8080
    redis_host: str = "redis"
    redis_port: int = 6379
    drain_seconds: float = 15.0
    job_seconds: float = 0.0
    env_endpoint: bool = False
    # Faults, for tests of whoever deploys this application.
    fail_health: bool = False
    fail_start: bool = False
    ignore_sigterm: bool = False
    start_delay_seconds: float = 0.0

    def __repr__(self) -> str:
        """Say which settings these are without the secret among them."""
        return f"Settings(version={self.version!r}, port={self.port})"


class _Reader:
    """Reads typed values and collects the problems, so that all are told at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        """Return the value as it is."""
        return self._environ.get(name, default)

    def required(self, name: str) -> str:
        """Return a value that must not be empty."""
        value = self._environ.get(name, "")
        if not value:
            self.problems.append(f"{name} is not set")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of the allowed words; case does not matter."""
        value = (self._environ.get(name) or default).lower()
        if value not in allowed:
            self.problems.append(f"{name} must be one of {', '.join(allowed)}")
            return default
        return value

    def flag(self, name: str) -> bool:
        """Return whether a switch is on: 1 or 0, and empty means off."""
        value = self._environ.get(name, "")
        if value not in ("", "0", "1"):
            self.problems.append(f"{name} must be 0 or 1")
        return value == "1"

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a finite number within bounds."""
        raw = self._environ.get(name) or str(default)
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            self.problems.append(f"{name} must be a number from {low:g} to {high:g}")
            return default
        return value

    def port(self, name: str, default: int) -> int:
        """Return a TCP port."""
        raw = self._environ.get(name) or str(default)
        if not (raw.isascii() and raw.isdigit() and 0 < int(raw) <= LARGEST_PORT):
            self.problems.append(f"{name} must be a port from 1 to 65535")
            return default
        return int(raw)


def load(environ: Mapping[str, str]) -> Settings:
    """Build the settings, or raise one error that names every problem and no value."""
    reader = _Reader(environ)
    settings = Settings(
        version=reader.text("APP_VERSION", "dev"),
        greeting=reader.text("GREETING", ""),
        # surrogateescape is how Python decoded the variable: this gives the original bytes back.
        secret=reader.required("APP_SECRET").encode("utf-8", "surrogateescape"),
        log_level=reader.choice("LOG_LEVEL", "info", LOG_LEVELS),
        port=reader.port("HTTP_PORT", 8080),
        redis_host=reader.text("REDIS_HOST", "redis"),
        redis_port=reader.port("REDIS_PORT", 6379),
        drain_seconds=reader.number("DRAIN_SECONDS", 15.0, 0.0, 600.0),
        job_seconds=reader.number("JOB_SECONDS", 0.0, 0.0, 600.0),
        env_endpoint=reader.flag("ENABLE_ENV_ENDPOINT"),
        fail_health=reader.flag("FAIL_HEALTH"),
        fail_start=reader.flag("FAIL_START"),
        ignore_sigterm=reader.flag("IGNORE_SIGTERM"),
        start_delay_seconds=reader.number("START_DELAY_SECONDS", 0.0, 0.0, 3600.0),
    )
    if reader.problems:
        raise SettingsError("; ".join(reader.problems))
    return settings
