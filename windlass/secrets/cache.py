"""Keeps fetched secrets on a laptop for a while, encrypted, so that not every task asks the provider.

It is off unless `[secrets.cache] ttl` is set, and always in CI. A secret is one file: its name is a keyed
digest, its content AES-256-GCM over time and value, padded, so that the folder tells neither what is kept nor
how long it is. What was kept is bound to its own name, to the repository and the environment, and to the
variables of the process that say which server and which login is meant. Whatever is wrong with an entry, it
is as if it were not there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windlass.secrets.providers.base import Failure, Lookup
from windlass.secrets.references import InvalidReference, parse
from windlass.secrets.settings import CacheSettings, SecretsSettings
from windlass.shell import Sensitive

Clock = Callable[[], float]

# Each part of a format has a meaning of its own; another one is another number.
_FORMAT: Final = b"windlass cache 1"
_SUFFIX: Final = ".secret"
_NONCE: Final = 12
_PADDED_TO: Final = 512
# More than any secret can have.
_LARGEST: Final = 1 << 20
# A key a person thought up in a hurry could be guessed.
_SHORTEST_KEY: Final = 32
_KEY_BYTES: Final = 32
# Those that say which server or login is meant where the settings do not.
_PREFIXES: Final = ("AWS_", "AZURE_", "VAULT_", "ARM_", "MSI_", "IDENTITY_")
_WRITING: Final = ".new-"
_TIME: Final = struct.Struct(">dI")


@dataclass(frozen=True)
class Scope:
    """What values must not be taken from one another for.

    Args:
        root: the repository.
        environment: the environment's name.
        process: the variables of the operator's own process.
    """

    root: Path
    environment: str
    process: Mapping[str, str]

    def text(self) -> str:
        """Return what differs where a secret of the same address may."""
        meant = sorted((name, value) for name, value in self.process.items() if name.startswith(_PREFIXES))
        return json.dumps([str(self.root.resolve()), self.environment, meant])


class SecretCache:
    """The cache of one environment.

    Args:
        folder: where it is; there and closed to others.
        key: the key, at least 32 characters.
        scope: what the values are of.
        ttl: seconds a value may be used again.
        clock: gives the time in seconds.
    """

    def __init__(
        self, folder: Path, key: Sensitive, scope: str, ttl: float, clock: Clock = time.time
    ) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._folder = folder
        self._ttl = ttl
        self._clock = clock
        self._scope = scope
        self._ages: list[float] = []
        secret = _bytes(key.reveal())
        self._names = _derived(secret, b"names")
        self._cipher = AESGCM(_derived(secret, b"content"))

    @property
    def note(self) -> str:
        """What a person should know of the values it gave; empty when it gave none."""
        if not self._ages:
            return ""
        count = "1 secret is" if len(self._ages) == 1 else f"{len(self._ages)} secrets are"
        return f"{count} from the cache on this machine, up to {max(self._ages):.0f} s old"

    def get(self, key: str) -> Sensitive | None:
        """Return the secret that was kept under a key; None when there is none, it is too old or damaged."""
        path = self._path(key)
        data = _read(path)
        if data is None:
            return None
        value = self._opened(path.name, data)
        if value is None:
            _remove(path)
        return value

    def put(self, values: Mapping[str, Sensitive]) -> None:
        """Keep secrets by their keys; where that fails they are not kept."""
        for key, value in values.items():
            if value.reveal().strip():
                path = self._path(key)
                with suppress(OSError):
                    _write(path, self._sealed(path.name, value), self._clock())

    def sweep(self) -> None:
        """Remove what is too old, also that of others who use this folder, and what was left half written."""
        now = self._clock()
        for path in _entries(self._folder):
            with suppress(OSError):
                age = now - path.lstat().st_mtime
                if not 0 <= age + 1 <= self._ttl + 1:
                    _remove(path)

    def _path(self, key: str) -> Path:
        digest = hmac.digest(self._names, _bytes(f"{self._scope}\0{key}"), "sha256")
        return self._folder / f"{digest.hex()}{_SUFFIX}"

    def _sealed(self, name: str, value: Sensitive) -> bytes:
        text = _bytes(value.reveal())
        plain = _TIME.pack(self._clock(), len(text)) + text
        plain += bytes(-len(plain) % _PADDED_TO)
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, _FORMAT + name.encode())

    def _opened(self, name: str, data: bytes) -> Sensitive | None:
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher.decrypt(data[:_NONCE], data[_NONCE:], _FORMAT + name.encode())
            kept, size = _TIME.unpack_from(plain)
            text = plain[_TIME.size : _TIME.size + size].decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError, struct.error):
            return None
        age = self._clock() - kept
        # An entry of the future was kept before the clock went back: nobody knows how old it is.
        if not 0 <= age < self._ttl:
            return None
        self._ages.append(age)
        return Sensitive(text)


def opened(
    settings: CacheSettings, scope: Scope, lookup: Lookup, clock: Clock = time.time
) -> SecretCache | Failure:
    """Open the cache, making its folder and the file of its key where they are missing.

    Args:
        settings: the `[secrets.cache]` table.
        scope: what the values are of.
        lookup: gives what the key's reference stands for, without a cache.
        clock: gives the time in seconds.

    Returns:
        The cache, swept; or why there is none.
    """
    if settings.ttl <= 0:
        return Failure("[secrets.cache] ttl is 0", 'set it, such as to "15m", to have a cache')
    if scope.process.get("CI"):
        return Failure("in CI, which the variable CI tells, nothing is cached")
    try:
        folder = _closed_folder(folder_of(settings, scope.root))
        key = _key(settings.key, scope.root, lookup)
    except (OSError, RuntimeError) as error:
        return Failure(f"the cache cannot be used: {getattr(error, 'strerror', None) or error}")
    if isinstance(key, Failure):
        return key
    try:
        cache = SecretCache(folder, key, scope.text(), settings.ttl, clock)
    except ImportError:
        return Failure("the cache needs the package cryptography", "run `pip install cryptography`")
    cache.sweep()
    return cache


def of_environment(
    root: Path, environment: str, process: Mapping[str, str], settings: SecretsSettings
) -> tuple[SecretCache | None, str]:
    """Open the cache of an environment as its settings say.

    Args:
        root: the repository.
        environment: the environment's name.
        process: the variables of the operator's own process.
        settings: the environment's `[secrets]` table.

    Returns:
        The cache, or None; and what a person should know of one that was asked for and is not there.
    """
    if settings.cache.ttl <= 0 or process.get("CI"):
        return None, ""
    from windlass.secrets.resolving import Resolver

    with Resolver(root, process, settings) as resolver:
        found = opened(settings.cache, Scope(root, environment, process), resolver.lookup)
    return (None, f"no secret is cached: {found}") if isinstance(found, Failure) else (found, "")


def folder_of(settings: CacheSettings, root: Path) -> Path:
    """Return where the cache is.

    Raises:
        RuntimeError: the home directory is not known.
    """
    return root / Path(settings.directory).expanduser()


def clear(settings: CacheSettings, root: Path) -> int:
    """Forget all that is kept, whatever its key: after a write, or before a check.

    Returns:
        How many secrets there were.
    """
    try:
        return sum(_remove(path) for path in _entries(folder_of(settings, root)))
    except RuntimeError:
        return 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(key).digest(), _FORMAT + purpose, "sha256")


def _closed_folder(folder: Path) -> Path:
    """Make the folder its owner's alone.

    Raises:
        OSError: it cannot be made, or it is another user's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(0, f"the folder {folder} is another user's")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def _key(text: str, root: Path, lookup: Lookup) -> Sensitive | Failure:
    found = lookup(text)
    if isinstance(found, Failure) and found.missing and (path := _key_file(text, root)) is not None:
        found = _made_key(path)
    if isinstance(found, Failure):
        return Failure(f"the key of the cache cannot be had: {found.reason}", found.fix)
    if len(found.reveal()) < _SHORTEST_KEY:
        return Failure(
            f"the key of the cache has fewer than {_SHORTEST_KEY} characters",
            "`openssl rand -hex 32` makes a good one",
        )
    return found


def _key_file(text: str, root: Path) -> Path | None:
    """Return the file a key's reference names; None where it names anything else."""
    try:
        reference = parse(text)
    except InvalidReference:
        return None
    if reference is None or len(reference.choices) != 1 or reference.choices[0].provider != "file":
        return None
    return root / Path(reference.choices[0].target).expanduser()


def _made_key(path: Path) -> Sensitive:
    """Make the file of the key; another process that was faster made the one that counts.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return Sensitive(path.read_text().removesuffix("\n"))


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix == _SUFFIX or path.name.startswith(_WRITING)]
    except OSError:
        return []


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_LARGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return None


def _write(path: Path, data: bytes, now: float) -> None:
    """Write an entry whole; it need not outlive a loss of power, so the disk is not waited for."""
    descriptor, name = tempfile.mkstemp(prefix=_WRITING, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.utime(name, (now, now))
        Path(name).replace(path)
    except BaseException:
        _remove(Path(name))
        raise


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
