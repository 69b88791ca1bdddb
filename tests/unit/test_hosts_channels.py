"""What a link that goes at the wrong moment makes of a channel: one kind of error, whatever was raised."""

import threading
import time
from typing import Any

import paramiko
import pytest

from windlass.errors import LinkDropped
from windlass.hosts.channels import ChannelProcess, is_alive


class Transport:
    """A link that is asked once more: it answers, says nothing, or goes."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.active = True
        self.asked = threading.Event()
        self.over = threading.Event()

    def is_active(self) -> bool:
        return self.active

    def global_request(self, kind: str, wait: bool = True) -> None:
        self.asked.set()
        if self.how == "raises":  # while it still says that it is active
            raise EOFError
        if self.how == "goes":
            self.active = False
        elif self.how == "silent":
            self.over.wait(60)


class Channel:
    """A channel that ended without an exit code, as when its link is gone."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.tried = 0

    def get_transport(self) -> Transport:
        return self.transport

    def recv_exit_status(self) -> int:
        return -1

    def recv_stderr(self, size: int) -> bytes:
        return b""

    def sendall(self, data: bytes) -> None:
        self.tried += 1
        raise EOFError

    def shutdown_write(self) -> None:
        raise EOFError

    def close(self) -> None:
        raise paramiko.SSHException("gone")


def process(how: str) -> ChannelProcess:
    channel: Any = Channel(Transport(how))
    return ChannelProcess(channel, "server1", str)


@pytest.mark.parametrize("how", ["goes", "raises"])
def test_a_link_that_still_says_it_is_active_is_a_dropped_one(how: str) -> None:
    with process(how) as child, pytest.raises(LinkDropped, match="server1: the link was lost"):
        child.wait()


def test_a_signal_on_the_host_is_no_dropped_link() -> None:
    with process("answers") as child:
        assert child.wait() == -1


def test_what_goes_wrong_while_it_goes_is_a_broken_pipe_and_no_more() -> None:
    child = process("goes")
    with pytest.raises(BrokenPipeError):
        child.stdin.write(b"x")
    child.stdin.close()
    child.kill()


def test_a_link_that_says_nothing_is_waited_for_so_long_and_no_longer() -> None:
    link: Any = Transport("silent")
    start = time.monotonic()
    assert not is_alive(link, patience=0.1)
    link.over.set()
    assert link.asked.is_set()
    assert time.monotonic() - start < 50


def test_a_link_that_is_closed_is_not_asked() -> None:
    link: Any = Transport("answers")
    link.active = False
    assert not is_alive(link)
    assert not link.asked.is_set()


def test_a_payload_whose_link_goes_is_no_error_of_its_own() -> None:
    from windlass.hosts.ssh import _feed
    from windlass.shell import Script

    channel: Any = Channel(Transport("goes"))
    _feed(channel, Script.of("take", "cat"), b"payload")
    assert channel.tried == 1, "nothing is sent over a link that is gone"


def test_a_link_that_goes_while_it_is_asked_makes_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    from windlass.hosts.connection import _Watchdog

    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    link: Any = Transport("raises")
    _Watchdog(link, 0.01)
    assert link.asked.wait(30)
    link.active = False
    for each in threading.enumerate():
        if each.name == "windlass-keepalive":
            each.join(30)
    assert raised == []
