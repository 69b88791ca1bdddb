"""Two hosts: both run the release, or both run the old one, or the table says which does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.project import IMPATIENT, Project, eventually
from tests.testbed import Server

FAULTS = "/etc/windlass-faults"
Pair = tuple[Server, Server]
COMPOSE = f"""\
services:
  api:
    environment:
      RELEASE_MARK: ${{RELEASE_MARK}}
    volumes:
      - {FAULTS}:/faults:ro
    healthcheck:
      test: ["CMD-SHELL", 'test ! -e "/faults/$$RELEASE_MARK" && python3 -m app.probe api']
"""


@pytest.fixture(scope="module")
def servers(project: Project) -> Iterator[tuple[Server, Server]]:
    """Give two servers on which a test can make one release unhealthy: a file with its mark."""
    first, second = project.bed.servers
    for server in (first, second):
        server.exec(["mkdir", "--parents", FAULTS])
    (project.root / "compose.faults.yaml").write_text(COMPOSE)
    project.configure(files=["compose.yaml", "compose.faults.yaml"], health_timeout=30)
    project.environment("bed", (first, second))
    project.set(RELEASE_MARK="one")
    project.inv("deploy.bed").expect()
    yield first, second
    for server in (first, second):
        server.exec(["rm", "-rf", FAULTS])


def releases(project: Project) -> dict[str, str]:
    return {name: each["current"] for name, each in project.status().items()}


def test_both_run_it(project: Project, servers: Pair) -> None:
    assert len(set(releases(project).values())) == 1
    for server in servers:
        assert project.answers(server)
    tag = project.commit()
    done = project.inv("deploy.bed").expect()
    assert [row[0] for row in done.outcome] == ["server1", "server2"]
    assert {row[3] for row in done.outcome} == {"live"}
    for server in servers:
        assert project.containers(server)["api"]["image"].endswith(tag)


def test_logs_name_the_host(project: Project, servers: Pair) -> None:
    said = project.inv("deploy.logs", "--service", "api", "--tail", "5").expect().out
    assert {line.split()[0] for line in said.splitlines() if line} == {"server1", "server2"}


def test_one_fails_and_both_go_back(project: Project, servers: Pair) -> None:
    _, second = servers
    was = releases(project)
    second.exec(["touch", f"{FAULTS}/two"])
    project.set(RELEASE_MARK="two")
    project.commit()
    done = project.inv("deploy.bed").expect(1)
    assert "every host runs what it ran before" in done.err
    assert done.outcome == [
        ("server1", was["server1"], was["server1"], "restored"),
        ("server2", was["server2"], was["server2"], "restored"),
    ]
    assert releases(project) == was
    for server in servers:
        assert project.answers(server)
        assert project.containers(server)["api"]["image"].rpartition(":")[2] in was[server.name]
        assert not project.locked(server)


def test_the_first_fails_and_the_second_is_untouched(project: Project, servers: Pair) -> None:
    first, second = servers
    was, before = releases(project), project.containers(second)
    first.exec(["touch", f"{FAULTS}/three"])
    project.set(RELEASE_MARK="three")
    project.commit()
    done = project.inv("deploy.bed").expect(1)
    assert [row[3] for row in done.outcome] == ["restored", "as before"]
    assert releases(project) == was
    assert project.containers(second) == before


def test_one_cannot_be_put_back(project: Project, servers: Pair) -> None:
    first, second = servers
    was = releases(project)
    project.environment("bed", servers, extra=IMPATIENT)
    second.exec(["touch", f"{FAULTS}/four"])
    project.set(RELEASE_MARK="four")
    tag = project.commit()
    running = project.start("deploy.bed", "--json")
    running.wait_for_phase("restore")
    eventually(lambda: project.working(second), 60, "its script runs")
    second.cut_network()
    try:
        done = running.finish()
        assert done.code == 2, f"{done}"
        assert "not every host could be put back" in done.err
        table = {row["host"]: (row["now"], row["state"]) for row in done.json["hosts"]}
        assert table == {"server1": (was["server1"], "restored"), "server2": ("?", "unknown")}
        asked = project.inv("deploy.status").expect(11)
        assert was["server1"] in asked.out
        assert "server2" in asked.out
    finally:
        second.heal_network()
        project.environment("bed", servers)
    eventually(lambda: not project.working(second), 120, "the last script ended")
    assert project.answers(first)
    status = project.status()["server2"]
    assert status["current"] == was["server2"]
    images = {name: each["image"] for name, each in project.containers(second).items()}
    assert {each["service"]: each["image"] for each in status["services"]} == images
    project.inv("deploy.unlock").expect()
    project.set(RELEASE_MARK="five")
    project.inv("deploy.bed", "--no-build").expect()
    assert all(each.endswith(tag) for each in releases(project).values())
    for server in servers:
        assert project.answers(server)


def test_one_is_down_and_nothing_begins(project: Project, servers: Pair) -> None:
    first, second = servers
    before = project.containers(first)
    second.stop_sshd()
    try:
        done = project.inv("deploy.bed", "--no-build").expect(11)
        assert "server2" in done.err
    finally:
        second.start_sshd()
    assert project.containers(first) == before
    assert not project.locked(first)


def test_one_of_two_is_new(project: Project, servers: Pair) -> None:
    """A host added later gets the release with the others, and both share the key of the hashes."""
    _, second = servers
    project.reset(second)
    project.set(RELEASE_MARK="six")
    project.inv("deploy.bed", "--no-build").expect()
    assert len(set(releases(project).values())) == 1
    keys = {server.exec(["cat", project.folder("key")]).stdout for server in servers}
    assert len(keys) == 1
