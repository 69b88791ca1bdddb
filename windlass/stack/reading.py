"""Reads the user's Compose project through `docker compose config`, without showing it a secret."""

from __future__ import annotations

import json
import os
import re
import secrets as random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from windlass.environment.environment import Environment
from windlass.environment.variables import is_secret
from windlass.errors import ConfigurationError
from windlass.shell import Sensitive, reveal
from windlass.stack import compose, generating
from windlass.stack.model import Missing, Stack
from windlass.stack.services import attachments_of, services_of
from windlass.stack.texts import LITERAL_PREFIX, SecretRef, SecretText, Sentinels, convert


def read(environment: Environment) -> Stack:
    """Read the Compose project of an environment.

    Every secret reaches Compose as a stand-in, so no error of Compose and no plan can show it. The
    `.env` beside the Compose file is not read: an environment's variables come from `envs/` alone.

    Args:
        environment: where the files are, which profiles are on, and the variables.

    Returns:
        The stack, safe to show; variables nothing sets are in `missing`, for the checks to judge.

    Raises:
        ConfigurationError: Compose refuses the project, or a `${NAME:?}` has no value.
        PreflightFailed: Docker's client or its Compose plugin is missing or too old.
    """
    return _Reader(environment).stack()


def stand_ins(environment: Environment, sentinels: Sentinels) -> dict[str, str]:
    """Return the variables as Compose gets them; an empty secret stays empty, as `${X:-…}` looks at that."""
    return {
        name: sentinels.secret(name) if each.secret and reveal(each.value) else reveal(each.value)
        for name, each in environment.variables.items()
    }


