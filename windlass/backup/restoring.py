"""Restoring a backup: into a scratch database, proved there, and only then given its name.

The name is given by renames in one transaction, and what had it before is kept under another: whatever
fails or is interrupted, the database that was there is still there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import zstandard

from windlass.backup.catalogue import Entry
from windlass.backup.deadlines import Deadline
from windlass.backup.manifest import Manifest
from windlass.backup.pipeline import feed, reporting
from windlass.backup.stores.base import Store
from windlass.backup.swapping import swap
from windlass.backup.verifying import verify
from windlass.databases import containers, postgres, snapshot, sql
from windlass.databases.postgres import Server
from windlass.databases.session import Session, client_failure, session_command
from windlass.environment.environment import Environment
from windlass.environment.model import DatabaseSettings
from windlass.errors import (
    BackupError,
    ConfigurationError,
    Locked,
    OperationFailed,
    PreflightFailed,
    WindlassError,
)
from windlass.events import Emit, Notice, ignore
from windlass.hosts.base import Host
from windlass.progress import phase
from windlass.shell import Command, Script

# A scratch database needs the room of the original, and its write-ahead log some more.
_ROOM_FACTOR: Final = 1.2
_SHOWN_DIFFERENCES: Final = 5
_RESERVED: Final = frozenset({"template0", "template1"})


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Args:
        id: the backup.
        database: the database that holds it now.
        tables: how many tables were compared with the manifest, all equal.
        rows: their rows.
        seconds: how long it took.
        kept: the name the replaced database has now; None when there was none.
        drop: the SQL that drops the replaced one; empty when there was none.
        undo: the SQL that puts the replaced one back; empty when there was none.
    """

    id: str
    database: str
    tables: int
    rows: int
    seconds: float
    kept: str | None
    drop: tuple[str, ...]
    undo: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Job:
    host: Host
    settings: DatabaseSettings
    server: Server
    store: Store
    entry: Entry
    manifest: Manifest
    into: str
    scratch: str
    overwrite: bool
    emit: Emit
    deadline: Deadline


def restore(
    host: Host,
    environment: Environment,
    database: str | None,
    store: Store,
    entry: Entry,
    *,
    into: str | None = None,
    overwrite: bool = False,
    emit: Emit = ignore,
) -> Restored:
    """Restore a backup into a database of the server, and prove its row counts.

    Args:
        host: where the database's container runs.
        environment: the environment.
        database: the key in `[databases]` of the server to restore to; None for the only one.
        store: where the backup is.
        entry: the backup.
        into: the database's name; None: the one `[databases]` names.
        overwrite: a database of that name is replaced, and kept under another name.
        emit: hears phases, bytes and warnings.

    Raises:
        BackupError: the backup is damaged, or what came out of it is not what its manifest says.
        ConfigurationError: there is no such database, or the name cannot be one.
        Locked: another restore into that name is running.
        OperationFailed: the database exists and is not to be replaced, or the restore failed.
        PreflightFailed: the server is too old, too full or not running.
        In every case all databases are as they were.
    """
    _, settings = postgres.choose(environment.settings, database)
    manifest = _sound(entry)
    name = checked_name(into or settings.name)
    with Deadline(environment.settings.backup.timeout) as deadline:
        server = postgres.locate(host, environment.settings.app, settings)
        scratch = sql.derived_name(name, f"_windlass_{secrets.token_hex(4)}")
        job = _Job(host, settings, server, store, entry, manifest, name, scratch, overwrite, emit, deadline)
        with _in_time(deadline):
            return _restore(job)


def plan(environment: Environment, database: str | None, entry: Entry, into: str | None) -> list[str]:
    """Return what `restore` would run, a line each, with placeholders for what only a run can know."""
    _, settings = postgres.choose(environment.settings, database)
    manifest = _sound(entry)
    name = checked_name(into or settings.name)
    scratch = sql.derived_name(name, "_windlass_<hex>")
    server = Server(f"<container of {settings.service}>", settings.user)
    create = snapshot.create_database(scratch, manifest.owner, manifest.locale, server_major=_PLAN_MAJOR)
    return [
        containers.listing_command(environment.settings.app, settings.service).quoted(),
        session_command(server, _maintenance(name), "windlass").quoted(),
        create,
        f"{postgres.restore_command(server, scratch, 'windlass').quoted()} < {entry.folder}/{manifest.file}",
        f"ANALYZE; compare the rows of {len(manifest.tables)} tables with the manifest",
        sql.rename(name, sql.derived_name(name, "_before_<time>")) + " -- where it exists",
        sql.rename(scratch, name),
    ]


