"""Names of images, tags and releases."""

import re
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.images.naming import default_tag, reference, release_id

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# What the distribution reference grammar allows.
REFERENCE = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/?)+:\w[\w.-]{0,127}"
)


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def repository(root: Path) -> Path:
    git(root, "init", "-q")
    (root / "a").write_text("1")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_a_reference() -> None:
    assert reference("shop", "api", "1a2b") == "shop-api:1a2b"
    assert reference("shop", "api", "1a2b", "ghcr.io/acme") == "ghcr.io/acme/shop-api:1a2b"
    assert reference("shop", "api", "v1", "localhost:5000") == "localhost:5000/shop-api:v1"


@given(st.from_regex(r"[a-zA-Z0-9._-]{1,30}", fullmatch=True))
def test_every_service_name_gives_a_valid_reference(service: str) -> None:
    assert REFERENCE.fullmatch(reference("shop", service, "1"))


def test_names_that_differ_stay_different() -> None:
    names = {reference("shop", name, "1") for name in ("api", "Api", "a-pi", "a_pi", "a__pi", "a.pi", "_api")}
    assert len(names) == 7


@pytest.mark.parametrize("tag", ["", "-a", ".a", "a b", "a/b", "a:b", "x" * 129])
def test_a_tag_that_is_none_is_refused(tag: str) -> None:
    with pytest.raises(ConfigurationError, match="is no image tag"):
        reference("shop", "api", tag)


@pytest.mark.parametrize("registry", ["https://ghcr.io", "ghcr.io/Acme", "ghcr.io/", "a b", ""])
def test_a_registry_that_is_none_is_refused(registry: str) -> None:
    with pytest.raises(ConfigurationError, match="is no registry prefix"):
        reference("shop", "api", "1", registry)


def test_release_ids_sort_by_time_and_are_safe_paths() -> None:
    assert release_id("1a2b3c4", NOW) == "20260102T030405Z-1a2b3c4"
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert release_id("v1/../../x y", elsewhere) == "20260102T030405Z-v1-..-..-x-y"
    assert release_id("$(x)", NOW) == "20260102T030405Z-x"
    assert release_id("/", NOW) == "20260102T030405Z-release"
    assert release_id("a", NOW) < release_id("a", NOW + timedelta(seconds=1))


def test_the_tag_of_a_clean_tree_is_its_commit(tmp_path: Path) -> None:
    root = repository(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{12}", default_tag(root))
    (root / "sub").mkdir()
    assert default_tag(root / "sub") == default_tag(root)


def test_the_tag_of_a_dirty_tree_tells_its_content(tmp_path: Path) -> None:
    root = repository(tmp_path)
    clean = default_tag(root)
    (root / "a").write_text("2")
    first = default_tag(root)
    assert re.fullmatch(clean + r"-dirty-[0-9a-f]{8}", first)
    assert default_tag(root) == first
    (root / "new").write_text("x")
    second = default_tag(root)
    (root / "new").write_text("y")
    assert len({first, second, default_tag(root)}) == 3
    git(root, "add", ".")
    staged = default_tag(root)
    assert staged.startswith(f"{clean}-dirty-")


def test_ignored_files_do_not_make_a_tree_dirty(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log\n")
    root = repository(tmp_path)
    (root / "x.log").write_text("x")
    assert "dirty" not in default_tag(root)


def test_without_git_or_a_commit_the_tag_is_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_tag(tmp_path, NOW) == "t20260102T030405Z"
    git(tmp_path, "init", "-q")
    assert default_tag(tmp_path, NOW) == "t20260102T030405Z"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_tag(tmp_path, NOW) == "t20260102T030405Z"
