"""One deploy at a time, whoever starts it, on one host or on several."""

from __future__ import annotations

import getpass
import os
import signal

import pytest

from tests.e2e.project import Project, eventually
from tests.testbed import Server


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    deployed.environment("both", deployed.bed.servers)
    # The same two hosts, named the other way round.
    deployed.environment("reversed", tuple(reversed(deployed.bed.servers)))
    (deployed.root / "envs" / "both.toml").write_text(
        "default = true\n" + (deployed.root / "envs" / "both.toml").read_text()
    )
    deployed.inv("deploy.both", "--take-over", "--no-build").expect()
    return deployed.bed.servers[0]


def test_a_second_deploy_is_refused_and_told_by_whom(deployed: Project, server: Server) -> None:
    first = deployed.start("deploy.both", "--take-over", "--json")
    first.wait_for_phase("build")
    os.kill(first.process.pid, signal.SIGSTOP)  # or it may end while others are still refused
    try:
        status = deployed.status()["server1"]
        assert status["lock"]["alive"] is True
        assert getpass.getuser() in status["lock"]["owner"]
        back = ["deploy.rollback", "--to", status["current"]]
        for words in (["deploy.both", "--take-over", "--no-build"], back):
            second = deployed.inv(*words).expect(13)
            assert "server1 is locked" in second.err
            assert f"{getpass.getuser()}@" in second.err
            assert "deploy of " in second.err
            assert "deploy.unlock" in second.err
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
        done = first.finish()
    done.expect()
    assert not deployed.locked(server)


def test_two_deploys_at_once_never_wait_for_each_other(deployed: Project, server: Server) -> None:
    """Each names the hosts in another order; both lock in one order, so exactly one is refused."""
    running = [deployed.start(f"deploy.{name}", "--no-build", "--take-over") for name in ("both", "reversed")]
    codes = sorted(each.finish().code for each in running)
    # The second may also come when the first has ended: then its plan is stale, which it says.
    assert codes[0] == 0
    assert codes[1] in {0, 1, 13}
    for each in deployed.bed.servers:
        assert not deployed.locked(each)
    status = deployed.status()
    assert status["server1"]["current"] == status["server2"]["current"]


def test_unlock_frees_a_hold_and_fences_its_deploy(deployed: Project, server: Server) -> None:
    before = deployed.containers(server)
    deployed.commit()
    running = deployed.start("deploy.both", "--take-over", "--json")
    running.wait_for_phase("build")
    os.kill(running.process.pid, signal.SIGSTOP)  # a laptop that sleeps with the lid closed
    said = deployed.inv("deploy.unlock").expect().out
    assert "server1: ended the hold of" in said
    assert getpass.getuser() in said
    assert not deployed.locked(server)
    os.kill(running.process.pid, signal.SIGCONT)
    done = running.finish().expect(1)
    assert "lock of this deploy was lost or taken away" in done.err
    assert deployed.containers(server) == before
    assert "server1: was not locked" in deployed.inv("deploy.unlock").expect().out


def test_a_silent_client_loses_its_lock(deployed: Project, server: Server) -> None:
    running = deployed.start("deploy.both", "--take-over", "--json")
    running.wait_for_phase("build")
    server.drop_ssh_connections()
    # By the end of the link, that is, well before the 45 seconds of silence that end it otherwise.
    eventually(lambda: not deployed.locked(server), 20, "the lock is free")
    done = running.finish()
    assert done.code in {1, 11, 12}, f"{done}"
    deployed.inv("deploy.both", "--take-over", "--no-build").expect()
