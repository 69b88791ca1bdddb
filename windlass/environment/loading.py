"""Finds and loads environments.

`envs/base.toml` holds what the environments share and `envs/<name>.toml` what is special in one: tables
merge, lists and single values replace. All problems of all files are reported at once.

Only `load` imports more than the standard library: the list of tasks is made with `names`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from windlass.environment.environment import Environment
    from windlass.environment.files import TomlFile
    from windlass.environment.model import Settings
    from windlass.environment.problems import Problem

FOLDER: Final = "envs"
BASE: Final = "base"
_SCHEMA: Final = "schema"
VARIABLE: Final = "WINDLASS_ENV"
# A task `deploy.<name>` would hide the task that has this name.
RESERVED: Final = frozenset(
    {
        *("status", "history", "plan", "logs", "unlock", "rollback"),
        *("promote", "abort", "scale", "restart", "resume", "exec", "maintenance", "show"),
    }
)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,38}")


def find_root(start: Path) -> Path:
    """Return the nearest folder, from `start` upwards, whose `envs/` holds a TOML file.

    Raises:
        ConfigurationError: there is none.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        if _stems(folder):
            return folder
    raise ConfigurationError(
        f"There is no envs/ folder with a TOML file in {here} or above it.",
        "Run `windlass init` in your repository to make one.",
    )


def names(root: Path) -> tuple[str, ...]:
    """Return the names of the environments, sorted; no file is opened."""
    return tuple(sorted(_stems(root) - {BASE}))


def choose(root: Path, name: str | None) -> str:
    """Return the name of the environment to work on.

    It is the one named; else that of `$WINDLASS_ENV`; else the one whose file says `default = true`;
    else the only one there is.

    Raises:
        ConfigurationError: it does not exist, or it is not clear which is meant.
    """
    existing = names(root)
    if name:
        return _existing(name, existing)
    if wanted := os.environ.get(VARIABLE):
        return _existing(wanted, existing, f", which ${VARIABLE} names")
    candidates = _defaults(root, existing) or existing
    if len(candidates) == 1:
        return candidates[0]
    if not existing:
        raise ConfigurationError(
            "There is no environment in envs/.",
            "Write envs/<name>.toml for the first, such as envs/prod.toml.",
        )
    defaults = "" if candidates == existing else f": {' and '.join(candidates)} say `default = true`"
    raise ConfigurationError(
        f"It is not clear which environment is meant{defaults}.",
        f"Name one with --env or ${VARIABLE}: {', '.join(existing)}.",
    )


def load(root: Path, name: str, *, process: Mapping[str, str] | None = None) -> Environment:
    """Load an environment.

    Args:
        root: the repository, as `find_root` gives it.
        name: the environment's name.
        process: the variables `${env:NAME}` refers to; None for those of this process.

    Raises:
        ConfigurationError: there is no environment of this name; or, as `InvalidEnvironment`, its
            files have problems, and the error tells every one.
    """
    from windlass.environment.environment import Environment
    from windlass.environment.inspection import examine
    from windlass.environment.problems import InvalidEnvironment

    _existing(name, names(root))
    found = examine(root, name, process=process, cached=True)
    if found.problems or found.settings is None:
        raise InvalidEnvironment(name, found.problems)
    notes = (*found.variables.notes, *map(str, found.variables.doubtful))
    return Environment(name, root, found.settings, found.variables.values, notes)


def own_problems(
    root: Path, name: str, pair: tuple[TomlFile, TomlFile], settings: Settings | None
) -> Iterator[Problem]:
    """Yield what is wrong with an environment's name and with its being the default.

    Args:
        root: the repository.
        name: the environment's name.
        pair: its two TOML files.
        settings: what they say; None when they are not valid.
    """
    yield from _name_problems(name)
    yield from _default_problems(root, name, pair, settings)


def _stems(root: Path) -> set[str]:
    try:
        entries = os.listdir(root / FOLDER)  # noqa: PTH208 - names are all that is needed, and fast
    except OSError:
        return set()
    return {entry[: -len(".toml")] for entry in entries if entry.endswith(".toml") and entry[0] != "."}


def _existing(name: str, existing: tuple[str, ...], origin: str = "") -> str:
    """Return the name when there is such an environment, else say which there are."""
    if name in existing:
        return name
    from windlass.environment.problems import nearest

    close = nearest(name, existing)
    raise ConfigurationError(
        f"There is no environment {name!r}{origin}." + (f" Did you mean {close!r}?" if close else ""),
        f"The environments in envs/ are: {', '.join(existing) or 'none'}.",
    )


def _defaults(root: Path, existing: Iterable[str]) -> tuple[str, ...]:
    """Return the environments whose own file says `default = true`."""
    from windlass.environment.files import read, table_default

    return tuple(name for name in existing if table_default(read(root, f"{FOLDER}/{name}.toml").data))


def _name_problems(name: str) -> Iterator[Problem]:
    from windlass.environment.problems import Problem

    file = f"{FOLDER}/{name}.toml"
    if name in RESERVED:
        what = f"its name is taken: `deploy.{name}` is a task of its own"
        yield Problem(file, "", what, allowed=f"any name but {', '.join(sorted(RESERVED))}")
    if name == _SCHEMA:
        what = f"its name is taken: {FOLDER}/{_SCHEMA}.env describes the variables of all environments"
        yield Problem(file, "", what, allowed="any other name")
    if _NAME.fullmatch(name) is None:
        allowed = "small letters, digits and `-`, a letter first, at most 39"
        yield Problem(file, "", "its name is not one of an environment", allowed=allowed)


def _default_problems(
    root: Path, name: str, pair: tuple[TomlFile, TomlFile], settings: Settings | None
) -> Iterator[Problem]:
    """Yield a problem when this environment is the default and others are too."""
    from windlass.environment.files import line_of, table_default
    from windlass.environment.problems import Problem

    base, own = pair
    if not (settings.default if settings else table_default(base.data) or table_default(own.data)):
        return
    if table_default(base.data):
        what = "would make every environment the default"
        yield Problem(base.file, "default", what, line=line_of(base.text, ("default",)), allowed="false")
    others = [each for each in _defaults(root, names(root)) if each != name]
    if table_default(own.data) and others:
        what = f"says the same as {' and '.join(f'{FOLDER}/{each}.toml' for each in others)}"
        yield Problem(
            own.file, "default", what, line=line_of(own.text, ("default",)), allowed="in one file only"
        )
