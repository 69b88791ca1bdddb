"""A Compose project as Windlass sees it, read from the user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from windlass.shell import Sensitive

ONE_SHOT_LABEL = "windlass.one-shot"


@dataclass(frozen=True)
class Port:
    """A port of a container that the host publishes.

    Args:
        host_ip: the address it listens on; empty for all.
        published: the host's port, a range `8000-8010`, or empty for any free one.
        target: the container's port.
        protocol: `tcp` or `udp`.
    """

    host_ip: str
    published: str
    target: int
    protocol: str = "tcp"

    @property
    def public(self) -> bool:
        """Whether it listens on all interfaces, and so past the host's firewall."""
        return self.host_ip.strip("[]") in {"", "0.0.0.0", "::", "*"}  # noqa: S104  what is looked for


@dataclass(frozen=True)
class Bind:
    """A file or directory of the host in a container.

    Args:
        source: its absolute path on this machine.
        target: its path in the container.
        read_only: whether the container may not write to it.
        kind: what is there on this machine now.
        inside: whether it is part of the repository.
        holds: files in the directory, counted up to a few.
        create: whether Docker may create a missing directory.
    """

    source: str
    target: str
    read_only: bool
    kind: Literal["file", "directory", "absent"]
    inside: bool
    holds: int = 0
    create: bool = True

    @property
    def persistent(self) -> bool:
        """Whether a release keeps a directory for it on the host, with what the container writes."""
        return self.inside and self.kind != "file" and not self.read_only


@dataclass(frozen=True)
class Attachment:
    """A top-level `secrets:` or `configs:` entry.

    Args:
        kind: which of the two.
        name: its key.
        origin: where its content comes from; `other` cannot be honoured.
        detail: the path, the variable's name, or what `other` is.
        present: whether the content can be read on this machine.
    """

    kind: Literal["secret", "config"]
    name: str
    origin: Literal["file", "environment", "content", "other"]
    detail: str
    present: bool


@dataclass(frozen=True)
class Missing:
    """A variable that nothing sets.

    Args:
        name: the variable.
        services: who uses it; empty when that could not be told.
        in_dotenv: whether the `.env` beside the Compose file sets it, which Windlass does not read.
    """

    name: str
    services: tuple[str, ...] = ()
    in_dotenv: bool = False


@dataclass(frozen=True)
class Service:
    """A service of the stack.

    Args:
        name: its key.
        image: the image reference of the file; None when it is only built.
        build: the build definition; None when it is not built. May hold `SecretText`.
        replicas: how many containers.
        ports: what the host publishes.
        has_healthcheck: whether the Compose file or Dockerfile says how health is seen, or that it is not.
        restart: the restart policy; empty when none is given.
        depends_on: service name to condition.
        one_shot: whether it runs once and ends.
        stop_grace_period: seconds between the stop signal and the kill.
        binds: bind mounts.
        secrets: names of top-level secrets it mounts.
        configs: names of top-level configs it mounts.
        container_name: its fixed container name, if any.
    """

    name: str
    image: str | None = None
    build: Mapping[str, Any] | None = None
    replicas: int = 1
    ports: tuple[Port, ...] = ()
    has_healthcheck: bool = False
    restart: str = ""
    depends_on: Mapping[str, str] = field(default_factory=dict)
    one_shot: bool = False
    stop_grace_period: float = 10.0
    binds: tuple[Bind, ...] = ()
    secrets: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    container_name: str | None = None


@dataclass(frozen=True)
class GeneratedFile:
    """A file of variables that is made from the environment and is not in the repository.

    Args:
        key: its path as the environment file names it.
        names: name in the file to variable of the environment, in order.
        format: which reader it is for, where a service reads it itself.
    """

    key: str
    names: Mapping[str, str]
    format: Literal["dotenv", "compose", "docker", "shell"] = "dotenv"


@dataclass(frozen=True)
class Stack:
    """A Compose project.

    Args:
        name: the project's name, the app's.
        root: the repository.
        directory: the project's directory, that of the first Compose file.
        model: the whole project as `docker compose config` gives it, `$` single, with `SecretText` for
            texts that hold secrets: safe to show.
        services: the enabled services, by name.
        attachments: the top-level secrets and configs.
        missing: variables nothing sets, without a default.
        literals: secrets that stand in the project itself (its own `env_file:`), by placeholder name.
        generated: files of variables made from the environment, by absolute path.
    """

    name: str
    root: Path
    directory: Path
    model: Mapping[str, Any]
    services: Mapping[str, Service]
    attachments: tuple[Attachment, ...] = ()
    missing: tuple[Missing, ...] = ()
    literals: Mapping[str, Sensitive] = field(default_factory=dict)
    generated: Mapping[str, GeneratedFile] = field(default_factory=dict)
