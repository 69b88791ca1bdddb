"""A machine with nothing but Python: clone, `./scripts/quickstart`, and all of it away again.

The machine is a container with an Engine of its own. Its user is not root and not in group docker, so the
quickstart has to get what it lacks through sudo. What is cloned is the last commit, no change on top of it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.docker import docker
from tests.testbed.image import ROOT, isolation

USER = "ann"
HOME = f"/home/{USER}/windlass"
MEMORY = "4g"
DOCKERFILE = f"""\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
RUN apt-get update && apt-get install -y --no-install-recommends python3 sudo && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --shell /bin/bash {USER} \\
    && echo '{USER} ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
COPY nested-cgroups /usr/local/sbin/
"""
# Where this machine reaches the package indexes only in a way of its own, the new one needs the same way.
NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "WINDLASS_DEBIAN_MIRROR")
STEPS = (
    "make a project",
    "deploy the first release",
    "health",
    "write data",
    "deploy a new release while requests run",
    "back the database up",
    "prove the backup readable",
    "restore it beside the live one",
    "go back",
    "what is true now",
)


@dataclass(frozen=True)
class Machine:
    """A container that a person just got as a new server."""

    container: str

    def run(self, *argv: str, user: str = USER, timeout: float = 1500) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone and return what it said, errors among the rest."""
        passed = [word for name in NETWORK if name in os.environ for word in ("--env", name)]
        head = ["docker", "exec", "--user", user, "--workdir", HOME, *passed, self.container]
        return subprocess.run(
            [*head, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="module")
def machine(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "windlass")], check=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    nested = ROOT / "docker" / "server" / "nested-cgroups"
    (folder / "nested-cgroups").write_bytes(nested.read_bytes())
    (folder / "nested-cgroups").chmod(0o755)
    (folder / ".dockerignore").write_text("windlass\n")
    name = f"windlass-test-fresh-{secrets.token_hex(4)}"
    base = f"BASE_IMAGE={images['BASE_IMAGE']}"
    docker("buildx", "build", "--load", "--tag", name, "--build-arg", base, str(folder), timeout=600)
    try:
        options = isolation(name)
        docker("network", "create", name)
        run = ["run", "--detach", "--init", "--name", name, "--network", name, "--memory", MEMORY]
        run += ["--tmpfs", "/run", "--volume", f"{name}:/var/lib/docker", *options]
        docker(*run, name, "sh", "-c", "nested-cgroups && exec sleep infinity")
        docker("cp", f"{folder / 'windlass'}", f"{name}:/home/{USER}/")
        docker("exec", name, "chown", "-R", f"{USER}:{USER}", HOME)
        yield Machine(name)
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", name, check=False)
        docker("network", "rm", name, check=False)
        docker("image", "rm", "--force", name, check=False)


def test_there_is_nothing_but_python(machine: Machine) -> None:
    found = machine.run("sh", "-c", "command -v python3 git curl ssh docker pip3 gcc").stdout.split()
    assert [Path(each).name for each in found] == ["python3"]


@pytest.mark.timeout(1600)
def test_the_quickstart_passes(machine: Machine) -> None:
    done = machine.run("./scripts/quickstart")
    assert done.returncode == 0, done.stdout
    for words in ("installing the Docker Engine", f"adding {USER} to group docker", "making .venv"):
        assert words in done.stdout, done.stdout
    table = done.stdout.partition("\nstep ")[2]
    for step in STEPS:
        assert re.search(rf"^{step}[^\n]* +\d+\.\d  ", table, re.MULTILINE), f"{step}:\n{table}"
    assert "What to try next:" in table
    assert "newgrp docker" in table
    assert "Traceback" not in done.stdout


def test_down_leaves_nothing(machine: Machine) -> None:
    done = machine.run("./scripts/quickstart", "--down")
    assert done.returncode == 0, done.stdout
    listed = "docker ps --all --quiet; docker volume ls --quiet; docker image ls --quiet windlass-quickstart*"
    assert machine.run("sh", "-c", listed, user="root").stdout == ""
    assert machine.run("test", "-e", f"{HOME}/.windlass/quickstart").returncode == 1
    assert machine.run("./scripts/quickstart", "--down").stdout == "nothing to remove\n"
