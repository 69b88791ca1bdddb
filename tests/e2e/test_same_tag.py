"""One tag, several images: what a release ran is what comes back, whatever its tag names by then."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG CONTENT
RUN echo "${CONTENT}" >/content
CMD ["sleep", "infinity"]
"""
COMPOSE = """\
services:
  web:
    build:
      context: .
      args:
        BASE_IMAGE: ${BASE_IMAGE}
        CONTENT: ${CONTENT}
    init: true
    healthcheck:
      test: ["CMD", "true"]
      interval: 1s
"""


class Project:
    """A project on this machine whose image depends on a variable, not on the commit."""

    def __init__(self, root: Path, base_image: str) -> None:
        self.root = root
        self.app = f"tag-{secrets.token_hex(4)}"
        (root / "envs").mkdir()
        (root / "Dockerfile").write_text(DOCKERFILE)
        (root / "compose.yaml").write_text(COMPOSE)
        (root / "tasks.py").write_text("from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n")
        (root / "envs" / "local.toml").write_text(
            f'app = "{self.app}"\ndirectory = ".windlass/local"\n\n[hosts.here]\ntransport = "local"\n'
        )
        (root / "envs" / "base.env").write_text(f"BASE_IMAGE={base_image}\n")

    def inv(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "invoke", *words]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS")}
        return subprocess.run(argv, cwd=self.root, env=kept, capture_output=True, text=True, check=False)

    def deploy(self, content: str) -> str:
        (self.root / "envs" / "local.env").write_text(f"CONTENT={content}\n")
        done = self.inv("deploy.local", "--tag", "same", "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["release"])

    def content(self) -> str:
        argv = ["docker", "exec", f"{self.app}-web-1", "cat", "/content"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def close(self) -> None:
        down = ["docker", "compose", "-p", self.app, "down", "--volumes"]
        subprocess.run(down, check=False, capture_output=True)
        listing = ["docker", "image", "ls", "--quiet", "--filter", f"label=windlass.app={self.app}"]
        found = set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())
        subprocess.run(["docker", "image", "rm", "--force", *found], check=False, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, images: dict[str, str]) -> Iterator[Project]:
    made = Project(tmp_path, images["BASE_IMAGE"])
    try:
        yield made
    finally:
        made.close()


def test_a_rollback_brings_back_the_content_not_the_tag(project: Project) -> None:
    first = project.deploy("one")
    project.deploy("two")
    assert project.content() == "two"
    (project.root / "envs" / "local.env").write_text("CONTENT=three\n")
    said = project.inv("deploy.plan", "--tag", "same").stdout
    assert "unless the build makes another image" in said

    done = project.inv("deploy.rollback", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["release"] == first
    assert project.content() == "one"

    # There is none before the first: back never means forward to what was left.
    done = project.inv("deploy.rollback")
    assert done.returncode == 1
    assert "no earlier release" in done.stderr
    assert project.content() == "one"
