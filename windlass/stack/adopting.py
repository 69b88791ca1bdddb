"""What an existing repository needs to begin: files proposed from its own Compose files.

Only names and defaults of variables are read, never their values: no secret ends up in a proposed file.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.environment import example
from windlass.environment.loading import FOLDER
from windlass.environment.reference import json_schema
from windlass.environment.schema import SCHEMA_FILE
from windlass.errors import ConfigurationError, WindlassError
from windlass.secrets.shapes import name_is_secret
from windlass.secrets.writers.entries import name_fault
from windlass.stack import compose

USUAL_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
# In the order in which Compose looks for them.
OVERRIDE_NAMES = tuple(
    f"{stem}.override.{end}" for stem in ("compose", "docker-compose") for end in ("yml", "yaml")
)
_VARIABLE = re.compile(r"(?<!\$)\$(?:\{(\w+)(?:(:?[-?+])([^}]*))?\}|([A-Za-z_]\w*))")
_POSTGRES = re.compile(r"postgres|postgis|timescale|pgvector")
_NOT_A_NAME = re.compile(r"[^a-z0-9-]+")
_LONGEST_NAME = 39
_SCHEMA = "environment.schema.json"
# What editors with TOML support look for (the convention of Taplo and its language server).
_SCHEMA_LINE = f"#:schema {_SCHEMA}\n"


@dataclass(frozen=True)
class NewFile:
    """A file to write.

    Args:
        path: relative to the repository.
        text: its content.
        addition: what to add by hand where the file exists already; empty: nothing.
    """

    path: str
    text: str
    addition: str = ""


@dataclass(frozen=True)
class Used:
    """A variable the Compose files use; `default` is None where they give none."""

    name: str
    default: str | None


def propose(root: Path, *, files: Sequence[str], app: str, host: str) -> tuple[NewFile, ...]:
    """Propose Windlass's files for a repository.

    Args:
        root: the repository.
        files: its Compose files; empty: the usual names are looked for.
        app: the application's name; empty: the folder's.
        host: address of the first server; empty: this machine.

    Raises:
        ConfigurationError: there is no Compose file.
    """
    found = tuple(files) or _usual(root)
    missing = [name for name in found if not (root / name).is_file()]
    if missing or not found:
        what = f"There is no {', '.join(missing)}" if missing else "There is no Compose file"
        raise ConfigurationError(f"{what} in {root}.", "Name yours with --compose.")
    used = variables("\n".join((root / name).read_text() for name in found))
    model = _model(root, found)
    environment = "prod" if host else "local"
    envs = (
        NewFile("envs/base.toml", _SCHEMA_LINE + base_toml(app_name(app or root.name), found, model)),
        NewFile(f"envs/{environment}.toml", _SCHEMA_LINE + _host_toml(host)),
        NewFile("envs/base.env", _base_env(used)),
        NewFile(SCHEMA_FILE, _schema_env(used)),
    )
    return (
        NewFile(f"envs/{_SCHEMA}", json.dumps(json_schema(), indent=2) + "\n"),
        *envs,
        NewFile(example.NAME, _example(envs)),
        NewFile(".gitignore", _IGNORED, ", ".join(_IGNORED.split())),
        NewFile(".dockerignore", _NOT_IN_IMAGES, ", ".join(_NOT_IN_IMAGES.split())),
        NewFile("tasks.py", _TASKS, "from windlass.tasks import namespace as ns"),
        NewFile("noxfile.py", _NOXFILE, "a session that runs `inv env.check`"),
    )


def _usual(root: Path) -> tuple[str, ...]:
    """Return the files Compose itself takes: the first of the usual names, and its override."""
    main = [name for name in USUAL_NAMES if (root / name).is_file()][:1]
    over = [name for name in OVERRIDE_NAMES if (root / name).is_file()][:1]
    return tuple(main + over) if main else ()


def overrides(root: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Return the override files that are taken though nobody named them."""
    return () if files else _usual(root)[1:]


def app_name(text: str) -> str:
    """Return a name an application may have, made from any text."""
    # A name begins with a letter; digits at its end tell `shop2` from `shop`, on one server maybe.
    name = _NOT_A_NAME.sub("-", text.lower()).lstrip("-0123456789")[:_LONGEST_NAME].rstrip("-")
    return name or "app"


def variables(text: str) -> tuple[Used, ...]:
    """Return the variables a Compose file uses, sorted, each once; the first default wins."""
    found: dict[str, str | None] = {}
    for match in _VARIABLE.finditer(text):
        name = match[1] or match[4]
        default = match[3] if match[2] in {"-", ":-"} else None
        if found.get(name) is None:
            found[name] = default
    return tuple(Used(name, found[name]) for name in sorted(found))


def _model(root: Path, files: Sequence[str]) -> Mapping[str, Any]:
    """Return the project with its variables unresolved; empty where Docker is missing or refuses it."""
    directory = (root / files[0]).parent
    words = compose.arguments(directory, [root / name for name in files], [], "app")
    try:
        said = compose.run(
            (*words, "config", "--no-interpolate", "--format", "json"),
            compose.process_environment(os.environ, {}),
            root,
        )
        model: Mapping[str, Any] = json.loads(said.stdout) if said.code == 0 else {}
    except (WindlassError, ValueError):
        return {}
    return model


def base_toml(app: str, files: Sequence[str], model: Mapping[str, Any]) -> str:
    """Return `envs/base.toml` for a project."""
    listed = ", ".join(json.dumps(name) for name in files)
    lines = [f'app = "{app}"', "", "[stack]", f"files = [{listed}]", ""]
    services: Mapping[str, Any] = model.get("services") or {}
    titles = _titles(services)
    for name, service in services.items():
        if _POSTGRES.search(str(service.get("image") or "")):
            lines += _database(titles[name], name, service)
    lines += _MIGRATE.splitlines()
    for name, service in services.items():
        lines += _checks(titles[name], name, service)
    return "\n".join(lines).rstrip() + "\n"


