"""Taking a backup of a database.

The order is what makes it safe: a snapshot is exported and counted, pg_dump streams from it into the
store, every exit code is checked, the stored file is read back, and the manifest is written last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from windlass.backup import catalogue
from windlass.backup.deadlines import Deadline
from windlass.backup.dumping import Archive, Request, dump
from windlass.backup.manifest import FILE_NAME, FILE_NAMES, Manifest, new_id
from windlass.backup.pipeline import digest, reporting
from windlass.backup.stores.base import Store
from windlass.databases import containers, postgres, snapshot, sql
from windlass.databases.postgres import Server
from windlass.databases.session import Session, session_command
from windlass.databases.snapshot import DatabaseFacts, Snapshot
from windlass.environment.environment import Environment
from windlass.environment.model import DatabaseSettings
from windlass.errors import (
    BackupError,
    ConfigurationError,
    HostUnreachable,
    Locked,
    WindlassError,
)
from windlass.events import Emit, Notice, ignore
from windlass.hosts.base import Host
from windlass.identity import own_version, who
from windlass.progress import phase

LEFTOVER_AGE: Final = timedelta(days=1)


@dataclass(frozen=True)
class _Job:
    host: Host
    environment: Environment
    database: str
    settings: DatabaseSettings
    store: Store
    emit: Emit
    deadline: Deadline
    started: datetime

    @property
    def folder(self) -> str:
        return catalogue.database_folder(self.environment.settings.app, self.environment.name, self.database)


@dataclass(frozen=True)
class _Source:
    """What is dumped, and what is known of it."""

    session: Session
    server: Server
    client_version: str
    snapshot: Snapshot
    facts: DatabaseFacts
    tables: dict[str, int]
    extensions: dict[str, str]


def take(
    host: Host, environment: Environment, database: str | None, store: Store, emit: Emit = ignore
) -> Manifest:
    """Take a backup and return its manifest, once all of it is in the store and was read back.

    Args:
        host: where the database's container runs.
        environment: the environment.
        database: the key in `[databases]`; None for the only one.
        store: where it goes.
        emit: hears phases, bytes and warnings.

    Raises:
        BackupError: it could not be made; nothing of it is in the store.
        ConfigurationError: there is no such database.
        HostUnreachable: no connection could be made.
        Locked: another backup of this database to this store is running.
    """
    key, settings = postgres.choose(environment.settings, database)
    limit = environment.settings.backup.timeout
    with Deadline(limit) as deadline:
        job = _Job(host, environment, key, settings, store, emit, deadline, datetime.now(UTC))
        with store.lock(job.folder, _holder()), _one_sentence(job):
            return _take(job)


def plan(environment: Environment, database: str | None, store: Store) -> list[str]:
    """Return what `take` would run, a line each, with placeholders for what only a run can know."""
    key, settings = postgres.choose(environment.settings, database)
    app = environment.settings.app
    server = Server(f"<container of {settings.service}>", settings.user)
    folder = catalogue.database_folder(app, environment.name, key)
    command = postgres.dump_command(
        server, settings.name, "<snapshot>", compression="zstd", replica=False, label=_label("<id>")
    )
    return [
        containers.listing_command(app, settings.service).quoted(),
        postgres.version_command(server).quoted(),
        session_command(server, settings.name, "windlass").quoted(),
        f"{command.quoted()} > {folder}/<id>/{FILE_NAMES['pg_dump-custom']} in {store.describe()}",
        f"write {folder}/<id>/{FILE_NAME} in {store.describe()}",
    ]


def _holder() -> str:
    return f"{who()}, process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _one_sentence(job: _Job) -> Iterator[None]:
    """Turn whatever stops a backup into one sentence that says there is none."""
    try:
        yield
    except (ConfigurationError, HostUnreachable, Locked):
        raise
    except (WindlassError, OSError) as error:
        why = error.message if isinstance(error, WindlassError) else str(error)
        hint = error.hint if isinstance(error, WindlassError) else ""
        if job.deadline.passed:
            why = f"it took longer than {job.deadline.seconds:g} s, the `timeout` of `[backup]`"
        raise BackupError(f"No backup of {job.database} was made: {why}", hint) from error


def _take(job: _Job) -> Manifest:
    app = job.environment.settings.app
    listing = catalogue.list_backups(job.store, app, job.environment.name, job.database)
    _check_space(job.store, listing)
    server = postgres.locate(job.host, app, job.settings)
    client = postgres.client_version(job.host, server)
    session = Session(job.host, server, job.settings.name)
    with job.deadline.guard(session.kill), session:
        source = _freeze(job, session, server, client)
        _sweep(job, session, listing)
        id = new_id(source.snapshot.time)  # noqa: A001
        with _nothing_left(job.store, f"{job.folder}/{id}"):
            archive = dump(_request(job, source, id))
            # pg_dump's own transaction has kept the snapshot since it began; this one was for the counts.
            session.end()
            _read_back(job, f"{job.folder}/{id}/{archive.file}", archive)
            manifest = _manifest(job, source, archive, id)
            with job.store.writer(f"{job.folder}/{id}/{FILE_NAME}") as writer:
                writer.write(manifest.to_json())
    return manifest


def _freeze(job: _Job, session: Session, server: Server, client: str) -> _Source:
    with phase(job.emit, f"snapshot of {job.settings.name}") as detail:
        taken = snapshot.take_snapshot(session)
        facts = snapshot.read_facts(session)
        tables = snapshot.count_rows(session)
        extensions = snapshot.read_extensions(session)
        detail.text = f"{sum(tables.values())} rows in {len(tables)} tables"
    return _Source(session, server, client, taken, facts, tables, extensions)


def _request(job: _Job, source: _Source, id: str) -> Request:  # noqa: A002
    return Request(
        host=job.host,
        store=job.store,
        emit=job.emit,
        deadline=job.deadline,
        folder=f"{job.folder}/{id}",
        database=job.settings.name,
        label=_label(id),
        session=source.session,
        server=source.server,
        client_version=source.client_version,
        snapshot=source.snapshot,
        expect_data=bool(source.tables),
    )


def _label(id: str) -> str:  # noqa: A002
    """Return the application name of a backup's pg_dump."""
    return f"windlass {id}"


