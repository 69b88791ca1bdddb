"""Variables for `docker run`: its env file, which has no quotes, and `-e NAME` for what that cannot hold.

With `-e NAME`, without a value, Docker's client passes on what its own process environment holds: every
byte arrives, and nothing is in an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from windlass.secrets.writers.entries import entry_fault, require
from windlass.shell import Sensitive

# Go's bufio.Scanner, with which Docker reads the file: a longer line is an error (64 KiB, with its line end).
MAX_LINE_BYTES: Final = 64 * 1024 - 1


@dataclass(frozen=True)
class RunVariables:
    """What gives a `docker run` its variables.

    Args:
        file: content of the env file, for a 0600 file.
        options: `-e NAME` for every variable that the file cannot hold; no value is in it.
        process: those variables, for the process environment of Docker's client.
    """

    file: Sensitive = field(repr=False)
    options: tuple[str, ...]
    process: Mapping[str, Sensitive]


def docker_env_file(values: Mapping[str, str]) -> bytes:
    """Return a file that `docker run --env-file` reads back as exactly these values.

    It is also what Compose reads with `format: raw`.

    Raises:
        ConfigurationError: a value of several lines or of more than 64 KiB, which the file cannot hold,
            or one that no process can be given; the value is not shown.
    """
    require(values, file_fault, _instead)
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode()


def docker_run_variables(values: Mapping[str, str]) -> RunVariables:
    """Return what gives a `docker run` exactly these values, whatever they hold.

    Raises:
        ConfigurationError: a name or a value that no process can be given; the value is not shown.
    """
    require(values, entry_fault)
    in_file = {name: value for name, value in values.items() if not file_fault(name, value)}
    others = {name: Sensitive(value) for name, value in values.items() if name not in in_file}
    options = tuple(word for name in others for word in ("-e", name))
    return RunVariables(Sensitive(docker_env_file(in_file).decode()), options, others)


def file_fault(name: str, value: str) -> str:
    """Return why the env file of `docker run` cannot hold this, without the value; empty when it can."""
    if fault := entry_fault(name, value):
        return fault
    if "\n" in value or "\r" in value:
        return "the value has several lines, and an env file of `docker run` has one line for each variable"
    size = len(f"{name}={value}".encode())
    if size > MAX_LINE_BYTES:
        return f"the line has {size} bytes and `docker run` reads {MAX_LINE_BYTES}"
    return ""


def _instead(name: str, value: str) -> str:
    if entry_fault(name, value):
        return "A file can hold it: a Compose, Swarm or Kubernetes secret that is mounted."
    return "`-e NAME` with the value in the environment of Docker's client can hold it, and so can Compose."
