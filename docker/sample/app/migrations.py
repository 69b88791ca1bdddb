"""Which migrations there are and which of them are left to do; no database here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "migrations"
_NAME = re.compile(r"(?P<number>[0-9]{4})_[a-z0-9_]+")


class MigrationError(Exception):
    """The migration files, or what a database says about them, cannot be right."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of SQL."""

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the file: an applied file must never change."""
        return hashlib.sha256(self.sql).hexdigest()


def discover(directory: Path = DIRECTORY) -> tuple[Migration, ...]:
    """Return the migrations in the order of their numbers; a doubled or badly named file is an error."""
    found: dict[str, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named like 0001_what_it_does.sql")
        number = match["number"]
        if number in found:
            raise MigrationError(f"{path.name}: number {number} is already taken by {found[number].name}.sql")
        found[number] = Migration(path.stem, path.read_bytes())
    return tuple(found[number] for number in sorted(found))


def pending(known: Iterable[Migration], applied: Mapping[str, str]) -> tuple[Migration, ...]:
    """Return what is still to do. `applied` maps names to checksums.

    Applied names that are not known are fine: an older image after a rollback sees the newer schema.
    """
    todo: list[Migration] = []
    for migration in known:
        checksum = applied.get(migration.name)
        if checksum is None:
            todo.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was changed after it was applied; add a new migration instead"
            )
    return tuple(todo)
