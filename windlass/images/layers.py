"""A `docker save` archive without the layers a host has already.

`docker load` into the classic image store looks every layer up by its chain id before it opens the
layer's file, so the file may be left out of the archive. This holds for the format of Docker up to 24
(`<id>/layer.tar`, sometimes a link) and for the OCI layout since 25 (`blobs/sha256/<digest>`): both have
a `manifest.json` that names the files.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windlass.errors import OperationFailed
from windlass.images.inventory import chain_ids

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_TAIL: Final = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Member:
    """A member of the archive.

    Args:
        name: its path.
        start: where its headers start, in bytes.
        end: where its padded content ends.
        link: the path it links to; empty for none.
    """

    name: str
    start: int
    end: int
    link: str = ""

    @property
    def size(self) -> int:
        """Its bytes in the archive."""
        return self.end - self.start


@dataclass(frozen=True)
class Archive:
    """A saved archive on this machine.

    Args:
        path: where it is.
        members: what is in it, in order.
        layers: the path of each layer's file, and the chain ids it is needed for.
    """

    path: Path
    members: tuple[Member, ...]
    layers: Mapping[str, frozenset[str]]


def read_archive(path: Path) -> Archive:
    """Read the structure of a `docker save` archive.

    Raises:
        OperationFailed: it is none.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = tuple(_member(each) for each in tar)
            layers = _layers(tar)
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise OperationFailed(f"What `docker save` wrote cannot be read: {error}.") from error
    return Archive(path, members, layers)


def _member(info: tarfile.TarInfo) -> Member:
    content = info.size if info.isreg() else 0
    padded = (content + _BLOCK - 1) // _BLOCK * _BLOCK
    link = ""
    if info.issym():
        link = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname))
    elif info.islnk():
        link = posixpath.normpath(info.linkname)
    return Member(posixpath.normpath(info.name), info.offset, info.offset_data + padded, link)


def _layers(tar: tarfile.TarFile) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for image in json.loads(_content(tar, "manifest.json")):
        config = json.loads(_content(tar, image["Config"]))
        for path, chain in zip(image["Layers"], chain_ids(config["rootfs"]["diff_ids"]), strict=True):
            found.setdefault(posixpath.normpath(path), set()).add(chain)
    return {path: frozenset(chains) for path, chains in found.items()}


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    found = next((each for each in tar if posixpath.normpath(each.name) == posixpath.normpath(name)), None)
    file = tar.extractfile(found) if found else None
    if file is None:
        raise KeyError(name)
    return file.read()


def needed(archive: Archive, chains: Collection[str]) -> tuple[Member, ...]:
    """Return the members to send to a host that has the layers with these chain ids.

    A layer's file stays when any chain it is needed for is missing, or a file that stays links to it.
    """
    known = set(chains)
    dropped = {path for path, wanted in archive.layers.items() if wanted <= known}
    links = {each.name: each.link for each in archive.members if each.link}
    for name in links:
        target = name
        while target in links and name not in dropped:
            target = links[target]
            dropped.discard(target)
    return tuple(each for each in archive.members if each.name not in dropped)


def pieces(archive: Archive, members: tuple[Member, ...]) -> Iterator[bytes]:
    """Yield the bytes of an archive with just these members."""
    with archive.path.open("rb") as file:
        for member in members:
            file.seek(member.start)
            left = member.size
            while left > 0:
                data = file.read(min(left, _CHUNK))
                if not data:
                    raise OperationFailed("What `docker save` wrote became shorter while it was sent.")
                left -= len(data)
                yield data
    yield _TAIL
