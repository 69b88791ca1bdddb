"""`secrets_in = "memory"`: a release's secrets reach no disk of the server, and what that costs is told."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.e2e.project import Project
from tests.testbed import Server

# Letters and digits alone, which every format writes as they are.
PASSWORD = secrets.token_hex(16)


@pytest.fixture(scope="module")
def in_memory(make_project: Callable[..., Project]) -> Project:
    project = make_project()
    project.set(POSTGRES_PASSWORD=PASSWORD)
    project.configure(deploy='secrets_in = "memory"')
    project.inv("deploy.bed").expect()
    return project


@pytest.fixture
def server(in_memory: Project) -> Server:
    return in_memory.bed.servers[0]


def found_below(server: Server, folder: str) -> str:
    search = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", PASSWORD, folder]
    return server.exec(search, check=False).stdout


def memory(project: Project, server: Server) -> str:
    link = server.exec(["readlink", project.folder("current", "secrets.env")]).stdout.strip()
    return link.rpartition("/")[0]


def test_it_runs_and_no_file_of_the_release_has_a_secret(in_memory: Project, server: Server) -> None:
    assert in_memory.answers(server)
    # The search follows no links; in memory it finds what it looks for.
    assert found_below(server, in_memory.folder()) == ""
    assert found_below(server, memory(in_memory, server)) != ""


def test_it_goes_back(in_memory: Project, server: Server) -> None:
    before = in_memory.status()["server1"]["current"]
    in_memory.commit()
    in_memory.inv("deploy.bed").expect()
    in_memory.inv("deploy.rollback").expect()
    assert in_memory.status()["server1"]["current"] == before
    assert in_memory.answers(server)


def test_after_a_restart_it_says_that_there_is_no_way_back(in_memory: Project, server: Server) -> None:
    in_memory.commit()
    in_memory.inv("deploy.bed").expect()
    # What a restart does to /dev/shm; containers go on with what they were started with.
    server.exec(["rm", "-rf", memory(in_memory, server)])
    running = in_memory.containers(server)
    refused = in_memory.inv("deploy.rollback")
    assert refused.code != 0
    assert "were kept in memory and are gone: deploy its commit again" in refused.err
    assert in_memory.containers(server) == running
    assert in_memory.answers(server)
    in_memory.commit()
    done = in_memory.inv("deploy.bed").expect()
    assert "should this deploy fail, it cannot be put back by itself" in done.err
    assert in_memory.answers(server)
    in_memory.commit()
    assert "cannot be put back" not in in_memory.inv("deploy.bed").expect().err
    in_memory.inv("deploy.rollback").expect()
