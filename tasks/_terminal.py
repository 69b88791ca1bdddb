"""How tasks speak: events and tables for people, plain lines for CI, JSON Lines for machines.

On a terminal Rich draws; elsewhere every event is one plain line. With `--json` the result is JSON on
stdout and events are JSON Lines on stderr, so that stdout is always parseable.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from windlass.errors import ConfigurationError, NotConfirmed
from windlass.events import Emit, Event, Notice, Output, PhaseChanged, Progress, StepChanged

if TYPE_CHECKING:
    from windlass.environment.environment import Environment
    from windlass.hosts.group import Hosts
    from windlass.secrets.redaction import Redactor

_MARKS = {"started": "…", "done": "✓", "failed": "✗", "skipped": "-"}
_STYLES = {"started": "cyan", "done": "green", "failed": "bold red", "skipped": "dim"}
_LEVELS = {"info": "cyan", "warning": "yellow", "error": "bold red"}
_redactors: list[Redactor] = []
_results: list[int] = []
# The one the task made, which what happens before a task's own work is told through.
_terminals: list[Terminal] = []
_WIDE = 200
# Whole escape sequences (CSI; OSC up to its end; others of two characters), then single characters: all
# of C0 and C1 but tab and newline.
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_PROGRESS_STEP = 64 * 1024 * 1024


class _Stream:
    """An output that goes silent once it cannot be written to: the work behind it goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, if anybody is there to read it."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is held back."""
        self._attempt(self._stream.flush)

    def _attempt(self, do: Callable[[], object]) -> None:
        if self._silent:
            return
        try:
            do()
        except OSError:
            self._silent = True
            discard(self._stream)


def discard(stream: TextIO) -> None:
    """Send the rest of an output nowhere, so that Python's own flush at the end does not fail either."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Terminal:
    """Where a task writes; an output that was closed is no error, whatever runs goes on.

    Args:
        as_json: results and events as JSON.
        quiet: no events, only the result.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        # No narrow width where nobody looks: a folded or cut value in a CI log helps nobody.
        width = None if sys.stdout.isatty() else _WIDE
        self._stdout, self._stderr = _Stream(sys.stdout), _Stream(sys.stderr)
        self._out = Console(file=_file(self._stdout), highlight=False, soft_wrap=True, width=width)
        self._err = Console(file=_file(self._stderr), highlight=False, soft_wrap=True)
        self._progress: dict[str, int] = {}
        _terminals.append(self)

    def emit(self, event: Event) -> None:
        """Render one event; give this method to the engine."""
        if self.quiet:
            return
        if self.as_json:
            self._stderr.write(json.dumps(event.as_dict(), ensure_ascii=False) + "\n")
            return
        line = self._line(event)
        if line is not None:
            self._err.print(line)

    def say(self, text: str) -> None:
        """Write a sentence for a person; nothing with `--json`."""
        if not self.as_json:
            self._out.print(Text(harmless(text)))

    def result(self, data: Any) -> None:
        """Write the result as JSON; nothing without `--json`."""
        if self.as_json:
            self._stdout.write(json.dumps(data, ensure_ascii=False, indent=2, default=str) + "\n")
            self._stdout.flush()
            _results.append(1)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table for people; nothing with `--json`."""
        if self.as_json:
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
        self._out.print(table)

    def _line(self, event: Event) -> Text | None:
        match event:
            case PhaseChanged():
                return _state_line(event.phase, event.state, event.detail, event.seconds, indent=0)
            case StepChanged():
                return _state_line(
                    f"{event.host}: {event.step}", event.state, event.detail, event.seconds, indent=2
                )
            case Output():
                return Text(harmless(f"    {event.host} {event.source} | {event.line}"), style="dim")
            case Notice():
                return Text(f"{event.level}: {event.text}", style=_LEVELS[event.level])
            case Progress():
                return self._progress_line(event)
        return None

    def _progress_line(self, event: Progress) -> Text | None:
        last = self._progress.get(event.what, 0)
        if event.done - last < _PROGRESS_STEP and event.done != event.total:
            return None
        self._progress[event.what] = event.done
        of = f" of {human_bytes(event.total)}" if event.total else ""
        return Text(f"    {event.what}: {human_bytes(event.done)}{of}", style="dim")


def _file(stream: _Stream) -> IO[str]:
    return cast("IO[str]", stream)


def _state_line(what: str, state: str, detail: str, seconds: float | None, *, indent: int) -> Text:
    text = Text(" " * indent)
    text.append(f"{_MARKS[state]} ", style=_STYLES[state])
    text.append(what, style="bold" if indent == 0 else "")
    if state == "skipped":
        text.append(" skipped", style="dim")
    if state == "failed":
        text.append(" failed", style="bold red")
    if detail:
        text.append(f": {detail}")
    if seconds is not None:
        text.append(f" ({human_seconds(seconds)})", style="dim")
    return text


def harmless(text: str) -> str:
    """Return the text without what would control a terminal: escape sequences and control characters."""
    return _CONTROLS.sub("", text)


def human_bytes(count: int | None) -> str:
    """Return a size in bytes as people read it, in powers of 1024."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def human_seconds(seconds: float) -> str:
    """Return a duration in seconds as people read it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def whole_number(option: str, text: str, *, least: int = 0) -> int:
    """Return the number an option was given.

    Raises:
        ConfigurationError: it is none, or less than `least`.
    """
    # `isdecimal` alone takes the digits of every script, which `int` would read too.
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise ConfigurationError(f"{option} {text}: not a whole number from {least} up.")
    return int(text)


def open_environment(name: str | None) -> Environment:
    """Load the environment a task was asked for: `--env`, `$WINDLASS_ENV`, the default one, the only one."""
    from windlass.environment.loading import choose, find_root, load

    root = find_root(Path.cwd())
    return opened(load(root, choose(root, name)))


def open_hosts(name: str | None) -> Environment:
    """Load an environment without its variables, for what needs its hosts alone: no secret is asked for."""
    from windlass.environment.inspection import without_variables
    from windlass.environment.loading import choose, find_root

    root = find_root(Path.cwd())
    return without_variables(root, choose(root, name))


def opened(environment: Environment) -> Environment:
    """Remember an environment's secrets, for `redact_opened`, tell its notes, and return it."""
    redact = redactor_of(environment).redact
    terminal = _terminals[-1] if _terminals else Terminal()
    for note in environment.notes:
        terminal.emit(Notice("warning", redact(note)))
    return environment


