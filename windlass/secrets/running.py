"""Runs a local command with variables in its process environment, and takes secrets out of what it pipes.

Nothing is written to disk, and nothing stands in an argv. Where both outputs are terminals this process
becomes the command. Else an output that is no terminal goes through a redactor, byte by byte as it comes, and
this process passes signals on and ends as the command did.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from windlass.errors import ConfigurationError, OperationFailed
from windlass.secrets.redaction import Redactor

# Signals a person or a supervisor sends to the process it started, which is not the command itself.
_PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# The keyboard sends these to all processes in front of the terminal: the command has them already.
_FROM_KEYBOARD: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
_CHUNK: Final = 65536


class Running:
    """A command to run.

    Args:
        words: the command and its arguments.
        values: the variables it gets.
        pristine: it gets no others; else those of this process too, which these win over.
        redactor: knows what must not come out.
    """

    def __init__(
        self, words: Sequence[str], values: Mapping[str, str], *, pristine: bool, redactor: Redactor
    ) -> None:
        self._words = list(words)
        self._environ = {**({} if pristine else os.environ), **values}
        self._redactor = redactor
        self._lost: list[OSError] = []

    def run(self) -> int:
        """Run it to its end; on a terminal this does not come back.

        Returns:
            Its exit code; negative for the signal that ended it.

        Raises:
            ConfigurationError: there is no such program, or the system cannot start it.
            OperationFailed: not all that the command wrote could be passed on.
        """
        program = self._program()
        piped = [each for each in (1, 2) if not os.isatty(each)]
        try:
            if not piped:
                # Python ignores these, and what is ignored stays so in the command.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                os.execve(program, self._words, self._environ)  # noqa: S606 - the very point
            code = self._watch(program, piped)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(f"{self._words[0]} cannot be started: {reason}.") from None
        if self._lost:
            reason = self._lost[0].strerror or str(self._lost[0])
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise OperationFailed(
                f"Not all that {self._words[0]} wrote could be passed on: {reason}; it ended with {how}."
            )
        return code

    def _program(self) -> str:
        found = shutil.which(self._words[0])
        if found is None:
            raise ConfigurationError(f"There is no program {self._words[0]} here, or it may not be run.")
        return found

    def _watch(self, program: str, piped: Sequence[int]) -> int:
        with (
            _passed_on() as begun,
            subprocess.Popen(
                self._words,
                executable=program,
                env=self._environ,
                stdout=subprocess.PIPE if 1 in piped else None,
                stderr=subprocess.PIPE if 2 in piped else None,
                bufsize=0,
            ) as child,
        ):
            begun(child)
            pipes = [(each, number) for each, number in ((child.stdout, 1), (child.stderr, 2)) if each]
            threads = [
                threading.Thread(target=self._pass, args=(pipe.fileno(), number), daemon=True)
                for pipe, number in pipes
            ]
            for thread in threads:
                thread.start()
            # Whoever inherited its outputs may still write: a pipeline waits for these too.
            for thread in threads:
                thread.join()
            return child.wait()

    def _pass(self, source: int, target: int) -> None:
        """Pass an output on, redacted; when nobody reads it any more, the command is to notice."""
        stream = self._redactor.stream()
        try:
            while chunk := os.read(source, _CHUNK):
                _write_all(target, stream.feed(chunk))
            _write_all(target, stream.flush())
        except OSError as error:
            if error.errno != errno.EPIPE:
                self._lost.append(error)
            # As in a pipeline: its next write gets SIGPIPE.
            nowhere = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nowhere, source)
            os.close(nowhere)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


@contextmanager
def _passed_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals on to a child from now on; those that come before it is there reach it then."""
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if number in _FROM_KEYBOARD and sys.stdin is not None and sys.stdin.isatty():
            return
        if children:
            children[0].send_signal(number)
        else:
            early.append(number)

    def begun(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in early:
            child.send_signal(number)

    before = {number: signal.signal(number, handle) for number in _PASSED_ON}
    try:
        yield begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_we_end(number: int) -> NoReturn:
    """End this process by a signal, as the command ended: who waits for it sees the same."""
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(OSError, ValueError):  # SIGKILL has no handler to take away
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # A signal that does not end a process, or one that was blocked.
    os._exit(128 + number)