_PLAN_MAJOR: Final = 17


def checked_name(name: str) -> str:
    """Return a name a database can be restored into.

    Raises:
        ConfigurationError: it is empty, too long, reserved, or has a NUL.
    """
    if not name or "\0" in name:
        raise ConfigurationError("A database's name is not empty and has no NUL.")
    if len(name.encode()) > sql.MAX_NAME_BYTES:
        raise ConfigurationError(f"The name {name} is longer than PostgreSQL's {sql.MAX_NAME_BYTES} bytes.")
    if name in _RESERVED:
        raise ConfigurationError(f"{name} belongs to PostgreSQL itself.")
    return name


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Return where row counts differ, a phrase for each table, in order of their names."""
    phrases = []
    for table in sorted(expected.keys() | found.keys()):
        if table not in found:
            phrases.append(f"{table} is missing")
        elif table not in expected:
            phrases.append(f"{table} is not in the manifest")
        elif expected[table] != found[table]:
            phrases.append(f"{table} has {found[table]} rows, not {expected[table]}")
    return phrases


def _sound(entry: Entry) -> Manifest:
    if entry.manifest is None or not entry.ok:
        raise BackupError(f"The backup {entry.id} is damaged: {entry.problem}.")
    return entry.manifest


@contextmanager
def _in_time(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except WindlassError as error:
        if deadline.passed:
            raise OperationFailed(
                f"The restore took longer than {deadline.seconds:g} s, the `timeout` of `[backup]`."
            ) from error
        raise


def _restore(job: _Job) -> Restored:
    began = time.monotonic()
    _check_backup(job)
    control = Session(job.host, job.server, _maintenance(job.into))
    with job.deadline.guard(control.kill), control:
        _lock(job, control)
        facts = snapshot.read_facts(control)
        _check_target(job, control, facts)
        with _scratch(job, control, facts):
            _load(job)
            _prove(job)
            kept = swap(job.host, job.server, control, scratch=job.scratch, into=job.into, emit=job.emit)
    rows = sum(job.manifest.tables.values())
    result = Restored(
        job.entry.id, job.into, len(job.manifest.tables), rows, time.monotonic() - began, None, (), ()
    )
    if kept is None:
        return result
    failed = sql.derived_name(job.into, "_restored")
    undo = (sql.rename(job.into, failed), sql.rename(kept, job.into))
    return replace(result, kept=kept, drop=(f"DROP DATABASE {sql.identifier(kept)};",), undo=undo)


def _maintenance(into: str) -> str:
    """Return the database to be connected to while another one is renamed."""
    return "template1" if into == "postgres" else "postgres"


def _check_backup(job: _Job) -> None:
    """Have the stored bytes checked before anything is changed on the server."""
    found = verify(job.store, job.entry, "hash", emit=job.emit)
    if not found.ok:
        wrong = "; ".join(f"{each.check}: {each.detail}" for each in found.findings if not each.ok)
        raise BackupError(f"The backup {job.entry.id} is damaged: {wrong}.")


def _lock(job: _Job, control: Session) -> None:
    """Let no other restore into the same name begin before this one ends."""
    if control.rows(sql.try_lock(job.into)) != [True]:
        raise Locked(f"Another restore into {job.into} on {job.host.name} is running.", "Wait for it to end.")


def _check_target(job: _Job, control: Session, facts: snapshot.DatabaseFacts) -> None:
    server, needed = postgres.major(facts.version), postgres.major(job.manifest.server_version)
    if server < needed:
        raise PreflightFailed(
            f"The backup is from PostgreSQL {needed}; the server on {job.host.name} is {server}."
        )
    if control.rows(sql.exists(job.into)) and not job.overwrite:
        raise OperationFailed(
            f"The database {job.into} exists on {job.host.name}.",
            "--overwrite replaces it and keeps it under another name; --into NAME restores beside it.",
        )
    for leftover in control.rows(sql.databases_like(sql.derived_name(job.into, "_windlass_"))):
        text = f"the scratch database {leftover} of another restore is there"
        job.emit(Notice("warning", f"{text}; if none is running: {sql.drop(leftover)}"))
    _check_room(job, control)


def _check_room(job: _Job, control: Session) -> None:
    """Refuse when the server's disk cannot hold another copy of the database."""
    (folder,) = control.rows("SELECT pg_catalog.to_jsonb(pg_catalog.current_setting('data_directory'));")
    command = Command.of("docker", "exec", job.server.container, "df", "-Pk", folder)
    completed = job.host.run(Script.of("ask for free space", command.quoted(), timeout=30.0), check=False)
    free = free_bytes(completed.text) if completed.code == 0 else None
    needed = round(job.manifest.size_bytes * _ROOM_FACTOR)
    if free is None:
        job.emit(Notice("info", "the free space of the server's disk is unknown: its image has no df"))
    elif free < needed:
        raise PreflightFailed(
            f"The disk of {job.settings.service} on {job.host.name} has {free} bytes free; "
            f"the restore needs about {needed}."
        )


