"""Secrets in files, one each."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import (
    Client,
    Context,
    Failure,
    Provider,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.secrets.providers.process import NAME
from windlass.shell import Sensitive

# In bytes: twice what Linux allows in a variable, and little enough to be read at once.
_LIMIT: Final = 1 << 18
_MODE: Final = 0o600


def _fault(target: str) -> str:
    return "the path has spaces around it" if target != target.strip() else ""


class FileClient(Client):
    """Reads and writes files of the operator's machine.

    Args:
        root: where relative paths start.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "files"

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Read each file."""
        return {target: self._read(target) for target in targets}

    def _read(self, target: str) -> Resolved:
        try:
            data = read_regular(self._path(target), _LIMIT)
        except FileNotFoundError as error:
            return Failure(f"the file {target} cannot be read: {error.strerror}", missing=True)
        except OSError as error:
            return Failure(f"the file {target} cannot be read: {error.strerror or error}")
        except RuntimeError:
            return Failure(f"the home directory in {target} is not known")
        if data is None:
            return Failure(f"the file {target} has more than {_LIMIT >> 10} KiB and is no secret")
        try:
            # Editors and `echo` end a file with a newline that is no part of the secret.
            return Sensitive(data.decode().removesuffix("\n"))
        except UnicodeDecodeError:
            return Failure(f"the file {target} is not UTF-8 text")

    def _path(self, target: str) -> Path:
        return self._root / Path(target).expanduser()

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Write each file whole or not at all, readable by its owner only."""
        return {target: self._write(target, value) for target, value in values.items()}

    def _write(self, target: str, value: Sensitive) -> Written:
        try:
            data = value.reveal().encode() + b"\n"
            if len(data) > _LIMIT:
                return Failure(
                    f"the value has more than {_LIMIT >> 10} KiB, which {target} would not give back"
                )
            write_private(self._path(target), data)
        except UnicodeEncodeError:
            return Failure("the value is not valid Unicode")
        except OSError as error:
            return Failure(f"the file {target} cannot be written: {error.strerror or error}")
        except RuntimeError:
            return Failure(f"the home directory in {target} is not known")
        return Version("", stages=("current",))

    def canonical(self, target: str) -> str:
        """Return the file itself, whatever path or link leads to it."""
        return canonical_file(self._path(target))

    def members(self, scope: str) -> dict[str, str]:
        """Return the files of a folder whose names are names of variables."""
        try:
            entries = sorted(self._path(scope).iterdir())
        except (OSError, RuntimeError) as error:
            raise ProviderError(f"The folder {scope} cannot be listed: {error}.") from None
        return {each.name: self.member(scope, each.name) for each in entries if NAME.fullmatch(each.name)}

    def member(self, scope: str, name: str) -> str:
        """Return the file of a variable in a folder."""
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a variable.")
        return f"{scope.rstrip('/')}/{name}"


def read_regular(path: Path, limit: int) -> bytes | None:
    """Read a whole file; links are followed.

    Args:
        path: the file.
        limit: the most it may have, in bytes.

    Returns:
        Its content; None when it has more than that.

    Raises:
        OSError: it cannot be read, or is no regular file: a device has no end, and a pipe may never begin.
    """
    # Without O_NONBLOCK, opening a pipe waits for whoever writes into it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _require_regular(os.fstat(file.fileno()))
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket")


def canonical_file(path: Path) -> str:
    """Return the one name of a file: its number on its disk, or its path with no link in it.

    Raises:
        ProviderError: it cannot be looked at.
    """
    try:
        path = path.resolve()
        # A file that is there may have several paths: by links, mounts, and names in another case.
        found = path.stat()
    except FileNotFoundError:
        return f"file:{quote(os.fsencode(path))}"
    except (OSError, RuntimeError, ValueError) as error:
        raise ProviderError(f"The file {path} cannot be looked at: {error}.") from None
    return f"file:{found.st_dev}:{found.st_ino}"


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, mode 0600, and its missing folders, mode 0700.

    Raises:
        OSError: it cannot be written, or what is there is no regular file; it stays as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link is written through: it says where the owner wants the file to be.
    path = path.resolve()
    with suppress(FileNotFoundError):
        _require_regular(path.stat())
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _MODE)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _connect(context: Context) -> Client:
    return FileClient(context.root)


PROVIDER: Final = Provider(
    "file",
    "${file:path}",
    "The content of a UTF-8 file, byte for byte, less one final newline. "
    "The path is relative to the repository, absolute, or begins with `~`.",
    _fault,
    _connect,
)
