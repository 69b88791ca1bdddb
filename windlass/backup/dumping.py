"""Streaming pg_dump into a store, and believing it only when every sign says that it is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from windlass.backup.deadlines import Deadline
from windlass.backup.manifest import FILE_NAMES, Format
from windlass.backup.pipeline import ARCHIVE_END, Pumped, Sink, pump, reporting, to_store, widen
from windlass.backup.stores.base import Store
from windlass.databases import postgres, sql
from windlass.databases.postgres import Compression, Server
from windlass.databases.session import Session, client_failure
from windlass.databases.snapshot import Snapshot
from windlass.errors import BackupError, WindlassError
from windlass.events import Emit, Notice
from windlass.hosts.base import Host
from windlass.progress import phase
from windlass.shell import Command

_ZSTD_SINCE: Final = 16  # https://www.postgresql.org/docs/16/release-16.html: `pg_dump -Z zstd`
_NO_ZSTD: Final = "does not support compression"


@dataclass(frozen=True)
class Request:
    """What to dump and where to.

    Args:
        host: where the container runs.
        store: where the dump goes.
        folder: the backup's folder in the store.
        database: the database's name.
        label: the application name pg_dump's connection carries.
        session: holds the snapshot open.
        server: the server.
        client_version: of its pg_dump.
        snapshot: the snapshot.
        expect_data: whether the archive must hold the data of a table.
        emit: hears phases, bytes and warnings.
        deadline: ends pg_dump when the time is over.
    """

    host: Host
    store: Store
    folder: str
    database: str
    label: str
    session: Session
    server: Server
    client_version: str
    snapshot: Snapshot
    expect_data: bool
    emit: Emit
    deadline: Deadline

    def command(self, compression: Compression) -> Command:
        """Return the command of pg_dump."""
        return postgres.dump_command(
            self.server,
            self.database,
            self.snapshot.id,
            compression=compression,
            replica=self.snapshot.replica,
            label=self.label,
        )


@dataclass(frozen=True)
class Archive:
    """What was stored.

    Args:
        format: what the file is.
        stored_bytes: its size.
        archive_bytes: the size of pg_dump's output.
        sha256: of the file, in hexadecimal.
    """

    format: Format
    stored_bytes: int
    archive_bytes: int
    sha256: str

    @property
    def file(self) -> str:
        """The file's name."""
        return FILE_NAMES[self.format]


class _Unsupported(Exception):
    """This pg_dump was built without the compression asked for."""


def dump(request: Request) -> Archive:
    """Dump a database into a store; pg_dump compresses where it can, Windlass where it cannot.

    Raises:
        BackupError: the stream was cut off, or the store cannot be written.
        CommandFailed: pg_dump failed.
        LinkDropped: the link to the host died.
    """
    if postgres.major(request.client_version) >= _ZSTD_SINCE:
        try:
            return _attempt(request, "zstd")
        except _Unsupported:
            request.emit(Notice("info", "this pg_dump was built without zstd; Windlass compresses"))
    return _attempt(request, "none")


def _attempt(request: Request, compression: Compression) -> Archive:
    kind: Format = "pg_dump-custom" if compression == "zstd" else "pg_dump-custom+zstd"
    try:
        with (
            phase(request.emit, f"dump of {request.database}") as detail,
            request.store.writer(f"{request.folder}/{FILE_NAMES[kind]}") as writer,
        ):
            sink, stored = to_store(writer, compress=compression == "none")
            pumped = _stream(request, request.command(compression), sink)
            detail.text = f"{stored.count / 2**20:.1f} MiB in {request.store.describe()}"
    except BaseException:
        # Ending the client of a container's process does not end the process (moby#9098).
        with suppress(WindlassError, OSError, ValueError):
            request.session.rows(sql.end_labelled(request.label))
        raise
    return Archive(kind, stored.count, pumped.count, stored.sha256)


def _stream(request: Request, command: Command, sink: Sink) -> Pumped:
    what = f"pg_dump of {request.database}"
    with request.host.open(command) as process, request.deadline.guard(process.kill):
        process.stdin.close()
        widen(process.stdout)
        pumped = pump(process.stdout, sink, reporting(request.emit, what))
        code = process.wait()
        said = process.error_text()
    if code != 0:
        if pumped.count == 0 and _NO_ZSTD in said:
            raise _Unsupported
        raise client_failure(what, code, said)
    if pumped.count == 0 or (request.expect_data and pumped.tail != ARCHIVE_END):
        raise BackupError(f"the stream of {what} was cut off after {pumped.count} bytes")
    if said:
        request.emit(Notice("warning", f"pg_dump said: {said}"))
    return pumped
