"""What a host lacks, and an archive without what it has: both formats of `docker save`, links among them."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from windlass.errors import OperationFailed, PreflightFailed
from windlass.images.inventory import (
    BEGIN,
    END,
    Image,
    Inventory,
    LocalImage,
    chain_ids,
    inventory_lines,
    normal,
    parse_inventory,
    ship_plan,
)
from windlass.images.layers import needed, pieces, read_archive
from windlass.images.shipping import _LOAD, _compressed, _unpacker, ship, write_all
from windlass.shell import Script

ONE, TWO, THREE = (f"sha256:{hashlib.sha256(name).hexdigest()}" for name in (b"one", b"two", b"three"))


def image(
    name: str, *layers: str, tags: tuple[str, ...] = (), architecture: str = "amd64", created: str = "t"
) -> Image:
    return Image(f"sha256:{name}", tags, architecture, created, layers)


def inventory(*images: Image, containerd: bool = False, architecture: str = "amd64") -> Inventory:
    return Inventory("26.1.5", architecture, containerd, images={each.image_id: each for each in images})


ANSWER = f"""before
{BEGIN}
"26.1.5+dfsg1" "x86_64" [["Backing Filesystem","extfs"]]
sha256:aa ["shop-api:1","ghcr.io/a/b:2"] amd64 2026-01-02T03:04:05.6Z ["{ONE}","{TWO}"]
sha256:bb [] amd64 2026-01-02T03:04:05.6Z null
{END}
after
"""


def test_the_answer_is_read_wherever_it_stands() -> None:
    found = parse_inventory(ANSWER)
    assert (found.version, found.architecture, found.containerd) == ("26.1.5+dfsg1", "amd64", False)
    assert found.images["sha256:aa"].tags == ("shop-api:1", "ghcr.io/a/b:2")
    assert found.images["sha256:aa"].layers == (ONE, TWO)
    assert found.images["sha256:bb"].layers == ()
    assert found.chains == {ONE, chain_ids([ONE, TWO])[1]}


def test_a_containerd_store_is_seen() -> None:
    status = '[["driver-type","io.containerd.snapshotter.v1"]]'
    assert parse_inventory(ANSWER.replace('[["Backing Filesystem","extfs"]]', status)).containerd


@pytest.mark.parametrize("text", ["", "before\n", f"{BEGIN}\n{END}\n", f"{BEGIN}\n"])
def test_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(OperationFailed, match="did not say which images"):
        parse_inventory(text)


def test_the_question_fits_into_a_strict_script() -> None:
    assert all(
        "'" not in line.replace("'%s\\n'", "").replace("'{{", "").replace("}}'", "")
        for line in inventory_lines()
    )
    assert Script.of("ask", *inventory_lines()).text().count("|| true") == 2


def test_chain_ids_are_those_of_the_image_specification() -> None:
    second = f"sha256:{hashlib.sha256(f'{ONE} {TWO}'.encode()).hexdigest()}"
    third = f"sha256:{hashlib.sha256(f'{second} {THREE}'.encode()).hexdigest()}"
    assert chain_ids([ONE, TWO, THREE]) == [ONE, second, third]
    assert chain_ids([]) == []


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nginx", "nginx:latest"),
        ("docker.io/library/nginx:1", "nginx:1"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("a@sha256:0", "a@sha256:0"),
    ],
)
def test_references_are_compared_as_docker_writes_them(reference: str, expected: str) -> None:
    assert normal(reference) == expected


def test_zstd_is_for_hosts_that_have_the_program(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text('#!/bin/sh\n[ "$1" != info ] || echo \'"26.1.5" "x86_64" []\'\n')
    (tmp_path / "docker").chmod(0o755)
    for name in ("sort", "xargs"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    script = Script.of("ask", *inventory_lines()).text()

    def ask() -> Inventory:
        argv = [shutil.which("bash") or "", "-euc", script]
        found = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
        return parse_inventory(found.stdout)

    assert (ask().version, ask().zstd) == ("26.1.5", False)
    (tmp_path / "zstd").symlink_to("/bin/true")
    assert (ask().version, ask().zstd) == ("26.1.5", True)


@pytest.mark.parametrize("zstd", [False, True])
def test_the_engine_gets_the_plain_archive(tmp_path: Path, zstd: bool) -> None:
    """One that unpacks zstd itself can crash."""
    (tmp_path / "docker").write_text(
        f"#!/bin/sh\nif [ $1 = load ]; then cat >{tmp_path}/loaded; else echo inspected; fi\n"
    )
    (tmp_path / "docker").chmod(0o755)
    # In place of the program, which is not everywhere.
    unpack = (
        "import sys, zstandard as z; z.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)"
    )
    (tmp_path / "zstd").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{unpack}'\n")
    (tmp_path / "zstd").chmod(0o755)
    data = b"layer" * 100_000
    packed = b"".join(each for _, each in _compressed([data, b"end"], zstd))
    assert len(packed) < len(data)
    done = subprocess.run(
        ["sh", "-c", f"unpack={_unpacker(zstd)}; {_LOAD}", "windlass", "shop-api:1"],
        input=packed,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "loaded").read_bytes() == data + b"end"
    assert done.stdout == b"inspected\n"


def test_the_plan_names_what_is_lacking() -> None:
    old = LocalImage("shop-api:1", image("a", ONE))
    new = LocalImage("shop-api:2", image("b", ONE, TWO))
    plan = ship_plan(inventory(image("a", ONE, tags=("shop-api:1",))), [old, new])
    assert (plan.present, plan.send) == ((old,), (new,))
    assert plan.lacking == {chain_ids([ONE, TWO])[1]}
    assert plan.foreign == ()


def test_an_image_under_another_name_or_a_name_on_another_image_is_sent() -> None:
    new = LocalImage("shop-api:1", image("a", ONE))
    for there in (image("a", ONE, tags=("other:1",)), image("b", ONE, tags=("shop-api:1",))):
        plan = ship_plan(inventory(there), [new])
        assert (plan.send, plan.lacking) == ((new,), frozenset())


def test_a_containerd_store_is_compared_by_content() -> None:
    new = LocalImage("shop-api:1", image("a", ONE))
    other_id = image("z", ONE, tags=("shop-api:1",))
    assert ship_plan(inventory(other_id, containerd=True), [new]).send == ()
    assert ship_plan(inventory(other_id), [new]).send == (new,)
    newer = image("z", ONE, tags=("shop-api:1",), created="later")
    assert ship_plan(inventory(newer, containerd=True), [new]).send == (new,)


class NoHost:
    """A host nothing may be asked of."""

    name = "server"


def test_nothing_to_send_costs_nothing_and_a_foreign_image_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = image("a", ONE, tags=("shop-api:1",))
    monkeypatch.setattr(
        "windlass.images.shipping.local_images",
        lambda names, redact: [LocalImage(name, mine) for name in names],
    )
    known = inventory(mine)
    shipped = ship(NoHost(), ["shop-api:1"], inventory=known)  # type: ignore[arg-type]
    assert (shipped.present, shipped.references, shipped.sent) == (("shop-api:1",), (), 0)
    with pytest.raises(PreflightFailed, match="cannot run on server, a arm64 machine"):
        ship(NoHost(), ["shop-api:1"], inventory=inventory(architecture="arm64"))  # type: ignore[arg-type]


Entry = tuple[str, bytes, str]


def tar(path: Path, entries: Sequence[Entry]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data, link in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
            archive.addfile(info, io.BytesIO(data))
    return path


def config(*layers: str) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": list(layers)}}).encode()


def classic() -> list[Entry]:
    """Two images as Docker up to 24 saves them; a layer of the second links to one of the first."""
    manifest = [
        {"Config": "a.json", "Layers": ["l1/layer.tar", "l2/layer.tar"]},
        {"Config": "b.json", "Layers": ["l3/layer.tar", "l4/layer.tar"]},
    ]
    return [
        ("a.json", config(ONE, TWO), ""),
        ("b.json", config(THREE, TWO), ""),
        ("l1/layer.tar", b"1" * 1000, ""),
        ("l2/layer.tar", b"2" * 2000, ""),
        ("l3/layer.tar", b"3" * 513, ""),
        ("l4/layer.tar", b"", "../l2/layer.tar"),
        ("manifest.json", json.dumps(manifest).encode(), ""),
        ("x" * 300, b"a long name needs headers of its own", ""),
    ]


def oci() -> list[Entry]:
    """The same base under two images in the layout of Docker 25 and newer."""
    manifest = [
        {"Config": "blobs/sha256/a", "Layers": ["blobs/sha256/1", "blobs/sha256/2"]},
        {"Config": "blobs/sha256/b", "Layers": ["blobs/sha256/1", "blobs/sha256/3"]},
    ]
    return [
        ("./blobs/sha256/a", config(ONE, TWO), ""),
        ("./blobs/sha256/b", config(ONE, THREE), ""),
        *((f"./blobs/sha256/{name}", name.encode() * 700, "") for name in "123"),
        ("index.json", b"{}", ""),
        ("manifest.json", json.dumps(manifest).encode(), ""),
    ]


def sent(path: Path, chains: set[str]) -> list[str]:
    archive = read_archive(path)
    members = needed(archive, chains)
    data = b"".join(pieces(archive, members))
    assert len(data) == sum(each.size for each in members) + 1024
    with tarfile.open(fileobj=io.BytesIO(data)) as result, tarfile.open(path) as original:
        for member in result:
            if member.isreg():
                assert result.extractfile(member).read() == original.extractfile(member.name).read()  # type: ignore[union-attr]
        return result.getnames()


def test_everything_is_sent_to_an_empty_host(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", classic())
    assert sent(path, set()) == [name for name, _, _ in classic()]


def test_layers_a_host_has_stay_here(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", classic())
    assert not {"l1/layer.tar"} & set(sent(path, {ONE}))
    assert {"l2/layer.tar", "l4/layer.tar"} <= set(sent(path, {ONE}))


def test_the_target_of_a_link_that_is_sent_is_sent(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", classic())
    only_first = set(chain_ids([ONE, TWO]))
    assert {"l2/layer.tar", "l4/layer.tar"} <= set(sent(path, only_first))
    both = only_first | set(chain_ids([THREE, TWO]))
    assert not [name for name in sent(path, both) if name.endswith("layer.tar")]


def test_a_layer_on_another_base_is_another_layer(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", classic())
    assert "l4/layer.tar" in sent(path, {THREE, TWO, ONE})


def test_the_oci_layout(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", oci())
    names = sent(path, set(chain_ids([ONE, TWO])))
    assert [name for name in names if name[-1] in "123"] == ["./blobs/sha256/3"]
    assert "index.json" in names


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no tar"),
        lambda path: tar(path, [("other", b"", "")]),
        lambda path: tar(path, [("manifest.json", b"{", "")]),
    ],
)
def test_an_archive_that_is_none_is_an_error(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a.tar")
    with pytest.raises(OperationFailed, match="docker save"):
        read_archive(tmp_path / "a.tar")


def test_both_compressions_give_the_bytes_back() -> None:
    chunks = [b"a" * 100_000, b"", b"b" * 3]
    for zstd, read in (
        (False, gzip.decompress),
        (True, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
    ):
        found = list(_compressed(chunks, zstd))
        assert sum(raw for raw, _ in found) == 100_003
        assert read(b"".join(data for _, data in found)) == b"".join(chunks)


class Slow(io.RawIOBase):
    """A raw stream that takes three bytes at once, and sometimes none."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.turn = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        self.turn += 1
        if self.turn % 3 == 0:
            return None
        piece = bytes(data)[:3]  # type: ignore[call-overload]
        self.got += piece
        return len(piece)


def test_a_stream_that_takes_little_at_once_gets_everything() -> None:
    stream = Slow()
    write_all(stream, b"0123456789")  # type: ignore[arg-type]
    assert bytes(stream.got) == b"0123456789"
