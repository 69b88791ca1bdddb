"""CPU of `inv --list` with all of Windlass' tasks, against a `tasks.py` with one empty task."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Result, meets

RUNS = 21
GOAL = "<=1.5"
ROOT = Path(__file__).resolve().parent.parent
EMPTY = "from invoke import task\n\n\n@task\ndef nothing(c):\n    pass\n"


def cpu_seconds(folder: Path) -> float:
    """Return user and system time of one `inv --list`; wall time would measure the machine's other work."""
    sink = os.open(os.devnull, os.O_WRONLY)
    # This environment's own, whatever else is on the PATH.
    argv = [str(Path(sys.executable).with_name("inv")), "--list"]
    process = os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *argv],
        {**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        file_actions=[(os.POSIX_SPAWN_DUP2, sink, 1)],
    )
    os.close(sink)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"inv --list failed in {folder}")
    return usage.ru_utime + usage.ru_stime


def run() -> Result:
    """Measure both in turn, so that what slows the machine slows both."""
    with tempfile.TemporaryDirectory(prefix="windlass-bench-") as name:
        empty = Path(name)
        (empty / "tasks.py").write_text(EMPTY)
        ours: list[float] = []
        floor: list[float] = []
        for warm in range(RUNS + 1):
            pair = cpu_seconds(ROOT), cpu_seconds(empty)
            if warm:  # the first pair writes the byte-code that all later calls read
                ours.append(pair[0])
                floor.append(pair[1])
    value, baseline = statistics.median(ours), statistics.median(floor)
    ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
    return Result("inv-list", value, "s", baseline, ratio, GOAL, meets(GOAL, ratio))
