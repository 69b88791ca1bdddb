from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.published import refuse_published
from windlass.secrets.references import Address


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / ".gitignore").write_text("keys/\n*.local.env\n")
    return root


@pytest.mark.parametrize("place", ["file:plain", "dotenv:.env#A", "file:./a/../b", "dotenv:envs/prod.env#A"])
def test_a_file_that_git_would_take_in_is_refused(root: Path, place: str) -> None:
    with pytest.raises(ConfigurationError, match="value of A and git does not ignore it"):
        refuse_published(root, Address(*place.split(":", 1)), "A")


def test_a_link_from_an_ignored_place_into_the_repository_is_refused(root: Path) -> None:
    (root / "keys").symlink_to("plain")
    with pytest.raises(ConfigurationError):
        refuse_published(root, Address("file", "keys/a"), "A")


@pytest.mark.parametrize(
    "place",
    ["file:keys/a", "dotenv:envs/prod.local.env#A", "file:../outside", "aws:plain", "file:~nobody-x/a"],
)
def test_what_git_does_not_take_in_is_not(root: Path, place: str) -> None:
    refuse_published(root, Address(*place.split(":", 1)), "A")


def test_without_a_repository_nothing_is_published(tmp_path: Path) -> None:
    refuse_published(tmp_path, Address("file", "plain"), "A")
