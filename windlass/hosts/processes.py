"""A local child process whose streams carry bulk data: the OpenSSH client, or a command of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self

from windlass.errors import HostKeyError, HostUnreachable, LinkDropped
from windlass.hosts.base import Redact
from windlass.hosts.framing import Background, LastWords

SSH_TRANSPORT_FAILED = 255  # ssh(1), EXIT STATUS: "or with 255 if an error occurred"
# What the client says before there is a connection; a jump host's client says the third and fourth.
_NOT_CONNECTED = (
    "ssh: connect to host",
    "Could not resolve hostname",
    "stdio forwarding failed",
    "open failed: connect failed",
    "banner exchange",
    "kex_exchange_identification",
)


class ChildProcess:
    """A running child; leaving the context ends it and its process group.

    Args:
        argv: the program and its arguments.
        host: the host's name, for errors.
        redact: applied to what it wrote to stderr before anyone sees it.
        over_ssh: whether exit code 255 means that the link failed.
        environ: its process environment; None: this process's.
    """

    def __init__(
        self,
        argv: Sequence[str],
        host: str,
        redact: Redact,
        *,
        over_ssh: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._host = host
        self._redact = redact
        self._over_ssh = over_ssh
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=environ,
        )
        self.stdin: BinaryIO = _stream(self._child.stdin)
        self.stdout: BinaryIO = _stream(self._child.stdout)
        self._errors = LastWords()
        self._reader = Background(self._read_errors)

    def _read_errors(self) -> None:
        stream = _stream(self._child.stderr)
        while chunk := stream.read(65536):
            self._errors.feed(chunk)

    def wait(self) -> int:
        """Wait for the end and return the exit code; see `hosts.base.Process`."""
        code = self._child.wait()
        self._reader.result()
        if self._over_ssh and code == SSH_TRANSPORT_FAILED:
            raise ssh_failure(self._host, self.error_text())
        return code

    def error_text(self) -> str:
        """Return the last of what it wrote to stderr, redacted."""
        return self._errors.text(self._redact)

    def kill(self) -> None:
        """End it and everything it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._reader.result()
        _stream(self._child.stderr).close()


def _stream(stream: object) -> BinaryIO:
    assert stream is not None  # noqa: S101 - all three are pipes
    return stream  # type: ignore[return-value]


def ssh_failure(host: str, said: str) -> HostUnreachable | LinkDropped:
    """Return the error for an OpenSSH client that ended with 255, by what it said."""
    last = said.strip().splitlines()[-1] if said.strip() else "the connection ended"
    if "host key verification failed" in said.lower() or "host identification has changed" in said.lower():
        return HostKeyError(f"{host}: its host key is not a trusted one.", "See `inv host.trust --help`.")
    if any(words in said for words in _NOT_CONNECTED):
        return HostUnreachable(f"{host} cannot be reached: {last}")
    if "Permission denied" in said:
        return HostUnreachable(f"{host} refuses the login: {last}")
    return LinkDropped(f"{host}: the link was lost: {last}")
