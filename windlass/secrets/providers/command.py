"""Secrets that a command prints, such as that of a password manager.

The target is a command line in the words of a POSIX shell: blanks part words, `'…'`, `"…"` and `\\` quote.
No shell runs. What a shell would do with an unquoted `|`, `&`, `;`, `<`, `>`, `$`, `` ` `` or a leading `~`
is not done, so they are faults there and not arguments by surprise.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from windlass.secrets.providers.base import Client, Context, Failure, Provider, Resolved
from windlass.secrets.redaction import Redactor
from windlass.secrets.shapes import may_be_token, name_is_secret, value_is_secret
from windlass.shell import Sensitive

# More than the system allows in a variable: enough to say so without reading for ever.
_READ_LIMIT: Final = 1 << 18
_TOLD_LIMIT: Final = 200
_STDERR_KEPT: Final = 4096
# The first of a program runs alone: it may ask a person to unlock something, which serves the others too.
_AT_ONCE: Final = 4
# As much of a secret in what a program complains of is too much to show the rest.
_OVERLAP: Final = 6
_QUOTED: Final = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_MEANS_MORE: Final = re.compile(r"[|&;<>$`]|(?<!\S)~")
_CONTROL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")


def _fault(target: str) -> str:
    try:
        words = shlex.split(target)
    except ValueError:
        return "the quotes in the command are not closed, or `\\` is its last character"
    if not words or not words[0]:
        return "the command names no program"
    if sign := _MEANS_MORE.search(_QUOTED.sub("_", target)):
        return f"no shell runs, so `{sign[0]}` must be quoted or the command given to `sh -c '…'`"
    return ""


@dataclass(frozen=True)
class _Ended:
    """How a command ended.

    Args:
        code: its exit code, negative for a signal; None when it was ended for running too long.
        out: what it printed, at most one byte more than the limit.
        err: the last of what it complained of.
    """

    code: int | None
    out: bytes
    err: bytes


class CommandClient(Client):
    """Runs commands and takes what they print.

    Args:
        root: the repository, where they run.
        process: their variables.
        timeout: seconds a command may run.
    """

    def __init__(self, root: Path, process: Mapping[str, str], timeout: float) -> None:
        self._root = root
        self._process = process
        self._timeout = timeout

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "commands"

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Run each: the first of each program alone, then four at a time."""
        first: dict[str, str] = {}
        for target in targets:
            first.setdefault(shlex.split(target)[0], target)
        found: dict[str, Resolved] = {}
        stop, stopping = os.pipe()
        # An interrupt comes to the main thread, so it never parts a command from those who watch it.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for target in first.values():
                    found[target] = pool.submit(self._get, target, stop).result()
                others = [target for target in targets if target not in found]
                got = pool.map(lambda target: self._get(target, stop), others)
                found.update(zip(others, got, strict=True))
            finally:
                os.close(stopping)
                pool.shutdown(cancel_futures=True)
                os.close(stop)
        return found

    def _get(self, target: str, stop: int) -> Resolved:
        words = shlex.split(target)
        try:
            child = subprocess.Popen(
                words,
                cwd=self._root,
                env=self._process,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A group of its own, to end all of it; no terminal, so that a prompt fails and does not wait.
                start_new_session=True,
            )
        except FileNotFoundError:
            return Failure(f"the program {words[0]} was not found", "install it, or correct its name or PATH")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "a variable cannot be given to it"
            return Failure(f"the program {words[0]} cannot be started: {why}")
        with child:
            ended = _watched(child, time.monotonic() + self._timeout, stop)
        return self._judged(ended, words[0])

    def _judged(self, ended: _Ended, program: str) -> Resolved:
        if len(ended.out) > _READ_LIMIT:
            return Failure(f"{program} printed more than {_READ_LIMIT // 1024} KiB, which is no secret")
        if ended.code is None:
            return Failure(
                f"{program} was ended after {self._timeout:g} s" + self._told(ended),
                "it can ask nothing here: unlock it first, or raise [secrets.command] timeout",
            )
        if ended.code < 0:
            return Failure(f"{program} was ended by signal {-ended.code}" + self._told(ended))
        if ended.code:
            return Failure(f"{program} ended with exit code {ended.code}" + self._told(ended))
        try:
            return Sensitive(ended.out.decode().removesuffix("\n"))
        except UnicodeDecodeError:
            return Failure(f"{program} printed what is not UTF-8 text")

    def _told(self, ended: _Ended) -> str:
        """Return the last line a command complained with, unless a secret may be in it."""
        lines = ended.err.decode(errors="replace").splitlines()
        line = next((each for each in map(_printable, reversed(lines)) if each), "")
        secrets = {value for name, value in self._process.items() if name_is_secret(name)}
        secrets |= {value for value in self._process.values() if value_is_secret(value)}
        line = Redactor(secrets).redact(line)
        hidden = _overlap(line, ended.out.decode(errors="replace"))
        if not line or hidden or value_is_secret(line) or may_be_token(line):
            return ""
        return f": {line[:_TOLD_LIMIT]}"