def _read_back(job: _Job, key: str, archive: Archive) -> None:
    with phase(job.emit, "read back"), job.store.read(key) as stream:
        report = reporting(job.emit, "read back", archive.stored_bytes)
        if digest(stream, report) != (archive.stored_bytes, archive.sha256):
            raise BackupError(f"the store {job.store.describe()} gave back other bytes than were written")


def _manifest(job: _Job, source: _Source, archive: Archive, id: str) -> Manifest:  # noqa: A002
    return Manifest(
        schema=1,
        id=id,
        app=job.environment.settings.app,
        environment=job.environment.name,
        database=job.database,
        engine=job.settings.engine,
        service=job.settings.service,
        host=job.host.name,
        database_name=job.settings.name,
        owner=source.facts.owner,
        locale=source.facts.locale,
        size_bytes=source.facts.size_bytes,
        format=archive.format,
        file=archive.file,
        stored_bytes=archive.stored_bytes,
        archive_bytes=archive.archive_bytes,
        sha256=archive.sha256,
        server_version=source.facts.version,
        client_version=source.client_version,
        snapshot_id=source.snapshot.id,
        snapshot_time=source.snapshot.time,
        lsn=source.snapshot.lsn,
        replica=source.snapshot.replica,
        tables=source.tables,
        extensions=source.extensions,
        started=job.started,
        finished=datetime.now(UTC),
        windlass_version=own_version(),
    )


@contextmanager
def _nothing_left(store: Store, folder: str) -> Iterator[None]:
    """Remove what is in a backup's folder when the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        for name in (FILE_NAME, *FILE_NAMES.values()):
            with suppress(WindlassError, OSError):
                store.delete(f"{folder}/{name}")
        raise


def _check_space(store: Store, listing: catalogue.Listing) -> None:
    """Refuse early when not even a backup of the last one's size would fit."""
    free = store.free_bytes()
    last = next((entry.manifest for entry in listing.entries if entry.manifest), None)
    if free is not None and last is not None and free < last.stored_bytes:
        text = f"the store {store.describe()} has {free} bytes free, and the last backup took"
        raise BackupError(f"{text} {last.stored_bytes}")


def _sweep(job: _Job, session: Session, listing: catalogue.Listing) -> None:
    """Remove what interrupted backups left; the lock is held, so none of them is still being written."""
    for leftover in listing.leftovers:
        session.rows(sql.end_labelled(_label(leftover.id)))
    for leftover in catalogue.stale(listing.leftovers, datetime.now(UTC), LEFTOVER_AGE):
        for key in leftover.keys:
            job.store.delete(key)
        job.emit(Notice("info", f"removed {leftover.size} bytes an interrupted backup left ({leftover.id})"))
