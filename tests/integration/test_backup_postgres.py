"""Backups of a real PostgreSQL: what they promise, under attack."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.backups import ENVIRONMENT, make_environment
from tests.postgres import PostgresServer
from windlass.backup import catalogue, dumping, restoring
from windlass.backup.catalogue import Entry, Listing
from windlass.backup.manifest import Manifest, read_manifest
from windlass.backup.restoring import Restored
from windlass.backup.stores import open_store
from windlass.backup.stores.directory import DirectoryStore
from windlass.backup.taking import take
from windlass.backup.verifying import Level, Verification, find_reader, verify
from windlass.databases import postgres
from windlass.databases.status import read_status
from windlass.environment.environment import Environment
from windlass.errors import (
    BackupError,
    ConfigurationError,
    LinkDropped,
    Locked,
    OperationFailed,
    PreflightFailed,
    WindlassError,
)
from windlass.events import Event, Notice, PhaseChanged, Progress, ignore
from windlass.hosts.local import LocalHost
from windlass.shell import Command

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
ODD_TABLE = "Ta\"ble 'x' ü\\; --"
ODD_DATABASE = "we \"ird' =\\ ü"
# The orders compress to more than MIDDLE bytes, so that there is a middle to interrupt.
FILL = """
CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text NOT NULL);
INSERT INTO orders (note) SELECT md5(g::text) || md5((g * 7)::text) || md5((g * 13)::text)
  FROM generate_series(1, 250000) g;
