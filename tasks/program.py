"""The console script `windlass`: the same tasks as `inv`, without a tasks.py, plus `windlass init`."""

from __future__ import annotations

import os
import sys

from invoke import Collection, Context, Program
from invoke.exceptions import Exit

from . import namespace
from ._task import task

# As a shell gives it for a program that SIGPIPE ended.
PIPE_EXIT_CODE = 141


@task(
    help={
        "compose": "Compose files, comma-separated; without it, the usual names are looked for.",
        "app": "The application's name; without it, the folder's.",
        "host": "Address of the first server; without it, this machine.",
        "force": "Write files that exist already.",
    }
)
def init(context: Context, compose: str = "", app: str = "", host: str = "", force: bool = False) -> None:
    """Set up this repository after reading its Compose files: envs/, tasks.py, noxfile.py, .env.example."""
    from pathlib import Path

    from . import _terminal
    from ._init import write_project

    files = [name.strip() for name in compose.split(",") if name.strip()]
    terminal = _terminal.Terminal()
    for line in write_project(
        Path.cwd(), files=files, app=app, host=host, force=force, dry=context.config.run.dry
    ):
        terminal.say(line)


def collection() -> Collection:
    """Return the bundled namespaces with `init` beside them."""
    root = Collection()
    for name, sub in namespace.collections.items():
        root.add_collection(sub, name)
    root.add_task(init)
    return root


def main() -> None:
    """Run the command line."""
    from windlass.identity import own_version

    program = Program(namespace=collection(), name="Windlass", binary="windlass", version=own_version())
    try:
        program.run()
        sys.stdout.flush()
    except Exit as stop:
        sys.exit(stop.code)
    except BrokenPipeError:
        # Whoever read, such as `head`, has seen enough; Python's own flush at the end must not say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_EXIT_CODE)
