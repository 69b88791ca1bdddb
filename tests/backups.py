"""What tests of backups share: manifests, and an environment whose store is a folder."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from windlass.backup.manifest import FILE_NAME, Manifest
from windlass.backup.stores.directory import DirectoryStore
from windlass.databases.snapshot import Locale
from windlass.environment.environment import Environment
from windlass.environment.model import Settings

APP = "shop"
ENVIRONMENT = "test"
DATABASE = "main"


def make_manifest(identifier: str = "20260102T030405Z-abcdef", **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "schema": 1,
        "id": identifier,
        "app": APP,
        "environment": ENVIRONMENT,
        "database": DATABASE,
        "service": "db",
        "host": "one",
        "database_name": "shop",
        "owner": "app",
        "locale": Locale("UTF8", "C.UTF-8", "C.UTF-8", "libc"),
        "size_bytes": 1000,
        "format": "pg_dump-custom",
        "file": "dump.pgdump",
        "stored_bytes": 3,
        "archive_bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "server_version": "17.5 (Debian 17.5-1)",
        "client_version": "17.5",
        "snapshot_id": "00000003-0000001B-1",
        "snapshot_time": datetime.strptime(identifier[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        "lsn": "0/16B3748",
        "replica": False,
        "tables": {"public.orders": 2},
        "extensions": {"plpgsql": "1.0"},
        "started": datetime(2026, 1, 2, 3, 4, 4, tzinfo=UTC),
        "finished": datetime(2026, 1, 2, 3, 4, 9, 500000, tzinfo=UTC),
        "engine": "postgres",
        "windlass_version": "0.1.0",
    }
    return Manifest(**(values | changes))


def put_backup(store: DirectoryStore, manifest: Manifest, content: bytes = b"abc") -> str:
    """Write a backup into a store and return its folder's key."""
    folder = f"{manifest.app}/{manifest.environment}/{manifest.database}/{manifest.id}"
    with store.writer(f"{folder}/{manifest.file}") as writer:
        writer.write(content)
    with store.writer(f"{folder}/{FILE_NAME}") as writer:
        writer.write(manifest.to_json())
    return folder


def make_environment(
    root: Path, *, app: str = APP, database: str = "shop", user: str = "app", timeout: float = 600.0
) -> Environment:
    settings = Settings.model_validate(
        {
            "app": app,
            "hosts": {"one": {"transport": "local"}},
            "databases": {DATABASE: {"service": "db", "name": database, "user": user}},
            "backup": {"stores": {"local": {"path": "store"}}, "timeout": timeout},
        }
    )
    return Environment(ENVIRONMENT, root, settings, {})
