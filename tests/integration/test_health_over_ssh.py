"""The health gate and the checks on a server behind SSH."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import Testbed
from tests.testbed.image import base_images
from windlass.environment.environment import Environment
from windlass.environment.model import HostSettings, Settings
from windlass.errors import LinkDropped
from windlass.events import Event
from windlass.health.polling import Expectation, NotHealthy, wait_until_healthy
from windlass.health.report import check_all
from windlass.hosts.ssh import SshHost

pytestmark = pytest.mark.integration

PROJECT = "shop"
COMPOSE = """
services:
  cache:
    image: {image}
    ports: ["127.0.0.1:6379:6379"]
    healthcheck: {{test: [CMD, redis-cli, ping], interval: 1s, timeout: 5s, retries: 30}}
  sick:
    image: {image}
    command: [bash, -c, "echo I am sick; exec sleep infinity"]
    healthcheck: {{test: [CMD, "false"], interval: 1s, timeout: 5s, retries: 1}}
"""
BOTH = {"cache": Expectation(), "sick": Expectation()}


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed.up(hosts=1, name=f"health-{os.getpid()}-{secrets.token_hex(3)}") as bed:
        image = base_images()["REDIS_IMAGE"]
        bed.load_image(image)
        server = bed.servers[0]
        server.exec(["tee", "/tmp/compose.yaml"], stdin=COMPOSE.format(image=image))
        server.exec(["docker", "compose", "-p", PROJECT, "-f", "/tmp/compose.yaml", "up", "-d"], timeout=180)
        yield bed


def settings(bed: Testbed) -> dict[str, Any]:
    server = bed.servers[0]
    return {
        "address": server.address,
        "port": server.port,
        "user": server.user,
        "identity_file": str(server.key_path),
        "known_hosts": str(bed.known_hosts),
        "keepalive": 5.0,
    }


@pytest.fixture
def host(bed: Testbed) -> Iterator[SshHost]:
    host = SshHost("server1", HostSettings.model_validate(settings(bed)), Path("/"), lambda text: text)
    yield host
    host.close()


def loops(bed: Testbed) -> bool:
    """Whether a watch still runs on the server."""
    argv = ["pgrep", "-f", "^bash -c while :; do"]
    return bed.servers[0].exec(argv, check=False).returncode == 0


def gone(bed: Testbed, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while loops(bed):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_one_wait_is_one_command_over_one_connection_and_leaves_nothing_running(bed, host):
    server = bed.servers[0]
    mark = server.mark()
    wait_until_healthy(host, PROJECT, {"cache": Expectation()}, 120, interval=0.3)
    assert (server.count_ssh_connections(mark), server.count_ssh_commands(mark)) == (1, 1)
    assert gone(bed, 50)


def test_what_is_not_healthy_costs_one_command_more_for_its_log(bed, host):
    server = bed.servers[0]
    mark = server.mark()
    with pytest.raises(NotHealthy) as caught:
        wait_until_healthy(host, PROJECT, BOTH, 8, interval=0.3)
    assert caught.value.message == (
        "server1: service sick is not healthy after 8 s: shop-sick-1 is unhealthy\n    | I am sick"
    )
    assert server.count_ssh_commands(mark) == 2
    assert gone(bed, 50)


def test_a_link_that_drops_while_waiting_is_said_and_ends_the_loop_on_the_server(bed, host):
    server = bed.servers[0]
    began = threading.Event()

    def tell(_: Event) -> None:
        began.set()

    def cut() -> None:
        began.wait(60)
        assert loops(bed)
        server.drop_ssh_connections()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(LinkDropped):
        wait_until_healthy(host, PROJECT, BOTH, 60, interval=0.3, emit=tell)
    cutter.join()
    assert gone(bed, 50)


def test_checks_reach_the_servers_own_network(bed, host):
    checks: dict[str, Any] = {
        "port": {"kind": "tcp", "port": 6379, "timeout": 60},
        "closed": {"kind": "tcp", "port": 6380, "timeout": 60},
        "no-http": {"kind": "http", "url": "http://127.0.0.1:6379/"},
        "refused": {"kind": "http", "url": "http://127.0.0.1:6380/"},
        "ping": {
            "kind": "command",
            "service": "cache",
            "command": ["redis-cli", "ping"],
            "expect": "PONG",
            "timeout": 60,
        },
        "words": {
            "kind": "command",
            "service": "cache",
            "command": ["printf", "a  'b\" $HOME"],
            "timeout": 60,
        },
        "slow": {"kind": "command", "service": "cache", "command": ["sleep", "60"], "timeout": 1},
    }
    model = Settings.model_validate(
        {"app": PROJECT, "hosts": {"server1": settings(bed)}, "health": {"checks": checks}}
    )
    report = check_all([host], Environment("test", Path("/"), model, {}))
    found = {check.name: (check.ok, check.detail) for check in report.checks}
    assert found["port"] == (True, "127.0.0.1:6379 accepts connections")
    assert not found["closed"][0]
    assert "127.0.0.1:6380" in found["closed"][1]
    assert not found["no-http"][0]
    assert not found["refused"][0]
    assert found["ping"] == found["words"] == (True, "the command ended with code 0")
    assert found["slow"] == (False, "the command did not end within 1 s")
    assert [(each.service, each.healthy, each.ok) for each in report.services] == [
        ("cache", 1, True),
        ("sick", 0, False),
    ]
