"""Secrets of releases in memory: for real, on this machine's own /dev/shm."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.releases import meta, work
from tests.unit.test_release_scripts import DEPLOY, HERE, archive, docker, staged
from windlass.errors import CommandFailed
from windlass.release import scripts
from windlass.release.layout import Layout
from windlass.release.lock import DeployLock

__all__ = ["docker"]
SECRET = "kept-in-memory-alone"
PAYLOAD = archive(**{"release/stack.json": "{}", "release/secrets.env": f'A="{SECRET}"'})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A folder whose lock this deploy holds; its memory is cleared afterwards."""
    layout = Layout(str(tmp_path / "it's shop"))
    with DeployLock(HERE, layout, who="me", action="deploy", release="r2", since="now") as lock:
        yield layout.directory, lock.token
    subprocess.run(["rm", "-rf", memory(layout.directory)], check=True)


def memory(directory: str) -> str:
    words = 'printf %s "/dev/shm/windlass-$(id -u)-$(cd "$1" && pwd -P | sha256sum | head -c 16)"'
    return subprocess.run(
        ["bash", "-c", words, "-", directory], capture_output=True, text=True, check=True
    ).stdout


def stage(place: tuple[str, str], release: str = "r2", **changes: object) -> str:
    job = work(place[0], token=place[1], release=release)
    return HERE.run(staged(job, PAYLOAD, in_memory=True, **changes), payload=PAYLOAD).text


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def on_disk(directory: str) -> list[Path]:
    """Every file below a folder that holds the secret, links not followed."""
    return [
        path
        for path in Path(directory).rglob("*")
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes()
    ]


def test_the_secrets_are_in_memory_and_on_no_disk(place: tuple[str, str], docker: Path) -> None:
    stage(place)
    secrets = Path(place[0], "releases", "r2", "secrets.env")
    assert secrets.is_symlink()
    assert secrets.read_text() == f'A="{SECRET}"'
    kept = Path(secrets.readlink())
    assert kept == Path(memory(place[0]), "r2.env")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert names(kept.parent) == ["r2.env"]
    assert on_disk(place[0]) == []


def test_the_payload_never_touches_the_disk(place: tuple[str, str], docker: Path) -> None:
    """What the script does between two lines is seen by a search that takes the place of its tar."""
    found = docker / "found"
    (docker / "tar").write_text(
        f'#!/bin/bash\ngrep -rl {SECRET} "$dir" >>{found} 2>/dev/null\n'
        'exec env PATH="${PATH#*:}" tar "$@"\n'
    )
    (docker / "tar").chmod(0o755)
    job = work(place[0], token=place[1], release="r2")
    for in_memory in (True, False):
        script = staged(job, PAYLOAD, in_memory=in_memory)
        lines = script.text().replace("umask 077", "umask 077; export dir", 1)
        HERE.run(type(script).of("stage", lines, timeout=30), payload=PAYLOAD)
        # On disk it is found, so the search can find it.
        assert bool(found.read_text()) is not in_memory


def test_a_release_whose_memory_is_gone_is_not_gone_back_to(place: tuple[str, str], docker: Path) -> None:
    stage(place, "r1")
    job = work(place[0], token=place[1], release="r1")
    HERE.run(scripts.begin(job))
    subprocess.run(["rm", "-rf", memory(place[0])], check=True)
    for script in (scripts.begin(job), scripts.restore(job, meta("r1"), DEPLOY)):
        with pytest.raises(CommandFailed, match="r1 were kept in memory and are gone: deploy its commit"):
            HERE.run(script)


def test_a_deploy_says_that_there_is_no_way_back(place: tuple[str, str], docker: Path) -> None:
    stage(place, "r1")
    Path(place[0], "current").symlink_to("releases/r1")
    assert scripts.NO_RETURN not in stage(place, "r2", current="r1").split()
    subprocess.run(["rm", "-rf", memory(place[0])], check=True)
    assert scripts.NO_RETURN in stage(place, "r2", current="r1").split()


def test_pruning_a_release_clears_its_memory(place: tuple[str, str], docker: Path) -> None:
    for release in ("r1", "r2"):
        stage(place, release)
    job = work(place[0], token=place[1], release="r2")
    HERE.run(scripts.record(job, previous="r1", prune=[meta("r1")]))
    assert names(Path(memory(place[0]))) == ["r2.env"]
    assert not Path(place[0], "releases", "r1").exists()


def test_what_killed_scripts_and_removed_releases_left_goes(place: tuple[str, str], docker: Path) -> None:
    stage(place, "r1")
    left = Path(memory(place[0]), ".staging.abc123")
    left.mkdir()
    (left / "payload.tar").write_bytes(PAYLOAD)
    subprocess.run(["rm", "-rf", f"{place[0]}/releases/r1"], check=True)
    stage(place, "r2")
    assert names(Path(memory(place[0]))) == ["r2.env"]


@pytest.mark.parametrize("make", ["ln -s /tmp", "touch"])
def test_a_name_that_is_taken_is_refused(place: tuple[str, str], docker: Path, make: str) -> None:
    subprocess.run([*make.split(), memory(place[0])], check=True)
    with pytest.raises(CommandFailed, match="is not a folder of this user"):
        stage(place)
    assert on_disk(place[0]) == []


def test_a_host_without_memory_for_files_is_refused(place: tuple[str, str], docker: Path) -> None:
    (docker / "stat").write_text("#!/bin/bash\necho ext2/ext3\n")
    (docker / "stat").chmod(0o755)
    with pytest.raises(CommandFailed, match="no file system in memory"):
        stage(place)
    assert on_disk(place[0]) == []
