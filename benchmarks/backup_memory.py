"""Peak memory of the client while it takes a backup of 100 MiB and of 2000 MiB of data."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._database import environment, filled
from benchmarks.report import Result, meets

SIZES = {"100mib": 100, "2000mib": 2000}
GOAL = "<=100"
ROOT = Path(__file__).resolve().parent.parent
# What `inv db.backup` imports and does, in a process of its own. Not ru_maxrss: that starts with the size of
# the process that started this one (exec_mmap() in the kernel's fs/exec.c); VmHWM, in KiB, is its own.
CLIENT = """
import sys
from pathlib import Path
import invoke, windlass.hosts.ssh
from benchmarks._database import make_environment
from tasks._terminal import Terminal
from windlass.backup.stores import open_store
from windlass.backup.taking import take
from windlass.hosts.local import LocalHost
environment = make_environment(Path(sys.argv[1]), app=sys.argv[2], timeout=3600.0)
take(LocalHost("one"), environment, None, open_store(environment), Terminal(as_json=True).emit)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_mebibytes(mebibytes: int) -> float:
    """Return the peak resident size in MiB of a client that backs up this much data."""
    with filled(mebibytes) as server, tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder:
        argv = [sys.executable, "-c", CLIENT, str(environment(server, Path(folder)).root), server.app]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    return float(done.stdout) / 1024


def run() -> list[Result]:
    """Measure each size; the smallest is what the others are compared with."""
    peaks = {name: peak_mebibytes(size) for name, size in SIZES.items()}
    floor = next(iter(peaks.values()))
    return [
        Result(f"backup-memory-{name}", peak, "MiB", floor, peak / floor, GOAL, meets(GOAL, peak))
        for name, peak in peaks.items()
    ]
