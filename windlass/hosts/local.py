"""The machine Windlass is started on, as a host."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from windlass.hosts.base import Completed, OnLine, Payload, Redact
from windlass.hosts.files import put_script
from windlass.hosts.framing import (
    BOOTSTRAP,
    KILL_AFTER_SECONDS,
    TIMED_OUT,
    Background,
    LineSplitter,
    checked,
    collect,
    frame,
)
from windlass.hosts.processes import ChildProcess
from windlass.shell import Command, Script

DEFAULT_TIMEOUT = 600.0


def _as_is(text: str) -> str:
    return text


class LocalHost:
    """This machine.

    Args:
        name: the host's key in `[hosts]`.
        redact: takes secrets out of a text before anyone sees it.
        directory: where scripts start; None: the current folder.
        timeout: seconds a script may run that names no limit of its own.
    """

    def __init__(
        self,
        name: str,
        redact: Redact = _as_is,
        directory: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._timeout = timeout
        self._name = name
        self._redact = redact
        self._directory = directory
        self._children: set[subprocess.Popen[bytes]] = set()

    @property
    def name(self) -> str:
        """The host's key in `[hosts]`."""
        return self._name

    def run(
        self,
        script: Script,
        *,
        payload: Payload = b"",
        on_line: OnLine | None = None,
        check: bool = True,
        keep: bool = True,
    ) -> Completed:
        """Run a script with bash; see `hosts.base.Host.run`."""
        child = subprocess.Popen(
            ["bash", "-c", BOOTSTRAP, "windlass"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            cwd=self._directory,
        )
        assert child.stdin and child.stdout and child.stderr  # noqa: S101 - all three are pipes
        self._children.add(child)
        timeout = script.limit(self._timeout)
        deadline = _Deadline(child, timeout)
        feeder = Background(lambda: _feed(child, script, payload))
        errors = Background(lambda: collect(child.stderr.read))  # type: ignore[union-attr]
        try:
            out = collect(child.stdout.read, LineSplitter(on_line, self._redact), keep=keep)
            code = child.wait()
        except BaseException:
            _kill_group(child, signal.SIGKILL)
            child.wait()
            raise
        finally:
            self._children.discard(child)
            deadline.cancel()
            child.stdout.close()
            err = errors.result()
            child.stderr.close()
        feeder.result()  # first: a payload that broke off is what happened, not the end of the script
        completed = Completed(self._name, TIMED_OUT if deadline.passed else code, out, err)
        return checked(completed, script, self._redact, timeout) if check else completed

    def open(self, command: Command, *, bulk: bool = True) -> ChildProcess:
        """Start a command with data streams; see `hosts.base.Host.open`."""
        del bulk  # there is one way here
        return ChildProcess(command.words, self._name, self._redact)

    def interactive_argv(self, command: Command) -> list[str]:
        """Return the argv that runs a command on the user's own terminal."""
        return list(command.words)

    def put(self, path: str, data: bytes, mode: int) -> None:
        """Write a file whole or not at all; see `hosts.base.Host.put`."""
        self.run(put_script(path, len(data), mode), payload=data)

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        """Connect to a TCP address; see `hosts.base.Host.dial`."""
        return socket.create_connection((address, port), timeout)

    def close(self) -> None:
        """End the scripts that still run, which only happens when everything is given up."""
        for child in tuple(self._children):
            _kill_group(child, signal.SIGKILL)


class _Deadline:
    """Ends a child that runs too long: TERM to its group, then KILL.

    Done here rather than by `timeout(1)`, which macOS laptops lack.
    """

    def __init__(self, child: subprocess.Popen[bytes], seconds: float | None) -> None:
        self.passed = False
        self._child = child
        self._timer = threading.Timer(seconds, self._end) if seconds is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        # No poll(): until it is waited for, its group's number stays its own, also when only
        # something it left in the background still holds the output open.
        if self._child.returncode is not None:
            return
        self.passed = True
        _kill_group(self._child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(KILL_AFTER_SECONDS)
        _kill_group(self._child, signal.SIGKILL)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _kill_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group whose leader is gone.
        if sys.platform != "darwin" and child.poll() is None:
            raise


def _feed(child: subprocess.Popen[bytes], script: Script, payload: Payload) -> None:
    assert child.stdin is not None  # noqa: S101 - a pipe
    try:
        for chunk in frame(script, payload):
            try:
                _write(child.stdin, chunk)
            except BrokenPipeError:
                break  # the script ended without reading everything: its exit code says what that means
    except BaseException:
        # No end of input: the script would take half a payload for the whole.
        _kill_group(child, signal.SIGKILL)
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()


def _write(stream: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]
