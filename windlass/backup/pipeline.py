"""Bytes from a source to a sink in constant memory, hashed and compressed on the way."""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

import zstandard

from windlass.backup.stores.base import Writer
from windlass.events import Emit, Progress
from windlass.hosts.base import Process

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES: Final = 1 << 20
_ZSTD_LEVEL: Final = 1  # on table data as small as level 3, and never slower than the server
_PROGRESS_BYTES: Final = 8 << 20

# A custom archive written to a pipe ends with its last table's data, and that with a block of length 0,
# an integer of a sign byte and four bytes (WriteInt() in PostgreSQL's pg_backup_archiver.c).
ARCHIVE_END: Final = bytes(5)


@dataclass(frozen=True)
class Pumped:
    """What went through: its bytes and the last few of them."""

    count: int
    tail: bytes


class Sink(Protocol):
    """What takes bytes and is told when there are no more."""

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes; the memory may change after the call."""

    def finish(self) -> None:
        """Pass on what is held back."""


class Storing:
    """Hands bytes to a store's writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes."""
        self._writer.write(data)

    def finish(self) -> None:
        """Nothing to do: the writer publishes when its block ends."""


class Feeding:
    """Writes to a process until it takes no more: why it stopped, its exit code says."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes."""
        view = memoryview(data)
        try:
            while self._open and view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            self._open = False

    def finish(self) -> None:
        """Tell the process that there is no more."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()


class Discarding:
    """Takes bytes and drops them."""

    def write(self, data: bytes | memoryview) -> None:
        """Drop these bytes."""

    def finish(self) -> None:
        """Nothing to do."""


class Hashing:
    """Passes bytes on and knows their number and SHA-256."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.count = 0

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes."""
        self._hash.update(data)
        self.count += len(data)
        self._sink.write(data)

    def finish(self) -> None:
        """Tell the next one that there is no more."""
        self._sink.finish()

    @property
    def sha256(self) -> str:
        """The SHA-256 of what passed, in hexadecimal."""
        return self._hash.hexdigest()


class Compressing:
    """Passes bytes on as one zstd frame with a checksum of its content."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()

    def write(self, data: bytes | memoryview) -> None:
        """Take all of these bytes."""
        if compressed := self._zstd.compress(data):
            self._sink.write(compressed)

    def finish(self) -> None:
        """End the frame."""
        self._sink.write(self._zstd.flush())
        self._sink.finish()


class HashingReader(io.RawIOBase):
    """Reads a stream and knows the number and SHA-256 of the bytes read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        count: int = self._source.readinto(view)  # type: ignore[attr-defined]
        self._hash.update(view[:count])
        self.count += count
        return count

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read, in hexadecimal."""
        return self._hash.hexdigest()


def to_store(writer: Writer, *, compress: bool) -> tuple[Sink, Hashing]:
    """Return the sink for a source's bytes, and the part of it that knows what was stored."""
    stored = Hashing(Storing(writer))
    return (Compressing(stored) if compress else stored), stored


def pump(source: BinaryIO, sink: Sink, on_progress: Callable[[int], None]) -> Pumped:
    """Move a stream to its end through one buffer of a mebibyte; `on_progress` hears the bytes so far."""
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    total = 0
    tail = b""
    while filled := _fill(source, view):
        sink.write(view[:filled])
        total += filled
        tail = (tail + bytes(view[max(0, filled - len(ARCHIVE_END)) : filled]))[-len(ARCHIVE_END) :]
        on_progress(total)
    sink.finish()
    return Pumped(total, tail)


def widen(pipe: BinaryIO) -> None:
    """Let a pipe hold a whole chunk: fewer, larger reads."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError, ValueError):  # no pipe, or more than the system allows
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, CHUNK_BYTES)


def digest(source: BinaryIO, on_progress: Callable[[int], None]) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a stream."""
    hashing = Hashing(Discarding())
    pump(source, hashing, on_progress)
    return hashing.count, hashing.sha256


def feed(
    source: BinaryIO, process: Process, report: Callable[[int], None], *, compressed: bool
) -> tuple[int, str]:
    """Stream a stored archive into a process and return its size in bytes and SHA-256 as stored.

    Args:
        source: the archive as stored.
        process: reads it from stdin; when it ends early, that is no error here.
        report: hears the stored bytes read so far.
        compressed: whether Windlass compressed it; then it is decompressed on the way.

    Raises:
        zstandard.ZstdError: what Windlass compressed is damaged.
    """
    stored = HashingReader(source)
    # A reader, not decompressobj(): that gives all that a chunk expands to at once, which has no limit.
    archive = zstandard.ZstdDecompressor().stream_reader(cast(BinaryIO, stored)) if compressed else stored
    pump(archive, Feeding(process), lambda _: report(stored.count))  # type: ignore[arg-type]
    return stored.count, stored.sha256


def reporting(emit: Emit, what: str, total: int | None = None) -> Callable[[int], None]:
    """Return a listener for `pump` that emits `Progress`, every few mebibytes."""
    last = 0

    def report(done: int) -> None:
        nonlocal last
        if done - last >= _PROGRESS_BYTES or done == total:
            last = done
            emit(Progress(what, done, total))

    return report


def _fill(source: BinaryIO, view: memoryview) -> int:
    """Read until the buffer is full or the stream ends: a pipe gives no more than it holds at once."""
    filled = 0
    while filled < len(view):
        count = source.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled
