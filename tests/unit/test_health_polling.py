import io
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from windlass.errors import CommandFailed, LinkDropped, OperationFailed
from windlass.events import Event, StepChanged
from windlass.health.containers import ContainerState
from windlass.health.polling import (
    Expectation,
    Failed,
    HealthGate,
    Healthy,
    NotHealthy,
    Waiting,
    container_fault,
    log_script,
    wait_until_healthy,
    watch_script,
)
from windlass.hosts.base import Completed
from windlass.shell import Command, Script

T0 = 1_000_000.0


def state(service: str = "web", number: int = 1, **changes: Any) -> ContainerState:
    values = {"started_at": T0 - 100, "health": "", "status": "running"} | changes
    name = f"shop-{service}-{number}"
    return ContainerState(id=values.pop("id", name), name=name, service=service, **values)


def healthy(service: str = "web", number: int = 1, **changes: Any) -> ContainerState:
    return state(service, number, **({"health": "healthy"} | changes))


def play(
    gate: HealthGate, rounds: Iterable[Iterable[ContainerState]], step: float = 1.0
) -> list[Waiting | Healthy | Failed]:
    return [gate.feed(tuple(states), T0 + index * step) for index, states in enumerate(rounds)]


def words(verdicts: Iterable[object]) -> str:
    letters = {Waiting: "w", Healthy: "H", Failed: "F"}
    return "".join(letters[type(verdict)] for verdict in verdicts)


WEB = {"web": Expectation()}
TWO = {"web": Expectation(2)}
ONCE = {"migrate": Expectation(one_shot=True)}
SICK = state(health="unhealthy")
STARTING = state(health="starting")
DONE = state("migrate", status="exited", exit_code=0)
NEW = {"started_at": T0, "health": ""}


@pytest.mark.parametrize(
    ("expected", "rounds", "verdicts"),
    [
        # healthy for three polls in a row, not two
        (WEB, [[healthy()]] * 4, "wwHH"),
        (WEB, [[STARTING], [STARTING], [healthy()], [healthy()], [healthy()]], "wwwwH"),
        # unhealthy may recover, and every fall starts the count again
        (WEB, [[SICK], [SICK], [healthy()], [healthy()], [healthy()]], "wwwwH"),
        (WEB, [[healthy()], [healthy()], [SICK], [healthy()], [healthy()], [healthy()]], "wwwwwH"),
        (WEB, [[healthy()], [SICK]] * 10, "w" * 20),
        # never healthy
        (WEB, [[STARTING]] * 10, "w" * 10),
        (WEB, [[SICK]] * 10, "w" * 10),
        # no container at all, then it comes; and one that is being removed is none
        (WEB, [[], [], [healthy()], [healthy()], [healthy()]], "wwwwH"),
        (WEB, [[healthy(status="removing")]] * 5, "w" * 5),
        # no health check: two seconds of uptime, then three polls
        (WEB, [[state(**NEW)]] * 6, "wwwwHH"),
        (WEB, [[state(started_at=None, status="created")]] * 4, "wwww"),
        (WEB, [[state(status="paused")]] * 4, "wwww"),
        # all replicas, each of them
        (TWO, [[healthy()]] * 5, "wwwww"),
        (TWO, [[healthy(), healthy(number=2)]] * 3, "wwH"),
        (TWO, [[healthy(), state(number=2, health="starting")]] * 5, "wwwww"),
        (TWO, [[healthy(), state(number=2, status="exited", exit_code=1)]], "F"),
        # an extra container counts as well
        (WEB, [[healthy(), state(number=2, health="unhealthy")]] * 4, "wwww"),
        # zero replicas need no container
        ({"web": Expectation(0)}, [[]] * 3, "wwH"),
        # a long-runner that ended failed, whatever its code
        (WEB, [[state(status="exited", exit_code=0)]], "F"),
        (WEB, [[healthy()], [state(status="exited", exit_code=137)]], "wF"),
        (WEB, [[state(status="dead", exit_code=1)]], "F"),
        # a one-shot must end with 0, and may take its time
        (ONCE, [[state("migrate")]] * 3 + [[DONE]] * 3, "wwwwwH"),
        (ONCE, [[state("migrate")], [state("migrate", status="exited", exit_code=2)]], "wF"),
        (ONCE, [[state("migrate", status="dead", exit_code=0)]], "F"),
        (ONCE, [[state("migrate", health="healthy")]] * 5, "wwwww"),
        (ONCE, [[]] * 3, "www"),
        # all services
        ({**WEB, **ONCE}, [[healthy()], [healthy(), DONE], [healthy(), DONE], [healthy(), DONE]], "wwwH"),
        # services nobody asked about are not looked at
        (WEB, [[healthy(), state("other", status="exited", exit_code=1)]] * 3, "wwH"),
    ],
)
def test_scenarios(expected, rounds, verdicts):
    assert words(play(HealthGate(expected, 3), rounds)) == verdicts


def crashes(counts: Iterable[int], **changes: Any) -> list[list[ContainerState]]:
    return [[state(restart_count=count, **changes)] for count in counts]


@pytest.mark.parametrize(
    ("rounds", "verdicts"),
    [
        # a crash loop fails at the second restart that is seen
        (crashes([0, 1, 2], status="restarting", exit_code=3), "wwF"),
        (crashes([0, 2], status="restarting", exit_code=3), "wF"),
        # ... or at the third, when its exit code was never seen since it ran at each poll
        (crashes([0, 1, 2, 3]), "wwwF"),
        ([*crashes([0, 1]), *crashes([1], status="restarting", exit_code=3), *crashes([2])], "wwwF"),
        # a loop that began before the watch
        (crashes([5, 6, 7], status="restarting", exit_code=3), "wwF"),
        # ... and one between whose restarts the container runs for a while
        (crashes([5] * 6, started_at=T0), "w" * 6),
        (crashes([5] * 14, started_at=T0), "w" * 12 + "HH"),
        # many restarts long ago are history
        (crashes([9] * 3, started_at=T0 - 86400), "wwH"),
        # one restart is forgiven once the container settles
        ([[state(restart_count=0)], *crashes([1] * 14, started_at=T0 + 1)], "w" * 13 + "HH"),
        # with a health check Docker's word is enough
        (crashes([1] * 3, health="healthy"), "wwH"),
        (crashes([0, 1, 2, 3], health="healthy"), "wwwF"),
        # a container made anew starts its own count
        ([*crashes([1]), *crashes([0], id="other"), *crashes([1], id="other")], "www"),
    ],
)
def test_restarts(rounds, verdicts):
    assert words(play(HealthGate(WEB, 3), rounds)) == verdicts


def test_a_one_shot_may_be_retried_by_its_policy():
    rounds = [
        [state("migrate", status="restarting", restart_count=count, exit_code=1)] for count in range(4)
    ] + [[state("migrate", status="exited", restart_count=4)]] * 3
    assert words(play(HealthGate(ONCE, 3), rounds)) == "wwwwwwH"


def test_only_containers_of_the_release_count():
    gate = HealthGate({"web": Expectation(config="new")}, 1)
    assert gate.feed((healthy(config="old"),), T0) == Waiting({"web": "it has no container"})
    assert gate.feed((healthy(config="old"), healthy(number=2, config="new")), T0) == Healthy()


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], "it has no container"),
        ([STARTING], "shop-web-1 is starting"),
        ([SICK], "shop-web-1 is unhealthy"),
        ([state(status="created")], "shop-web-1 is created but not started"),
        ([state(status="paused")], "shop-web-1 is paused"),
        ([state(status="restarting", exit_code=3)], "shop-web-1 is being restarted after exit code 3"),
        ([state(**NEW)], "shop-web-1 is not up for 2 s yet"),
        ([state(restart_count=1, **NEW)], "shop-web-1 is not up for 10 s yet"),
    ],
)
def test_waiting_says_why(states, reason):
    gate = HealthGate(WEB, 3)
    assert gate.feed(tuple(states), T0) == Waiting({"web": reason})
    assert gate.reasons == {"web": reason}
    assert gate.give_up(60).sentence == f"service web is not healthy after 60 s: {reason}"


def test_too_few_replicas_are_counted():
    gate = HealthGate({"web": Expectation(3)}, 3)
    assert gate.feed((healthy(),), T0) == Waiting({"web": "it has 1 of 3 containers"})


def test_a_failure_names_container_and_exit_code():
    gate = HealthGate({"db": Expectation(), "web": Expectation()}, 3)
    verdict = gate.feed((state(status="exited", exit_code=137),), T0)
    assert verdict == Failed(
        "web",
        "service web failed: shop-web-1 exited with code 137",
        "shop-web-1 exited with code 137",
        "shop-web-1",
    )
    gate = HealthGate(WEB, 3)
    gate.feed((state(restart_count=1, status="restarting", exit_code=3),), T0)
    verdict = gate.feed((state(restart_count=4),), T0)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "shop-web-1 was restarted 3 times, its last exit code is 3"
    gate = HealthGate(WEB, 3)
    gate.feed((state(restart_count=1),), T0)
    verdict = gate.feed((state(restart_count=4),), T0)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "shop-web-1 was restarted 3 times"


