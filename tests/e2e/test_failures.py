"""A release that fails leaves the old one running, and says so."""

from __future__ import annotations

import pytest

from tests.e2e.project import IMPATIENT, Done, Project, eventually
from tests.testbed import Server


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    return deployed.bed.servers[0]


@pytest.fixture(autouse=True)
def mended(deployed: Project) -> object:
    """Take the faults away after each test."""
    yield None
    deployed.set(FAIL_HEALTH="", FAIL_START="", FAIL_MIGRATION="", API_PORT="", BIND_ADDRESS="")
    deployed.configure()


def failed_and_restored(deployed: Project, server: Server, was: str) -> Done:
    """Deploy, which must fail and put the release `was` back; return what it said."""
    tag = deployed.commit()
    done = deployed.inv("deploy.bed").expect(1)
    assert "every host runs what it ran before" in done.err
    assert done.outcome == [("server1", was, was, "restored")]
    assert deployed.answers(server)
    status = deployed.status()["server1"]
    assert status["current"] == was
    assert status["interrupted"] is None
    assert {each["release"] for each in status["services"]} == {was}
    history = deployed.inv("deploy.history", "--json", "--limit", "1").expect().json[0]
    assert history["state"] == "restored"
    assert history["release"].endswith(tag)
    assert not deployed.locked(server)
    return done


def test_a_service_that_never_gets_healthy(deployed: Project, server: Server) -> None:
    was = deployed.status()["server1"]["current"]
    deployed.configure(health_timeout=30)
    deployed.set(FAIL_HEALTH="1")
    done = failed_and_restored(deployed, server, was)
    assert "service api is not healthy" in done.err
    assert "FAIL_HEALTH is set" in done.err, "the end of the container's own words"
    history = deployed.inv("deploy.history").expect().out
    assert "restored" in history


def test_a_service_that_exits_at_once(deployed: Project, server: Server) -> None:
    was = deployed.status()["server1"]["current"]
    deployed.set(FAIL_START="1")
    done = failed_and_restored(deployed, server, was)
    assert "FAIL_START is set: not starting" in done.err


def test_a_port_that_somebody_else_has(deployed: Project, server: Server) -> None:
    """Nobody can know before the containers are replaced."""
    was = deployed.status()["server1"]["current"]
    deployed.set(API_PORT="22", BIND_ADDRESS=server.address)
    done = failed_and_restored(deployed, server, was)
    assert "address already in use" in done.err


def test_a_failed_release_is_never_gone_back_to(deployed: Project, server: Server) -> None:
    good = deployed.status()["server1"]["current"]
    deployed.commit()
    deployed.inv("deploy.bed").expect()
    assert deployed.inv("deploy.rollback", "--json").expect().json["hosts"][0]["now"] == good


def test_a_migration_that_fails_changes_nothing(deployed: Project, server: Server) -> None:
    before, was = deployed.containers(server), deployed.status()["server1"]["current"]
    compose = deployed.root / "compose.yaml"
    text = compose.read_text()
    # A changed dependency of the migration must wait for the switch like everything else.
    compose.write_text(text.replace('"--appendonly", "yes"]', '"--appendonly", "yes", "--databases", "8"]'))
    deployed.commit()
    deployed.set(FAIL_MIGRATION="1")
    done = deployed.inv("deploy.bed").expect(1)
    assert "The migration failed, so nothing was switched" in done.err
    assert "FAIL_MIGRATION is set" in done.err
    assert deployed.containers(server) == before
    status = deployed.status()["server1"]
    assert status["current"] == was
    assert status["interrupted"] is None
    assert deployed.answers(server)
    log = server.exec(["sh", "-c", f"cat {deployed.folder('releases')}/*/migrate.log"]).stdout
    assert "FAIL_MIGRATION is set" in log
    one_off = ["docker", "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.oneoff=True"]
    assert server.exec(one_off).stdout == ""
    history = deployed.inv("deploy.history", "--json", "--limit", "1").expect().json[0]
    assert history["state"] == "failed"
    deployed.set(FAIL_MIGRATION="")
    deployed.inv("deploy.bed").expect()
    assert deployed.containers(server)["redis"]["id"] != before["redis"]["id"]
    compose.write_text(text)
    deployed.commit()
    deployed.inv("deploy.bed").expect()


