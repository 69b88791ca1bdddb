"""Which backups there are, by their manifests; damaged ones are shown, unfinished ones only counted.

The layout in a store is `<app>/<environment>/<database>/<id>/`, with the archive and `manifest.json`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from windlass.backup.manifest import FILE_NAME, Manifest, is_id, read_manifest
from windlass.backup.stores.base import Store, StoredObject
from windlass.errors import BackupError

LATEST: Final = "latest"
_MANIFEST_LIMIT_BYTES: Final = 64 << 20
_FOLDER_DEPTH: Final = 3


@dataclass(frozen=True)
class Entry:
    """A backup in a store.

    Args:
        folder: its folder's key.
        id: its id.
        manifest: its record; None when that is damaged.
        problem: what is wrong as far as a list can see; empty when nothing is.
    """

    folder: str
    id: str
    manifest: Manifest | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong as far as a list can see."""
        return not self.problem

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        manifest = self.manifest.as_dict() if self.manifest else None
        return {"id": self.id, "folder": self.folder, "problem": self.problem, "manifest": manifest}


@dataclass(frozen=True)
class Leftover:
    """What an interrupted backup left: objects without a manifest.

    Args:
        id: the id it was to have.
        keys: its objects.
        modified: when the newest of them was last written, in UTC.
        size: of all of them, in bytes.
    """

    id: str
    keys: tuple[str, ...]
    modified: datetime
    size: int


@dataclass(frozen=True)
class Listing:
    """The backups of a folder, newest first, and what interrupted ones left."""

    entries: tuple[Entry, ...]
    leftovers: tuple[Leftover, ...]


def database_folder(app: str, environment: str, database: str) -> str:
    """Return the folder that holds the backups of a database."""
    return f"{app}/{environment}/{database}"


def list_backups(store: Store, app: str, environment: str, database: str | None = None) -> Listing:
    """Return the backups of a database, or of all databases of an environment.

    Raises:
        BackupError: the store cannot be read.
    """
    prefix = f"{app}/{environment}" + (f"/{database}" if database else "")
    folders = _by_folder(store.list(prefix))
    entries = []
    leftovers = []
    for folder, objects in folders.items():
        finished = {each.key: each for each in objects if not each.partial}
        if f"{folder}/{FILE_NAME}" in finished:
            entries.append(_entry(store, folder, finished))
        else:
            leftovers.append(_leftover(folder, objects))
    return Listing(tuple(sorted(entries, key=_age_key, reverse=True)), tuple(leftovers))


def find(listing: Listing, wanted: str) -> Entry:
    """Return the backup of an id, or the newest one by snapshot time for `latest`.

    Raises:
        BackupError: there is none, the newest one is damaged, or the one named has a damaged manifest.
    """
    if wanted == LATEST:
        return _newest(listing)
    match = [entry for entry in listing.entries if entry.id == wanted]
    if not match:
        newest = f"The newest is {listing.entries[0].id}." if listing.entries else "There is none at all."
        raise BackupError(f"There is no backup {wanted}.", newest)
    return match[0]


def stale(leftovers: Iterable[Leftover], now: datetime, age: timedelta) -> list[Leftover]:
    """Return the leftovers that nobody wrote to for `age`."""
    return [each for each in leftovers if now - each.modified > age]


def _newest(listing: Listing) -> Entry:
    if not listing.entries:
        raise BackupError("There is no backup.", "`inv db.backup` takes one.")
    newest = listing.entries[0]
    if newest.ok:
        return newest
    # Going back to an older one is a loss of data that somebody has to decide.
    good = next((entry.id for entry in listing.entries if entry.ok), None)
    hint = f"The newest good one is {good}; name it with --backup." if good else "No other one is good."
    raise BackupError(f"The newest backup, {newest.id}, is damaged: {newest.problem}.", hint)


def _by_folder(objects: Iterable[StoredObject]) -> dict[str, list[StoredObject]]:
    folders: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for each in objects:
        parts = each.key.split("/")
        if len(parts) == _FOLDER_DEPTH + 2 and is_id(parts[_FOLDER_DEPTH]):
            folders["/".join(parts[:-1])].append(each)
    return dict(folders)


def _entry(store: Store, folder: str, objects: dict[str, StoredObject]) -> Entry:
    name = folder.rpartition("/")[2]
    try:
        with store.read(f"{folder}/{FILE_NAME}") as stream:
            manifest = read_manifest(stream.read(_MANIFEST_LIMIT_BYTES))
    except BackupError as error:
        return Entry(folder, name, None, error.message)
    return Entry(folder, name, manifest, _problem(manifest, folder, objects))


def _problem(manifest: Manifest, folder: str, objects: dict[str, StoredObject]) -> str:
    """Return what does not fit between a manifest, where it lies, and what lies beside it."""
    own = f"{database_folder(manifest.app, manifest.environment, manifest.database)}/{manifest.id}"
    if own != folder:
        return f"its manifest is that of {own}"
    archive = objects.get(f"{folder}/{manifest.file}")
    if archive is None:
        return f"its file {manifest.file} is missing"
    if archive.size != manifest.stored_bytes:
        return f"its file {manifest.file} has {archive.size} bytes, not {manifest.stored_bytes}"
    return ""


def _leftover(folder: str, objects: list[StoredObject]) -> Leftover:
    return Leftover(
        folder.rpartition("/")[2],
        tuple(each.key for each in objects),
        max(each.modified for each in objects),
        sum(each.size for each in objects),
    )


def _age_key(entry: Entry) -> tuple[str, str]:
    """Order by the snapshot's time; a damaged manifest leaves the time in the id."""
    taken = f"{entry.manifest.snapshot_time:%Y%m%dT%H%M%S.%f}" if entry.manifest else entry.id[:15] + ".0"
    return taken, entry.id