def test_giving_up_names_the_first_and_the_others():
    gate = HealthGate({"api": Expectation(), "db": Expectation(), "web": Expectation()}, 3)
    assert gate.give_up(5).sentence.startswith("service api is not healthy after 5 s (nor are db, web): ")
    gate.feed((healthy("db"), healthy("api"), SICK), T0)
    failure = gate.give_up(90.5)
    assert failure.sentence == "service web is not healthy after 90.5 s: shop-web-1 is unhealthy"
    assert failure.container == "shop-web-1"
    gate.feed((healthy("db"), SICK), T0)
    assert "after 5 s (nor is web): it has no container" in gate.give_up(5).sentence


def test_giving_up_while_flapping_says_so():
    gate = HealthGate(WEB, 3)
    gate.feed((healthy(),), T0)
    assert gate.give_up(5).sentence == "not every service was healthy for 3 polls in a row after 5 s"


def test_one_look_at_one_container():
    assert container_fault(healthy(), T0) == ""
    assert container_fault(SICK, T0) == "shop-web-1 is unhealthy"
    assert container_fault(DONE, T0, one_shot=True) == ""
    assert container_fault(DONE, T0) == "shop-migrate-1 exited with code 0"


# --- the loop on the host -------------------------------------------------------------------------

DOCKER = """
docker() {
  case $1 in
    ps) echo id ;;
    inspect) echo '{"name": "state"}' ;;
  esac
}
"""


