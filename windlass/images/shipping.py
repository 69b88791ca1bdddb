"""Sends images from this machine's Engine to a host's, without a registry and without what it has."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

import zstandard

from windlass.errors import CommandFailed, PreflightFailed
from windlass.events import Emit, Notice, Progress, ignore
from windlass.hosts.base import Host
from windlass.images.docker import Redact, call, unredacted
from windlass.images.inventory import (
    IMAGE_FORMAT,
    Inventory,
    LocalImage,
    ShipPlan,
    inventory_lines,
    local_images,
    parse_image,
    parse_inventory,
    ship_plan,
)
from windlass.images.layers import Archive, Member, needed, pieces, read_archive
from windlass.shell import Command, Script

_PROGRESS_SECONDS: Final = 0.25
_GZIP: Final = 31  # zlib's code for a gzip wrapper
# Loads and then says what it has, so that both cost one round trip. The Engine gets the plain archive: one
# that unpacks zstd itself can crash as a load ends, and all containers with it (seen with 26.1.5: a nil
# pointer in what reads ahead for its decoder).
_LOAD: Final = (
    f'"$unpack" -dc | docker load --quiet >&2 && docker image inspect --format \'{IMAGE_FORMAT}\' "$@"'
)


@dataclass(frozen=True)
class Shipped:
    """What was sent to a host.

    Args:
        host: its name.
        references: the images it got.
        present: the images it had.
        sent: bytes that went over the link, compressed.
        size: bytes of the archive that was sent, before compression.
        saved: bytes of layers that were left out because the host has them.
        whole: whether a host that could not take part of an image got everything.
    """

    host: str
    references: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    sent: int = 0
    size: int = 0
    saved: int = 0
    whole: bool = False


class Bundle:
    """The archive of some images, saved once when the first host needs it; use it as a context manager.

    Args:
        images: what is in it.
        redact: takes secrets out of errors.
    """

    def __init__(self, images: Sequence[LocalImage], redact: Redact = unredacted) -> None:
        self.images = tuple(images)
        self._redact = redact
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="windlass-images-")
        self._archive: Archive | None = None

    def archive(self) -> Archive:
        """Return the archive; several threads may ask.

        Raises:
            CommandFailed: `docker save` failed, such as on a full disk.
        """
        with self._lock:
            if self._archive is None:
                path = Path(self._folder.name) / "images.tar"
                names = [each.reference for each in self.images]
                call(["docker", "save", "--output", str(path), *names], "saving the images", self._redact)
                self._archive = read_archive(path)
            return self._archive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()


def ask(host: Host) -> Inventory:
    """Ask a host which images it has: one script.

    Raises:
        HostUnreachable, LinkDropped: no connection, or it died.
        OperationFailed: its Engine did not answer.
    """
    script = Script.of("asking which images the host has", *inventory_lines(), timeout=120)
    return parse_inventory(host.run(script).text)


def missing(host: Host, references: Iterable[str], redact: Redact = unredacted) -> ShipPlan:
    """Ask a host and return what it lacks of these local images; see `ask` and `local_images` for errors."""
    return ship_plan(ask(host), local_images(references, redact))


def ship(
    host: Host,
    references: Iterable[str],
    emit: Emit = ignore,
    *,
    redact: Redact = unredacted,
    inventory: Inventory | None = None,
    bundle: Bundle | None = None,
) -> Shipped:
    """Give a host the local images it lacks, sending only the layers it lacks.

    Args:
        host: where to.
        references: local images; those of `bundle` where one is given.
        emit: gets `Progress` in bytes of the archive, and a `Notice` where all had to be sent.
        redact: takes secrets out of errors.
        inventory: what the host has, where a script has asked already; else it is asked.
        bundle: an archive several hosts share; else one is made and removed.

    Returns:
        What was sent; nothing but the question was run when the host lacks nothing.

    Raises:
        CommandFailed: the host could not load the images, or has others now than were sent.
        HostUnreachable, LinkDropped: no connection, or it died.
        PreflightFailed: an image was built for another kind of processor than the host's.
    """
    known = inventory if inventory is not None else ask(host)
    with contextlib.ExitStack() as stack:
        shared = bundle or stack.enter_context(Bundle(local_images(references, redact), redact))
        plan = ship_plan(known, shared.images)
        _refuse_foreign(host, plan, known)
        if not plan.send:
            return Shipped(host.name, present=_names(plan.present))
        return _Sender(host, shared.archive(), shared.images, plan, known, emit).send()


def _refuse_foreign(host: Host, plan: ShipPlan, inventory: Inventory) -> None:
    if plan.foreign:
        raise PreflightFailed(
            f"{', '.join(plan.foreign)} cannot run on {host.name}, a {inventory.architecture} machine.",
            f"Build for it: `platforms: [linux/{inventory.architecture}]` in the service's `build:`.",
        )


def _names(images: Iterable[LocalImage]) -> tuple[str, ...]:
    return tuple(each.reference for each in images)


class _Failed(Exception):
    """A load that did not do what it should."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code
        self.said = said