def free_bytes(listing: str) -> int | None:
    """Return the available bytes in what `df -Pk` printed; None when it cannot be read."""
    lines = listing.splitlines()
    # POSIX: name, total, used, available, capacity, mount point; names and mount points may have spaces.
    numbers = [int(word) for word in lines[-1].split() if word.isdigit()] if len(lines) > 1 else []
    return numbers[2] * 1024 if len(numbers) >= 3 else None


@contextmanager
def _scratch(job: _Job, control: Session, facts: snapshot.DatabaseFacts) -> Iterator[None]:
    """Give an empty scratch database; it is dropped when the block fails."""
    create = snapshot.create_database(
        job.scratch, job.manifest.owner, job.manifest.locale, server_major=postgres.major(facts.version)
    )
    try:
        control.rows(create)
        yield
    except BaseException:
        _drop_scratch(job)
        raise


def _drop_scratch(job: _Job) -> None:
    """Drop the scratch database over a connection of its own: the other one may be what failed."""
    try:
        with Session(job.host, job.server, _maintenance(job.into)) as session:
            session.rows(sql.drop(job.scratch))
    except (WindlassError, OSError):
        with suppress(Exception):
            job.emit(Notice("warning", f"the scratch database is still there: {sql.drop(job.scratch)}"))


def _load(job: _Job) -> None:
    what = f"restore of {job.entry.id}"
    command = postgres.restore_command(job.server, job.scratch, f"windlass {job.entry.id}")
    key = f"{job.entry.folder}/{job.manifest.file}"
    with (
        phase(job.emit, what),
        job.store.read(key) as stream,
        job.host.open(command) as process,
        job.deadline.guard(process.kill),
    ):
        report = reporting(job.emit, what, job.manifest.stored_bytes)
        try:
            size, sha256 = feed(stream, process, report, compressed=job.manifest.compressed)
        except zstandard.ZstdError as error:
            raise BackupError(f"The backup {job.entry.id} is damaged: {error}.") from error
        code = process.wait()
        if code != 0:
            raise client_failure(what, code, process.error_text())
        if (size, sha256) != (job.manifest.stored_bytes, job.manifest.sha256):
            raise BackupError(f"The backup {job.entry.id} changed while it was read.")


def _prove(job: _Job) -> None:
    """Compare the scratch database with the manifest, table by table."""
    session = Session(job.host, job.server, job.scratch)
    with phase(job.emit, "compare with the manifest") as detail, job.deadline.guard(session.kill), session:
        # No dump before PostgreSQL 18 holds statistics: without them the first queries crawl.
        session.rows("ANALYZE;")
        found = snapshot.count_rows(session)
        wrong = differences(job.manifest.tables, found)
        if wrong:
            shown = "; ".join(wrong[:_SHOWN_DIFFERENCES])
            more = len(wrong) - _SHOWN_DIFFERENCES
            raise BackupError(
                f"What the backup {job.entry.id} restores is not what its manifest says: {shown}"
                + (f"; and {more} more." if more > 0 else ".")
            )
        session.end()
        detail.text = f"{sum(found.values())} rows in {len(found)} tables, all equal"
