"""Many hosts: a bounded pool and one result per host."""

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from windlass.environment.environment import Environment
from windlass.environment.model import Settings
from windlass.errors import ConfigurationError, HostUnreachable
from windlass.hosts.base import Host
from windlass.hosts.group import Hosts
from windlass.hosts.local import LocalHost
from windlass.shell import Script


class Named:
    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def close(self) -> None:
        self.closed = True


def named(*names: str) -> tuple[Host, ...]:
    return cast(tuple[Host, ...], tuple(Named(name) for name in names))


def environment(root: Path, **hosts: dict[str, Any]) -> Environment:
    settings = Settings.model_validate({"app": "shop", "hosts": hosts, "deploy": {"parallel_hosts": 3}})
    return Environment("prod", root, settings, {})


def test_results_are_in_the_order_of_the_hosts() -> None:
    def work(host: Host) -> str:
        time.sleep(0.05 if host.name == "a" else 0)
        return host.name.upper()

    results = Hosts(named("a", "b", "c")).map(work)
    assert [result.unwrap() for result in results] == ["A", "B", "C"]
    assert [result.host.name for result in results] == ["a", "b", "c"]


def test_one_failing_host_hides_no_other() -> None:
    def work(host: Host) -> int:
        if host.name == "b":
            raise HostUnreachable("b is down.")
        return 1

    results = Hosts(named("a", "b", "c")).map(work)
    assert [result.ok for result in results] == [True, False, True]
    with pytest.raises(HostUnreachable, match="b is down"):
        results[1].unwrap()


@pytest.mark.parametrize("names", ["a", "abc"])
def test_a_defect_is_raised(names: str) -> None:
    with pytest.raises(ZeroDivisionError):
        Hosts(named(*names)).map(lambda host: 1 // 0)


def test_no_more_than_the_allowed_number_at_once() -> None:
    lock = threading.Lock()
    # So many do meet, however slow the machine is.
    together = threading.Barrier(3, timeout=60)
    now = most = 0

    def work(host: Host) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        time.sleep(0.02)
        with lock:
            now -= 1

    Hosts(named(*map(str, range(12))), parallel=3).map(work)
    assert most == 3


def test_an_interrupt_ends_what_the_others_wait_for() -> None:
    """Only the main thread gets Ctrl-C; scripts of other threads must not be waited for."""
    hosts = Hosts((LocalHost("a"), LocalHost("b")))
    running = threading.Event()

    def work(host: Host) -> None:
        if host.name == "a":
            assert running.wait(60)
            raise KeyboardInterrupt
        host.run(Script.of("wait", "echo go; sleep 60"), on_line=lambda _: running.set())

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        hosts.map(work)
    assert time.monotonic() - start < 40


def test_hosts_come_from_the_environment(tmp_path: Path) -> None:
    made = environment(tmp_path, here={"transport": "local"}, web1={"address": "192.0.2.1"}, web2={})
    hosts = Hosts.of(made, str)
    assert [host.name for host in hosts] == ["here", "web1", "web2"]
    assert hosts.first.name == "here"
    assert len(hosts) == 3
    assert [host.name for host in Hosts.of(made, str, only="web2")] == ["web2"]
    hosts.close()


def test_a_host_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    made = environment(tmp_path, web1={}, db={})
    with pytest.raises(ConfigurationError) as caught:
        Hosts.of(made, str, only="wbe1")
    assert str(caught.value) == "prod has no host wbe1.\n  Did you mean web1?"
    with pytest.raises(ConfigurationError, match=r"Hosts: web1, db\."):
        Hosts.of(made, str, only="zzzzz")


def test_close_closes_every_host() -> None:
    hosts = named("a", "b")
    Hosts(hosts).close()
    assert all(cast(Named, host).closed for host in hosts)