def watch(interval: float, limit: float) -> subprocess.Popen[bytes]:
    script = DOCKER + watch_script("shop", interval, limit).text()
    return subprocess.Popen(
        [shutil.which("bash") or "bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_loop_prints_rounds_with_the_hosts_clock():
    with watch(0.05, 600) as process:
        assert process.stdin and process.stdout
        lines = [process.stdout.readline().decode() for _ in range(6)]
        process.stdin.close()
        assert process.wait(50) == 0
    assert lines[0::2] == ['{"name": "state"}\n'] * 3
    clocks = [line.removeprefix("== ") for line in lines[1::2]]
    assert all(abs(int(clock) - time.time()) < 100 for clock in clocks)


def test_the_loop_ends_when_stdin_says_something():
    with watch(300, 600) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(50) == 0


def test_the_loop_ends_at_its_limit():
    with watch(0.2, 1) as process:
        assert process.wait(60) == 0


# --- waiting over a host --------------------------------------------------------------------------


class FakeProcess:
    """A process whose output is given; it blocks at the end until it is killed."""

    def __init__(self, output: bytes, *, code: int | None = None, error: Exception | None = None) -> None:
        self.stdin = io.BytesIO()
        self.stdout: Any = self
        self.killed = threading.Event()
        self._output = io.BytesIO(output)
        self._code = code
        self._error = error

    def read(self, size: int) -> bytes:
        chunk = self._output.read(min(size, 7))
        if not chunk and self._code is None and self._error is None:
            self.killed.wait(120)
        return chunk

    def wait(self) -> int:
        if self._error is not None:
            raise self._error
        return self._code or 0

    def error_text(self) -> str:
        return "Cannot connect to the Docker daemon"

    def kill(self) -> None:
        self.killed.set()

    def __enter__(self) -> "FakeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.killed.is_set()


class FakeHost:
    name = "web-1"

    def __init__(self, process: FakeProcess, log: Iterable[str] | Exception = ()) -> None:
        self.process = process
        self.opened: list[Command] = []
        self.scripts: list[Script] = []
        self._log = log

    def open(self, command: Command, *, bulk: bool = True) -> FakeProcess:
        assert not bulk
        self.opened.append(command)
        return self.process

    def run(
        self, script: Script, *, payload: bytes = b"", on_line: Any = None, check: bool = True
    ) -> Completed:
        self.scripts.append(script)
        if isinstance(self._log, Exception):
            raise self._log
        for line in self._log:
            on_line(line)
        return Completed(self.name, 0, b"", b"")


def line(**changes: Any) -> str:
    import json

    values = {
        "id": "c0ffee",
        "name": "/shop-web-1",
        "service": "web",
        "config": "",
        "status": "running",
        "health": "healthy",
        "exit_code": 0,
        "restart_count": 0,
        "started_at": "2026-01-01T00:00:00Z",
        "restart_policy": "no",
        "image": "i",
        "health_output": "",
    }
    return json.dumps(values | changes) + "\n"


def output(*rounds: str) -> bytes:
    return "".join(f"{each}== 1767230000\n" for each in rounds).encode()


def wait(host: FakeHost, timeout: float = 60.0, **options: Any) -> list[Event]:
    events: list[Event] = []
    wait_until_healthy(host, "shop", WEB, timeout, emit=events.append, **options)  # type: ignore[arg-type]
    return events


def test_healthy_ends_the_one_channel_and_tells_each_change_once():
    host = FakeHost(FakeProcess(output(line(health="starting"), line(health="starting"), *[line()] * 3)))
    events = wait(host)
    assert [
        (event.step, event.state, event.detail) for event in events if isinstance(event, StepChanged)
    ] == [
        ("service web", "started", "shop-web-1 is starting"),
        ("service web", "done", "healthy"),
    ]
    assert len(host.opened) == 1
    assert host.opened[0].words[:2] == ("bash", "-c")
    assert host.scripts == []
    assert host.process.killed.is_set()


def test_polls_and_nothing_expected():
    wait(FakeHost(FakeProcess(output(line()))), polls=1)
    host = FakeHost(FakeProcess(b""))
    wait_until_healthy(host, "shop", {}, 5)  # type: ignore[arg-type]
    assert host.opened == []


def test_a_failure_is_one_sentence_with_the_end_of_the_log():
    log = ["starting", "\x1b[31mcannot connect to the database\x1b[0m", "x" * 1000]
    host = FakeHost(FakeProcess(output(line(status="exited", exit_code=3, health=""))), log)
    events: list[Event] = []
    with pytest.raises(NotHealthy) as caught:
        wait_until_healthy(host, "shop", WEB, 60, emit=events.append)  # type: ignore[arg-type]
    first, *rest = str(caught.value).split("\n")
    assert first == "web-1: service web failed: shop-web-1 exited with code 3"
    assert rest == ["    | starting", "    | cannot connect to the database", "    | " + "x" * 400]
    assert caught.value.service == "web"
    assert caught.value.exit_code == 1
    assert [event.state for event in events if isinstance(event, StepChanged)] == ["failed"]
    assert "c0ffee" in host.scripts[0].text()


def test_the_time_limit_is_kept_when_the_host_falls_silent():
    host = FakeHost(FakeProcess(output(line(health="starting", health_output="s3cret"))))
    began = time.monotonic()
    with pytest.raises(NotHealthy) as caught:
        wait(host, timeout=2)  # in which also a slow machine reads what was said before the silence
    assert time.monotonic() - began < 40
    assert str(caught.value) == "web-1: service web is not healthy after 2 s: shop-web-1 is starting"


def test_a_log_that_cannot_be_read_hides_nothing():
    process = FakeProcess(output(line(status="dead", exit_code=1)))
    with pytest.raises(NotHealthy, match=r"is dead with exit code 1$"):
        wait(FakeHost(process, CommandFailed("x", 1)))


def test_a_docker_that_is_down_is_said():
    with pytest.raises(OperationFailed, match=r"ended with code 1: Cannot connect to the Docker daemon$"):
        wait(FakeHost(FakeProcess(output(line()), code=1)))


def test_a_lost_link_stays_a_lost_link():
    with pytest.raises(LinkDropped):
        wait(FakeHost(FakeProcess(output(line()), error=LinkDropped("gone"))))


@pytest.mark.parametrize("timeout", [3, 600])
def test_a_docker_that_hangs_is_said(monkeypatch, timeout):
    monkeypatch.setattr("windlass.health.polling._SILENCE", 3.5)
    monkeypatch.setattr("windlass.health.polling._STALE", 0.3)
    began = time.monotonic()
    with pytest.raises(OperationFailed, match=r"^web-1: Docker did not answer for the last \d+ s\.$"):
        wait(FakeHost(FakeProcess(output(line(health="starting")))), timeout=timeout, interval=0.1)
    assert time.monotonic() - began < 60


def test_the_log_is_asked_for_by_id_and_bounded():
    text = log_script("a b", 15).text()
    assert "docker logs --tail 15 'a b'" in text
