"""What a release ships beside the images: config and secret files, and bind mounts of the project.

Each lies in a folder named after a keyed digest of its content, so an unchanged file keeps its path and
its service is not recreated. The digest is keyed because the path is public and a secret may be short.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from windlass.errors import ConfigurationError

MAX_TOTAL_BYTES: Final = 50 * 1024 * 1024
FOLDER_MODE: Final = 0o700
_SKIPPED = {".git"}

Digest = Callable[[bytes], str]


@dataclass(frozen=True)
class ShippedFile:
    """A file of a release.

    A secret's file is readable by all: Compose mounts it as it is, and the user of the container is not
    known here. Nobody on the host reaches it, as the root of all shipped files has `FOLDER_MODE`.

    Args:
        target: its path below the root of shipped files.
        data: its content.
        mode: its permissions.
    """

    target: str
    data: bytes = field(repr=False)
    mode: int


def keyed(key: bytes) -> Digest:
    """Return the digest used for names: 32 hex characters of HMAC-SHA256."""
    return lambda data: hmac.new(key, data, hashlib.sha256).hexdigest()[:32]


def ship_content(name: str, data: bytes, digest: Digest, *, mode: int = 0o444) -> ShippedFile:
    """Return a single file of a release."""
    folder = digest(b"file\0%o\0" % mode + data)[:16]
    return ShippedFile(f"{folder}/{name}", data, mode)


def ship_file(path: Path, digest: Digest) -> ShippedFile:
    """Return a file of the project as a file of a release.

    Raises:
        ConfigurationError: it cannot be read.
    """
    return ship_content(path.name, _read(path), digest, mode=_mode(path))


def ship_directory(path: Path, digest: Digest) -> tuple[str, tuple[ShippedFile, ...]]:
    """Return the path a directory of the project gets below the root, and its files; links are followed.

    Raises:
        ConfigurationError: a file cannot be read, or the files are more than 50 MiB.
    """
    files = list(_walk(path, path, ()))
    check_size(sum(file.stat().st_size for _, file in files), str(path))
    found = [(relative, _read(file), _mode(file)) for relative, file in files]
    lines = [f"{mode:o} {relative} {digest(data)}" for relative, data, mode in found]
    folder = f"{digest(chr(10).join(['directory', *lines]).encode())[:16]}/{path.name}"
    return folder, tuple(ShippedFile(f"{folder}/{relative}", data, mode) for relative, data, mode in found)


def check_size(total: int, what: str) -> None:
    """Refuse files that are together larger than what a release may carry.

    Args:
        total: their size in bytes.
        what: where they are, for the sentence.

    Raises:
        ConfigurationError: they are more than 50 MiB.
    """
    if total > MAX_TOTAL_BYTES:
        raise ConfigurationError(
            f"The files a release would ship for {what} are {total / 2**20:.0f} MiB, more than the "
            f"{MAX_TOTAL_BYTES // 2**20} MiB allowed.",
            "Copy large data into an image, or keep it in a named volume.",
        )


def _walk(root: Path, folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the files below a directory, sorted; a link back to a folder above is not followed."""
    real = folder.resolve()
    if real in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name not in _SKIPPED:
            yield from _walk(root, entry, (*above, real))
        elif entry.is_file():
            yield entry.relative_to(root).as_posix(), entry


def _mode(path: Path) -> int:
    return 0o555 if os.access(path, os.X_OK) else 0o444


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The file {path}, which the Compose project names, cannot be read: {error.strerror}."
        ) from error
