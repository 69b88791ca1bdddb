"""A backup with snapshot, counts, hash and read-back, against `pg_dump | zstd` typed by hand."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._database import environment, filled
from benchmarks.report import Result, meets
from tests.postgres import PostgresServer
from windlass.backup.stores import open_store
from windlass.backup.taking import take
from windlass.hosts.local import LocalHost

MEBIBYTES = 600
ROUNDS = 5
GOAL = ">=0.9"
BY_HAND = (
    "docker exec {server} pg_dump -U app -Fc -Z0 shop | zstd -1 -T1 -q -f -o {file}",
    "docker exec {server} pg_dump -U app -Fp shop | zstd -1 -T1 -q -f -o {file}",
)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def by_hand(command: str, server: PostgresServer, folder: Path) -> Callable[[], object]:
    """Return the work of a pipeline in a shell."""
    line = command.format(server=server.app, file=folder / "by-hand.zst")
    return lambda: subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)


def ours(server: PostgresServer, folder: Path) -> Callable[[], object]:
    """Return the work of a backup."""
    where = environment(server, folder)
    return lambda: take(LocalHost("one"), where, None, open_store(where))


def plain_megabytes(server: PostgresServer) -> float:
    """Return the size of an uncompressed dump in MB (10^6 bytes)."""
    argv = ["docker", "exec", server.app, "pg_dump", "-U", "app", "-Fc", "-Z0", "shop"]
    total = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout
        while chunk := child.stdout.read(1 << 20):
            total += len(chunk)
    return total / 1e6


def run() -> Result:
    """Measure all in turn, so that what slows the machine slows each; the best by hand is the baseline."""
    with filled(MEBIBYTES) as server, tempfile.TemporaryDirectory(prefix="windlass-bench-") as name:
        folder = Path(name)
        megabytes = plain_megabytes(server)
        works = [ours(server, folder), *(by_hand(command, server, folder) for command in BY_HAND)]
        times: list[list[float]] = [[] for _ in works]
        for _ in range(ROUNDS):
            for taken, work in zip(times, works, strict=True):
                taken.append(seconds(work))
            shutil.rmtree(folder / "store")
    value, *hand = (megabytes / statistics.median(taken) for taken in times)
    baseline = max(hand)
    ratio = value / baseline
    return Result("backup-throughput", value, "MB/s", baseline, ratio, GOAL, meets(GOAL, ratio))
