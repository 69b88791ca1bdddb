"""The record of a rotation on a real host of this machine, and the script of a re-encryption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from windlass.environment.environment import Environment
from windlass.environment.loading import load
from windlass.errors import CommandFailed, OperationFailed
from windlass.hosts.local import LocalHost
from windlass.release import scripts
from windlass.release.layout import layout
from windlass.release.lock import acquire_all
from windlass.release.rotation import key_script, read_record, record_script, reencrypt_script
from windlass.secrets.rotating import Rotation
from windlass.secrets.settings import ReencryptSettings

RECORD = Rotation(
    variable="API_KEY",
    environment="prod",
    place="file:it's here",
    previous="file:before",
    apart=True,
    old="d" * 64,
    old_version="",
    who="ana@desk",
    started="2026-03-01T12:00:00+00:00",
    attempts=("a", "b"),
)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "envs").mkdir()
    text = 'app = "shop"\ndirectory = "srv"\n[hosts.here]\ntransport = "local"\n'
    (tmp_path / "envs" / "prod.toml").write_text(text)
    return load(tmp_path, "prod", process={})


@pytest.fixture
def host(environment: Environment) -> LocalHost:
    return LocalHost("here", str, environment.root, 60)


def work(environment: Environment, token: str) -> scripts.Work:
    place = layout(environment, "here")
    return scripts.Work(place, "shop", "20260301T120000Z-1a2b3c4", "rotate", "ana@desk", token, wait=5)


def test_a_record_is_written_whole_and_read_back(environment: Environment, host: LocalHost) -> None:
    assert read_record(environment, host) is None
    place = layout(environment, "here")
    locks = acquire_all([(host, place)], who="ana@desk", action="rotate", release="API_KEY", since="now")
    try:
        mine = work(environment, locks["here"].token)
        for each in (RECORD, replace(RECORD, step="kept", undoing=True)):
            host.run(record_script(mine, each))
            assert read_record(environment, host) == each
        host.run(key_script(mine, b"k" * 32))
        host.run(key_script(mine, b"other-key-that-must-not-win-here"))
    finally:
        locks["here"].release()
    file = Path(place.path("rotation.json"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(place.path("key")).read_text() == f"{b'k'.hex() * 32}\n"
    assert [each.name for each in file.parent.iterdir() if each.name.endswith(".new")] == []


def test_without_the_lock_nothing_is_written(environment: Environment, host: LocalHost) -> None:
    Path(layout(environment, "here").directory).mkdir()
    with pytest.raises(CommandFailed, match="the lock of this deploy was lost"):
        host.run(record_script(work(environment, "no-such-token"), RECORD))
    assert read_record(environment, host) is None


def test_a_damaged_record_stops_everything(environment: Environment, host: LocalHost) -> None:
    place = Path(layout(environment, "here").path("rotation.json"))
    place.parent.mkdir()
    place.write_text(RECORD.to_json()[:-9])
    with pytest.raises(OperationFailed, match="cannot be read"):
        read_record(environment, host)


def test_a_re_encryption_runs_in_the_live_release_and_starts_nothing_else(environment: Environment) -> None:
    settings = ReencryptSettings(service="api", command=["python3", "-m", "app.rotate it"], timeout=30)
    text = str(reencrypt_script(work(environment, "token"), settings))
    assert "releases/20260301T120000Z-1a2b3c4/stack.json" in text
    assert "run --rm -T --quiet-pull --name shop-reencrypt-20260301t120000z-1a2b3c4 --no-deps api" in text
    assert "python3 -m 'app.rotate it'" in text
    assert "timeout -k 5 30 " in text
