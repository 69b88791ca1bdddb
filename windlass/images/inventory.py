"""What images and layers an Engine has: one block of a script asks, pure functions judge the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.errors import OperationFailed
from windlass.images.docker import Redact, call, unredacted

BEGIN: Final = "windlass-inventory-begin"
END: Final = "windlass-inventory-end"
# One image a line: id, tags, architecture, time of making, layers. `docker load -q` is checked with it too.
IMAGE_FORMAT: Final = "{{.Id}} {{json .RepoTags}} {{.Architecture}} {{.Created}} {{json .RootFS.Layers}}"
_INFO_FORMAT: Final = "{{json .ServerVersion}} {{json .Architecture}} {{json .DriverStatus}}"
_ZSTD: Final = "zstd"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}


@dataclass(frozen=True)
class Image:
    """An image of an Engine.

    Args:
        image_id: its id.
        tags: its references, as the Engine writes them.
        architecture: such as `amd64`.
        created: when it was made, as the image says.
        layers: the digests of its uncompressed layers, the lowest first.
    """

    image_id: str
    tags: tuple[str, ...]
    architecture: str
    created: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """What an Engine has.

    Args:
        version: the Engine's version.
        architecture: such as `amd64`; empty when it did not say.
        containerd: whether its images are in a containerd store, which knows them by other ids and
            needs every layer of an image it loads.
        zstd: whether its host has the program `zstd`.
        images: the images, by id.
    """

    version: str = ""
    architecture: str = ""
    containerd: bool = False
    zstd: bool = False
    images: Mapping[str, Image] = field(default_factory=dict)

    @property
    def chains(self) -> frozenset[str]:
        """The chain ids of all layers it has."""
        return frozenset(chain for image in self.images.values() for chain in chain_ids(image.layers))

    def has(self, image: Image, reference: str) -> bool:
        """Whether `reference` is that very image there."""
        return any(
            normal(reference) in map(normal, each.tags) and self.same(each, image)
            for each in self.images.values()
        )

    def same(self, there: Image, here: Image) -> bool:
        """Whether an image there is the one here, also when a containerd store gave it another id."""
        if there.image_id == here.image_id:
            return True
        content = (there.layers, there.created, there.architecture)
        return self.containerd and content == (here.layers, here.created, here.architecture)


@dataclass(frozen=True)
class LocalImage:
    """An image of the local Engine to be sent, by the reference it is to have."""

    reference: str
    image: Image


@dataclass(frozen=True)
class ShipPlan:
    """What to send to a host.

    Args:
        send: the images it lacks.
        present: the images it has.
        lacking: the chain ids of the layers it lacks.
        foreign: references of images made for another architecture than the host's.
    """

    send: tuple[LocalImage, ...]
    present: tuple[LocalImage, ...]
    lacking: frozenset[str]
    foreign: tuple[str, ...]


def inventory_lines() -> list[str]:
    """Return the bash lines that print what the Engine has; they change nothing and do not fail."""
    return [
        f"printf '%s\\n' {BEGIN}",
        f"if command -v zstd >/dev/null 2>&1; then echo {_ZSTD}; fi",
        f"docker info --format '{_INFO_FORMAT}' || true",
        "docker image ls --quiet --no-trunc | sort -u"
        f" | xargs -r docker image inspect --format '{IMAGE_FORMAT}' || true",
        f"printf '%s\\n' {END}",
    ]


def parse_inventory(text: str) -> Inventory:
    """Read what the `inventory_lines` printed, wherever in a script's output it stands.

    Raises:
        OperationFailed: the block is not there or the Engine did not answer.
    """
    _, begin, rest = text.partition(f"{BEGIN}\n")
    block, end, _ = rest.partition(f"{END}\n")
    lines = block.splitlines()
    zstd = lines[:1] == [_ZSTD]
    lines = lines[zstd:]
    if not (begin and end and lines):
        raise OperationFailed(
            "The host's Docker Engine did not say which images it has.",
            "Does `docker info` work there for this login?",
        )
    version, machine, status = _values(lines[0])
    images = [parse_image(line) for line in lines[1:]]
    return Inventory(
        version=version or "",
        architecture=_MACHINES.get(machine or "", machine or ""),
        containerd="io.containerd.snapshotter" in json.dumps(status),
        zstd=zstd,
        images={each.image_id: each for each in images},
    )


def _values(line: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(line):
        value, at = decoder.raw_decode(line, at)
        found.append(value)
        at += 1
    return found


def parse_image(line: str) -> Image:
    """Read one line of `IMAGE_FORMAT`."""
    image_id, rest = line.split(" ", 1)
    tags, at = json.JSONDecoder().raw_decode(rest)
    architecture, created, layers = rest[at + 1 :].split(" ", 2)
    return Image(image_id, tuple(tags or ()), architecture, created, tuple(json.loads(layers) or ()))


def chain_ids(layers: Iterable[str]) -> list[str]:
    """Return the chain id of each layer: the name an Engine keeps it under, given all layers below it."""
    chains: list[str] = []
    for layer in layers:
        below = f"{chains[-1]} {layer}".encode() if chains else b""
        chains.append(f"sha256:{hashlib.sha256(below).hexdigest()}" if below else layer)
    return chains


def normal(reference: str) -> str:
    """Return a reference with its tag, and without what Docker adds or leaves out for Docker Hub."""
    short = reference.removeprefix("docker.io/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] or "@" in short else f"{short}:latest"


def local_images(references: Iterable[str], redact: Redact = unredacted) -> tuple[LocalImage, ...]:
    """Return the local images with these references.

    Raises:
        CommandFailed: one is not there.
        PreflightFailed: there is no Docker client, or no Engine answers it.
    """
    wanted = sorted(set(references))
    if not wanted:
        return ()
    said = call(
        ["docker", "image", "inspect", "--format", IMAGE_FORMAT, *wanted], "looking up local images", redact
    )
    lines = said.splitlines()
    return tuple(LocalImage(each, parse_image(line)) for each, line in zip(wanted, lines, strict=True))


def ship_plan(inventory: Inventory, images: Sequence[LocalImage]) -> ShipPlan:
    """Return what a host with this inventory lacks of these images: pure."""
    present = tuple(each for each in images if inventory.has(each.image, each.reference))
    send = tuple(each for each in images if each not in present)
    needed = {chain for each in send for chain in chain_ids(each.image.layers)}
    foreign = tuple(
        each.reference
        for each in images
        if inventory.architecture and each.image.architecture not in {"", inventory.architecture}
    )
    return ShipPlan(send, present, frozenset(needed - inventory.chains), foreign)