class _Reader:
    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._root = Path(os.path.abspath(environment.root))  # noqa: PTH100  links stay, as Compose leaves them
        self._files = [self._root / file for file in environment.settings.stack.files]
        self._directory = self._files[0].parent
        self._sentinels = Sentinels(random.token_hex(8))
        self._variables = stand_ins(environment, self._sentinels)
        self._generated = generating.generated_files(environment, self._root)

    def stack(self) -> Stack:
        """Read, and turn what Compose printed into a stack."""
        self._require_files()
        if not self._generated:
            return self._read()
        with tempfile.TemporaryDirectory(prefix="windlass-") as folder:
            self._put_generated(Path(folder))
            return self._read()

    def _put_generated(self, folder: Path) -> None:
        """Let Compose read generated files from a folder of our own; the repository stays as it is."""
        # Not interpolated, Compose names the env files of each service and reads none of them.
        said = compose.run(
            (*self._words(), "config", "--no-interpolate", "--format", "json"),
            self._process_environment(),
            self._directory,
        )
        if said.code != 0:
            raise compose.invalid(self._names, said, self._sentinels.readable, ())
        places = generating.put(self._generated, self._variables, folder)
        override = folder / "override.yaml"
        override.write_text(generating.override(json.loads(said.stdout), places, self._root))
        self._files.append(override)

    def _read(self) -> Stack:
        said = self._config()
        raw = json.loads(said.stdout.replace("$$", "$"))
        model: dict[str, Any] = convert(raw, self._sentinels.parse)
        if not model.get("services"):
            raise ConfigurationError(
                f"The Compose project ({', '.join(self._names)}) has no enabled service.",
                "Name the profiles to enable in the environment file: [stack] profiles.",
            )
        literals = lift_literals(model, self._environment)
        return Stack(
            name=self._environment.settings.app,
            root=self._root,
            directory=self._directory,
            model=model,
            services=services_of(model, self._root, self._generated),
            attachments=attachments_of(model, self._environment.variables, self._generated),
            missing=self._missing(compose.unset_names(said.stderr)),
            literals=literals,
            generated=self._generated,
        )

    @property
    def _names(self) -> list[str]:
        return self._environment.settings.stack.files

    def _require_files(self) -> None:
        for name, path in zip(self._names, self._files, strict=True):
            if not path.is_file():
                raise ConfigurationError(
                    f"The Compose file {name} does not exist in {self._root}.",
                    "Name the Compose files in the environment file: [stack] files.",
                )

    def _words(self) -> tuple[str, ...]:
        settings = self._environment.settings
        return compose.arguments(self._directory, self._files, settings.stack.profiles, settings.app)

    def _process_environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return compose.process_environment(os.environ, {**self._variables, **(extra or {})})

    def _config(self) -> compose.Said:
        said = compose.config_and_version(self._words(), self._process_environment(), self._directory)
        if said.code == 0:
            return said
        fault = compose.required_fault(said.stderr)
        if fault:
            raise self._required(*fault)
        names = self._sentinels.names(said.stderr)
        raise compose.invalid(self._names, said, self._sentinels.readable, names)

    def _required(self, name: str, message: str) -> ConfigurationError:
        table = compose.run(
            (*self._words(), "config", "--variables"), self._process_environment(), self._directory
        )
        others = compose.required_names(table.stdout, self._variables) if table.code == 0 else []
        # Compose stops at any of them: in order, the sentence is the same every time.
        names = sorted({name, *others})
        plural = len(names) > 1
        said = f" ({self._sentinels.readable(message)})" if message else ""
        listed = ", ".join(f"{each}{said}" if each == name else each for each in names)
        return ConfigurationError(
            f"The Compose project requires {'variables' if plural else 'the variable'} {listed}, "
            f"which {'have' if plural else 'has'} no value.",
            missing_hint(names, self._dotenv_names(), self._environment.name),
        )

    def _dotenv_names(self) -> set[str]:
        return {
            name
            for folder in {self._root, self._directory}
            if (folder / ".env").is_file()
            for name in dotenv_values(folder / ".env", interpolate=False)
        }

    def _missing(self, names: list[str]) -> tuple[Missing, ...]:
        """Find who uses the unset variables, by reading once more with stand-ins in their place."""
        if not names:
            return ()
        elsewhere = self._dotenv_names()
        extra = {name: self._sentinels.missing(name) for name in names}
        said = compose.run(
            (*self._words(), "config", "--format", "json"), self._process_environment(extra), self._directory
        )
        if said.code != 0:  # a stand-in where Compose wants a number
            return tuple(Missing(name, (), name in elsewhere) for name in names)
        found = json.loads(said.stdout)
        users = {
            service: set(re.findall(rf"windlass-missing-(\w+)-{self._sentinels.nonce}", json.dumps(raw)))
            for service, raw in found["services"].items()
        }
        anywhere = self._sentinels.names(said.stdout)
        return tuple(
            Missing(name, tuple(sorted(s for s, used in users.items() if name in used)), name in elsewhere)
            for name in names
            if name in anywhere  # else only a disabled service uses it
        )


def missing_hint(names: list[str], dotenv: set[str], environment: str) -> str:
    """Return what to do about variables without a value."""
    there = [name for name in names if name in dotenv]
    if there:
        return (
            f"The .env beside the Compose file sets {', '.join(there)}, but Windlass does not read it: "
            f"move the line{'s' if len(there) > 1 else ''} to envs/{environment}.env."
        )
    return f"Set it in envs/{environment}.env, or in envs/base.env for all environments."


def lift_literals(model: dict[str, Any], environment: Environment) -> dict[str, Sensitive]:
    """Replace secrets that stand in the project itself, such as those of its `env_file:` and build
    arguments, in place.

    Returns:
        The values, by placeholder name.
    """
    found: dict[str, Sensitive] = {}
    rules = environment.settings.variables
    for service, raw in model.get("services", {}).items():
        for texts in (raw.get("environment") or {}, (raw.get("build") or {}).get("args") or {}):
            for key, value in texts.items():
                if isinstance(value, str) and value and is_secret(key, value, rules):
                    name = _free_name(LITERAL_PREFIX + re.sub(r"\W", "_", f"{service}_{key}"), value, found)
                    found[name] = Sensitive(value)
                    texts[key] = SecretText((SecretRef(name),))
    return found


def _free_name(name: str, value: str, taken: Mapping[str, Sensitive]) -> str:
    candidate, number = name, 2
    while candidate in taken and taken[candidate].reveal() != value:
        candidate = f"{name}_{number}"
        number += 1
    return candidate