@dataclass
class _Sender:
    host: Host
    archive: Archive
    images: tuple[LocalImage, ...]
    plan: ShipPlan
    inventory: Inventory
    emit: Emit

    def send(self) -> Shipped:
        """Send what is lacking; all of it where the Engine cannot take a part."""
        everything = self.archive.members
        some = everything if self.inventory.containerd else needed(self.archive, self.inventory.chains)
        try:
            return self._try(some)
        except _Failed as failed:
            if some == everything:
                raise self._error(failed) from None
            self.emit(
                Notice("warning", f"{self.host.name} could not load part of an image: sending all of it.")
            )
        try:
            return replace(self._try(everything), whole=True)
        except _Failed as failed:
            raise self._error(failed) from None

    def _error(self, failed: _Failed) -> CommandFailed:
        return CommandFailed(f"loading images on {self.host.name}", failed.code, failed.said)

    def _try(self, members: tuple[Member, ...]) -> Shipped:
        size = sum(each.size for each in members)
        names = _names(self.images)
        load = f"unpack={_unpacker(self.inventory.zstd)}; {_LOAD}"
        command = Command.of("sh", "-c", load, "windlass", *names)
        with self.host.open(command) as process:
            sent = self._pump(process.stdin, members, size)
            said = process.stdout.read().decode(errors="replace")
            code = process.wait()
            if code != 0:
                raise _Failed(code, process.error_text())
        self._verify(said)
        return Shipped(
            host=self.host.name,
            references=_names(self.plan.send),
            present=_names(self.plan.present),
            sent=sent,
            size=size,
            saved=sum(each.size for each in self.archive.members) - size,
        )

    def _pump(self, stdin: BinaryIO, members: tuple[Member, ...], size: int) -> int:
        """Write the compressed archive and return its size; a closed pipe ends it, the exit code says why."""
        what = f"images to {self.host.name}"
        sent = done = 0
        told = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.emit(Progress(what, 0, size))
            for raw, data in _compressed(pieces(self.archive, members), self.inventory.zstd):
                write_all(stdin, data)
                sent, done = sent + len(data), min(done + raw, size)
                if time.monotonic() - told > _PROGRESS_SECONDS:
                    told = time.monotonic()
                    self.emit(Progress(what, done, size))
            stdin.close()
            self.emit(Progress(what, size, size))
        with contextlib.suppress(OSError):
            stdin.close()
        return sent

    def _verify(self, said: str) -> None:
        """Make sure that each reference is the image that was sent."""
        lines = said.splitlines()
        if len(lines) != len(self.images):
            raise _Failed(0, "the Engine did not say which images it has now")
        for image, line in zip(self.images, lines, strict=True):
            there = parse_image(line)
            if not self.inventory.same(there, image.image):
                raise _Failed(
                    0, f"{image.reference} is {there.image_id} there, and {image.image.image_id} here"
                )


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _unpacker(zstd: bool) -> str:
    """Return the program with which a host unpacks what `_compressed` yields; every host has gzip."""
    return "zstd" if zstd else "gzip"


def _compressed(chunks: Iterable[bytes], zstd: bool) -> Iterator[tuple[int, bytes]]:
    """Yield compressed pieces, each with the raw bytes it stands for; the fastest level of either format."""
    compressor: _Compressor = (
        zstandard.ZstdCompressor(level=1).compressobj() if zstd else zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    )
    for chunk in chunks:
        yield len(chunk), compressor.compress(chunk)
    yield 0, compressor.flush()


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of `data`: a raw stream may take less at once."""
    rest = memoryview(data)
    while rest:
        written = stream.write(rest)
        rest = rest[written:] if written is not None else rest
