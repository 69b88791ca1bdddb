"""Looks at environments without needing them to be right, for lists and checks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from windlass.environment import files, validation, variables
from windlass.environment.environment import Environment, Variable
from windlass.environment.files import Table
from windlass.environment.loading import BASE, FOLDER, own_problems
from windlass.environment.model import Settings, VariablesSettings
from windlass.environment.problems import InvalidEnvironment, Problem, in_order
from windlass.environment.variables import Variables
from windlass.shell import Sensitive


def settings_of(root: Path, name: str) -> tuple[Settings | None, list[Problem]]:
    """Return an environment's settings, or None, and the problems of its TOML files; no secret is read."""
    pair = _pair(root, name)
    return validation.settings_of(pair, files.merge(pair[0].data, pair[1].data))


def rules_of(root: Path, name: str) -> VariablesSettings:
    """Return an environment's `[variables]` table; the default one where it is not valid."""
    pair = _pair(root, name)
    return validation.variable_rules(files.merge(pair[0].data, pair[1].data))


def without_variables(root: Path, name: str) -> Environment:
    """Return an environment without its variables: no secret needs to be at hand.

    Raises:
        InvalidEnvironment: its TOML files have problems.
    """
    settings, problems = settings_of(root, name)
    if problems or settings is None:
        raise InvalidEnvironment(name, problems)
    return Environment(name, root, settings, {})


@dataclass(frozen=True)
class Examined:
    """All there is to say of an environment, right or wrong.

    Args:
        settings: what its TOML files say; None when they are not valid.
        variables: what its dotenv files say, as far as it can be had.
        problems: everything that keeps it from being used, of its TOML and its dotenv files.
    """

    settings: Settings | None
    variables: Variables
    problems: tuple[Problem, ...]


def examine(
    root: Path, name: str, *, process: Mapping[str, str] | None = None, cached: bool = False
) -> Examined:
    """Read all files of an environment, get its secrets, and find every problem.

    Args:
        root: the repository.
        name: the environment's name.
        process: the variables `${env:NAME}` refers to; None for those of this process.
        cached: whether secrets may come from the cache of `[secrets.cache]`; a check needs the truth.
    """
    pair = _pair(root, name)
    merged = files.merge(pair[0].data, pair[1].data)
    settings, problems = validation.settings_of(pair, merged)
    given = os.environ if process is None else process
    found = _variables(root, name, merged, given, cached=cached)
    problems += [*found.problems, *own_problems(root, name, pair, settings)]
    problems += validation.store_problems(pair, merged)
    if found.complete:
        problems += validation.header_problems(pair, merged, found.names)
        problems += _rotation_problems(root, pair, merged, found)
    return Examined(settings, found, in_order(problems))


def _rotation_problems(
    root: Path, pair: tuple[files.TomlFile, files.TomlFile], merged: Table, found: Variables
) -> Iterator[Problem]:
    """Yield what is wrong in `[secrets.rotation]`; that of base.toml may speak of other environments."""
    if not files.table_at(merged, "secrets", "rotation"):
        return
    own = found.names | found.declared
    everywhere = own | variables.names_of_all(root)
    yield from validation.rotation_problems(pair, merged, own, everywhere)


def variables_of(root: Path, name: str) -> Variables:
    """Return an environment's variables, with the problems of those that cannot be had."""
    pair = _pair(root, name)
    return _variables(root, name, files.merge(pair[0].data, pair[1].data), os.environ)


def _variables(
    root: Path, name: str, merged: Table, process: Mapping[str, str], *, cached: bool = False
) -> Variables:
    rules, secrets = validation.variable_rules(merged), validation.secrets_settings(merged)
    # What is not valid is taken for protected: then no check is left out.
    protected = merged.get("protected", False) is not False
    if not cached or secrets.cache.ttl <= 0:
        return variables.load(root, name, rules, process, secrets, protected=protected)
    from windlass.secrets.cache import of_environment

    cache, lack = of_environment(root, name, process, secrets)
    found = variables.load(root, name, rules, process, secrets, cache, protected=protected)
    notes = [lack, cache.note if cache else ""]
    return replace(found, notes=(*found.notes, *filter(None, notes)))


def with_stand_ins(root: Path, name: str, examined: Examined | None = None) -> Environment | None:
    """Return an environment in which a stand-in takes the place of every secret that cannot be had.

    It is for checking the Compose project all the same; None when the TOML files have problems.

    Args:
        root: the repository.
        name: the environment's name.
        examined: what `examine` found of it, so that no secret is asked for twice.
    """
    settings, problems = settings_of(root, name)
    if problems or settings is None:
        return None
    found = examined.variables if examined else variables_of(root, name)
    lacking = {
        each: Variable(each, Sensitive("not-available"), FOLDER) for each in found.names - set(found.values)
    }
    return Environment(name, root, settings, {**found.values, **lacking}, found.notes)


def _pair(root: Path, name: str) -> tuple[files.TomlFile, files.TomlFile]:
    return files.read(root, f"{FOLDER}/{BASE}.toml"), files.read(root, f"{FOLDER}/{name}.toml")


def flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested tables as its dotted key and its value as a file would write it."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from flat(each, f"{key}.{name}" if key else name)
    else:
        yield key, "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
