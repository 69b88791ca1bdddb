"""Images shipped to real Engines: of another version, of this machine's, and with a containerd store."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.testbed import Testbed
from windlass.environment.model import HostSettings
from windlass.errors import CommandFailed
from windlass.events import Event, Notice, Progress
from windlass.hosts.base import Completed, OnLine, Payload
from windlass.hosts.processes import ChildProcess
from windlass.hosts.ssh import SshHost
from windlass.images.inventory import chain_ids, local_images
from windlass.images.layers import needed, pieces, read_archive
from windlass.images.shipping import Bundle, ask, missing, ship
from windlass.shell import Command, Script

pytestmark = pytest.mark.integration
BASE_BYTES = 3_000_000
TOP_BYTES = 50_000
READY_SECONDS = 180


class EngineHost:
    """An Engine reached by a prefix of words or by variables; counts what is run."""

    def __init__(self, prefix: tuple[str, ...] = (), variables: Mapping[str, str] | None = None) -> None:
        self.name = "engine"
        self.commands = 0
        self._prefix = prefix
        self._environ = {**os.environ, **(variables or {})}

    def run(
        self, script: Script, *, payload: Payload = b"", on_line: OnLine | None = None, check: bool = True
    ) -> Completed:
        self.commands += 1
        done = subprocess.run(
            [*self._prefix, "bash", "-euo", "pipefail", "-s"],
            input=script.text().encode(),
            capture_output=True,
            env=self._environ,
            check=check,
        )
        return Completed(self.name, done.returncode, done.stdout, done.stderr)

    def open(self, command: Command) -> ChildProcess:
        self.commands += 1
        return ChildProcess([*self._prefix, *command.words], self.name, str, environ=self._environ)

    def docker(self, *words: str) -> str:
        argv = [*self._prefix, "docker", *words]
        return subprocess.run(argv, check=True, capture_output=True, env=self._environ).stdout.decode()

    def put(self, path: str, data: bytes, mode: int) -> None:
        raise AssertionError("shipping writes no files")

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        raise AssertionError("shipping dials nothing")

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed.up(hosts=1, name=f"ship-{os.getpid()}-{secrets.token_hex(3)}") as bed:
        yield bed


@pytest.fixture(scope="module")
def server(bed: Testbed) -> EngineHost:
    return EngineHost(("docker", "exec", "-i", bed.servers[0].container))


@pytest.fixture(scope="module")
def containerd(bed: Testbed, server: EngineHost) -> EngineHost:
    """A second Engine on the server, with the containerd image store."""
    prefix = ("docker", "exec", "-i", "--env", "DOCKER_HOST=unix:///run/two.sock", bed.servers[0].container)
    start = (
        'mkdir -p /var/lib/docker/two; echo \'{"features":{"containerd-snapshotter":true}}\' >/run/two.json; '
        "exec unshare --net dockerd --config-file /run/two.json "
        "--data-root /var/lib/docker/two --exec-root /run/two "
        "--pidfile /run/two.pid --host unix:///run/two.sock --bridge none --iptables=false >/run/two.log 2>&1"
    )
    subprocess.run(["docker", "exec", "-d", bed.servers[0].container, "sh", "-c", start], check=True)
    return wait_for(EngineHost(prefix))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    """A second Engine of this machine's own version."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd to start a second Engine")
    folder = tmp_path_factory.mktemp("engine")
    # A socket's path is at most 107 bytes long.
    address = f"unix:///tmp/windlass-{os.getpid()}-{secrets.token_hex(3)}.sock"
    options = {
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "pid",
        "host": address,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(
            # In a network of its own: an Engine without a bridge removes the machine's docker0.
            ["unshare", "--net", "dockerd", *words, "--bridge=none", "--iptables=false"],
            stdout=log,
            stderr=log,
        )
    try:
        yield wait_for(EngineHost(variables={"DOCKER_HOST": address}))
    finally:
        engine.terminate()
        engine.wait(timeout=60)
        Path(address.removeprefix("unix://")).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(host: EngineHost) -> EngineHost:
    for _ in range(READY_SECONDS * 2):
        try:
            host.docker("info")
        except subprocess.CalledProcessError:
            time.sleep(0.5)
        else:
            return host
    raise AssertionError("the second Engine did not start")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[str]:
    """Two images, `:1` and `:2`, that share a large base; the reference without its tag."""
    name = f"s{os.getpid()}-{secrets.token_hex(3)}"
    (tmp_path / "base").write_bytes(os.urandom(BASE_BYTES))
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY base /\nCOPY top /\nCMD ["/x"]\n')
    for tag in ("1", "2"):
        (tmp_path / "top").write_bytes(os.urandom(TOP_BYTES))
        words = ["docker", "build", "--quiet", "--tag", f"{name}:{tag}", str(tmp_path)]
        subprocess.run(words, check=True, capture_output=True)
    yield name
    subprocess.run(
        ["docker", "image", "rm", "--force", f"{name}:1", f"{name}:2"], check=False, capture_output=True
    )


def image_id(host: EngineHost, reference: str) -> str:
    return host.docker("image", "inspect", "--format", "{{.Id}}", reference).strip()


@pytest.mark.parametrize("engine", ["server", "second"])
def test_only_missing_layers_are_sent(engine: str, app: str, request: pytest.FixtureRequest) -> None:
    host: EngineHost = request.getfixturevalue(engine)
    events: list[Event] = []
    first = ship(host, [f"{app}:1"], events.append)
    assert (first.references, first.whole) == ((f"{app}:1",), False)
    assert first.sent > BASE_BYTES  # random data does not compress
    progress = [each for each in events if isinstance(each, Progress)]
    assert progress[0].done == 0
    assert progress[-1].done == progress[-1].total == first.size

    host.commands = 0
    second_time = ship(host, [f"{app}:2", f"{app}:1"])
    assert host.commands == 2  # the question, and the load that also answers what is there now
    assert (second_time.references, second_time.present) == ((f"{app}:2",), (f"{app}:1",))
    assert TOP_BYTES < second_time.sent < TOP_BYTES + 20_000
    assert second_time.saved > BASE_BYTES
    here = EngineHost()
    for tag in ("1", "2"):
        assert image_id(host, f"{app}:{tag}") == image_id(here, f"{app}:{tag}")
    # The layer that was left out is really there: an export has all of both files.
    host.docker("create", "--name", app, f"{app}:2")
    exported = subprocess.run(
        [*host._prefix, "sh", "-c", f"docker export {app} | wc -c"],
        env=host._environ,
        capture_output=True,
        check=True,
    )
    host.docker("rm", app)
    assert int(exported.stdout) > BASE_BYTES + TOP_BYTES

    host.commands = 0
    nothing = ship(host, [f"{app}:1", f"{app}:2"])
    assert (nothing.sent, nothing.references, host.commands) == (0, (), 1)


def test_over_ssh(bed: Testbed, app: str) -> None:
    settings = HostSettings.model_validate(
        {"address": "server1", "ssh_config": str(bed.ssh_config), "known_hosts": str(bed.known_hosts)}
    )
    host = SshHost("server1", settings, bed.folder, str)
    try:
        assert [each.reference for each in missing(host, [f"{app}:1"]).send] == [f"{app}:1"]
        assert ship(host, [f"{app}:1"]).sent > BASE_BYTES
        assert ship(host, [f"{app}:1"]).sent == 0
        assert ship(host, [f"{app}:2"]).sent < TOP_BYTES + 20_000
    finally:
        host.close()


def test_a_layer_that_vanished_after_the_question_is_sent_after_all(server: EngineHost, app: str) -> None:
    ship(server, [f"{app}:1"])
    stale = ask(server)
    server.docker("image", "rm", "--force", f"{app}:1")
    events: list[Event] = []
    shipped = ship(server, [f"{app}:2"], events.append, inventory=stale)
    assert shipped.whole
    assert [each.text for each in events if isinstance(each, Notice)] == [
        "engine could not load part of an image: sending all of it."
    ]
    assert image_id(server, f"{app}:2") == image_id(EngineHost(), f"{app}:2")


def test_a_containerd_store_gets_everything_once(containerd: EngineHost, app: str) -> None:
    known = ask(containerd)
    assert known.containerd
    first = ship(containerd, [f"{app}:1"], inventory=known)
    assert (first.saved, first.whole) == (0, False)
    assert ship(containerd, [f"{app}:1"]).sent == 0
    second_time = ship(containerd, [f"{app}:2"])
    assert second_time.sent > BASE_BYTES
    assert containerd.docker("image", "ls", "--quiet", f"{app}:2").strip()


def test_the_oci_layout_of_newer_engines(server: EngineHost, app: str, tmp_path: Path) -> None:
    """What Docker 25 and newer save can be thinned out too."""
    ship(server, [f"{app}:1", f"{app}:2"])
    saved = subprocess.run(
        [*server._prefix, "docker", "save", f"{app}:1", f"{app}:2"], check=True, capture_output=True
    ).stdout
    (tmp_path / "saved.tar").write_bytes(saved)
    archive = read_archive(tmp_path / "saved.tar")
    assert "oci-layout" in {each.name for each in archive.members}
    server.docker("image", "rm", "--force", f"{app}:2")
    (one,) = local_images([f"{app}:1"])
    thin = b"".join(pieces(archive, needed(archive, chain_ids(one.image.layers))))
    assert len(thin) < TOP_BYTES + 50_000
    subprocess.run([*server._prefix, "docker", "load"], input=thin, check=True, capture_output=True)
    assert image_id(server, f"{app}:2") == image_id(EngineHost(), f"{app}:2")


def test_several_hosts_share_one_archive(server: EngineHost, containerd: EngineHost, app: str) -> None:
    with Bundle(local_images([f"{app}:1"])) as bundle:
        results = [ship(host, [], bundle=bundle) for host in (server, containerd)]
        path = bundle.archive().path
        assert path.exists()
    assert [each.references for each in results] == [(f"{app}:1",)] * 2
    assert not path.exists()


def test_an_image_that_is_not_here_and_a_host_that_refuses(server: EngineHost, app: str) -> None:
    with pytest.raises(CommandFailed, match="looking up local images failed"):
        ship(server, [f"{app}:none"])

    class Refusing(EngineHost):
        def open(self, command: Command) -> ChildProcess:
            return super().open(
                Command.of("sh", "-c", "head -c 1 >/dev/null; echo no space left >&2; exit 1")
            )

    known = replace(ask(server), images={})
    with pytest.raises(
        CommandFailed, match="loading images on engine failed with exit code 1: no space left"
    ):
        ship(Refusing(), [f"{app}:1"], inventory=known)
