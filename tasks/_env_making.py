"""The tasks `env.generate` and `env.example`."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ._task import is_dry, task

if TYPE_CHECKING:
    from windlass.environment.filling import Fillings

    from ._terminal import Terminal

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
JSON_HELP = "Write JSON instead of a table."


@task(
    help={
        "env": ENV_HELP,
        "name": "Only this variable, also one the schema does not require. Repeatable.",
        "kind": "What to make of it: password:32, base64:32, hex:32 or uuid; without it, its type says so.",
        "overwrite": "Replace values that are there.",
        "reveal": "Show what was made, once, on a terminal.",
        "yes": "Do not ask, even where the environment is protected.",
        "json": JSON_HELP,
    },
    iterable=("name",),
)
def generate(
    context: Context,
    env: str = "",
    name: list[str] | None = None,
    kind: str = "",
    overwrite: bool = False,
    reveal: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Make the keys and passwords an environment requires and lacks, and write them where they are kept."""
    from windlass.environment import filling
    from windlass.environment.keeping import Keeping
    from windlass.environment.loading import choose, find_root
    from windlass.errors import OperationFailed

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    _refuse_reveal(reveal=reveal, json=json)
    root = find_root(Path.cwd())
    with Keeping.of(root, choose(root, env or None)) as keeping:
        fillings = filling.plan(keeping, tuple(name or ()), kind=kind, overwrite=overwrite)
        if is_dry(context) or not fillings.made:
            _show(terminal, fillings, {}, done=not is_dry(context))
            return
        names = ", ".join(each.name for each in fillings.made)
        _terminal.confirm(keeping.environment, f"Making {names}", yes=yes)
        made, failed = filling.fill(keeping, fillings.made)
        _show(terminal, fillings, failed, done=True)
        if reveal:
            for each, value in made.items():
                terminal.say(f"{each} {value.reveal()}")
    if failed:
        raise OperationFailed(f"Not written: {', '.join(failed)}.")


def _refuse_reveal(*, reveal: bool, json: bool) -> None:
    from windlass.errors import ConfigurationError

    if reveal and (json or not sys.stdout.isatty()):
        raise ConfigurationError(
            "--reveal shows values on a terminal only; nothing was made.",
            "Read them where they are written, or with `inv secrets.get`.",
        )


def _show(terminal: Terminal, fillings: Fillings, failed: dict[str, str], *, done: bool) -> None:
    rows = [
        {
            "name": each.name,
            "kind": each.kind,
            "place": str(each.address),
            "state": ("failed" if each.name in failed else "written") if done else "would be written",
            "why": failed.get(each.name, "in place of the value before" if each.replaces else ""),
        }
        for each in fillings.made
    ]
    rows += [
        {"name": each.name, "kind": "", "place": "", "state": "left", "why": each.why}
        for each in fillings.left
    ]
    terminal.result(rows)
    if not rows:
        terminal.say("no required variable has a type of which keys are made; --name names one")
        return
    columns = ("name", "kind", "place", "state", "why")
    terminal.table("", columns, [[row[column] or "-" for column in columns] for row in rows])


@task(
    help={
        "output": "The file, relative to the repository.",
        "overwrite": "Replace a file that this task did not write.",
        "check": "Write nothing; end with exit code 1 when the file is not what envs/ says.",
    }
)
def example(
    context: Context, output: str = ".env.example", overwrite: bool = False, check: bool = False
) -> None:
    """Write .env.example from the schema and the files of envs/: names, descriptions, examples, no secret."""
    from windlass.environment.example import is_own, text
    from windlass.environment.loading import find_root
    from windlass.errors import ConfigurationError, OperationFailed

    from . import _terminal

    terminal = _terminal.Terminal()
    root = find_root(Path.cwd())
    path = _inside(root, output)
    wanted = text(root).encode()
    try:
        now = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be read: {error.strerror}.") from None
    if now == wanted:
        terminal.say(f"{output} is what envs/ says")
        return
    if check:
        what = "is not what envs/ says" if now is not None else "is missing"
        raise OperationFailed(f"{output} {what}.", "Run `inv env.example`.")
    if not overwrite and not is_own(path):
        raise ConfigurationError(
            f"{output} was not written by this task; it stays as it is.",
            "Add --overwrite to replace it, or --output to write another file.",
        )
    if is_dry(context):
        terminal.say(f"would write {output}")
        return
    try:
        _write_whole(path, wanted)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}.") from None
    terminal.say(f"wrote {output}")


def _inside(root: Path, output: str) -> Path:
    """Return the file that is written, links followed; it is one of the repository."""
    from windlass.errors import ConfigurationError

    try:
        path = (root / output).resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of links, a NUL byte
        raise ConfigurationError(f"--output {output!r} is no path.") from None
    if not path.is_relative_to(root.resolve()):
        raise ConfigurationError(
            f"--output {output} is outside the repository; nothing was written.",
            "Name a file inside it.",
        )
    return path


def _write_whole(path: Path, data: bytes) -> None:
    """Put a file in place all at once, with the mode of the one before: nobody sees half of it.

    Raises:
        OSError: it cannot be written; the file before is as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with partial.open("xb") as file:
        try:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
