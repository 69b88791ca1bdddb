"""`kill -9` of the client at every phase: the status is true, no lock stays, and the next deploy succeeds."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.project import Project, eventually
from tests.testbed import Server

# For each phase, where the journal may say a deploy was cut off: nothing (the host was not changed yet),
# the phase before, whose end may come after the kill, or the phase itself. The next one, where a phase is so
# short that it may be over when the kill comes.
NOTHING = ""
PHASES: dict[str, set[str]] = {
    "plan": {NOTHING},
    "preflight": {NOTHING},
    "lock": {NOTHING},
    "build": {NOTHING},
    "ship": {NOTHING, "in stage", "after stage"},
    "stage": {NOTHING, "in stage", "after stage", "in migrate"},
    "migrate": {"after stage", "in migrate", "after migrate"},
    "up": {"after migrate", "in up", "after up"},
    "health": {"after up"},
    "smoke": {"after up", "recorded"},
    "record": {"after up", "recorded"},
}
# By the end of the link, that is, well before the 45 seconds of silence that end it otherwise.
LOCK_SECONDS = 20.0
# Scripts on the host go on to their end, so that no service is left half replaced.
WORK_SECONDS = 120.0
NOW = [(phase, 0.0) for phase in PHASES]
LATER = [("build", 1.0), ("ship", 0.6), ("stage", 0.03), ("migrate", 0.6), ("up", 0.6), ("record", 0.03)]


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    return deployed.bed.servers[0]


def cut_off(project: Project, server: Server) -> tuple[str, str]:
    """Return the last release the journal names and where its deploy stopped, read by hand."""
    lines = server.exec(["cat", project.folder("journal.jsonl")]).stdout.splitlines()
    last: dict[str, Any] = json.loads(lines[-1])
    key = (last["phase"], last["state"])
    if key in {("record", "done"), ("restore", "done"), ("end", "failed")}:
        return last["release"], "recorded"
    if key == ("begin", "started"):
        return last["release"], "in stage"
    return last["release"], f"{'in' if last['state'] == 'started' else 'after'} {last['phase']}"


def check_truth(project: Project, server: Server) -> dict[str, Any]:
    """Compare every sentence of the status with what the server says itself; return the status."""
    status = project.status()[server.name]
    containers = project.containers(server)
    assert status["current"] in server.exec(["readlink", project.folder("current")]).stdout
    assert {each["service"] for each in status["services"]} == set(containers)
    for each in status["services"]:
        there = containers[each["service"]]
        assert (each["image"], each["status"]) == (there["image"], there["state"])
        if each["service"] in {"api", "worker"} and each["status"] == "running":
            assert each["release"].endswith(there["image"].rpartition(":")[2])
    release, where = cut_off(project, server)
    if where == "recorded":
        assert status["interrupted"] is None
    else:
        assert (status["interrupted"]["release"], status["interrupted"]["where"]) == (release, where)
        assert where in project.inv("deploy.status").expect().out
    return status


@pytest.mark.parametrize(("phase", "delay"), [*NOW, *LATER])
def test_killed(deployed: Project, server: Server, phase: str, delay: float) -> None:
    before = deployed.status()["server1"]["current"]
    tag = deployed.commit()
    running = deployed.start("deploy.bed", "--json")
    running.wait_for_phase(phase)
    time.sleep(delay)
    running.kill()
    eventually(lambda: not deployed.locked(server), LOCK_SECONDS, "the lock is free")
    eventually(lambda: not deployed.working(server), WORK_SECONDS, "the last script ended")

    status = check_truth(deployed, server)
    where = (status["interrupted"] or {"where": NOTHING})["where"]
    if status["current"] != before:
        assert phase in {"smoke", "record"}
        where = "recorded"
    if not delay:
        assert where in PHASES[phase]
    assert {each["status"] for each in status["services"]} == {"running"}, "nothing is left half replaced"

    deployed.inv("deploy.bed").expect()
    after = check_truth(deployed, server)
    assert after["interrupted"] is None
    assert after["current"].endswith(tag)
    assert deployed.answers(server)


def test_a_deploy_waits_for_the_script_a_killed_one_left(deployed: Project, server: Server) -> None:
    tag = deployed.commit()
    running = deployed.start("deploy.bed", "--json")
    running.wait_for_phase("up")
    eventually(lambda: deployed.working(server), 60, "its script runs")
    running.kill()
    deployed.inv("deploy.bed").expect()
    assert check_truth(deployed, server)["current"].endswith(tag)


def test_killed_while_it_goes_back(deployed: Project, server: Server) -> None:
    good = deployed.status()["server1"]["current"]
    deployed.commit()
    deployed.set(FAIL_HEALTH="1")
    deployed.configure(health_timeout=30)
    running = deployed.start("deploy.bed", "--json")
    running.wait_for_phase("restore")
    eventually(lambda: cut_off(deployed, server)[1] == "in restore", 60, "it goes back")
    running.kill()
    eventually(lambda: not deployed.locked(server), LOCK_SECONDS, "the lock is free")
    eventually(lambda: not deployed.working(server), WORK_SECONDS, "the last script ended")
    status = check_truth(deployed, server)
    assert status["current"] == good
    assert status["interrupted"]["where"] == "in restore"
    deployed.set(FAIL_HEALTH="")
    deployed.configure()
    deployed.inv("deploy.rollback", "--to", good).expect()
    assert check_truth(deployed, server)["interrupted"] is None
    assert deployed.answers(server)


def test_no_release_of_a_killed_deploy_is_gone_back_to(deployed: Project, server: Server) -> None:
    good = deployed.status()["server1"]["current"]
    tag = deployed.commit()
    running = deployed.start("deploy.bed", "--json")
    running.wait_for_phase("health")
    running.kill()
    eventually(lambda: not deployed.locked(server), LOCK_SECONDS, "the lock is free")
    deployed.commit()
    deployed.inv("deploy.bed").expect()
    done = deployed.inv("deploy.rollback", "--json").expect()
    assert done.json["hosts"][0]["now"] == good
    assert not good.endswith(tag)
