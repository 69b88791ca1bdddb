"""What a backup is, as it is written beside it.

The manifest carries a checksum of itself, so that a bit that flips in it is found like one in the archive.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from windlass.databases.snapshot import Locale
from windlass.errors import BackupError

SCHEMA: Final = 1
FILE_NAME: Final = "manifest.json"
_CHECKSUM: Final = "checksum"
_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")

# What the stored file is: pg_restore reads the first as it is, the second after `zstd -d`.
Format = Literal["pg_dump-custom", "pg_dump-custom+zstd"]
FILE_NAMES: Final[dict[Format, str]] = {
    "pg_dump-custom": "dump.pgdump",
    "pg_dump-custom+zstd": "dump.pgdump.zst",
}


@dataclass(frozen=True)
class Manifest:
    """A backup of one database.

    Args:
        schema: the version of this record.
        id: the backup's id.
        app: the application.
        environment: the environment it was taken in.
        database: the key in `[databases]`.
        engine: the kind of database.
        service: the Compose service.
        host: the host's key in `[hosts]`.
        database_name: the database's name in the server.
        owner: the role that owned it.
        locale: its encoding and collation.
        size_bytes: its size on the server's disk.
        format: what the file is.
        file: the file's name, beside the manifest.
        stored_bytes: the file's size.
        archive_bytes: the size of pg_dump's output; the same unless Windlass compressed it.
        sha256: of the file, in hexadecimal.
        server_version: of the server.
        client_version: of pg_dump.
        snapshot_id: the snapshot pg_dump worked from.
        snapshot_time: when it was taken, by the server's clock, in UTC.
        lsn: the position of the write-ahead log just after.
        replica: whether it was taken from a read replica.
        tables: the exact number of rows of each user table in that snapshot.
        extensions: the version of each extension.
        started: when the work began, by this machine's clock, in UTC.
        finished: when everything but this record was stored, likewise.
        windlass_version: what took it.
    """

    schema: Literal[1]
    id: str
    app: str
    environment: str
    database: str
    engine: Literal["postgres"]
    service: str
    host: str
    database_name: str
    owner: str
    locale: Locale
    size_bytes: int
    format: Format
    file: str
    stored_bytes: int
    archive_bytes: int
    sha256: str
    server_version: str
    client_version: str
    snapshot_id: str
    snapshot_time: datetime
    lsn: str
    replica: bool
    tables: dict[str, int]
    extensions: dict[str, str]
    started: datetime
    finished: datetime
    windlass_version: str

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(self.tables.values())

    @property
    def compressed(self) -> bool:
        """Whether Windlass compressed what pg_dump wrote."""
        return self.format == "pg_dump-custom+zstd"

    @property
    def seconds(self) -> float:
        """How long it took, in seconds."""
        return (self.finished - self.started).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        data: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return data

    def to_json(self) -> bytes:
        """Return the record as it is stored: indented UTF-8 JSON with its own checksum."""
        data = self.as_dict()
        whole = data | {_CHECKSUM: _checksum(data)}
        return (json.dumps(whole, ensure_ascii=False, indent=2) + "\n").encode()


_ADAPTER: Final = TypeAdapter(Manifest)


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest in a stored record.

    Raises:
        BackupError: it is no manifest, is damaged, or was written by a newer Windlass.
    """
    try:
        record = json.loads(data)
    except ValueError:
        raise BackupError("its manifest is damaged: it is not JSON") from None
    if not isinstance(record, dict):
        raise BackupError("its manifest is damaged: it is not an object")
    if record.pop(_CHECKSUM, None) != _checksum(record):
        raise BackupError("its manifest is damaged: its checksum does not match")
    if record.get("schema") != SCHEMA:
        raise BackupError(f"its manifest has schema {record.get('schema')}; this Windlass reads {SCHEMA}")
    try:
        return _ADAPTER.validate_json(json.dumps(record))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackupError(f"its manifest is invalid at {where}: {first['msg']}") from None


def new_id(taken: datetime) -> str:
    """Return an id for a backup: the snapshot's time in UTC to the second, and six random digits."""
    return f"{taken.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def is_id(text: str) -> bool:
    """Whether a text is a backup's id."""
    return _ID.fullmatch(text) is not None


def _checksum(record: dict[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
