"""Files of variables that a Compose project names and that are made from the environment.

Compose is shown a copy with stand-ins for secrets, outside the repository. With the values themselves a
file is only made as part of a release, where a service mounts it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from windlass.environment.environment import Environment
from windlass.environment.model import EnvFileSettings
from windlass.errors import ConfigurationError
from windlass.secrets.writers import (
    compose_env_file,
    compose_text,
    docker_env_file,
    dotenv_file,
    shell_file,
)
from windlass.shell import reveal
from windlass.stack.model import GeneratedFile

_WRITERS: Final[Mapping[str, Callable[[Mapping[str, str]], bytes]]] = {
    "compose": compose_env_file,
    "docker": docker_env_file,
    "dotenv": dotenv_file,
    "shell": shell_file,
}


def generated_files(environment: Environment, root: Path) -> dict[str, GeneratedFile]:
    """Return the files of variables an environment generates, by absolute path.

    Args:
        environment: says which, and has the variables.
        root: the repository, absolute.

    Raises:
        ConfigurationError: a file names a variable that no file of `envs/` sets, or leaves the repository.
    """
    return {
        _place(key, root): GeneratedFile(key, _names(key, settings, environment.variables), settings.format)
        for key, settings in environment.settings.stack.env_files.items()
    }


def content(file: GeneratedFile, environment: Environment) -> bytes:
    """Return a generated file with the values themselves, as its reader reads them back.

    Raises:
        ConfigurationError: the format cannot hold a value; the value is not shown.
    """
    values = {name: reveal(environment.variables[variable].value) for name, variable in file.names.items()}
    try:
        return _WRITERS[file.format](values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file.key}: {error.message}", error.hint) from None


def put(files: Mapping[str, GeneratedFile], variables: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Write each file for Compose into a folder, and return where it is.

    Args:
        files: the files, by absolute path in the repository.
        variables: the variables as Compose gets them: stand-ins for secrets.
        folder: an empty folder.
    """
    places: dict[str, Path] = {}
    for number, (path, file) in enumerate(files.items()):
        places[path] = folder / f"{number}.env"
        values = {name: variables[variable] for name, variable in file.names.items()}
        places[path].write_bytes(compose_env_file(values))
    return places


def override(model: Mapping[str, Any], places: Mapping[str, Path], root: Path) -> str:
    """Return a further Compose file that has services read generated env files where they are.

    Args:
        model: the project as Compose prints it without interpolation, which is before it reads env files.
        places: where each generated file is, by its absolute path in the repository.
        root: the repository.
    """
    parts = {
        name: [_moved(each, places, root) for each in raw["env_file"]]
        for name, raw in (model.get("services") or {}).items()
        if any(each["path"] in places for each in raw.get("env_file") or ())
    }
    # JSON but for the tag, which says that the list is no addition to the project's own.
    lines = (
        f"{json.dumps(name)}: {{env_file: !override {json.dumps(each)}}}" for name, each in parts.items()
    )
    return "services: {" + ", ".join(lines) + "}\n"


def _moved(entry: Mapping[str, Any], places: Mapping[str, Path], root: Path) -> dict[str, Any]:
    path = str(entry["path"])
    if path in places:
        # What is generated is Compose's own format, whatever the project's file would have been.
        return {"path": compose_text(str(places[path])), "required": True}
    if path.startswith(f"{root}/"):
        # A variable in what follows is the user's, a `$` in the repository's own path is none.
        path = compose_text(str(root)) + path.removeprefix(str(root))
    return {**entry, "path": path}


def _place(key: str, root: Path) -> str:
    place = Path(os.path.normpath(root / key))
    if not place.is_relative_to(root) or place == root:
        raise ConfigurationError(
            f"[stack.env_files] names {key}, which is not in the repository.",
            "Name it by its path relative to the repository.",
        )
    return str(place)


def _names(key: str, settings: EnvFileSettings, variables: Iterable[str]) -> dict[str, str]:
    known = list(variables)
    found: dict[str, str] = {}
    missing: list[str] = []
    for pattern in settings.variables:
        matching = sorted(name for name in known if fnmatchcase(name, pattern))
        found |= {name: name for name in matching}
        missing += [] if matching else [pattern]
    missing += [variable for variable in settings.renamed.values() if variable not in known]
    if missing:
        raise ConfigurationError(
            f"The generated file {key} is to hold {', '.join(missing)}, which no file of envs/ sets.",
            "Set it in envs/, or correct the name in the environment file: [stack.env_files].",
        )
    return found | dict(settings.renamed)
