"""Looks at the machine Windlass runs on: the programs it calls and their versions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from windlass.doctor.findings import HERE, Finding, version_of
from windlass.stack.compose import OLDEST as OLDEST_COMPOSE

# `requires-python` of the package; a test compares the two.
OLDEST_PYTHON: Final = (3, 11)
_SECONDS: Final = 30.0
_INSTALL_DOCKER: Final = "Install Docker: https://docs.docker.com/engine/install/."
_INSTALL_COMPOSE: Final = (
    f"Install Docker Compose {'.'.join(map(str, OLDEST_COMPOSE))} or newer: "
    "https://docs.docker.com/compose/install/."
)


def examine(*, with_servers: bool) -> tuple[Finding, ...]:
    """Look at this machine's programs.

    Args:
        with_servers: there are hosts behind SSH.
    """
    ssh = [_ssh()] if with_servers else []
    return (_python(), _git(), *ssh, *_docker())


def _said(*words: str) -> tuple[int | None, str]:
    """Return a program's exit code and the last line it said; None and why when it cannot be run."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return None, "it is not installed"
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {_SECONDS:.0f} s"
    except OSError as error:
        return None, f"it cannot be run: {error.strerror}"
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return done.returncode, lines[-1].strip() if lines else ""


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding(HERE, "Python", "ok", version)
    needed = ".".join(map(str, OLDEST_PYTHON))
    return Finding(HERE, "Python", "failed", version, f"Install Windlass with Python {needed} or newer.")


def _git() -> Finding:
    code, said = _said("git", "--version")
    if code == 0:
        return Finding(HERE, "git", "ok", said.removeprefix("git version "))
    fix = "Install git: a release is named after its commit, or give deploys a name with --tag."
    return Finding(HERE, "git", "failed", said, fix)


def _ssh() -> Finding:
    code, said = _said("ssh", "-V")
    if code == 0:
        return Finding(HERE, "ssh", "ok", said.split(",")[0])
    fix = "Install the OpenSSH client: without it dumps and images travel at about half the speed."
    return Finding(HERE, "ssh", "warning", said, fix)


def _docker() -> Iterator[Finding]:
    code, client = _said("docker", "version", "--format", "{{.Client.Version}}")
    if code is None:
        yield Finding(HERE, "Docker", "failed", client, _INSTALL_DOCKER)
        return
    engine_code, engine = _said("docker", "version", "--format", "{{.Server.Version}}")
    if engine_code == 0 and version_of(engine):
        yield Finding(HERE, "Docker", "ok", engine)
    else:
        fix = "Start the Docker Engine, or join its group: sudo usermod -aG docker $USER, then log in again."
        yield Finding(HERE, "Docker", "failed", engine or client, fix)
    _, compose = _said("docker", "compose", "version", "--short")
    yield compose_finding(HERE, compose)
    code, buildx = _said("docker", "buildx", "version")
    if code == 0:
        yield Finding(HERE, "buildx", "ok", _word_with_version(buildx))
    else:
        fix = "Install the plugin docker-buildx: images are built with it."
        yield Finding(HERE, "buildx", "warning", "there is no buildx plugin", fix)


def _word_with_version(text: str) -> str:
    return next((word for word in text.split() if version_of(word)), text)


def compose_finding(where: str, said: str) -> Finding:
    """Judge what `docker compose version --short` said on a machine."""
    version = version_of(said)
    if version is not None and version >= OLDEST_COMPOSE:
        return Finding(where, "Compose", "ok", said)
    found = f"{said} is too old" if version else "there is no Compose plugin"
    return Finding(where, "Compose", "failed", found, _INSTALL_COMPOSE)