CREATE TABLE busy AS SELECT id, note FROM orders LIMIT 1000;
CREATE SCHEMA "Odd one";
CREATE TABLE "Odd one".{odd} (id int, t text);
INSERT INTO "Odd one".{odd} SELECT g, E'\\t"\\n' || g FROM generate_series(1, 7) g;
CREATE TABLE parted (id int, k int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
INSERT INTO parted SELECT g, g FROM generate_series(0, 149) g;
CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
CREATE TABLE nothing (id int);
CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM orders;
SELECT lo_from_bytea(0, '\\x010203');
""".replace("{odd}", '"' + ODD_TABLE.replace('"', '""') + '"')


COUNT_ODD = 'SELECT count(*) FROM "Odd one".{odd}'.replace("{odd}", '"' + ODD_TABLE.replace('"', '""') + '"')
END_LABELLED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
FACTS = """
SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text, shobj_description(oid, 'pg_database'),
       (SELECT array_agg(setrole::regrole::text || setconfig::text ORDER BY setrole)
          FROM pg_db_role_setting WHERE setdatabase = d.oid)
  FROM pg_database d WHERE datname = 'live'"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        running.sql(FILL)
        yield running


@pytest.fixture
def host() -> LocalHost:
    return LocalHost("one")


@pytest.fixture
def environment(server: PostgresServer, tmp_path: Path) -> Environment:
    return make_environment(tmp_path, app=server.app)


@pytest.fixture
def store(environment: Environment) -> DirectoryStore:
    found = open_store(environment)
    assert isinstance(found, DirectoryStore)
    return found


@pytest.fixture
def extra(server: PostgresServer) -> Iterator[set[str]]:
    """Drop the databases a test made; gives those that were there before."""
    before = server.databases()
    yield before
    for name in server.databases() - before:
        quoted = name.replace('"', '""')
        server.sql(f'DROP DATABASE "{quoted}" WITH (FORCE)', "postgres")


def listing(environment: Environment, store: DirectoryStore) -> Listing:
    return catalogue.list_backups(store, environment.settings.app, ENVIRONMENT)


def latest(environment: Environment, store: DirectoryStore) -> Entry:
    return catalogue.find(listing(environment, store), "latest")


def check(
    host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry, level: Level = "read"
) -> Verification:
    assert entry.manifest
    reader = find_reader(host, environment, entry.manifest) if level == "read" else None
    return verify(store, entry, level, reader)


def stored_files(store: DirectoryStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"]


def counts(server: PostgresServer, database: str) -> tuple[int, int]:
    orders = server.sql("TABLE orders", database).count("\n") + 1
    return orders, int(server.sql(COUNT_ODD, database))


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    limit = time.monotonic() + seconds
    while not what():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


class SlowHost(LocalHost):
    """Feeds pg_dump's output through a narrow pipe, so that a test can reach its middle."""

    def __init__(self, name: str, at_bytes: int, hook: Callable[[], None]) -> None:
        super().__init__(name)
        self.at_bytes = at_bytes
        self.hook = hook

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress) and event.what.startswith("pg_dump") and event.done >= self.at_bytes:
            hook, self.hook = self.hook, lambda: None
            hook()


MIDDLE = 8 << 20


def take_with(
    hook: Callable[[], None], environment: Environment, store: DirectoryStore, host: LocalHost | None = None
) -> Manifest:
    """Take a backup and call `hook` in the middle of the dump."""
    slow = SlowHost("one", MIDDLE, hook)
    return take(host or slow, environment, None, store, slow.emit)


def refused(
    hook: Callable[[], None], server: PostgresServer, environment: Environment, store: DirectoryStore
) -> str:
    """Take a backup that must fail, leave nothing, and not run on; return its sentence."""
    with pytest.raises(BackupError) as caught:
        take_with(hook, environment, store)
    assert caught.value.exit_code == 16
    assert caught.value.message.startswith("No backup of main was made: ")
    assert listing(environment, store) == Listing((), ())
    assert stored_files(store) == []
    assert eventually(lambda: not server.dumping())
    return caught.value.message


class TestTaking:
    def test_what_it_says_is_what_is_there(
        self, server: PostgresServer, host: LocalHost, environment: Environment, store: DirectoryStore
    ) -> None:
        manifest = take(host, environment, None, store)
        assert manifest.tables == {
            "public.busy": manifest.tables["public.busy"],
            "public.orders": 250000,
            f'"Odd one"."{ODD_TABLE.replace(chr(34), chr(34) * 2)}"': 7,
            "public.parted_1": 100,
            "public.parted_2": 50,
            "public.parent": 1,
            "public.child": 2,
            "public.nothing": 0,
        }
        assert manifest.extensions["plpgsql"]
        assert manifest.owner == "app"
        assert manifest.locale.encoding == "UTF8"
        assert "/" in manifest.lsn
        entry = latest(environment, store)
        assert entry.manifest == manifest
        result = check(host, environment, store, entry)
        assert result.ok
        assert f"in db on {host.name}" in result.findings[-1].detail

    def test_a_restore_without_windlass_needs_only_pg_restore(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        extra: set[str],
    ) -> None:
        entry_file = store.root / latest_file(take(host, environment, None, store))
        server.sql("CREATE DATABASE byhand", "postgres")
        with entry_file.open("rb") as archive:
            subprocess.run(
                ["docker", "exec", "-i", server.app, "pg_restore", "-U", "app", "-d", "byhand"],
                stdin=archive,
                check=True,
            )
        assert counts(server, "byhand") == (250000, 7)

    @pytest.mark.parametrize("client", ["17.5", "15.9"])
    def test_equal_counts_while_a_writer_hammers(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        extra: set[str],
        monkeypatch: pytest.MonkeyPatch,
        client: str,
    ) -> None:
        """With both formats: a client said to be old makes Windlass compress."""
        monkeypatch.setattr(dumping, "_ZSTD_SINCE", 16 if client == "17.5" else 99)
        statement = "INSERT INTO busy VALUES (1, 'new'); DELETE FROM busy WHERE id % 97 = 3;"
        with hammering(server, statement):
            # It takes a while to begin, and what it deletes at first, it makes up for.
            assert eventually(lambda: int(server.sql("SELECT count(*) FROM busy")) > 1000)
            manifest = take(host, environment, None, store)
        entry = latest(environment, store)
        assert entry.manifest
        assert entry.manifest.compressed == (client == "15.9")
        assert check(host, environment, store, entry).ok
        restored = restoring.restore(host, environment, None, store, entry, into=f"copy_{client[:2]}")
        assert restored.rows == manifest.rows
        assert manifest.tables["public.busy"] != 1000
        assert counts(server, restored.database)[0] == 250000
        assert server.sql("SELECT count(*) FROM pg_largeobject", restored.database) == "1"
        assert server.sql("SELECT count(*) FROM summary", restored.database) == "1"

    def test_odd_database_names(
        self, server: PostgresServer, host: LocalHost, tmp_path: Path, extra: set[str]
    ) -> None:
        quoted = ODD_DATABASE.replace('"', '""')
        server.sql(f'CREATE DATABASE "{quoted}"', "postgres")
        server.sql("CREATE TABLE t AS SELECT generate_series(1, 5) AS id", ODD_DATABASE)
        odd = make_environment(tmp_path, app=server.app, database=ODD_DATABASE)
        store = open_store(odd)
        manifest = take(host, odd, None, store)
        assert manifest.tables == {"public.t": 5}
        entry = catalogue.find(catalogue.list_backups(store, server.app, ENVIRONMENT), "latest")
        restored = restoring.restore(host, odd, None, store, entry, overwrite=True)
        assert restored.kept is not None
        assert server.sql("SELECT count(*) FROM t", ODD_DATABASE) == "5"

    def test_an_empty_database(
        self, server: PostgresServer, host: LocalHost, tmp_path: Path, extra: set[str]
    ) -> None:
        server.sql("CREATE DATABASE empty", "postgres")
        environment = make_environment(tmp_path, app=server.app, database="empty")
        store = open_store(environment)
        assert take(host, environment, None, store).tables == {}
        entry = catalogue.list_backups(store, server.app, ENVIRONMENT).entries[0]
        assert entry.manifest
        assert verify(store, entry, "read", find_reader(host, environment, entry.manifest)).ok

    def test_no_secret_and_no_password_in_any_command(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        seen: list[Command] = []

        class Watched(LocalHost):
            def open(self, command: Command) -> Any:
                seen.append(command)
                return super().open(command)

        take(Watched("one"), environment, None, store)
        assert seen
        assert not any("password=" in word.lower() for command in seen for word in command.words)


def latest_file(manifest: Manifest) -> str:
    return f"{manifest.app}/{manifest.environment}/{manifest.database}/{manifest.id}/{manifest.file}"


@contextmanager
def hammering(server: PostgresServer, statement: str) -> Iterator[None]:
    """Run a statement over and over in a connection of its own."""
    over = threading.Event()

    def hammer() -> None:
        with server.popen() as child:
            assert child.stdin
            while not over.is_set():
                child.stdin.write(statement.encode() + b"\n")
                child.stdin.flush()
                time.sleep(0.005)

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class TestWhatStopsABackup:
    def test_pg_dump_killed(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        def kill() -> None:
            for process in server.dumping():
                os.kill(process, signal.SIGKILL)

        assert "pg_dump of shop failed" in refused(kill, server, environment, store)

    def test_its_connection_ended(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        def end() -> None:
            server.sql(f"{END_LABELLED}'windlass 2%'", "postgres")

        assert "pg_dump of shop failed" in refused(end, server, environment, store)

    def test_the_snapshots_session_ended_before_pg_dump_took_it_over(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        def end(event: Event) -> None:
            if isinstance(event, PhaseChanged) and event.phase == "dump of shop":
                server.sql(f"{END_LABELLED}'windlass'", "postgres")
                assert eventually(lambda: server.sql(f"{END_LABELLED}'windlass'", "postgres") == "")

        with pytest.raises(BackupError, match=r"pg_dump of shop failed.*(snapshot|does not exist)"):
            take(LocalHost("one"), environment, None, store, end)
        assert stored_files(store) == []

    def test_the_snapshots_session_ended_after_pg_dump_took_it_over(
        self, server: PostgresServer, host: LocalHost, environment: Environment, store: DirectoryStore
    ) -> None:
        """pg_dump's own transaction keeps the snapshot's rows then: the backup is whole."""
        take_with(lambda: server.sql(f"{END_LABELLED}'windlass'", "postgres"), environment, store)
        assert check(host, environment, store, latest(environment, store)).ok

    def test_the_time_is_over(self, server: PostgresServer, tmp_path: Path) -> None:
        environment = make_environment(tmp_path, app=server.app, timeout=2.0)
        store = open_store(environment)
        assert isinstance(store, DirectoryStore)
        assert "longer than 2 s" in refused(lambda: time.sleep(2.5), server, environment, store)

    def test_a_lock_that_is_not_given_up(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from windlass.databases import snapshot

        short = snapshot._BEGIN.replace("20000", "500")
        monkeypatch.setattr(snapshot, "_BEGIN", short)
        with server.popen() as child:
            assert child.stdin
            child.stdin.write(b"BEGIN; LOCK TABLE orders; \n")
            child.stdin.flush()
            query = (
                "SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass"
                " AND mode = 'AccessExclusiveLock' AND granted"
            )
            assert eventually(lambda: server.sql(query) == "1")
            with pytest.raises(BackupError, match="lock timeout") as caught:
                take(host, environment, None, store)
            assert "schema change" in caught.value.hint
            child.stdin.close()
        assert stored_files(store) == []

    def test_ctrl_c(self, server: PostgresServer, environment: Environment, store: DirectoryStore) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            take_with(interrupt, environment, store)
        assert stored_files(store) == []
        assert eventually(lambda: not server.dumping())

    def test_a_file_that_may_not_grow(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        import resource

        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, old[1]))
        try:
            assert "is full" in refused(lambda: None, server, environment, store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)

    @pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small disk")
    def test_a_full_disk(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        store.root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(store.root)], check=True)
        try:
            assert "is full: No space left on device" in refused(lambda: None, server, environment, store)
        finally:
            subprocess.run(["umount", str(store.root)], check=True)

    def test_a_dropped_link(
        self, server: PostgresServer, environment: Environment, store: DirectoryStore
    ) -> None:
        """The client at this end of the link dies, as ssh does; the far end may run on."""

        class Dropping(LocalHost):
            def open(self, command: Command) -> Any:
                process = super().open(command)
                if "pg_dump" in command.words:
                    process.wait = lambda: drop(process)
                return process

        def drop(process: Any) -> int:
            raise LinkDropped("one: the link was lost")

        with pytest.raises(BackupError, match="No backup of main was made: one: the link was lost"):
            take(Dropping("one"), environment, None, store)
        assert stored_files(store) == []
        assert eventually(lambda: not server.dumping())

    def test_a_service_that_does_not_run(self, host: LocalHost, tmp_path: Path) -> None:
        environment = make_environment(tmp_path, app=f"wltest-{secrets.token_hex(4)}")
        with pytest.raises(BackupError, match="has no container"):
            take(host, environment, None, open_store(environment))

    def test_a_role_that_does_not_exist(
        self, server: PostgresServer, host: LocalHost, tmp_path: Path
    ) -> None:
        environment = make_environment(tmp_path, app=server.app, user="nobody")
        with pytest.raises(BackupError, match='role "nobody" does not exist'):
            take(host, environment, None, open_store(environment))

    def test_a_second_one_is_refused_and_told_who(
        self, host: LocalHost, environment: Environment, store: DirectoryStore
    ) -> None:
        def second() -> None:
            with pytest.raises(Locked, match=rf"process {os.getpid()}, since .* UTC"):
                take(host, environment, None, store)

        take_with(second, environment, store)
        assert len(listing(environment, store).entries) == 1

    def test_kill_9_of_the_client(
        self, server: PostgresServer, host: LocalHost, environment: Environment, store: DirectoryStore
    ) -> None:
        code = (
            "import sys; from pathlib import Path\n"
            "from tests.backups import make_environment\n"
            "from windlass.backup.stores import open_store\n"
            "from windlass.backup.taking import take\n"
            "from windlass.events import Progress\n"
            "from windlass.hosts.local import LocalHost\n"
            "environment = make_environment(Path(sys.argv[1]), app=sys.argv[2])\n"
            "def emit(event):\n"
            "    if isinstance(event, Progress): print('middle', flush=True); sys.stdin.read()\n"
            "take(LocalHost('one'), environment, None, open_store(environment), emit)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(environment.root), server.app],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as child:
            assert child.stdout
            assert child.stdout.readline() == b"middle\n"
            child.kill()
        found = listing(environment, store)
        assert found.entries == ()
        assert len(found.leftovers) == 1
        take(host, environment, None, store)
        assert eventually(lambda: not server.dumping())
        assert len(listing(environment, store).entries) == 1
        assert check(host, environment, store, latest(environment, store)).ok
        self.make_old(store)
        take(host, environment, None, store)
        assert listing(environment, store).leftovers == ()

    def make_old(self, store: DirectoryStore) -> None:
        for path in stored_files(store):
            if path.name.endswith(".partial"):
                os.utime(path, (time.time() - 100_000,) * 2)


class TestDamage:
    @pytest.fixture
    def entry(self, host: LocalHost, environment: Environment, store: DirectoryStore) -> Entry:
        take(host, environment, None, store)
        return latest(environment, store)

    def again(self, environment: Environment, store: DirectoryStore) -> Entry:
        return listing(environment, store).entries[0]

    def archive(self, store: DirectoryStore, entry: Entry) -> Path:
        return store.root / entry.folder / "dump.pgdump"

    def test_a_flipped_bit_anywhere(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        path = self.archive(store, entry)
        size = path.stat().st_size
        for at in (0, size // 3, size // 2, size - 1):
            flip(path, at)
            result = check(host, environment, store, entry, "hash")
            assert not result.ok
            assert "SHA-256" in result.findings[-1].detail
            flip(path, at)
        assert check(host, environment, store, entry).ok

    def test_a_flipped_bit_in_the_manifest(
        self, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        flip(store.root / entry.folder / "manifest.json", 40)
        assert not self.again(environment, store).ok

    def test_a_cut_file(self, environment: Environment, store: DirectoryStore, entry: Entry) -> None:
        path = self.archive(store, entry)
        os.truncate(path, path.stat().st_size // 2)
        damaged = self.again(environment, store)
        assert "bytes, not" in damaged.problem
        assert not verify(store, damaged, "hash").ok

    def test_an_archive_that_was_cut_before_it_was_hashed(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        """What only reading finds: bytes that are what the manifest says, and no whole archive."""
        import dataclasses
        import hashlib

        assert entry.manifest
        path = self.archive(store, entry)
        content = path.read_bytes()[:-1000]
        path.write_bytes(content)
        forged = dataclasses.replace(
            entry.manifest, stored_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        (store.root / entry.folder / "manifest.json").write_bytes(forged.to_json())
        again = self.again(environment, store)
        assert check(host, environment, store, again, "hash").ok
        result = check(host, environment, store, again)
        assert not result.ok
        assert "end of file" in result.findings[-1].detail

    def test_a_missing_file(self, environment: Environment, store: DirectoryStore, entry: Entry) -> None:
        self.archive(store, entry).unlink()
        assert "missing" in self.again(environment, store).problem

    def test_swapped_manifests(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        take(host, environment, None, store)
        first, second = (
            store.root / each.folder / "manifest.json" for each in listing(environment, store).entries
        )
        ours, theirs = first.read_bytes(), second.read_bytes()
        first.write_bytes(theirs)
        second.write_bytes(ours)
        assert not any(each.ok for each in listing(environment, store).entries)

    def test_swapped_archives(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
    ) -> None:
        # Two dumps of the same rows in the same second are the same bytes.
        server.sql("INSERT INTO busy VALUES (1, 'between two backups')")
        take(host, environment, None, store)
        first, second = (self.archive(store, each) for each in listing(environment, store).entries)
        other = first.with_name("other")
        first.rename(other)
        second.rename(first)
        other.rename(second)
        for each in listing(environment, store).entries:
            assert not (each.ok and verify(store, each, "hash").ok)

    def test_a_corrupt_one_never_touches_the_target(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        path = self.archive(store, entry)
        flip(path, path.stat().st_size // 2)
        before = oid(server, "shop")
        with pytest.raises(BackupError, match="is damaged: hash"):
            restoring.restore(host, environment, None, store, entry, overwrite=True)
        assert server.databases() == extra
        assert oid(server, "shop") == before


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 0x10]))


def oid(server: PostgresServer, database: str) -> str:
    return server.sql("SELECT oid FROM pg_database WHERE datname = current_database()", database)


class TestRestoring:
    @pytest.fixture
    def entry(self, host: LocalHost, environment: Environment, store: DirectoryStore) -> Entry:
        take(host, environment, None, store)
        return latest(environment, store)

    def restore(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry, **options: Any
    ) -> Restored:
        return restoring.restore(host, environment, None, store, entry, **options)

    def test_an_existing_database_is_not_overwritten(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        with pytest.raises(OperationFailed, match="shop exists"):
            self.restore(host, environment, store, entry)
        assert server.databases() == extra

    def test_a_second_restore_into_the_same_name_is_refused_until_the_first_ends(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        refused: list[Locked] = []

        def second(event: Event) -> None:
            if isinstance(event, PhaseChanged) and event.phase.startswith("swap") and not refused:
                with pytest.raises(Locked, match="Another restore into twice on one is running") as caught:
                    self.restore(host, environment, store, entry, into="twice")
                refused.append(caught.value)
                self.restore(host, environment, store, entry, into="other")

        self.restore(host, environment, store, entry, into="twice", emit=second)
        assert refused[0].exit_code == 13
        assert server.databases() == extra | {"twice", "other"}
        self.restore(host, environment, store, entry, into="twice", overwrite=True)

    def test_a_swap_under_load_keeps_the_old_one_and_its_settings(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        self.restore(host, environment, store, entry, into="live")
        server.sql(
            "CREATE TABLE only_here AS SELECT 1 AS id;"
            "CREATE ROLE reader LOGIN; CREATE ROLE boss;"
            "REVOKE ALL ON DATABASE live FROM PUBLIC; GRANT CONNECT ON DATABASE live TO reader;"
            "GRANT TEMP ON DATABASE live TO boss WITH GRANT OPTION;"
            "ALTER DATABASE live OWNER TO boss; ALTER DATABASE live CONNECTION LIMIT 50;"
            'ALTER DATABASE live SET search_path TO "$user", public, "Odd one";'
            "ALTER DATABASE live SET work_mem TO '13MB'; ALTER DATABASE live SET app.tenant TO 'it''s';"
            "ALTER ROLE reader IN DATABASE live SET statement_timeout TO '5s';"
            "COMMENT ON DATABASE live IS 'it''s live'",
            "live",
        )
        before = server.sql(FACTS, "postgres")
        failures, clients = 0, 4
        over = threading.Event()
        seen: list[int] = []

        def reconnecting() -> None:
            while not over.is_set():
                done = subprocess.run(
                    server.argv("live"),
                    input=b"SELECT 1; SELECT pg_sleep(0.05);",
                    capture_output=True,
                    check=False,
                )
                seen.append(done.returncode)

        threads = [threading.Thread(target=reconnecting) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            restored = self.restore(host, environment, store, entry, into="live", overwrite=True)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        failures = sum(code != 0 for code in seen)
        assert seen
        assert failures <= 3 * clients
        assert restored.kept in server.databases()
        assert restored.kept
        assert server.sql("SELECT count(*) FROM only_here", restored.kept) == "1"
        assert server.sql("SELECT to_regclass('only_here') IS NULL", "live") == "t"
        assert server.sql(FACTS, "postgres") == before
        for statement in restored.undo:
            server.sql(statement, "postgres")
        assert server.sql("SELECT count(*) FROM only_here", "live") == "1"
        for name in ("live", "live_restored"):
            server.sql(f"DROP DATABASE {name} WITH (FORCE)", "postgres")
        server.sql("DROP ROLE reader; DROP ROLE boss", "postgres")

    def test_a_restore_that_fails_leaves_everything_as_before(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        extra: set[str],
    ) -> None:
        """The archive names a role that is gone: `--exit-on-error` ends the restore."""
        server.sql("CREATE ROLE gone; CREATE TABLE of_gone (id int); ALTER TABLE of_gone OWNER TO gone")
        try:
            take(host, environment, None, store)
        finally:
            server.sql("DROP TABLE of_gone; DROP ROLE gone")
        before = oid(server, "shop")
        entry = latest(environment, store)
        with pytest.raises(OperationFailed, match='role "gone" does not exist'):
            self.restore(host, environment, store, entry, overwrite=True)
        assert server.databases() == extra
        assert oid(server, "shop") == before

    def test_other_rows_than_the_manifest_says(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        import dataclasses

        assert entry.manifest
        forged = dataclasses.replace(
            entry.manifest, tables=entry.manifest.tables | {"public.orders": 1, "public.more": 2}
        )
        lying = dataclasses.replace(entry, manifest=forged)
        with pytest.raises(BackupError, match=r"public\.more is missing; public\.orders has \d+ rows, not 1"):
            self.restore(host, environment, store, lying, into="target")
        assert server.databases() == extra

    def test_ctrl_c(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        def interrupt(event: Event) -> None:
            if isinstance(event, Progress) and event.what.startswith("restore"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.restore(host, environment, store, entry, into="target", emit=interrupt)
        assert server.databases() == extra

    def test_an_older_server_is_refused(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        import dataclasses

        assert entry.manifest
        newer = dataclasses.replace(entry.manifest, server_version="99.1")
        with pytest.raises(PreflightFailed, match="is from PostgreSQL 99"):
            self.restore(host, environment, store, dataclasses.replace(entry, manifest=newer), into="x")

    def test_a_disk_without_room_is_refused(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        import dataclasses

        assert entry.manifest
        huge = dataclasses.replace(entry.manifest, size_bytes=1 << 60)
        with pytest.raises(PreflightFailed, match="bytes free"):
            self.restore(host, environment, store, dataclasses.replace(entry, manifest=huge), into="x")

    def test_a_scratch_database_of_a_dead_restore_is_pointed_out(
        self,
        server: PostgresServer,
        host: LocalHost,
        environment: Environment,
        store: DirectoryStore,
        entry: Entry,
        extra: set[str],
    ) -> None:
        server.sql("CREATE DATABASE target_windlass_0badcafe", "postgres")
        heard: list[Event] = []
        self.restore(host, environment, store, entry, into="target", emit=heard.append)
        assert any(isinstance(e, Notice) and "target_windlass_0badcafe" in e.text for e in heard)

    def test_a_name_that_is_too_long(
        self, host: LocalHost, environment: Environment, store: DirectoryStore, entry: Entry
    ) -> None:
        with pytest.raises(ConfigurationError, match="63 bytes"):
            self.restore(host, environment, store, entry, into="x" * 64)


def test_reading_falls_back_to_this_machine_and_says_when_it_cannot(
    host: LocalHost, environment: Environment, store: DirectoryStore, tmp_path: Path
) -> None:
    manifest = take(host, environment, None, store)
    elsewhere = make_environment(tmp_path, app=f"wltest-{secrets.token_hex(4)}")
    if shutil.which("pg_restore") is None:
        with pytest.raises(PreflightFailed, match="No pg_restore"):
            find_reader(host, elsewhere, manifest)
        return
    try:
        assert "of this machine" in find_reader(host, elsewhere, manifest).what
    except PreflightFailed as error:
        assert "--level hash" in error.hint


def test_status(server: PostgresServer, host: LocalHost, environment: Environment) -> None:
    found = postgres.locate(host, environment.settings.app, environment.settings.databases["main"])
    with server.popen() as child:
        assert child.stdin
        child.stdin.write(b"BEGIN; SELECT 1;\n")
        child.stdin.flush()
        assert eventually(
            lambda: read_status(host, found, "shop").connections.get("idle in transaction") == 1
        )
        status = read_status(host, found, "shop")
        child.stdin.close()
    assert status.role == "primary"
    assert status.version.startswith(str(postgres.major(status.version)))
    assert status.tables[0].name == "public.orders"
    assert status.oldest_transaction_seconds is not None
    assert json.loads(json.dumps(status.as_dict()))["size_bytes"] > 10 << 20


def test_the_stored_manifest_is_what_take_returned(
    host: LocalHost, environment: Environment, store: DirectoryStore
) -> None:
    manifest = take(host, environment, None, store, ignore)
    folder = store.root / f"{manifest.app}/{ENVIRONMENT}/main/{manifest.id}"
    assert read_manifest((folder / "manifest.json").read_bytes()) == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["dump.pgdump", "manifest.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert issubclass(BackupError, WindlassError)
