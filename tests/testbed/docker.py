"""The docker command line of this machine, as functions."""

import subprocess
from collections.abc import Sequence


class TestbedError(Exception):
    """The bed cannot do what was asked; the message says what happened, with the tool's own words."""

    __test__ = False  # not a test class, whatever its name says to pytest


def run(
    argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program of this machine and return what it said.

    `timeout` is in seconds. With `check`, an exit code other than 0 is a TestbedError.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        raise TestbedError(f"{' '.join(argv)}: no answer after {timeout:g} s") from late
    except FileNotFoundError as absent:
        raise TestbedError(f"{argv[0]} is not installed on this machine") from absent
    if check and done.returncode:
        raise TestbedError(
            f"{' '.join(argv)}: exit code {done.returncode}\n{(done.stderr or done.stdout).strip()}"
        )
    return done


def docker(*args: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
    """Run `docker ARGS…` and return its stdout without the last newline; `timeout` is in seconds."""
    return run(["docker", *args], stdin=stdin, check=check, timeout=timeout).stdout.rstrip("\n")


def succeeds(*args: str, timeout: float = 60) -> bool:
    """Whether `docker ARGS…` ends with exit code 0; `timeout` is in seconds."""
    return run(["docker", *args], check=False, timeout=timeout).returncode == 0


def pipe(source: Sequence[str], target: Sequence[str]) -> None:
    """Run `source | target`, bytes untouched; a TestbedError when either fails."""
    with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        right = subprocess.run(target, stdin=left.stdout, capture_output=True, check=False)
        if left.stdout:
            left.stdout.close()
        said = left.stderr.read() if left.stderr else b""
    if left.returncode or right.returncode:
        raise TestbedError(
            f"{' '.join(source)} | {' '.join(target)}: {(said + right.stderr).decode().strip()}"
        )
