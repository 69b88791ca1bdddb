"""Looks at environments without needing them to be right, for lists and checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windlass.environment import files, validation, variables
from windlass.environment.environment import Environment, Variable
from windlass.environment.loading import BASE, FOLDER
from windlass.environment.model import Settings
from windlass.environment.problems import InvalidEnvironment, Problem
from windlass.environment.variables import Variables
from windlass.shell import Sensitive


def settings_of(root: Path, name: str) -> tuple[Settings | None, list[Problem]]:
    """Return an environment's settings, or None, and the problems of its TOML files; no secret is read."""
    pair = _pair(root, name)
    return validation.settings_of(pair, files.merge(pair[0].data, pair[1].data))


def without_variables(root: Path, name: str) -> Environment:
    """Return an environment without its variables: no secret needs to be at hand.

    Raises:
        InvalidEnvironment: its TOML files have problems.
    """
    settings, problems = settings_of(root, name)
    if problems or settings is None:
        raise InvalidEnvironment(name, problems)
    return Environment(name, root, settings, {})


def variables_of(root: Path, name: str) -> Variables:
    """Return an environment's variables, with the problems of those that cannot be had."""
    pair = _pair(root, name)
    merged = files.merge(pair[0].data, pair[1].data)
    rules, secrets = validation.variable_rules(merged), validation.secrets_settings(merged)
    return variables.load(root, name, rules, os.environ, secrets)


def with_stand_ins(root: Path, name: str) -> Environment | None:
    """Return an environment in which a stand-in takes the place of every secret that cannot be had.

    It is for checking the Compose project all the same; None when the TOML files have problems.
    """
    settings, problems = settings_of(root, name)
    if problems or settings is None:
        return None
    found = variables_of(root, name)
    lacking = {
        each: Variable(each, Sensitive("not-available"), FOLDER) for each in found.names - set(found.values)
    }
    return Environment(name, root, settings, {**found.values, **lacking})


def _pair(root: Path, name: str) -> tuple[files.TomlFile, files.TomlFile]:
    return files.read(root, f"{FOLDER}/{BASE}.toml"), files.read(root, f"{FOLDER}/{name}.toml")


def flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested tables as its dotted key and its value as a file would write it."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from flat(each, f"{key}.{name}" if key else name)
    else:
        yield key, "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
