"""The secrets of an environment: which there are and whether each can be had. Values are never shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import task

if TYPE_CHECKING:
    from windlass.environment.variables import Variables

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
JSON_HELP = "Write JSON instead of a table."
# Wide classes: an exact length helps whoever guesses.
_CLASSES = ((0, "empty"), (7, "under 8"), (15, "8 to 15"), (31, "16 to 31"), (63, "32 to 63"))


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def list_(context: Context, env: str = "", json: bool = False) -> None:
    """List the secret variables: name, where each is set, and about how long it is; never a value."""
    from windlass.shell import MASK

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    name, found = _look(env)
    rows = [
        {"name": each.name, "origin": each.origin, "value": MASK, "length": length_class(str_of(each.value))}
        for each in found.values.values()
        if each.secret
    ]
    failed = [
        {"name": each.key, "origin": each.place, "value": "", "length": "none"} for each in found.problems
    ]
    terminal.result(rows + failed)
    columns = ("name", "origin", "value", "length")
    terminal.table(
        f"secrets of {name}", columns, [[row[column] for column in columns] for row in rows + failed]
    )


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def check(context: Context, env: str = "", json: bool = False) -> None:
    """Get every secret from where it is kept and say which cannot be had; never a value."""
    from windlass.errors import ConfigurationError

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    name, found = _look(env)
    good = [each for each in found.values.values() if each.secret]
    rows = [{"name": each.name, "origin": each.origin, "ok": True, "reason": ""} for each in good]
    rows += [
        {"name": each.key, "origin": each.place, "ok": False, "reason": each.what} for each in found.problems
    ]
    terminal.result(rows)
    table = [
        (row["name"], row["origin"], "ok" if row["ok"] else "failed", row["reason"] or "-") for row in rows
    ]
    terminal.table(f"secrets of {name}", ("name", "origin", "state", "why"), table)
    if found.problems:
        count = len(found.problems)
        raise ConfigurationError(f"{count} of the secrets of {name} cannot be had.")


def _look(env: str) -> tuple[str, Variables]:
    """Return the name and the variables of an environment, also where some cannot be had."""
    from windlass.environment.inspection import variables_of
    from windlass.environment.loading import choose, find_root

    root = find_root(Path.cwd())
    name = choose(root, env or None)
    return name, variables_of(root, name)


def str_of(value: object) -> str:
    """Return the text of a value, secret or not, to measure it."""
    from windlass.shell import Sensitive

    return value.reveal() if isinstance(value, Sensitive) else str(value)


def length_class(value: str) -> str:
    """Return about how long a value is."""
    for most, words in _CLASSES:
        if len(value) <= most:
            return words
    return "64 or more"


namespace = Collection("secrets", list_, check)
