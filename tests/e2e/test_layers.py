"""What goes over the wire: no layer a host has, and few SSH commands."""

from __future__ import annotations

import pytest

from tests.e2e.project import Project
from tests.testbed import Server

MOST_COMMANDS = 12
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    return deployed.bed.servers[0]


def received(server: Server) -> int:
    """Return the bytes a server has received over its network."""
    return int(server.exec(["cat", "/sys/class/net/eth0/statistics/rx_bytes"]).stdout)


def test_a_changed_line_sends_only_its_layer(deployed: Project, server: Server) -> None:
    deployed.commit()
    before = received(server)
    events = deployed.inv("deploy.bed", "--json").expect().events
    assert received(server) - before < MOST_BYTES
    ship = next(each for each in events if each.get("phase") == "ship" and each["state"] == "done")
    assert "MB were there" in ship["detail"]
    sent = float(ship["detail"].split(" MB sent")[0])
    assert sent < MOST_BYTES / 1e6


def test_what_is_there_is_not_sent_again(deployed: Project, server: Server) -> None:
    before = received(server)
    events = deployed.inv("deploy.bed", "--json").expect().events
    assert received(server) - before < 200_000
    ship = next(each for each in events if each.get("phase") == "ship" and each["state"] == "done")
    assert ship["detail"] == "nothing to send"


def test_a_deploy_takes_few_ssh_commands(deployed: Project, server: Server) -> None:
    deployed.commit()
    mark = server.mark()
    deployed.inv("deploy.bed").expect()
    assert server.count_ssh_commands(mark) <= MOST_COMMANDS
    assert server.count_ssh_connections(mark) <= 2


def test_status_takes_one_ssh_command(deployed: Project, server: Server) -> None:
    mark = server.mark()
    deployed.inv("deploy.status").expect()
    assert server.count_ssh_commands(mark) == 1