def redact_opened(text: str) -> str:
    """Return the text without the secrets of every environment opened in this process.

    The boundary of all tasks calls it on errors and tracebacks, which hold whatever went wrong.
    """
    for each in _redactors:
        text = each.redact(text)
    return text


def results_written() -> int:
    """Return how many results were written as JSON so far, in this process."""
    return len(_results)


def redactor_of(environment: Environment) -> Redactor:
    """Return a redactor that knows this environment's secrets; what it learns, `redact_opened` knows too."""
    from windlass.secrets.redaction import Redactor

    redactor = Redactor(environment.secrets.values())
    _redactors.append(redactor)
    return redactor


def project_redactor(environment: Environment, emit: Emit) -> Redactor:
    """Return a redactor that also knows the secrets that only the Compose project holds.

    Args:
        environment: the environment.
        emit: told when the project cannot be read, so that its own secrets are not known.
    """
    from windlass.errors import WindlassError
    from windlass.release.preparing import project_secrets
    from windlass.stack.reading import read

    redactor = redactor_of(environment)
    try:
        redactor.learn(project_secrets(read(environment)))
    except (WindlassError, OSError) as error:
        # Its files may be elsewhere while the hosts can still be asked.
        what = "Secrets that stand in the Compose project alone are not masked"
        emit(Notice("warning", redactor.redact(f"{what}: {error}")))
    return redactor


@contextmanager
def connected(
    environment: Environment, only: str | None = None, redactor: Redactor | None = None
) -> Iterator[Hosts]:
    """Give the environment's hosts (or the one named) and close their connections afterwards.

    Args:
        environment: the environment.
        only: the one host to give.
        redactor: one that will learn more secrets; without it, one that knows the environment's.
    """
    from windlass.hosts.group import Hosts

    hosts = Hosts.of(environment, (redactor or redactor_of(environment)).redact, only=only)
    try:
        yield hosts
    finally:
        hosts.close()


def confirm(environment: Environment, what: str, *, yes: bool) -> None:
    """Let a change to a protected environment happen only when its name is typed, or with `--yes`.

    Raises:
        NotConfirmed: it was not.
    """
    if yes or not environment.settings.protected:
        return
    hint = "Add --yes to confirm where nobody can type."
    if not can_ask():
        raise NotConfirmed(f"{what} changes the protected environment {environment.name}.", hint)
    sys.stderr.write(
        f"{what} changes the protected environment {environment.name}.\nType its name to go on: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() != environment.name:
        raise NotConfirmed(f"{what}: the name typed was not {environment.name}; nothing was changed.")


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and not os.environ.get("CI")


def ask(question: str) -> bool:
    """Ask a question whose answer is no unless it is `y` or `yes`."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
