"""A store that is a directory: 0600 files in 0700 folders, each published by a rename."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from windlass.backup.stores.base import StoredObject
from windlass.errors import BackupError, Locked

_PARTIAL: Final = ".partial"
_LOCK: Final = ".lock"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryStore:
    """A directory of this machine.

    Args:
        name: the store's key in `[backup.stores]`.
        root: the directory; made when it is first written to.
    """

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self.root = root

    @property
    def name(self) -> str:
        """The store's key in `[backup.stores]`."""
        return self._name

    def describe(self) -> str:
        """Return the store's name and place; see `stores.base.Store`."""
        return f"{self._name} ({self.root})"

    @contextmanager
    def writer(self, key: str) -> Iterator[_FileWriter]:
        """Write an object; see `stores.base.Store`."""
        target = self._path(key)
        partial = target.with_name(target.name + _PARTIAL)
        with self._refusals():
            _make_folders(target.parent)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        published = False
        try:
            try:
                yield _FileWriter(descriptor, self)
                with self._refusals():
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with self._refusals():
                partial.rename(target)
                published = True
                _sync_folder(target.parent)
        except BaseException:
            (target if published else partial).unlink(missing_ok=True)
            self._remove_empty(target.parent)
            raise

    @contextmanager
    def read(self, key: str) -> Iterator[BinaryIO]:
        """Read an object; see `stores.base.Store`."""
        with self._refusals():
            stream = self._path(key).open("rb", buffering=0)
        with stream:
            # What the page cache holds proves nothing about the disk.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            yield stream

    def list(self, prefix: str) -> list[StoredObject]:
        """Return the objects of a folder; see `stores.base.Store`."""
        top = self._path(prefix)
        found = []
        with self._refusals():
            for folder, _, names in os.walk(top, onerror=_unless_missing):
                for name in names:
                    path = Path(folder, name)
                    if name != _LOCK and (each := self._object(path)) is not None:
                        found.append(each)
        return sorted(found, key=lambda each: each.key)

    def delete(self, key: str) -> None:
        """Remove an object; see `stores.base.Store`."""
        target = self._path(key)
        with self._refusals():
            target.unlink(missing_ok=True)
            target.with_name(target.name + _PARTIAL).unlink(missing_ok=True)
            self._remove_empty(target.parent)

    def free_bytes(self) -> int | None:
        """Return the free space of the directory's file system; see `stores.base.Store`."""
        folder = self.root
        with self._refusals():
            while not folder.exists() and folder != folder.parent:
                folder = folder.parent
            return shutil.disk_usage(folder).free

    @contextmanager
    def lock(self, folder: str, holder: str) -> Iterator[None]:
        """Hold the lock of a folder; see `stores.base.Store`."""
        path = self._path(folder) / _LOCK
        with self._refusals():
            _make_folders(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._take_lock(descriptor, folder)
            with self._refusals():
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _take_lock(self, descriptor: int, folder: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(descriptor, 1024, 0).decode(errors="replace") or "somebody who just started"
            raise Locked(
                f"Another backup to {self._name}/{folder} is running: {who}.", "Wait for it to end."
            ) from None
        except OSError as error:
            raise self.refusal(error) from error

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or any(part in ("..", ".") or "\0" in part for part in parts):
            raise ValueError(f"not a key of a store: {key!r}")
        return self.root.joinpath(*parts)

    def _object(self, path: Path) -> StoredObject | None:
        try:
            status = path.stat(follow_symlinks=False)
        except FileNotFoundError:  # removed since it was listed
            return None
        partial = path.name.endswith(_PARTIAL)
        key = path.relative_to(self.root).as_posix().removesuffix(_PARTIAL)
        return StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), partial)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):  # not empty, or gone
            if folder != self.root:
                folder.rmdir()

    def refusal(self, error: OSError) -> BackupError:
        """Return the error for what the file system refused."""
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            return BackupError(f"the store {self.describe()} is full: {reason}")
        if error.errno == errno.ENOENT:
            return BackupError(f"the store {self.describe()} has no {error.filename}")
        return BackupError(f"the store {self.describe()} cannot be used: {reason}")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.refusal(error) from error


class _FileWriter:
    """Writes to a descriptor until everything is written."""

    def __init__(self, descriptor: int, store: DirectoryStore) -> None:
        self._descriptor = descriptor
        self._store = store

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes; see `stores.base.Writer`."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise self._store.refusal(error) from error


def _unless_missing(error: OSError) -> None:
    """Pass over a folder that is not there: a store never written to is empty."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, each 0700 and durable."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
