import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.backups import APP, ENVIRONMENT, make_manifest, put_backup
from windlass.backup.catalogue import Listing, find, list_backups, stale
from windlass.backup.stores.directory import DirectoryStore
from windlass.errors import BackupError

OLD = "20260101T000000Z-aaaaaa"
NEW = "20260102T000000Z-bbbbbb"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore("local", tmp_path)


def listing(store: DirectoryStore, database: str | None = None) -> Listing:
    return list_backups(store, APP, ENVIRONMENT, database)


def test_newest_first_by_the_snapshots_time(store: DirectoryStore) -> None:
    put_backup(store, make_manifest(OLD))
    put_backup(store, make_manifest(NEW))
    late = datetime(2026, 1, 3, tzinfo=UTC)
    put_backup(store, make_manifest("20250101T000000Z-cccccc", snapshot_time=late))
    assert [entry.id[-6:] for entry in listing(store).entries] == ["cccccc", "bbbbbb", "aaaaaa"]
    assert all(entry.ok for entry in listing(store).entries)
    assert find(listing(store), "latest").id == "20250101T000000Z-cccccc"
    assert find(listing(store), OLD).id == OLD


def test_databases_and_environments_are_kept_apart(store: DirectoryStore) -> None:
    put_backup(store, make_manifest(OLD))
    put_backup(store, make_manifest(NEW, database="main-2"))
    put_backup(store, make_manifest(NEW, environment="testing"))
    assert [entry.id for entry in listing(store, "main").entries] == [OLD]
    assert len(listing(store).entries) == 2


def test_without_a_manifest_there_is_no_backup(store: DirectoryStore) -> None:
    folder = put_backup(store, make_manifest(OLD))
    (store.root / folder / "manifest.json").unlink()
    (store.root / folder / "dump.pgdump.partial").write_bytes(b"ab")
    found = listing(store)
    assert found.entries == ()
    (leftover,) = found.leftovers
    assert leftover.id == OLD
    assert leftover.size == 5
    with pytest.raises(BackupError, match="There is no backup"):
        find(found, "latest")


def test_a_manifest_that_is_still_being_written_does_not_count(store: DirectoryStore) -> None:
    folder = put_backup(store, make_manifest(OLD))
    path = store.root / folder / "manifest.json"
    path.rename(path.with_name("manifest.json.partial"))
    assert listing(store).entries == ()


def test_only_what_nobody_wrote_to_for_long_is_stale(store: DirectoryStore) -> None:
    for identifier, age in ((OLD, 90_000), (NEW, 10)):
        folder = store.root / f"{APP}/{ENVIRONMENT}/main/{identifier}"
        folder.mkdir(parents=True)
        path = folder / "dump.pgdump.partial"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    swept = stale(listing(store).leftovers, datetime.now(UTC), timedelta(days=1))
    assert [each.id for each in swept] == [OLD]


class TestDamage:
    def damaged(self, store: DirectoryStore) -> str:
        (entry,) = listing(store).entries
        assert not entry.ok
        return entry.problem

    def test_a_missing_archive(self, store: DirectoryStore) -> None:
        folder = put_backup(store, make_manifest(OLD))
        (store.root / folder / "dump.pgdump").unlink()
        assert "dump.pgdump is missing" in self.damaged(store)

    def test_a_short_archive(self, store: DirectoryStore) -> None:
        put_backup(store, make_manifest(OLD), b"ab")
        assert "has 2 bytes, not 3" in self.damaged(store)

    def test_a_manifest_of_another_backup(self, store: DirectoryStore) -> None:
        here = put_backup(store, make_manifest(OLD))
        other = make_manifest(NEW)
        (store.root / here / "manifest.json").write_bytes(other.to_json())
        assert self.damaged(store) == f"its manifest is that of {APP}/{ENVIRONMENT}/main/{NEW}"

    def test_a_broken_manifest_is_listed_not_hidden(self, store: DirectoryStore) -> None:
        folder = put_backup(store, make_manifest(OLD))
        (store.root / folder / "manifest.json").write_bytes(b"{")
        assert "not JSON" in self.damaged(store)

    def test_latest_never_goes_back_silently(self, store: DirectoryStore) -> None:
        put_backup(store, make_manifest(OLD))
        put_backup(store, make_manifest(NEW), b"ab")
        with pytest.raises(BackupError, match=f"(?s){NEW}, is damaged.*newest good one is {OLD}"):
            find(listing(store), "latest")
        assert find(listing(store), OLD).ok


def test_what_is_no_backup_is_ignored(store: DirectoryStore) -> None:
    folder = store.root / f"{APP}/{ENVIRONMENT}/main"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("x")
    (folder / "by-hand").mkdir()
    (folder / "by-hand" / "dump.pgdump").write_text("x")
    assert listing(store) == Listing((), ())


def test_an_unknown_id_names_the_newest(store: DirectoryStore) -> None:
    put_backup(store, make_manifest(OLD))
    with pytest.raises(BackupError, match=f"(?s)no backup 2020.*{OLD}"):
        find(listing(store), "2020")
