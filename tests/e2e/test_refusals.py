"""What cannot be done is refused before anything changes, in one sentence, each with its exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Done, Project
from tests.testbed import Server
from tests.testbed.bed import Testbed

OTHER_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIE1vcmUgdGhhbiAzMiBieXRlcyBvZiBub3RoaW5nIGF0"


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    return deployed.bed.servers[0]


@pytest.fixture(autouse=True)
def untouched(deployed: Project, server: Server) -> Iterator[None]:
    """Every refusal leaves containers, current release and lock as they were, and the files as written."""
    envs = deployed.root / "envs"
    kept = {path: path.read_bytes() for path in [*envs.iterdir(), deployed.root / "compose.yaml"]}
    variables = dict(deployed.variables)
    before = deployed.containers(server)
    yield
    server.free_disk()
    server.heal_network()
    for path in envs.iterdir():
        if path not in kept:
            path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    deployed.variables = variables
    assert deployed.containers(server) == before
    assert not deployed.locked(server)
    status = deployed.status()["server1"]
    assert status["interrupted"] is None


def sentence(done: Done, code: int) -> str:
    """Return the error of a command that failed as it should: one, at the end, in words."""
    done.expect(code)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, f"{done}"
    assert "Traceback" not in done.err
    assert not re.search(r"\b\w+Error\b|\bErrno\b|0x[0-9a-f]{6}", done.err), f"{done}"
    return done.err[done.err.index(errors[0]) :]


def test_an_unknown_environment(deployed: Project) -> None:
    said = sentence(deployed.inv("deploy.plan", "--env", "bad"), 10)
    assert "no environment 'bad'. Did you mean 'bed'?" in said


def test_a_task_for_an_unknown_environment(deployed: Project) -> None:
    done = deployed.inv("deploy.nope")
    assert done.code == 1
    assert "No idea what 'deploy.nope' is" in done.err


def test_a_missing_variable(deployed: Project) -> None:
    deployed.set(APP_SECRET="")
    said = sentence(deployed.inv("deploy.bed"), 10)
    assert "APP_SECRET" in said


def test_a_reference_to_nothing(deployed: Project) -> None:
    deployed.set(APP_SECRET="${file:no-such-file.txt}")
    said = sentence(deployed.inv("deploy.bed"), 10)
    assert "no-such-file.txt" in said
    assert "APP_SECRET" in said


def test_an_invalid_compose_file(deployed: Project) -> None:
    file = deployed.root / "compose.yaml"
    file.write_text(file.read_text().replace("    restart: unless-stopped\n", "    restrat: yes\n"))
    said = sentence(deployed.inv("deploy.bed"), 10)
    assert "restrat" in said


def test_a_compose_file_that_is_no_yaml(deployed: Project) -> None:
    (deployed.root / "compose.yaml").write_text("services:\n  api: [\n")
    assert "compose.yaml" in sentence(deployed.inv("deploy.bed"), 10)


def test_no_compose_file(deployed: Project) -> None:
    deployed.configure(files=["compose.missing.yaml"])
    assert "compose.missing.yaml" in sentence(deployed.inv("deploy.bed"), 10)


def test_an_unknown_key(deployed: Project) -> None:
    deployed.configure(deploy="health_timout = 3")
    said = sentence(deployed.inv("deploy.bed"), 10)
    assert "health_timout" in said
    assert "health_timeout" in said


def test_a_tag_that_is_none(deployed: Project) -> None:
    assert "is no image tag" in sentence(deployed.inv("deploy.bed", "--tag", "a b/c"), 10)


def test_another_host_key_than_the_trusted_one(deployed: Project, server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{server.address} ssh-ed25519 {OTHER_KEY}\n")
    deployed.environment("bed", [server], known_hosts=str(known))
    for words in (["deploy.bed"], ["deploy.status"], ["deploy.rollback"]):
        said = sentence(deployed.inv(*words), 11)
        assert "shows another host key than the trusted one" in said
        assert "host.trust --host server1 --replace" in said


def test_a_host_never_met(deployed: Project, server: Server, tmp_path: Path) -> None:
    deployed.environment("bed", [server], known_hosts=str(tmp_path / "none"))
    said = sentence(deployed.inv("deploy.bed"), 11)
    assert "no trusted host key yet" in said
    assert "inv host.trust --host server1" in said


def test_a_login_that_is_refused(deployed: Project, server: Server, bed: Testbed) -> None:
    text = (deployed.root / "envs" / "bed.toml").read_text()
    (deployed.root / "envs" / "bed.toml").write_text(text.replace('"deploy"', '"nobody"'))
    assert "refuses the login" in sentence(deployed.inv("deploy.bed"), 11)


def test_a_host_that_is_down(deployed: Project, server: Server) -> None:
    server.stop_sshd()
    try:
        said = sentence(deployed.inv("deploy.bed"), 11)
        assert "refuses the connection or is down" in said
        assert "server1" in said
    finally:
        server.start_sshd()


def test_a_host_that_does_not_answer(deployed: Project, server: Server) -> None:
    deployed.environment("bed", [server], extra="connect_timeout = 2\n")
    server.cut_network()
    assert "did not answer within 2 s" in sentence(deployed.inv("deploy.bed"), 11)


def test_no_space_where_releases_go(deployed: Project, server: Server) -> None:
    server.fill_disk("/srv", leave=20 << 20)
    said = sentence(deployed.inv("deploy.bed"), 15)
    assert re.search(r"only \d+ MiB of disk are free; 50 MiB are asked for", said)


def test_no_space_at_all(deployed: Project, server: Server) -> None:
    """Also where nobody asked for free space beforehand."""
    base = deployed.root / "envs" / "base.toml"
    base.write_text(base.read_text().replace("min_free_disk_mb = 50", "min_free_disk_mb = 0"))
    server.fill_disk("/srv")
    done = deployed.inv("deploy.bed", "--no-build")
    assert "No space left on device" in sentence(done, done.code)
    assert done.code in {1, 15}
    server.free_disk("/srv")
    deployed.inv("deploy.bed", "--no-build", "--skip-migrate").expect()


def test_no_space_here(deployed: Project) -> None:
    """Images are packed in a file of this machine before they are sent; here none may be that long."""
    deployed.commit()
    limit = ["bash", "-c", 'ulimit -f 1024; exec "$@"', "limited"]
    said = sentence(deployed.inv("deploy.bed", before=limit), 1)
    assert "saving the images failed" in said
    assert "file too large" in said


def test_not_writable(deployed: Project, server: Server) -> None:
    base = deployed.root / "envs" / "base.toml"
    base.write_text(base.read_text().replace("[stack]", 'directory = "/opt/shops/{app}"\n[stack]', 1))
    said = sentence(deployed.inv("deploy.bed"), 15)
    assert "may not write to /opt" in said


def test_no_engine(deployed: Project, server: Server) -> None:
    server.exec(["chmod", "000", "/var/run/docker.sock"])
    try:
        said = sentence(deployed.inv("deploy.bed"), 15)
        assert "Docker Engine does not answer" in said
    finally:
        server.exec(["chmod", "660", "/var/run/docker.sock"])
