"""What a host can do, whether it is this machine or a server behind SSH.

Control goes through `run`: one script per phase, on stdin. Bulk data goes through `open`, with real
file descriptors. `dial` reaches the host's own network without any tool on it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from windlass.shell import Command, Script

OnLine = Callable[[str], None]
Redact = Callable[[str], str]
Payload = bytes | Iterable[bytes]


@dataclass(frozen=True)
class Completed:
    """How a script ended.

    Args:
        host: the host's name.
        code: the exit code; negative when a signal ended it.
        stdout: what it wrote, byte for byte (not redacted: for code, not for people).
        stderr: the same for its error stream.
    """

    host: str
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """The output as text; bytes that are no UTF-8 become replacement characters."""
        return self.stdout.decode(errors="replace")


class Process(Protocol):
    """A running command whose streams carry data; use it as a context manager, which ends it."""

    stdin: BinaryIO
    stdout: BinaryIO

    def wait(self) -> int:
        """Wait for the end and return the exit code.

        Raises:
            LinkDropped: the connection died before the exit code came.
        """

    def error_text(self) -> str:
        """Return the last of what it wrote to stderr, redacted."""

    def kill(self) -> None:
        """End it now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Host(Protocol):
    """A machine that runs scripts."""

    @property
    def name(self) -> str:
        """The host's key in `[hosts]`."""

    def run(
        self,
        script: Script,
        *,
        payload: Payload = b"",
        on_line: OnLine | None = None,
        check: bool = True,
        keep: bool = True,
    ) -> Completed:
        """Run a script with bash; the script's own stdin is `payload`.

        Args:
            script: what to run; its `timeout` is enforced on the host itself.
            payload: bytes the script reads from stdin. A link that drops ends them early, and no program
                can tell: a script that must not take half for the whole checks the size, as `put` does.
            on_line: called with every line of stdout as it comes, redacted.
            check: raise when the exit code is not zero.
            keep: return stdout whole; not for what may run for days and is only listened to.

        Raises:
            CommandFailed: it ended with another exit code and `check` is set.
            HostUnreachable: no connection could be made.
            LinkDropped: the connection died while it ran.
        """

    def open(self, command: Command, *, bulk: bool = True) -> Process:
        """Start a command whose stdin and stdout are real, binary-safe streams.

        Args:
            command: what to start; no secret among its words.
            bulk: much data will flow, so the fastest way is worth a connection of its own.

        Raises:
            HostUnreachable: no connection could be made.
        """

    def interactive_argv(self, command: Command) -> list[str]:
        """Return the argv that runs a command on the user's own terminal."""

    def put(self, path: str, data: bytes, mode: int) -> None:
        """Write a file with exactly this mode, whole or not at all (temporary file, then rename)."""

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        """Connect from the host to a TCP address it can reach.

        Raises:
            OSError: refused, unreachable, or no answer within `timeout` seconds.
        """

    def close(self) -> None:
        """Close the connection, if any."""
