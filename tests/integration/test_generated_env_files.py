"""Env files that are generated, read by the real Compose: values arrive, the repository stays as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.oracles import CHOSEN
from tests.stacks import environment
from windlass.environment.environment import Environment
from windlass.errors import ConfigurationError
from windlass.secrets.writers import compose_env_file
from windlass.stack.checks import check
from windlass.stack.reading import read
from windlass.stack.rendering import RenderedStack, render

pytestmark = pytest.mark.integration

COMPOSE = """\
services:
  backend:
    image: x:1
    env_file: [shared.env, .env]
    environment: {OWN: "${PORT:?}"}
  inngest:
    extends: {service: base}
    image: x:1
    env_file:
      - path: ./scripts/.env.inngest
  base:
    image: x:1
    env_file: .env
  srh:
    image: x:1
    volumes: ["./.env.srh:/app/.env:ro"]
    secrets: [srh]
  plain:
    image: x:1
    env_file: shared.env
secrets:
  srh: {file: ./.env.srh}
"""
SECRETS = {f"VALUE_{number}": value for number, value in enumerate(CHOSEN) if len(value) < 1000}
FILES = {
    ".env": {"variables": ["VALUE_*", "PORT"]},
    "scripts/.env.inngest": {"renamed": {"DATABASE_URL": "INNGEST_DATABASE_URL"}},
    ".env.srh": {"variables": ["VALUE_*"], "format": "dotenv"},
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "re$po"
    root.mkdir()
    (root / "compose.yaml").write_text(COMPOSE)
    (root / "shared.env").write_text("SHARED=1\nPORT=overridden\n")
    return root


def where(root: Path, **changes: str) -> Environment:
    return environment(
        root,
        public={"PORT": "3000"},
        secret={**SECRETS, "INNGEST_DATABASE_URL": "postgres://u:p$w@db/i", **changes},
        stack={"env_files": FILES},
    )


def rendered_for(here: Environment, folder: Path) -> RenderedStack:
    places = {"files_root": str(folder / "files"), "shared_root": str(folder / "shared")}
    return render(read(here), here, images={}, release="r1", key=b"k", **places)


def variables(rendered: RenderedStack, folder: Path) -> dict[str, dict[str, str]]:
    """Return what each service's container gets, as Compose reads a release on a host."""
    folder.mkdir(exist_ok=True)
    (folder / "stack.json").write_bytes(rendered.compose)
    (folder / "secrets.env").write_bytes(compose_env_file(rendered.secrets))
    words = [
        "docker",
        "compose",
        "--env-file",
        "secrets.env",
        "-f",
        "stack.json",
        "config",
        "--format",
        "json",
    ]
    said = subprocess.run(words, cwd=folder, capture_output=True, check=True).stdout.decode()
    services = json.loads(said.replace("$$", "$"))["services"]
    return {name: each.get("environment") or {} for name, each in services.items()}


def tree(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


def test_services_get_exactly_the_variables_of_their_files(repository: Path, tmp_path: Path) -> None:
    before = tree(repository)
    found = variables(rendered_for(where(repository), tmp_path), tmp_path / "host")
    assert found["backend"] == {**SECRETS, "SHARED": "1", "PORT": "3000", "OWN": "3000"}
    assert found["base"] == {**SECRETS, "PORT": "3000"}
    assert found["inngest"] == {**SECRETS, "PORT": "3000", "DATABASE_URL": "postgres://u:p$w@db/i"}
    assert found["plain"] == {"SHARED": "1", "PORT": "overridden"}
    assert tree(repository) == before, "the repository is as it was"


def test_a_file_in_the_repository_is_not_read_in_place_of_the_generated_one(
    repository: Path, tmp_path: Path
) -> None:
    (repository / ".env").write_text("PORT=stale\nLEFT_OVER=1\n")
    (repository / ".env.srh").write_text("LEFT_OVER=1\n")
    rendered = rendered_for(where(repository), tmp_path)
    assert "LEFT_OVER" not in variables(rendered, tmp_path / "host")["base"]
    assert not any(b"LEFT_OVER" in file.data for file in rendered.files)


def test_a_mounted_file_is_shipped_as_its_reader_reads_it(repository: Path, tmp_path: Path) -> None:
    here = where(repository)
    assert not [each for each in check(read(here), here) if each.severity == "error"]
    (file,) = rendered_for(here, tmp_path).files
    assert file.target.endswith("/.env.srh")
    place = tmp_path / "read.env"
    place.write_bytes(file.data)
    assert dotenv_values(place, interpolate=False) == SECRETS


def test_a_changed_secret_changes_the_services_that_use_it_and_no_other(
    repository: Path, tmp_path: Path
) -> None:
    before = rendered_for(where(repository), tmp_path)
    for changed, services in (
        ({"VALUE_5": "rotated"}, {"backend", "base", "inngest", "srh"}),
        ({"INNGEST_DATABASE_URL": "postgres://u:rotated@db/i"}, {"inngest"}),
    ):
        after = rendered_for(where(repository, **changed), tmp_path)
        assert {name for name in after.hashes if after.hashes[name] != before.hashes[name]} == services
        assert b"rotated" not in after.compose


def test_no_secret_is_in_the_file_of_a_release_or_in_an_error(repository: Path, tmp_path: Path) -> None:
    rendered = rendered_for(where(repository), tmp_path)
    assert b"p$w" not in rendered.compose
    assert b"p$$w" not in rendered.compose
    (repository / "compose.yaml").write_text(COMPOSE.replace("image: x:1", "image: [x]", 1))
    with pytest.raises(ConfigurationError) as caught:
        read(where(repository))
    assert "p$w" not in str(caught.value)
    assert not list(Path(repository).glob("**/*override*"))
