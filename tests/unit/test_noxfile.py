"""The noxfile is what CI runs: nothing may fall out of it unnoticed. It is loaded, never run."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nox.registry
import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = {
    "lint",
    "typecheck",
    "unit",
    "compat",
    "integration",
    "e2e",
    "build",
    "scan",
    "docs",
    "bench",
}


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[ModuleType, dict[str, Any]]]:
    spec = importlib.util.spec_from_file_location("windlass_noxfile", ROOT / "noxfile.py")
    assert spec is not None and spec.loader is not None
    before = dict(nox.registry._REGISTRY)
    nox.registry._REGISTRY.clear()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module, dict(nox.registry.get())
    finally:
        del sys.modules[spec.name]
        nox.registry._REGISTRY.clear()
        nox.registry._REGISTRY.update(before)


@pytest.fixture
def sessions(loaded: tuple[ModuleType, dict[str, Any]]) -> dict[str, Any]:
    return loaded[1]


@pytest.fixture
def noxfile(loaded: tuple[ModuleType, dict[str, Any]]) -> ModuleType:
    return loaded[0]


def test_ci_requires_every_check(sessions: dict[str, Any]) -> None:
    assert set(sessions["ci"].requires) == REQUIRED
    assert set(sessions) == REQUIRED | {"ci", "lock"}


def test_ci_is_not_run_beside_its_parts(sessions: dict[str, Any]) -> None:
    assert {name for name, session in sessions.items() if not session.default} == {"ci", "compat", "lock"}


def test_every_session_says_what_it_does(sessions: dict[str, Any]) -> None:
    assert all((session.func.__doc__ or "").strip() for session in sessions.values())


def test_nothing_is_queued_by_notify() -> None:
    assert "session.notify(" not in (ROOT / "noxfile.py").read_text()


class Session:
    """As much of a Nox session as `timed` looks at."""

    name = "some"


def test_a_failed_session_is_timed_as_well(noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[tuple[str, str]] = []
    monkeypatch.setattr(noxfile, "_record", lambda name, seconds, outcome: recorded.append((name, outcome)))

    def good(session: Session) -> None:
        pass

    def bad(session: Session) -> None:
        raise RuntimeError

    noxfile.timed(good)(Session())
    with pytest.raises(RuntimeError):
        noxfile.timed(bad)(Session())
    assert recorded == [("some", "passed"), ("some", "failed")]


def test_times_are_printed_as_a_table(
    noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noxfile, "_times", [("lint", 1.26, "passed"), ("integration", 100.0, "failed")])
    noxfile._print_times()
    assert capsys.readouterr().err.splitlines() == [
        "",
        "seconds  session",
        "    1.3  lint         passed",
        "  100.0  integration  failed",
        "  101.3  all",
    ]


@pytest.mark.parametrize(
    ("name", "first", "shell"),
    [
        ("run.sh", "", True),
        ("run", "#!/usr/bin/env bash\n", True),
        ("run", "#!/bin/sh\n", True),
        ("run", "#!/usr/bin/env python3\n", False),
        ("Dockerfile", "FROM scratch\n", False),
        ("empty", "", False),
    ],
)
def test_shell_scripts_are_known_by_name_or_first_line(
    noxfile: ModuleType, tmp_path: Path, name: str, first: str, shell: bool
) -> None:
    (tmp_path / name).write_text(first)
    assert noxfile.is_shell(str(tmp_path / name)) is shell


def test_secrets_are_compared_by_content_not_by_line(noxfile: ModuleType) -> None:
    def report(line: int, digest: str) -> dict[str, Any]:
        return {"results": {"a.py": [{"type": "Kind", "line_number": line, "hashed_secret": digest}]}}

    def keys(found: dict[str, Any]) -> list[object]:
        return [key for _, key in noxfile._findings(found)]

    assert keys(report(1, "x")) == keys(report(9, "x"))
    assert keys(report(1, "x")) != keys(report(1, "y"))
