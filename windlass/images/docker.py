"""The local `docker` command: run to its end or line by line, its words redacted before anyone sees them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from windlass.errors import CommandFailed, PreflightFailed, WindlassError

Redact = Callable[[str], str]
KEPT_LINES = 20


def unredacted(text: str) -> str:
    """Return the text as it is: the default where no secrets are known."""
    return text


def call(words: Sequence[str], what: str, redact: Redact = unredacted) -> str:
    """Run a local Docker command and return its output.

    Args:
        words: the command.
        what: what it does, for the error.
        redact: takes secrets out of its error.

    Raises:
        PreflightFailed: there is no Docker client, or no Engine answers it.
        CommandFailed: it ended with another code than zero.
    """
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise _no_client() from None
    if done.returncode != 0:
        raise failure(what, done.returncode, redact(done.stderr.decode(errors="replace")))
    return done.stdout.decode(errors="replace")


def failure(what: str, code: int, said: str) -> WindlassError:
    """Return the error for a failed local Docker command, `said` being redacted already."""
    if "Cannot connect to the Docker daemon" in said or "Is the docker daemon running" in said:
        return PreflightFailed(
            "The Docker Engine of this machine does not answer.", "Start it, then try again."
        )
    return CommandFailed(what, code, said)


def _no_client() -> PreflightFailed:
    return PreflightFailed(
        "The `docker` command is not installed on this machine.",
        "Install Docker's client; images are built with it.",
    )


class Running:
    """The local Docker commands that run at the moment, so that an interrupt can end them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def stream(
        self,
        words: Sequence[str],
        on_line: Callable[[str], None],
        *,
        redact: Redact = unredacted,
        variables: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> tuple[int, str]:
        """Run a command and hand on each line of what it prints, on either stream, redacted.

        Args:
            words: the command; its arguments are public, so no secret is among them.
            on_line: called with each line.
            redact: takes secrets out of it.
            variables: added to this process's own.
            stdin: what it reads.

        Returns:
            Its exit code and its last lines, redacted.

        Raises:
            PreflightFailed: there is no Docker client.
        """
        child = self._start(words, variables or {})
        last: deque[str] = deque(maxlen=KEPT_LINES)
        assert child.stdin and child.stdout  # noqa: S101  both are pipes
        try:
            _feed(child, stdin or "")
            for raw in child.stdout:
                line = redact(raw.decode(errors="replace").rstrip("\r\n"))
                last.append(line)
                on_line(line)
            return child.wait(), "\n".join(last)
        finally:
            self._finish(child)

    def end(self) -> None:
        """End all commands that run, and refuse new ones."""
        with self._lock:
            self._ended = True
            for child in self._children:
                child.terminate()

    def _start(self, words: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise CommandFailed(words[0], 130, "interrupted")
            try:
                child = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **variables},
                )
            except FileNotFoundError:
                raise _no_client() from None
            self._children.add(child)
            return child

    def _finish(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.terminate()
            child.wait()
        if child.stdout:
            child.stdout.close()
        with self._lock:
            self._children.discard(child)


def _feed(child: subprocess.Popen[bytes], text: str) -> None:
    assert child.stdin  # noqa: S101  a pipe
    try:
        child.stdin.write(text.encode())
        child.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it read: its exit code tells why