def test_a_link_that_is_cut_while_services_are_replaced(deployed: Project, server: Server) -> None:
    was = deployed.status()["server1"]["current"]
    deployed.environment("bed", [server], extra=IMPATIENT)
    tag = deployed.commit()
    running = deployed.start("deploy.bed", "--json")
    running.wait_for_phase("up")
    eventually(lambda: deployed.working(server), 60, "its script runs")
    server.cut_network()
    try:
        done = running.finish()
        assert done.code == 2, f"{done}"
        assert done.json["hosts"] == [{"host": "server1", "was": was, "now": "?", "state": "unknown"}]
        assert "not every host could be put back" in done.err
    finally:
        server.heal_network()
        deployed.environment("bed", [server])
    eventually(lambda: not deployed.working(server), 120, "the last script ended")
    status = deployed.status()["server1"]
    assert status["current"] == was
    images = {name: each["image"] for name, each in deployed.containers(server).items()}
    assert {each["service"]: each["image"] for each in status["services"]} == images
    # The host cannot know that its client is gone until the silence is long enough; somebody else may.
    if status["lock"] is not None:
        assert tag in status["lock"]["owner"]
    deployed.inv("deploy.unlock").expect()
    interrupted = deployed.status()["server1"]["interrupted"]
    assert interrupted["release"].endswith(tag)
    assert interrupted["where"] in {"after migrate", "in up", "after up"}
    deployed.inv("deploy.bed").expect()
    status = deployed.status()["server1"]
    assert status["current"].endswith(tag)
    assert status["interrupted"] is None
    assert deployed.answers(server)


def test_a_link_that_is_cut_during_the_migration(deployed: Project, server: Server) -> None:
    before, was = deployed.containers(server), deployed.status()["server1"]["current"]
    deployed.environment("bed", [server], extra=IMPATIENT)
    base = deployed.root / "envs" / "base.toml"
    # Long enough to be cut off in.
    slow = '"sh", "-c", "sleep 8; exec python3 -m app.migrate"'
    base.write_text(base.read_text().replace('"python3", "-m", "app.migrate"', slow))
    running = deployed.start("deploy.bed", "--no-build", "--json")
    running.wait_for_phase("migrate")
    eventually(lambda: deployed.working(server), 60, "its script runs")
    server.cut_network()
    try:
        done = running.finish()
        assert done.code == 12, f"{done}"
        assert "No service was touched, but the migration may go on" in done.err
    finally:
        server.heal_network()
        deployed.environment("bed", [server])
    eventually(lambda: not deployed.working(server), 120, "the last script ended")
    assert deployed.containers(server) == before
    status = deployed.status()["server1"]
    assert status["current"] == was
    deployed.configure()
    deployed.inv("deploy.unlock").expect()
    deployed.inv("deploy.bed", "--no-build").expect()


def test_the_first_release_fails(deployed: Project, server: Server) -> None:
    second = deployed.bed.servers[1]
    deployed.environment("fresh", [second])
    deployed.configure(health_timeout=30)
    deployed.set(FAIL_HEALTH="1")
    done = deployed.inv("deploy.fresh").expect(1)
    assert "The first release failed and there is none to go back to" in done.err
    deployed.set(FAIL_HEALTH="")
    deployed.inv("deploy.fresh", "--no-build").expect()
    assert deployed.answers(second)
    done = deployed.inv("deploy.rollback", "--env", "fresh").expect(1)
    assert "no earlier release that ran well" in done.err
    (deployed.root / "envs" / "fresh.toml").unlink()
