"""Raw paramiko channels as processes and as sockets."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import threading
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

import paramiko

from windlass.errors import LinkDropped
from windlass.hosts.base import Redact
from windlass.hosts.framing import CHUNK, Background, LastWords

SIGNALLED: Final = -1
"""What paramiko gives for an exit code both when a signal ended the command and when the link is gone."""

GONE: Final = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises when the link goes while something is sent over it."""


class _Reader(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._channel.recv(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Writer(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            self._channel.sendall(bytes(data))
        except GONE as error:
            raise BrokenPipeError(str(error)) from None
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(*GONE):
                self._channel.shutdown_write()
        super().close()


class ChannelProcess:
    """A running remote command in a raw channel; see `hosts.base.Process`.

    Args:
        channel: the channel, its command already started.
        host: the host's name, for errors.
        redact: applied to what it wrote to stderr before anyone sees it.
    """

    def __init__(self, channel: paramiko.Channel, host: str, redact: Redact) -> None:
        self._channel = channel
        self._host = host
        self._redact = redact
        self.stdin = cast(BinaryIO, _Writer(channel))
        self.stdout = cast(BinaryIO, _Reader(channel))
        self._errors = LastWords()
        self._reader = Background(self._read_errors)

    def _read_errors(self) -> None:
        # Read at all times: a full stderr window stops the command (a deadlock, not an error).
        while chunk := self._channel.recv_stderr(65536):
            self._errors.feed(chunk)

    def wait(self) -> int:
        """Wait for the end and return the exit code; see `hosts.base.Process`."""
        code = self._channel.recv_exit_status()
        self._reader.result()
        transport = self._channel.get_transport()
        if code == SIGNALLED and (transport is None or not is_alive(transport)):
            raise LinkDropped(f"{self._host}: the link was lost.")
        return code

    def error_text(self) -> str:
        """Return the last of what it wrote to stderr, redacted."""
        return self._errors.text(self._redact)

    def kill(self) -> None:
        """Close the channel; the server ends the command when it next writes."""
        end(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._channel)


def bridge(channel: paramiko.Channel) -> socket.socket:
    """Return a real socket whose other end is the channel: libraries want one, for TLS above all."""
    ours, theirs = socket.socketpair()
    threading.Thread(target=_to_channel, args=(theirs, channel), daemon=True).start()
    threading.Thread(target=_to_socket, args=(channel, theirs), daemon=True).start()
    return ours


def _to_channel(source: socket.socket, channel: paramiko.Channel) -> None:
    try:
        while chunk := source.recv(CHUNK):
            channel.sendall(chunk)
        channel.shutdown_write()
    except GONE:
        end(channel)


def _to_socket(channel: paramiko.Channel, target: socket.socket) -> None:
    try:
        while chunk := channel.recv(CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except GONE:
        pass  # whoever holds the other end sees that it is closed
    finally:
        end(channel)
        target.close()


def end(channel: paramiko.Channel) -> None:
    """Close a channel, also one whose link is gone."""
    with contextlib.suppress(*GONE):
        channel.close()


def is_alive(transport: paramiko.Transport, patience: float = 10.0) -> bool:
    """Whether the server still answers; a dying transport closes its channels before it says that it is gone.

    Args:
        transport: the link.
        patience: longest wait for an answer in seconds; a transport that ends meanwhile is no wait.
    """
    if not transport.is_active():
        return False
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            transport.global_request("keepalive@openssh.com", wait=True)
        except GONE:
            answers.put(False)
        else:
            answers.put(transport.is_active())

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return False
