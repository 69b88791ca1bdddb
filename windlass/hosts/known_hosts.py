"""Files of trusted host keys, as OpenSSH writes them: read with care, changed one host at a time."""

from __future__ import annotations

import base64
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from windlass.errors import ConfigurationError
from windlass.hosts.address import DEFAULT_PORT, Address

FILE_MODE = 0o644
_REVOKED = "@revoked"
_HASHED = "|1|"
_SALT_BYTES = 20


def lookup_name(address: Address) -> str:
    """Return the name a host's key is filed under, the same for paramiko and OpenSSH."""
    return address.host if address.port == DEFAULT_PORT else f"[{address.host}]:{address.port}"


class KnownHosts(paramiko.HostKeys):
    """The trusted keys of some files.

    paramiko's own reader ends with a traceback on a damaged line and overlooks `@revoked`.
    """

    _entries: list[HostKeyEntry]  # of the base class

    @classmethod
    def read(cls, files: Iterable[Path]) -> KnownHosts:
        """Read the files, earlier ones first; one that does not exist is empty.

        Raises:
            ConfigurationError: a file is there and cannot be read.
        """
        known = cls()
        lines = [line.strip() for path in files for line in _read(path).splitlines()]
        bad = {entry.key for line in lines if (entry := _revoked(line)) is not None}
        for line in lines:
            entry = _entry(line)
            if entry is not None and entry.key not in bad:
                known._entries.append(entry)
        return known

    def of(self, address: Address) -> tuple[paramiko.PKey, ...]:
        """Return the keys trusted for a host."""
        name = lookup_name(address)
        return tuple(
            entry.key for entry in self._entries if entry.key is not None and _speaks_for(entry, name)
        )


def _speaks_for(entry: HostKeyEntry, name: str) -> bool:
    return any(_same(written, name) for written in entry.hostnames or ())


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError(f"The host keys in {path} cannot be read: {error.strerror}.") from None


def _entry(line: str) -> HostKeyEntry | None:
    if not line or line.startswith(("#", "@")):
        return None
    try:
        entry = HostKeyEntry.from_line(line)
    except (paramiko.SSHException, InvalidHostKey, ValueError):
        return None  # OpenSSH passes over such a line as well
    if entry is None or not all(_sound(name) for name in entry.hostnames or ()):
        return None
    return entry


def _sound(name: str) -> bool:
    """Whether a name is plain or well hashed; paramiko stops with an error at any other."""
    if not name.startswith(_HASHED):
        return True
    parts = name.removeprefix(_HASHED).split("|")
    try:
        return len(parts) == 2 and len(base64.b64decode(parts[0], validate=True)) == _SALT_BYTES
    except ValueError:
        return False


def _revoked(line: str) -> HostKeyEntry | None:
    marker, _, rest = line.partition(" ")
    return _entry(rest.strip()) if marker == _REVOKED else None


def record(path: Path, name: str, key: paramiko.PKey, *, replace: bool = False) -> None:
    """Add a host's key to a file; the file changes whole or not at all.

    Args:
        path: the file; made when there is none.
        name: the host, as `lookup_name` gives it.
        key: the key to trust.
        replace: remove what the file says of this host first; lines of other hosts stay as they are.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        lines = _read(path).splitlines()
        if replace:
            lines = [kept for line in lines if (kept := _without(line, name)) is not None]
        lines.append(f"{name} {key.get_name()} {key.get_base64()}")
        _write(path, "".join(f"{line}\n" for line in lines))


def _without(line: str, name: str) -> str | None:
    """Return a line without a host's name, or None when it spoke for no other host."""
    entry = _entry(line.strip())
    if entry is None or not _speaks_for(entry, name):
        return line
    names, rest = line.strip().split(None, 1)
    others = [each for each in names.split(",") if not _same(each, name)]
    return f"{','.join(others)} {rest}" if others else None


def _same(written: str, name: str) -> bool:
    if written.startswith(_HASHED):
        return paramiko.HostKeys.hash_host(name, written) == written
    return written == name


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change files of a folder; the lock leaves no file behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else FILE_MODE
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