def _printable(line: str) -> str:
    return _CONTROL.sub("", line).strip()


def _overlap(line: str, printed: str) -> bool:
    """Whether a line may hold a part of what was printed, as it is or in another form."""
    text = printed.strip()
    if not text:
        return False
    if len(text) < _OVERLAP:
        return True
    windows = (line[at : at + _OVERLAP] for at in range(len(line) - _OVERLAP + 1))
    return any(window in text for window in windows) or Redactor([text]).redact(line) != line


def _watched(child: subprocess.Popen[bytes], deadline: float, stop: int) -> _Ended:
    """Read a command to its end, or end it with all it started.

    Its end counts, not that of its output: what it leaves running may hold the pipes open.

    Args:
        child: the command.
        deadline: when it must have ended, on the monotonic clock.
        stop: a pipe whose other end is closed when it must end at once.
    """
    said = _Said(_number(child.stdout), _number(child.stderr))
    ended, end = os.pipe()
    threading.Thread(target=_signal_end, args=(child, end), daemon=True).start()
    try:
        in_time = said.follow(ended, deadline, stop)
        if in_time:
            said.drain()
        return _Ended(child.wait() if in_time else None, said.out, said.err)
    finally:
        os.close(ended)
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class _Said:
    """What a command says on stdout, up to the limit, and the last of what it says on stderr."""

    def __init__(self, stdout: int, stderr: int) -> None:
        self.out = self.err = b""
        self._stdout = stdout
        self._stderr = stderr

    @property
    def _full(self) -> bool:
        return len(self.out) > _READ_LIMIT

    def follow(self, ended: int, deadline: float, stop: int) -> bool:
        """Read until `ended` can be read; False when `stop` can, it takes too long or too much is said."""
        with selectors.DefaultSelector() as selector:
            for pipe in (self._stdout, self._stderr, ended, stop):
                selector.register(pipe, selectors.EVENT_READ)
            while not self._full:
                ready = [key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
                if not ready or stop in ready or ended in ready:
                    return ended in ready
                for pipe in ready:
                    if not self._take(pipe):
                        selector.unregister(pipe)
        return False

    def drain(self) -> None:
        """Read what is left in the pipes."""
        for pipe in (self._stdout, self._stderr):
            os.set_blocking(pipe, False)
            while not self._full and self._take(pipe):
                pass

    def _take(self, pipe: int) -> bool:
        """Read what is there; False when there is no more."""
        try:
            chunk = os.read(pipe, 65536)
        except BlockingIOError:
            return False
        if pipe == self._stdout:
            self.out += chunk
        else:
            self.err = (self.err + chunk)[-_STDERR_KEPT:]
        return bool(chunk)


def _signal_end(child: subprocess.Popen[bytes], pipe: int) -> None:
    child.wait()
    os.close(pipe)


def _number(pipe: IO[bytes] | None) -> int:
    assert pipe is not None  # noqa: S101 - both are asked for
    return pipe.fileno()


def _connect(context: Context) -> Client:
    return CommandClient(context.root, context.process, context.settings.command.timeout)


PROVIDER: Final = Provider(
    "command",
    "${command:op read op://shop/db/password}",
    "What a command prints, less one final newline. It runs in the repository without a shell; its words are "
    "parted and quoted as in one. `[secrets.command]` says how long it may run.",
    _fault,
    _connect,
)
