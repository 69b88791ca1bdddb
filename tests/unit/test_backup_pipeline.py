import hashlib
import io
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.backups import make_manifest, put_backup
from windlass.backup.catalogue import list_backups
from windlass.backup.deadlines import Deadline
from windlass.backup.dumping import Request, dump
from windlass.backup.pipeline import (
    ARCHIVE_END,
    CHUNK_BYTES,
    Discarding,
    digest,
    feed,
    pump,
    reporting,
    to_store,
)
from windlass.backup.restoring import checked_name, differences, free_bytes
from windlass.backup.stores.directory import DirectoryStore
from windlass.backup.verifying import Reader, verify
from windlass.databases.postgres import Server
from windlass.databases.snapshot import Snapshot
from windlass.errors import BackupError, CommandFailed, ConfigurationError, LinkDropped
from windlass.events import Event, Progress, ignore
from windlass.hosts.base import Host
from windlass.shell import Command

WHOLE = b"PGDMP" + b"data" * 9 + ARCHIVE_END


class Dribble(io.RawIOBase):
    """A source that gives a few bytes at a time, as a pipe may."""

    def __init__(self, content: bytes, step: int) -> None:
        self.rest = content
        self.step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(self.step, len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


class Collecting:
    """A writer, or a process's stdin that takes a few bytes at a time."""

    def __init__(self, step: int = 1 << 30) -> None:
        self.content = bytearray()
        self.step = step
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        taken = bytes(data[: self.step])
        self.content += taken
        return len(taken)

    def close(self) -> None:
        self.closed = True


class FakeProcess:
    def __init__(self, out: bytes = b"", code: int = 0, said: str = "") -> None:
        self.stdin = cast(BinaryIO, Collecting(step=1000))
        self.stdout = cast(BinaryIO, io.BytesIO(out))
        self.code = code
        self.said = said

    def wait(self) -> int:
        return self.code

    def error_text(self) -> str:
        return self.said

    def kill(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class FakeHost:
    """Gives prepared processes, one for each command."""

    name = "one"

    def __init__(self, *processes: FakeProcess) -> None:
        self.processes = list(processes)
        self.commands: list[Command] = []

    def open(self, command: Command) -> FakeProcess:
        self.commands.append(command)
        return self.processes.pop(0)


class FakeSession:
    def __init__(self) -> None:
        self.statements: list[str] = []

    def rows(self, sql: str) -> list[Any]:
        self.statements.append(sql)
        return []


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_bytes_pass_unchanged_and_hashed(content: bytes, step: int) -> None:
    target = Collecting()
    sink, stored = to_store(cast(Any, target), compress=False)
    pumped = pump(cast(BinaryIO, Dribble(content, step)), sink, lambda done: None)
    assert bytes(target.content) == content
    assert pumped.count == stored.count == len(content)
    assert pumped.tail == content[-5:]
    assert stored.sha256 == hashlib.sha256(content).hexdigest()


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_what_is_compressed_comes_back_and_is_hashed_as_stored(content: bytes, step: int) -> None:
    target = Collecting()
    sink, stored = to_store(cast(Any, target), compress=True)
    pump(cast(BinaryIO, Dribble(content, step)), sink, lambda done: None)
    compressed = bytes(target.content)
    assert stored.sha256 == hashlib.sha256(compressed).hexdigest()
    assert zstandard.get_frame_parameters(compressed).has_checksum
    process = FakeProcess()
    source = cast(BinaryIO, io.BytesIO(compressed))
    assert feed(source, process, lambda done: None, compressed=True) == (stored.count, stored.sha256)
    stdin = cast(Collecting, process.stdin)
    assert bytes(stdin.content) == content
    assert stdin.closed


def test_chunks_are_large_and_the_tail_spans_them() -> None:
    sizes: list[int] = []

    class Sizes(Discarding):
        def write(self, data: bytes | memoryview) -> None:
            sizes.append(len(data))

    content = bytes(2 * CHUNK_BYTES) + b"ab"
    pumped = pump(cast(BinaryIO, Dribble(content, 65536)), Sizes(), lambda done: None)
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES, 2]
    assert pumped.tail == b"\0\0\0ab"


def test_a_pipe_is_read_to_its_end() -> None:
    read, write = os.pipe()
    content = os.urandom(3 * CHUNK_BYTES + 17)

    def fill() -> None:
        with os.fdopen(write, "wb") as stream:
            stream.write(content)

    thread = threading.Thread(target=fill)
    thread.start()
    with os.fdopen(read, "rb", buffering=0) as stream:
        assert digest(stream, lambda done: None) == (len(content), hashlib.sha256(content).hexdigest())
    thread.join()


def test_bytes_behind_the_compressed_frame_are_no_backup() -> None:
    stored = io.BytesIO(zstandard.ZstdCompressor(level=1).compress(b"abc") + b"more")
    with pytest.raises(zstandard.ZstdError):
        feed(cast(BinaryIO, stored), FakeProcess(), lambda done: None, compressed=True)


def test_a_process_that_stops_reading_is_no_crash() -> None:
    class Broken(Collecting):
        def write(self, data: bytes | memoryview) -> int:
            raise BrokenPipeError

    process = FakeProcess()
    process.stdin = cast(BinaryIO, Broken())
    size, _ = feed(cast(BinaryIO, io.BytesIO(b"x" * 99)), process, lambda done: None, compressed=False)
    assert size == 99


def test_progress_is_told_now_and_then() -> None:
    heard: list[Event] = []
    report = reporting(heard.append, "it", total=100 << 20)
    for done in range(1 << 20, (100 << 20) + 1, 1 << 20):
        report(done)
    assert len(heard) == 13
    assert isinstance(heard[-1], Progress)
    assert heard[-1].done == 100 << 20


class TestDumping:
    def request(self, tmp_path: Path, host: FakeHost, version: str = "17.5", **changes: Any) -> Request:
        values: dict[str, Any] = {
            "host": cast(Host, host),
            "store": DirectoryStore("local", tmp_path),
            "folder": "shop/test/main/20260101T000000Z-aaaaaa",
            "database": "shop",
            "label": "windlass x",
            "session": FakeSession(),
            "server": Server("c", "app"),
            "client_version": version,
            "snapshot": Snapshot("1-2-3", make_manifest().snapshot_time, "0/0", False),
            "expect_data": True,
            "emit": ignore,
            "deadline": Deadline(60),
        }
        return Request(**(values | changes))

    def test_a_new_server_compresses_itself(self, tmp_path: Path) -> None:
        host = FakeHost(FakeProcess(WHOLE))
        archive = dump(self.request(tmp_path, host))
        assert archive.format == "pg_dump-custom"
        assert archive.stored_bytes == archive.archive_bytes == len(WHOLE)
        assert "--compress=zstd:1" in host.commands[0].words

    def test_an_old_one_is_compressed_here(self, tmp_path: Path) -> None:
        host = FakeHost(FakeProcess(WHOLE))
        request = self.request(tmp_path, host, "15.18")
        archive = dump(request)
        assert archive.file == "dump.pgdump.zst"
        assert "--compress=0" in host.commands[0].words
        stored = (tmp_path / request.folder / archive.file).read_bytes()
        assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == WHOLE

    def test_one_built_without_zstd_too(self, tmp_path: Path) -> None:
        said = "pg_dump: error: this build does not support compression with zstd"
        host = FakeHost(FakeProcess(code=1, said=said), FakeProcess(WHOLE))
        request = self.request(tmp_path, host)
        assert dump(request).format == "pg_dump-custom+zstd"
        assert [path.name for path in (tmp_path / request.folder).iterdir()] == ["dump.pgdump.zst"]

    @pytest.mark.parametrize(
        ("process", "expected", "match"),
        [
            (FakeProcess(WHOLE, code=1, said="pg_dump: error: query failed"), CommandFailed, "query failed"),
            (FakeProcess(WHOLE, code=137), CommandFailed, "exit code 137"),
            (FakeProcess(WHOLE[:-3]), BackupError, "cut off"),
            (FakeProcess(b""), BackupError, "cut off"),
        ],
    )
    def test_every_failure_leaves_nothing_and_ends_pg_dump(
        self, tmp_path: Path, process: FakeProcess, expected: type[Exception], match: str
    ) -> None:
        request = self.request(tmp_path, FakeHost(process))
        with pytest.raises(expected, match=match):
            dump(request)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        (statement,) = cast(FakeSession, request.session).statements
        assert "pg_terminate_backend" in statement
        assert "'windlass x'" in statement

    def test_a_dropped_link_leaves_nothing(self, tmp_path: Path) -> None:
        class Dropped(FakeProcess):
            def wait(self) -> int:
                raise LinkDropped("one: the link was lost")

        with pytest.raises(LinkDropped):
            dump(self.request(tmp_path, FakeHost(Dropped(WHOLE))))
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_a_database_without_tables_ends_as_it_likes(self, tmp_path: Path) -> None:
        host = FakeHost(FakeProcess(b"PGDMP and no data"))
        assert dump(self.request(tmp_path, host, expect_data=False)).stored_bytes == 17


def test_the_deadline_ends_what_it_guards_and_nothing_that_is_over() -> None:
    ended: list[str] = []
    # Long enough for the first one to be over before, also on a slow machine.
    with Deadline(2) as deadline:
        with deadline.guard(lambda: ended.append("over")):
            pass
        with deadline.guard(lambda: ended.append("running")):
            limit = time.monotonic() + 60
            while not deadline.passed and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(0.05)
        with deadline.guard(lambda: ended.append("late")):
            pass
    assert ended == ["running", "late"]


class TestVerifying:
    def check(self, tmp_path: Path, content: bytes = b"abc", **reader: Any) -> list[tuple[str, bool]]:
        store = DirectoryStore("local", tmp_path)
        put_backup(store, make_manifest(), content)
        (entry,) = list_backups(store, "shop", "test").entries
        process = Reader("a fake", lambda: FakeProcess(**reader)) if reader else None
        result = verify(store, entry, "read" if reader else "hash", process)
        return [(finding.check, finding.ok) for finding in result.findings]

    def test_a_good_one(self, tmp_path: Path) -> None:
        assert self.check(tmp_path) == [("manifest", True), ("hash", True)]

    def test_other_bytes_of_the_same_size(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, b"abd") == [("manifest", True), ("hash", False)]

    def test_a_short_file(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, b"ab") == [("manifest", False)]

    def test_one_that_pg_restore_reads(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, code=0)[-1] == ("read", True)

    def test_one_that_pg_restore_refuses(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, code=1, said="unexpected end of file")[-1] == ("read", False)


def test_differences_name_the_tables() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 1, "d": 4}) == [
        "b has 1 rows, not 2",
        "c is missing",
        "d is not in the manifest",
    ]


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9)))
def test_equal_counts_have_no_differences(tables: dict[str, int]) -> None:
    assert differences(tables, dict(tables)) == []


@pytest.mark.parametrize("name", ["", "a\0", "x" * 64, "ü" * 32, "template0"])
def test_names_no_database_can_have(name: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_name(name)


def test_odd_names_a_database_can_have() -> None:
    assert checked_name("we \"ird' =\\ ü") == "we \"ird' =\\ ü"


@pytest.mark.parametrize(
    ("listing", "free"),
    [
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 100 40 60 40% /\n", 61440),
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 9 1 8 1% /my data/5\n", 8192),
        ("", None),
        ("sh: df: not found", None),
    ],
)
def test_free_space(listing: str, free: int | None) -> None:
    assert free_bytes(listing) == free
