"""What a store can do. Keys are relative paths with `/`; a writer's object appears whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object in a store.

    Args:
        key: its key; of an unfinished one, the key it was to have.
        size: in bytes.
        modified: when it was last written, in UTC.
        partial: whether its writer never finished, or still writes.
    """

    key: str
    size: int
    modified: datetime
    partial: bool = False


class Writer(Protocol):
    """Where the bytes of one object go."""

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes.

        Raises:
            BackupError: the store is full or cannot be written.
        """


class Store(Protocol):
    """A place for backups."""

    @property
    def name(self) -> str:
        """The store's key in `[backup.stores]`."""

    def describe(self) -> str:
        """Return the store's name and place, for a person."""

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """Write an object: it appears when the block ends well, durably, and leaves nothing when it does not.

        Raises:
            BackupError: the store cannot be written.
        """

    def read(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object as it is on the medium.

        Raises:
            BackupError: there is none, or it cannot be read.
        """

    def list(self, prefix: str) -> list[StoredObject]:
        """Return the objects whose key starts with a folder `prefix`, unfinished ones too, by key."""

    def delete(self, key: str) -> None:
        """Remove an object, and what an unfinished writer left under its key; nothing when there is none."""

    def free_bytes(self) -> int | None:
        """Return the space left for new objects in bytes; None where it has no limit or cannot be known."""

    def lock(self, folder: str, holder: str) -> AbstractContextManager[None]:
        """Hold the one lock of a folder; it ends with the process however that ends.

        Args:
            folder: what is locked.
            holder: who holds it, for the sentence another one gets.

        Raises:
            Locked: another process holds it.
        """
