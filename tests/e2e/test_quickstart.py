"""`./scripts/quickstart` as a new user runs it: beside other applications, twice, and taken away again."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pages import ROOT

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
class Quickstart:
    """A quickstart with a name and a folder of its own, so that a user's own one is left alone."""

    app: str
    folder: Path

    def run(self, *words: str) -> str:
        """Run it and return all it printed."""
        own = {"WINDLASS_QUICKSTART_APP": self.app, "WINDLASS_QUICKSTART_FOLDER": str(self.folder)}
        done = subprocess.run(
            ["./scripts/quickstart", *words],
            cwd=ROOT,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def objects(self) -> dict[str, list[str]]:
        """Return what is there of it on this machine's engine, by kind."""
        project = f"label=com.docker.compose.project={self.app}"
        listings = {
            "containers": ["ps", "--all", "--quiet", "--filter", project],
            "volumes": ["volume", "ls", "--quiet", "--filter", project],
            "networks": ["network", "ls", "--quiet", "--filter", project],
            "images": ["image", "ls", "--quiet", "--filter", f"label=windlass.app={self.app}"],
        }
        return {
            kind: subprocess.check_output(["docker", *words], text=True).split()
            for kind, words in listings.items()
        }


def summary(printed: str) -> list[str]:
    """Return the lines of the table at the end."""
    lines = printed.splitlines()
    start = max(at for at, line in enumerate(lines) if line.split() == ["step", "seconds", "result"])
    end = next(at for at, line in enumerate(lines) if at > start and line.startswith("What to try next"))
    return lines[start + 1 : end]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    made = Quickstart(f"quickstart-{secrets.token_hex(3)}", tmp_path_factory.mktemp("quickstart") / "project")
    yield made
    made.run("--down")


@pytest.fixture(scope="module")
def first(quickstart: Quickstart) -> str:
    return quickstart.run()


@pytest.mark.timeout(600)
def test_the_summary_tells_every_step_with_its_time(first: str) -> None:
    lines = iter(summary(first))
    for name in STEPS:
        assert any(re.match(rf"{name}.*\s\d+\.\d\s", line) for line in lines), f"{name}: {first}"


def test_the_summary_measures_the_gap_and_counts_the_rows(first: str) -> None:
    text = " ".join(" ".join(summary(first)).split())
    found = re.search(r"(\d+) of (\d+) requests failed, longest gap (\d+\.\d) s", text)
    assert found, text
    # What the README says: a gap of seconds, and the service answers before and after it.
    assert int(found[1]) < int(found[2])
    assert float(found[3]) < 60
    assert re.search(
        r"back the database up: inv db.backup \d+\.\d \d{8}T\d{6}Z-[0-9a-f]{6}, 20\d\d rows", text
    )
    assert "version one answers, the data is there" in text


def test_it_says_what_to_try_next_and_that_works(quickstart: Quickstart, first: str) -> None:
    block = first.partition("What to try next:")[2].splitlines()
    commands = [line.strip() for line in block if re.match(r"\s+\S*inv ", line)]
    assert len(commands) >= 4
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=quickstart.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.timeout(600)
def test_it_is_safe_to_repeat_and_keeps_the_data(quickstart: Quickstart, first: str) -> None:
    before = quickstart.objects()["volumes"]
    again = quickstart.run()
    assert quickstart.objects()["volumes"] == before
    assert len(summary(again)) >= len(STEPS)
    assert f"{quickstart.folder}" in again


@pytest.mark.timeout(300)
def test_down_leaves_nothing(quickstart: Quickstart, first: str) -> None:
    assert all(quickstart.objects().values())
    quickstart.run("--down")
    assert not any(quickstart.objects().values()), quickstart.objects()
    assert not quickstart.folder.exists()
    again = quickstart.run("--down")
    assert "removed 0 containers" in again or "nothing to remove" in again
