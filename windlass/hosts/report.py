"""What a host has and what its user may do there, asked in one script that changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from windlass.hosts.base import Host
from windlass.shell import Script, assign

_ASK_SECONDS = 30.0


@dataclass(frozen=True)
class Report:
    """One host that answered.

    Args:
        host: its name.
        user: who Windlass is there.
        engine: version of the Docker Engine; empty when the user cannot use it.
        compose: version of the Compose plugin; empty when there is none.
        docker_error: why the user cannot use Docker; empty when they can.
        disk_free_mb: MiB free where releases go; None when unknown.
        disk_total_mb: MiB that file system has; None when unknown.
        clock_difference: seconds the host's clock is ahead of this machine's; None when unknown.
        writable: whether the user may write where releases go.
    """

    host: str
    user: str
    engine: str
    compose: str
    docker_error: str
    disk_free_mb: int | None
    disk_total_mb: int | None
    clock_difference: float | None
    writable: bool


def report(host: Host, directory: str) -> Report:
    """Ask a host.

    Args:
        host: the host; this connects when it is not connected.
        directory: the folder releases go to; it need not exist.

    Raises:
        HostUnreachable: no connection could be made.
        CommandFailed: bash on the host cannot run the script.
    """
    before = time.time()
    said = host.run(_script(directory)).text
    after = time.time()
    values = dict(line.partition("=")[::2] for line in said.splitlines() if "=" in line)
    return _parse(host.name, values, before, after)


def _script(directory: str) -> Script:
    return Script.of(
        "look at its tools",
        "set +e",
        assign("where", directory),
        'while [ ! -d "$where" ]; do where=$(dirname "$where"); done',
        # The clock is asked first: what follows takes its time.
        "printf 'clock=%s\\n' \"$(date +%s.%N)\"",
        "printf 'user=%s\\n' \"$(id -un)\"",
        "if engine=$(docker version --format '{{.Server.Version}}' 2>&1)",
        "then printf 'engine=%s\\n' \"$(printf '%s\\n' \"$engine\" | tail -n 1)\"",
        "else printf 'docker_error=%s\\n' \"$(printf '%s\\n' \"$engine\" | tail -n 1)\"; fi",
        "printf 'compose=%s\\n' \"$(docker compose version --short 2>/dev/null)\"",
        'df -Pk "$where" 2>/dev/null | awk \'NR==2 {print "disk_total=" $2; print "disk_free=" $4}\'',
        'if [ -w "$where" ]; then echo writable=yes; fi',
        "true",
        timeout=_ASK_SECONDS,
    )


def _parse(name: str, values: Mapping[str, str], before: float, after: float) -> Report:
    engine, error = values.get("engine", ""), values.get("docker_error", "")
    return Report(
        host=name,
        user=values.get("user", ""),
        engine=engine,
        compose=values.get("compose", ""),
        docker_error=error if error or engine else "it is not installed",
        disk_free_mb=_mebibytes(values.get("disk_free", "")),
        disk_total_mb=_mebibytes(values.get("disk_total", "")),
        clock_difference=_ahead(values.get("clock", ""), before, after),
        writable=values.get("writable") == "yes",
    )


def _mebibytes(kibibytes: str) -> int | None:
    return int(kibibytes) // 1024 if kibibytes.isdigit() else None


def _ahead(clock: str, before: float, after: float) -> float | None:
    """Return how far a clock read between two moments is ahead; 0 when it lies between them."""
    try:
        there = float(clock.removesuffix("N"))
    except ValueError:
        return None
    return round(there - min(max(there, before), after), 1)
