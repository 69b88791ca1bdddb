"""`env.doctor` against real servers: well, down, with a wrong clock, a full disk, without Docker."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_docs_commands import TASKS
from tests.testbed import Server, Testbed

pytestmark = pytest.mark.integration

KEPT = "planted-in-a-file-3Rt6y"
Findings = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed.up(hosts=2, name=f"doctor-{os.getpid()}-{secrets.token_hex(3)}") as bed:
        yield bed


@pytest.fixture
def project(bed: Testbed, tmp_path: Path) -> Path:
    """A project whose two hosts are the bed's servers, and whose key is kept in a file."""
    hosts = "".join(
        f'[hosts.{each.name}]\naddress = "{each.address}"\nuser = "deploy"\nconnect_timeout = 60\n'
        f'identity_file = "{bed.key_path}"\n'
        for each in bed.servers
    )
    files = {
        "tasks.py": TASKS,
        "envs/prod.toml": f'app = "shop"\n[deploy]\nmin_free_disk_mb = 50\n{hosts}',
        "envs/prod.env": "APP_KEY=${file:key}\n",
        "envs/known_hosts": "".join(f"{each.address} {each.host_key}\n" for each in bed.servers),
        "key": KEPT,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    # The plugins of this machine's docker may be in the home of whoever runs the tests.
    (tmp_path / ".docker").symlink_to(Path.home() / ".docker")
    return tmp_path


@pytest.fixture
def doctor(project: Path) -> Callable[[], tuple[int, Findings]]:
    """Run the doctor and return its exit code and its findings; the table says the same and no secret."""

    def ran() -> tuple[int, Findings]:
        environ = {
            **os.environ,
            "HOME": str(project),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        environ.pop("SSH_AUTH_SOCK", None)
        done = subprocess.run(
            ["inv", "env.doctor", "--json"],
            cwd=project,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert KEPT not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        found = json.loads(done.stdout)
        return done.returncode, {(each["where"], each["what"]): each for each in found}

    return ran


Doctor = Callable[[], tuple[int, Findings]]


@contextmanager
def shadowed(server: Server, program: str, script: str) -> Iterator[None]:
    """Put another program of a name first on the server's PATH."""
    path = f"/usr/local/bin/{program}"
    server.exec(["sh", "-c", f"cat > {path} && chmod 755 {path}"], stdin=script)
    try:
        yield
    finally:
        server.exec(["rm", path])


def states(found: Findings, where: str) -> dict[str, str]:
    return {what: each["state"] for (place, what), each in found.items() if place == where}


def test_all_is_well(doctor: Doctor) -> None:
    code, found = doctor()
    assert [each for each in found.values() if each["state"] != "ok"] == []
    assert code == 0
    for name in ("server1", "server2"):
        assert states(found, name) == dict.fromkeys(
            ("connection", "Docker", "Compose", "folder", "disk", "clock", "tools"), "ok"
        )
    assert states(found, "file") == {"login": "ok"}
    assert found["this machine", "ssh"]["state"] == "ok"
    assert not [each for each in found.values() if each["fix"]]


def test_a_host_that_is_down_hides_no_other(doctor: Doctor, bed: Testbed) -> None:
    server = bed.servers[0]
    server.stop_sshd()
    try:
        code, found = doctor()
    finally:
        server.start_sshd()
    assert code == 1
    assert states(found, "server1") == {"connection": "failed"}
    assert found["server1", "connection"]["fix"]
    assert set(states(found, "server2").values()) == {"ok"}
    assert states(found, "file") == {"login": "ok"}


def test_a_host_that_is_not_trusted(doctor: Doctor, bed: Testbed, project: Path) -> None:
    second = bed.servers[1]
    (project / "envs" / "known_hosts").write_text(f"{second.address} {second.host_key}\n")
    code, found = doctor()
    assert code == 1
    assert states(found, "server1") == {"host key": "failed"}
    assert "host.trust" in found["server1", "host key"]["fix"]


@pytest.mark.parametrize(
    ("seconds", "state", "code", "word"),
    [(25, "warning", 0, "ahead of"), (-25, "warning", 0, "behind"), (3600, "failed", 1, "ahead of")],
)
def test_a_clock_that_is_wrong(
    doctor: Doctor, bed: Testbed, seconds: int, state: str, code: int, word: str
) -> None:
    fake = f'#!/bin/sh\nexec /usr/bin/date --date "{seconds} seconds" "$@"\n'
    with shadowed(bed.servers[0], "date", fake):
        ended, found = doctor()
    clock = found["server1", "clock"]
    assert (ended, clock["state"]) == (code, state), clock
    assert word in clock["found"]
    assert "set-ntp" in clock["fix"]
    assert found["server2", "clock"]["state"] == "ok"


def test_a_disk_that_is_full(doctor: Doctor, bed: Testbed) -> None:
    server = bed.servers[0]
    server.fill_disk(leave=10 * 1024 * 1024)
    try:
        code, found = doctor()
    finally:
        server.free_disk()
    assert code == 1
    assert found["server1", "disk"]["state"] == "failed"
    assert "50 MiB are asked for" in found["server1", "disk"]["fix"]


def test_a_login_that_may_not_use_docker(doctor: Doctor, bed: Testbed) -> None:
    server = bed.servers[0]
    group = server.exec(["stat", "--format", "%G", "/var/run/docker.sock"]).stdout.strip()
    server.exec(["chgrp", "root", "/var/run/docker.sock"])
    try:
        code, found = doctor()
    finally:
        server.exec(["chgrp", group, "/var/run/docker.sock"])
    assert code == 1
    assert found["server1", "Docker"]["state"] == "failed"
    assert "usermod -aG docker deploy" in found["server1", "Docker"]["fix"]


def test_a_compose_that_is_too_old(doctor: Doctor, bed: Testbed) -> None:
    fake = '#!/bin/sh\ncase "$*" in "compose version --short") echo 2.20.0;;'
    fake += ' *) exec /usr/bin/docker "$@";; esac\n'
    with shadowed(bed.servers[0], "docker", fake):
        code, found = doctor()
    assert code == 1
    assert found["server1", "Compose"]["found"] == "2.20.0 is too old"
    assert "2.24.4" in found["server1", "Compose"]["fix"]


def test_a_secret_that_cannot_be_had(doctor: Doctor, project: Path) -> None:
    (project / "key").unlink()
    (project / "envs" / "prod.env").write_text("APP_KEY=${file:key}\nOTHER=${env:NOWHERE_TO_BE_FOUND}\n")
    code, found = doctor()
    assert code == 1
    assert states(found, "file") == {"login": "failed"}
    assert states(found, "env") == {"login": "failed"}
    assert "OTHER from env:NOWHERE_TO_BE_FOUND" in found["env", "login"]["found"]
    assert set(states(found, "server1").values()) == {"ok"}
