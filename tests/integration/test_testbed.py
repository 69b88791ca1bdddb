"""The test bed is what it says: real servers, real faults, and no trace when it is down."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.testbed import Testbed, TestbedError
from tests.testbed.docker import docker
from tests.testbed.image import base_images

pytestmark = pytest.mark.integration


def fresh_name() -> str:
    return f"self-{os.getpid()}-{secrets.token_hex(3)}"


def ssh(bed: Testbed, *command: str, user: str = "deploy", options: tuple[str, ...] = ()) -> tuple[int, str]:
    argv = [
        "ssh",
        "-F",
        str(bed.ssh_config),
        "-o",
        "BatchMode=yes",
        *options,
        "-l",
        user,
        "server1",
        *command,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def traces(name: str) -> list[str]:
    found = [
        docker(kind, "ls", *every, "--quiet", "--filter", f"{key}={name}")
        for kind, every in (("container", ("--all",)), ("volume", ()), ("network", ()))
        for key in ("label=windlass.testbed", "name")
    ]
    return [identity for identity in found if identity]


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed.up(hosts=1, name=fresh_name()) as bed:
        yield bed


def test_ssh_logs_in_with_strict_host_keys_as_deploy_and_root(bed: Testbed) -> None:
    assert ssh(bed, "id", "-un") == (0, "deploy\n")
    assert ssh(bed, "id", "-un", user="root") == (0, "root\n")
    assert ssh(bed, "touch /srv/mine && stat -c %U /srv/mine") == (0, "deploy\n")


def test_a_wrong_host_key_is_refused(bed: Testbed) -> None:
    wrong = bed.folder / "wrong_hosts"
    key = (bed.key_path.with_suffix(".pub")).read_text().split()[1]
    wrong.write_text(f"{bed.servers[0].address} ssh-ed25519 {key}\n")
    code, said = ssh(bed, "true", options=("-o", f"UserKnownHostsFile={wrong}"))
    assert code == 255
    assert "Host key verification failed" in said


def test_the_inner_engine_runs_a_container_with_limits(bed: Testbed) -> None:
    image = base_images()["REDIS_IMAGE"]
    bed.load_image(image)
    command = f"docker run --rm --memory 64m --cpus 0.5 {image} redis-server --version"
    code, said = ssh(bed, command)
    assert code == 0, said
    assert "v=7." in said
    assert ssh(bed, "docker compose version --short")[0] == 0


def test_ssh_commands_are_counted(bed: Testbed) -> None:
    server = bed.servers[0]
    mark = server.mark()
    for _ in range(3):
        assert ssh(bed, "true")[0] == 0
    assert server.count_ssh_commands(mark) == 3
    assert server.count_ssh_connections(mark) == 3
    assert server.count_ssh_commands(server.mark()) == 0


def test_a_cut_network_swallows_packets_and_heals(bed: Testbed) -> None:
    server = bed.servers[0]
    argv = ["ssh", "-F", str(bed.ssh_config), "server1", "echo in; sleep 2; echo alive"]
    open_session = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert open_session.stdout is not None
    assert open_session.stdout.readline() == "in\n"
    server.cut_network()
    began = time.monotonic()
    code, said = ssh(bed, "true", options=("-o", "ConnectTimeout=2"))
    assert code == 255
    assert "timed out" in said, "a refusal is not silence"
    assert time.monotonic() - began >= 2
    assert server.exec(["true"]).returncode == 0
    server.heal_network()
    assert ssh(bed, "true")[0] == 0
    # Not communicate(): what was read with the first line, it would not give.
    assert open_session.stdout.read() == "alive\n", "what was sent meanwhile arrives after the cut"
    open_session.communicate(timeout=120)


def test_a_paused_server_does_not_answer(bed: Testbed) -> None:
    server = bed.servers[0]
    server.pause()
    try:
        assert ssh(bed, "true", options=("-o", "ConnectTimeout=2"))[0] == 255
    finally:
        server.unpause()
    assert ssh(bed, "true")[0] == 0


def test_dropped_connections_and_a_stopped_sshd_are_felt(bed: Testbed) -> None:
    server = bed.servers[0]
    session = subprocess.Popen(
        ["ssh", "-F", str(bed.ssh_config), "server1", "echo in; sleep 300"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert session.stdout is not None
    assert session.stdout.readline() == b"in\n"
    server.drop_ssh_connections()
    session.communicate(timeout=120)
    assert session.returncode == 255
    server.stop_sshd()
    code, said = ssh(bed, "true")
    assert code == 255
    assert "refused" in said
    server.start_sshd()
    server.restart_sshd()
    assert ssh(bed, "true")[0] == 0


def test_a_full_disk_refuses_writes_and_can_be_emptied(bed: Testbed) -> None:
    server = bed.servers[0]
    server.fill_disk("/srv")
    code, said = ssh(bed, "dd if=/dev/zero of=/srv/more bs=64k count=1")
    assert code == 1
    assert "No space left on device" in said
    server.free_disk("/srv")
    assert ssh(bed, "dd if=/dev/zero of=/srv/more bs=64k count=1 && rm /srv/more")[0] == 0
    with pytest.raises(TestbedError, match="may be this machine's own disk"):
        server.fill_disk("/var/lib/docker")


def test_a_restart_keeps_srv_and_containers(bed: Testbed) -> None:
    server, image = bed.servers[0], base_images()["REDIS_IMAGE"]
    bed.load_image(image)
    server.exec(["docker", "run", "--detach", "--name", "kept", "--restart", "always", image])
    assert ssh(bed, "echo here >/srv/kept && ln -s kept /srv/link")[0] == 0
    server.restart()
    assert ssh(bed, "cat /srv/link && stat -c %U /srv/kept") == (0, "here\ndeploy\n")
    state = server.exec(["docker", "inspect", "--format", "{{.State.Running}}", "kept"]).stdout.strip()
    assert state == "true"
    server.exec(["docker", "rm", "--force", "--volumes", "kept"])


def test_a_bed_is_found_again_and_its_name_is_taken(bed: Testbed) -> None:
    assert Testbed.load(bed.name) == bed
    assert bed.name in Testbed.names()
    with pytest.raises(TestbedError, match="is there already"):
        Testbed.up(name=bed.name)
    with pytest.raises(TestbedError, match="no bed called nowhere"):
        Testbed.load("nowhere")
    with pytest.raises(TestbedError, match="cannot name a bed"):
        Testbed.up(name="../escape")


def test_down_leaves_nothing() -> None:
    other = Testbed.up(hosts=2, name=fresh_name())
    assert traces(other.name)
    assert other.servers[0].host_key != other.servers[1].host_key
    other.down()
    assert traces(other.name) == []
    assert not other.folder.exists()
    other.down()


def test_a_bed_that_fails_to_start_shows_the_log_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.testbed.bed.READY_SECONDS", 8.0)
    monkeypatch.setattr("tests.testbed.bed.isolation", lambda image: ())  # too little for an engine to start
    name = fresh_name()
    with pytest.raises(TestbedError, match="server1 is not ready after 8 s") as failure:
        Testbed.up(hosts=1, name=name)
    assert "failed to start daemon" in str(failure.value)
    assert traces(name) == []
    assert name not in Testbed.names()