def _titles(services: Iterable[str]) -> dict[str, str]:
    """Return a table's name for each service, all different: `web_a` and `web-a` would share one."""
    titles: dict[str, str] = {}
    for service in services:
        title = wanted = app_name(service)
        number = 2
        while title in titles.values():
            title = f"{wanted[: _LONGEST_NAME - 4]}-{number}"
            number += 1
        titles[service] = title
    return titles


def _database(title: str, service: str, raw: Mapping[str, Any]) -> list[str]:
    environment = raw.get("environment") or {}
    user = _literal(environment.get("POSTGRES_USER")) or "postgres"
    name = _literal(environment.get("POSTGRES_DB")) or user
    return [
        f"[databases.{title}]",
        f'service = "{service}"',
        f"name = {json.dumps(name)}",
        f"user = {json.dumps(user)}",
        "",
    ]


def _literal(value: object) -> str:
    """Return a text without variables, or the default of the single variable it is."""
    text = str(value or "")
    match = _VARIABLE.fullmatch(text)
    if match:
        return match[3] or ""
    return "" if _VARIABLE.search(text) else text


def _checks(title: str, service: str, raw: Mapping[str, Any]) -> list[str]:
    """Return a TCP check for the first published port: an HTTP check needs a path only its owner knows."""
    for port in raw.get("ports") or ():
        published = _literal(
            str(port.get("published", "")) if isinstance(port, Mapping) else _published(str(port))
        )
        if published.isdigit():
            return [
                f"[health.checks.{title}]",
                'kind = "tcp"',
                f'service = "{service}"',
                f"port = {published}",
                "smoke = true",
                "",
            ]
    return []


def _published(text: str) -> str:
    """Return the published part of a short port such as `127.0.0.1:${PORT:-80}:80/tcp`."""
    pieces = re.split(r":(?![^{]*\})", text)
    return pieces[-2] if len(pieces) > 1 else ""


def _host_toml(host: str) -> str:
    if not host:
        return 'default = true\ndirectory = ".windlass/local"\n\n[hosts.here]\ntransport = "local"\n'
    user, _, address = host.rpartition("@")
    lines = ["default = true", "protected = true", "", "[hosts.server1]", f'address = "{address}"']
    return "\n".join([*lines, f'user = "{user}"' if user else '# user = "deploy"']) + "\n"


def _base_env(used: Sequence[Used]) -> str:
    """Return `envs/base.env`: a variable without a default is taken from the caller's own environment."""
    lines = [
        "# Variables for the Compose files, for every environment; envs/<name>.env wins over this file.",
        "# A secret is a reference, never a value: ${env:NAME} or ${file:path}.",
    ]
    lines += [f"{each.name}=${{env:{each.name}}}" for each in used if each.default is None]
    lines += [f"# {each.name}={each.default}" for each in used if each.default is not None]
    return "\n".join(lines) + "\n"


def _schema_env(used: Sequence[Used]) -> str:
    """Return `envs/schema.env`: what is known of each variable from its name and its default."""
    lines = [
        "# What the variables are: required, of which type, secret. A deploy and `inv env.check` keep to it.",
        "# All decorators and types: docs/reference/environment.md of Windlass.",
    ]
    for each in used:
        if name_fault(each.name):
            continue
        secret = name_is_secret(each.name)
        lines.append("")
        if each.default and not secret:
            lines.append(f"# The Compose files have the default {' '.join(each.default.split())}")
        said = " ".join(_decorators(each, secret=secret))
        lines += [f"# {said}"] if said else []
        lines.append(f"{each.name}=")
    return "\n".join(lines) + "\n"


def _decorators(used: Used, *, secret: bool) -> Iterator[str]:
    if used.default is None:
        yield "@required"
    if secret:
        yield "@sensitive"
    elif used.name.split("_")[-1] == "PORT":
        yield "@type=port"
    elif used.default in {"true", "false"}:
        yield "@type=bool"


def _example(files: Iterable[NewFile]) -> str:
    """Return `.env.example` as `env.example` writes it once these files are there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / FOLDER).mkdir()
        for file in files:
            (root / file.path).write_text(file.text)
        return example.text(root)


# Backups and the variables of environments have no place in an image.
_NOT_IN_IMAGES = ".windlass/\nenvs/\n"

_IGNORED = ".windlass/\nenvs/*.local.env\n"

_TASKS = '''"""This project's tasks: `inv --list` shows them."""

from windlass.tasks import namespace as ns

__all__ = ["ns"]
'''

_MIGRATE = """# The migration a deploy runs once, with the new image, before any service changes:
# [deploy.migrate]
# service = "api"
# command = ["python", "manage.py", "migrate"]

"""

_NOXFILE = '''"""What CI runs: `nox -s ci`, with the Nox that is installed beside Windlass."""

import sys

import nox

# No environments of their own: they would need Windlass installed once more.
nox.options.default_venv_backend = "none"
INV = (sys.executable, "-m", "invoke")


@nox.session
def check(session: nox.Session) -> None:
    """Check every environment and the Compose project."""
    session.run(*INV, "env.check")


@nox.session
def images(session: nox.Session) -> None:
    """Build the images."""
    session.run(*INV, "build.images")


@nox.session(default=False, requires=["check", "images"])
def ci(session: nox.Session) -> None:
    """Run everything CI runs."""
    session.log("checked and built")
'''
