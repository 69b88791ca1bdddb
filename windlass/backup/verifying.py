"""Proving that a backup is what its manifest says, and that it can be read to its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import zstandard

from windlass.backup.catalogue import Entry
from windlass.backup.manifest import Manifest
from windlass.backup.pipeline import digest, feed, reporting
from windlass.backup.stores.base import Store
from windlass.databases import postgres
from windlass.environment.environment import Environment
from windlass.errors import BackupError, HostUnreachable, LinkDropped, PreflightFailed, WindlassError
from windlass.events import Emit, ignore
from windlass.hosts.base import Host, Process
from windlass.hosts.local import LocalHost
from windlass.progress import phase
from windlass.shell import Command, Script

Level = Literal["hash", "read"]
LEVELS: Final[tuple[Level, ...]] = ("hash", "read")
_DEBIAN_TOOLS: Final = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Finding:
    """What one check of a backup found."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """What all checks of a backup found."""

    id: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the backup is good."""
        return all(finding.ok for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {"id": self.id, "ok": self.ok, "findings": [asdict(each) for each in self.findings]}


@dataclass(frozen=True)
class Reader:
    """A pg_restore that reads an archive from stdin.

    Args:
        what: which one, for a person.
        open: starts it.
    """

    what: str
    open: Callable[[], Process]


def verify(
    store: Store, entry: Entry, level: Level, reader: Reader | None = None, emit: Emit = ignore
) -> Verification:
    """Check a backup; level `hash` checks size and SHA-256, `read` has pg_restore read all of it too.

    Args:
        store: where it is.
        entry: the backup.
        level: how deep.
        reader: reads the archive; needed for level `read`.
        emit: hears phases and bytes.

    Raises:
        LinkDropped: the link to the reader's host died, which says nothing about the backup.
    """
    if entry.manifest is None or not entry.ok:
        return Verification(entry.id, (Finding("manifest", False, entry.problem),))
    findings = [
        Finding("manifest", True, f"{entry.manifest.rows} rows in {len(entry.manifest.tables)} tables")
    ]
    findings.append(_check_hash(store, entry, entry.manifest, emit))
    if level == "read" and findings[-1].ok:
        if reader is None:
            raise ValueError("the level `read` needs a reader")
        findings.append(_check_readable(store, entry, entry.manifest, reader, emit))
    return Verification(entry.id, tuple(findings))


def find_reader(host: Host | None, environment: Environment, manifest: Manifest) -> Reader:
    """Return a pg_restore that can read a backup: the database's own, else one of this machine.

    Raises:
        PreflightFailed: there is none that is new enough.
    """
    why = "no host was asked"
    if host is not None:
        try:
            return _reader_on(host, environment, manifest)
        except (HostUnreachable, PreflightFailed, LinkDropped) as error:
            why = error.message
    local = _local_reader(manifest)
    if local is None:
        raise PreflightFailed(
            f"No pg_restore of version {_needed(manifest)} or newer can be used: {why}",
            "`--level hash` needs none.",
        )
    return local


def _needed(manifest: Manifest) -> int:
    """Return the major version an archive needs: pg_restore reads what its own and older pg_dumps wrote."""
    return postgres.major(manifest.client_version)


def _reader_on(host: Host, environment: Environment, manifest: Manifest) -> Reader:
    settings = environment.settings.databases.get(manifest.database)
    if settings is None:
        raise PreflightFailed(f"the environment has no database {manifest.database}")
    server = postgres.locate(host, environment.settings.app, settings)
    version = postgres.client_version(host, server)
    if postgres.major(version) < _needed(manifest):
        raise PreflightFailed(f"pg_restore in {settings.service} on {host.name} is {version}")
    what = f"pg_restore {version} in {settings.service} on {host.name}"
    return Reader(what, partial(host.open, postgres.read_command(server)))


def _local_reader(manifest: Manifest) -> Reader | None:
    machine = LocalHost("this machine")
    found = [str(path) for path in sorted(_DEBIAN_TOOLS.glob("*/bin/pg_restore"), reverse=True)]
    if (on_path := shutil.which("pg_restore")) is not None:
        found.append(on_path)
    for program in found:
        script = Script.of(
            "ask pg_restore for its version", Command.of(program, "--version").quoted(), timeout=30.0
        )
        version = postgres.parse_version(machine.run(script, check=False).text)
        if version and postgres.major(version) >= _needed(manifest):
            command = Command.of(program, "--file=/dev/null")
            return Reader(f"pg_restore {version} of this machine", partial(machine.open, command))
    return None


def _check_hash(store: Store, entry: Entry, manifest: Manifest, emit: Emit) -> Finding:
    try:
        with phase(emit, f"hash of {entry.id}"), store.read(f"{entry.folder}/{manifest.file}") as stream:
            size, sha256 = digest(stream, reporting(emit, f"hash of {entry.id}", manifest.stored_bytes))
    except (BackupError, OSError) as error:
        return Finding("hash", False, _sentence(error))
    if size != manifest.stored_bytes:
        return Finding("hash", False, f"{size} bytes, not {manifest.stored_bytes}")
    if sha256 != manifest.sha256:
        return Finding("hash", False, f"SHA-256 is {sha256}, not {manifest.sha256}")
    return Finding("hash", True, f"{size} bytes, SHA-256 {sha256}")


def _check_readable(store: Store, entry: Entry, manifest: Manifest, reader: Reader, emit: Emit) -> Finding:
    try:
        with (
            phase(emit, f"read of {entry.id}"),
            store.read(f"{entry.folder}/{manifest.file}") as stream,
            reader.open() as process,
        ):
            report = reporting(emit, f"read of {entry.id}", manifest.stored_bytes)
            feed(stream, process, report, compressed=manifest.compressed)
            code = process.wait()
            said = process.error_text()
    except LinkDropped:
        raise
    except (WindlassError, OSError, zstandard.ZstdError) as error:
        return Finding("read", False, _sentence(error))
    if code != 0:
        return Finding("read", False, f"{reader.what} ended with {code}: {said}")
    return Finding("read", True, f"by {reader.what}")


def _sentence(error: BaseException) -> str:
    return error.message if isinstance(error, WindlassError) else str(error)
