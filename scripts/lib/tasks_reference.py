"""Writes `docs/reference/tasks.md` from the tasks themselves.

`python scripts/lib/tasks_reference.py` writes the page; with `--check` it ends with 1 when the page is
not what the code says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from invoke import Collection
from invoke.parser import Argument
from invoke.tasks import Task

ROOT: Final = Path(__file__).resolve().parents[2]
# Run as a file, as the docs session does, this folder is on the path and the checkout is not.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tasks import backup, build, db, deploy, env, health, host, program, secrets  # noqa: E402
from tasks._task import EnvironmentTask  # noqa: E402

PAGE: Final = "docs/reference/tasks.md"
ANY_ENVIRONMENT: Final = "<environment>"
# In the order in which one meets them.
MODULES: Final = (env, secrets, host, build, deploy, health, db, backup)
_INTRODUCTION: Final = """\
<!-- Written by `python scripts/lib/tasks_reference.py`; edit the code it comes from. -->

# The tasks

`inv --list` shows them, `inv --help <task>` explains one. `windlass` is the same program without a
`tasks.py`, plus `windlass init`. A task that changes something takes Invoke's own `--dry`, before its name:
`inv --dry deploy.prod` prints what would run and changes nothing.

How tasks end: [exit codes](exit-codes.md). What the files in `envs/` say:
[the environment files](environment.md).
"""


def markdown() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for module in MODULES:
        collection = module.namespace
        name = str(collection.name)
        parts.append(f"## `{name}`\n\n{_summary(module)}\n")
        parts += [_task(f"{name}.{each}", task) for each, task in tasks_of(collection)]
    parts.append("## `windlass init`\n\n" + _body(program.collection().tasks["init"]))
    return "\n".join(parts)


def tasks_of(collection: Collection) -> Iterator[tuple[str, Task[Any]]]:
    """Yield a namespace's tasks by name; those made for each environment are one, whatever `envs/` holds."""
    for name, task in sorted(collection.tasks.items()):
        if not isinstance(task, EnvironmentTask):
            yield name, task
    if collection is deploy.namespace:
        yield ANY_ENVIRONMENT, deploy.environment_task(ANY_ENVIRONMENT)


def names() -> dict[str, Task[Any]]:
    """Return every task by its full name; `deploy.<environment>` stands for those of environments."""
    found = {
        f"{module.namespace.name}.{name}": task
        for module in MODULES
        for name, task in tasks_of(module.namespace)
    }
    return found | {"init": program.collection().tasks["init"]}


def options(task: Task[Any]) -> tuple[Argument, ...]:
    """Return a task's options in the order of its parameters."""
    return tuple(task.get_arguments())


def _summary(module: Any) -> str:
    return str(module.__doc__ or "").strip()


def _task(name: str, task: Task[Any]) -> str:
    short = f" or `{name.partition('.')[0]}`" if task.is_default else ""
    return f"### `{name}`{short}\n\n{_body(task)}"


def _body(task: Task[Any]) -> str:
    text = (task.__doc__ or "").strip().splitlines()[0]
    rows = [_row(each) for each in options(task)]
    table = ["| option | default | what it is |", "|---|---|---|", *rows] if rows else []
    return "\n".join([text, "", *table, *([""] if table else [])])


def _row(argument: Argument) -> str:
    cells = (_flags(argument), _default(argument), str(argument.help or ""))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _flags(argument: Argument) -> str:
    name = str(argument.name).replace("_", "-")
    if argument.kind is bool:
        return f"`--{name}`, `--no-{name}`" if argument.default is True else f"`--{name}`"
    return f"`--{name} {'N' if argument.kind is int else 'TEXT'}`"


def _default(argument: Argument) -> str:
    value = argument.default
    if argument.kind is bool:
        return "on" if value else ""
    return f"`{value}`" if value not in (None, "", []) else ""


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` compare it.

    Returns:
        The exit code: 1 when `--check` found a page that is not what the code says, else 0.
    """
    parser = argparse.ArgumentParser(prog="tasks_reference.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository; default: this folder")
    chosen = parser.parse_args(arguments)
    path = chosen.root / PAGE
    if path.is_file() and path.read_text(encoding="utf-8") == markdown():
        return 0
    if chosen.check:
        sys.stdout.write(f"{PAGE} is not what the code says: run python scripts/lib/tasks_reference.py\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
