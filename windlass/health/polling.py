"""Waiting for the services of a release to be healthy: a pure decision and the loop that feeds it.

`docker compose up --wait` is not used: it fails at the first `unhealthy` though the service would have
recovered, counts a one-shot that ended well as a failure, looks at the first replica only, takes a
crash loop for running, and may end with 0 after its own time limit (docs/architecture.md).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Final

from windlass.errors import OperationFailed, WindlassError
from windlass.events import Emit, State, StepChanged, ignore
from windlass.health.containers import ContainerState, parse_states, plain, state_lines
from windlass.hosts.base import Host, Process
from windlass.shell import Command, Script, quote

MIN_UPTIME: Final = 2.0
"""Seconds a container without a health check must be up."""

SETTLED_UPTIME: Final = 10.0
"""Seconds up after which a container that was restarted is believed; Docker resets its back-off there too."""

MAX_RESTARTS: Final = 2
"""Restarts while being watched that make it a crash loop."""

LOG_LINES: Final = 15
"""Lines of a failing container's log in the error."""

_SEPARATOR: Final = "== "
_SILENCE: Final = 30.0
_STALE: Final = 10.0
_LOG_TIMEOUT: Final = 20.0
_LINE_LIMIT: Final = 400
_JOIN_TIMEOUT: Final = 5.0
_CHUNK: Final = 65536


@dataclass(frozen=True)
class Expectation:
    """What a service must come to.

    Args:
        replicas: containers it must have.
        one_shot: it does its work and ends with 0, like a migration.
        config: when set, only containers whose label `windlass.config` is this count as its own.
    """

    replicas: int = 1
    one_shot: bool = False
    config: str | None = None


@dataclass(frozen=True)
class Waiting:
    """Not decided; `reasons` says why, for each service that is not there yet."""

    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Healthy:
    """Every service is what it must be."""


@dataclass(frozen=True)
class Failed:
    """A service will not get healthy.

    Args:
        service: the one that failed first.
        sentence: what is wrong, naming the service, without the host's name.
        reason: the same without the service's name.
        container: id of the container to read the log of; None when there is none.
    """

    service: str
    sentence: str
    reason: str
    container: str | None = None


_Round = tuple[tuple[ContainerState, ...], float]
Verdict = Waiting | Healthy | Failed


class NotHealthy(OperationFailed):
    """A service failed or did not get healthy in time.

    Args:
        service: its name.
        message: one sentence and, on lines of their own, the end of its log, redacted.
    """

    def __init__(self, service: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.service = service


@dataclass(frozen=True)
class _Judgement:
    """What one poll says of one service: `fatal` cannot mend, an empty `reason` is good."""

    reason: str = ""
    fatal: bool = False
    container: str | None = None


class HealthGate:
    """Decides from poll after poll whether all services are healthy.

    Args:
        expected: what each service must come to; others are not looked at.
        polls: polls in a row that must find every service good.
        min_uptime: seconds a container without a health check must be up.
        settled_uptime: the same for one its restart policy had to start again.
        max_restarts: restarts since first seen that fail a service at once.
    """

    def __init__(
        self,
        expected: Mapping[str, Expectation],
        polls: int,
        min_uptime: float = MIN_UPTIME,
        settled_uptime: float = SETTLED_UPTIME,
        max_restarts: int = MAX_RESTARTS,
    ) -> None:
        self._expected = dict(expected)
        self._polls = polls
        self._min_uptime = min_uptime
        self._settled_uptime = settled_uptime
        self._max_restarts = max_restarts
        self._first_restarts: dict[str, int] = {}
        self._last_restarts: dict[str, int] = {}
        self._exit_codes: dict[str, int] = {}
        self._good_polls = 0
        self._judgements: dict[str, _Judgement] = {
            service: _Judgement("nothing is known of it yet") for service in self._expected
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Why each service is not healthy, by the last poll; empty for the good ones."""
        return {service: judgement.reason for service, judgement in self._judgements.items()}

    def feed(self, states: Sequence[ContainerState], now_seconds: float) -> Verdict:
        """Take one poll of all containers of the project, at the host's own time, and decide."""
        self._judgements = {
            service: self._judge(self._own(service, states), expectation, now_seconds)
            for service, expectation in self._expected.items()
        }
        self._last_restarts = {state.id: state.restart_count for state in states}
        for service, judgement in self._judgements.items():
            if judgement.fatal:
                return _failed(service, f"service {service} failed", judgement)
        reasons = {service: reason for service, reason in self.reasons.items() if reason}
        self._good_polls = 0 if reasons else self._good_polls + 1
        return Healthy() if self._good_polls >= self._polls else Waiting(reasons)

    def give_up(self, seconds: float) -> Failed:
        """Return the failure to report when the time limit of `seconds` is over."""
        after = f"after {seconds:g} s"
        bad = {service: judgement for service, judgement in self._judgements.items() if judgement.reason}
        if not bad:
            reason = f"not every service was healthy for {self._polls} polls in a row"
            return Failed(next(iter(self._expected), ""), f"{reason} {after}", reason)
        service, judgement = next(iter(bad.items()))
        others = [name for name in bad if name != service]
        also = f" (nor {'is' if len(others) == 1 else 'are'} {', '.join(others)})" if others else ""
        return _failed(service, f"service {service} is not healthy {after}{also}", judgement)

    def _own(self, service: str, states: Sequence[ContainerState]) -> list[ContainerState]:
        config = self._expected[service].config
        return [
            state
            for state in states
            if state.service == service and state.status != "removing" and config in (None, state.config)
        ]

    def _judge(self, states: Sequence[ContainerState], expectation: Expectation, now: float) -> _Judgement:
        judgements = [
            _judge_one_shot(state) if expectation.one_shot else self._judge_runner(state, now)
            for state in states
        ]
        bad = [judgement for judgement in judgements if judgement.reason]
        worst = next((each for each in bad if each.fatal), next(iter(bad), None))
        if worst is not None:
            return worst
        if len(states) < expectation.replicas:
            return _Judgement(_missing(len(states), expectation.replicas))
        return _Judgement()

    def _judge_runner(self, state: ContainerState, now: float) -> _Judgement:
        first = self._first_restarts.setdefault(state.id, state.restart_count)
        restarts = state.restart_count - first
        if state.status in ("exited", "dead"):
            return _Judgement(_ended(state), fatal=True, container=state.id)
        if self._loops(state, restarts):
            code = self._exit_codes.get(state.id)
            last = f", its last exit code is {code}" if code is not None else ""
            text = f"{state.name} was restarted {restarts} times{last}"
            return _Judgement(text, fatal=True, container=state.id)
        return _Judgement(self._not_yet(state, now), container=state.id)

    def _loops(self, state: ContainerState, restarts: int) -> bool:
        # Docker says 0 while it runs again: the code worth telling is seen between two runs, and one
        # restart more is waited for it.
        if state.status != "running":
            self._exit_codes[state.id] = state.exit_code
        limit = self._max_restarts + (0 if state.id in self._exit_codes else 1)
        return restarts >= limit

    def _not_yet(self, state: ContainerState, now: float) -> str:
        if state.status != "running":
            return f"{state.name} is {_status(state)}"
        if state.restart_count > self._last_restarts.get(state.id, state.restart_count):
            return f"{state.name} was restarted"
        if state.health:
            return "" if state.health == "healthy" else f"{state.name} is {state.health}"
        # Restarted before it was first seen counts too: the loop may have begun before the watch.
        wanted = self._settled_uptime if state.restart_count else self._min_uptime
        uptime = now - state.started_at if state.started_at is not None else 0.0
        return "" if uptime >= wanted else f"{state.name} is not up for {wanted:g} s yet"


def container_fault(state: ContainerState, now_seconds: float, *, one_shot: bool = False) -> str:
    """Return what one look says against a container; empty when it is good."""
    gate = HealthGate({state.service: Expectation(one_shot=one_shot)}, polls=1)
    gate.feed((state,), now_seconds)
    return gate.reasons[state.service]


def _failed(service: str, what: str, judgement: _Judgement) -> Failed:
    return Failed(service, f"{what}: {judgement.reason}", judgement.reason, judgement.container)


def _judge_one_shot(state: ContainerState) -> _Judgement:
    if state.status == "exited" and state.exit_code == 0:
        return _Judgement()
    if state.status in ("exited", "dead"):
        return _Judgement(_ended(state), fatal=True, container=state.id)
    return _Judgement(f"{state.name} is {_status(state)} and has not ended", container=state.id)


def _ended(state: ContainerState) -> str:
    if state.status == "dead":
        return f"{state.name} is dead with exit code {state.exit_code}"
    return f"{state.name} exited with code {state.exit_code}"


def _status(state: ContainerState) -> str:
    if state.status == "restarting":
        return f"being restarted after exit code {state.exit_code}"
    return "created but not started" if state.status == "created" else state.status


def _missing(found: int, wanted: int) -> str:
    if not found:
        return "it has no container"
    return f"it has {found} of {wanted} containers"


def watch_script(project: str, interval: float, limit: float = 600.0) -> Script:
    """Return a script that prints the state of a project's containers again and again.

    Each round is the lines of `state_lines` and a line `== <seconds since the epoch, host's clock>`.
    It ends when its stdin closes or says something, after `limit` seconds, or with Docker's exit
    code when Docker does not answer.

    Args:
        project: the Compose project.
        interval: seconds between two rounds.
        limit: seconds after which it ends by itself, should nobody end it.
    """
    return Script.of(
        f"watch the containers of {project}",
        "while :; do",
        *state_lines(project),
        rf"printf '{_SEPARATOR}%(%s)T\n' -1",
        # Waiting on stdin, not in sleep: a lost link closes it and the loop ends with it.
        f"read -r -t {interval:.3f} _ && exit 0; [ $? -gt 128 ] || exit 0",
        f'[ "$SECONDS" -lt {max(1, round(limit))} ] || exit 0',
        "done",
        timeout=limit,
    )


def wait_until_healthy(
    host: Host,
    project: str,
    expected: Mapping[str, Expectation],
    timeout: float = 120.0,
    *,
    interval: float = 1.0,
    polls: int = 3,
    emit: Emit = ignore,
) -> None:
    """Wait until every expected service of a project is healthy on a host.

    Args:
        host: where it runs.
        project: the Compose project.
        expected: what each service must come to.
        timeout: longest wait in seconds.
        interval: seconds between two polls.
        polls: polls in a row that must find every service good.
        emit: gets a `StepChanged` whenever the state of a service changes.

    Raises:
        NotHealthy: a service failed, or was not healthy in time; with the end of its log.
        OperationFailed: Docker does not answer on the host.
        HostUnreachable: no connection could be made.
        LinkDropped: the connection died.
    """
    if not expected:
        return
    watch = _Watch(host, project, timeout, interval)
    story = _Story(host.name, expected, emit)
    failure = watch.decide(HealthGate(expected, polls), story)
    if failure is not None:
        story.failed(failure)
        raise _not_healthy(host, failure)


@dataclass(frozen=True)
class _Watch:
    """One channel to a host that tells the state of a project's containers until the decision."""

    host: Host
    project: str
    timeout: float
    interval: float

    def decide(self, gate: HealthGate, story: _Story) -> Failed | None:
        """Feed the gate; None when it says healthy."""
        # The host's own limit is for a client that vanished without closing the channel.
        script = watch_script(self.project, self.interval, self.timeout + self.interval + _SILENCE)
        command = Command.of("bash", "-c", script.text())
        with self.host.open(command, bulk=False) as process, closing(self._rounds(process)) as rounds:
            for states, now in rounds:
                verdict = gate.feed(states, now)
                if isinstance(verdict, Failed):
                    return verdict
                story.polled(gate.reasons)
                if isinstance(verdict, Healthy):
                    return None
        return gate.give_up(self.timeout)

    def _rounds(self, process: Process) -> Generator[_Round, None, None]:
        """Yield (states, host's seconds) for every round until the time limit."""
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A thread, since a read has no time limit and Docker may hang.
        reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True)
        reader.start()
        block: list[str] = []
        try:
            for line in self._lines(process, lines):
                if line.startswith(_SEPARATOR):
                    yield parse_states("\n".join(block)), float(line.removeprefix(_SEPARATOR))
                    block = []
                else:
                    block.append(line)
        finally:
            process.kill()
            reader.join(_JOIN_TIMEOUT)  # nobody may close a stream another thread reads

    def _lines(self, process: Process, lines: queue.SimpleQueue[str | None]) -> Iterator[str]:
        heard = time.monotonic()
        end = heard + self.timeout
        while (now := time.monotonic()) < end and now < heard + self.interval + _SILENCE:
            try:
                line = lines.get(timeout=min(end, heard + self.interval + _SILENCE) - now)
            except queue.Empty:
                continue
            if line is None:
                raise _ended_early(process, self.host.name)
            heard = time.monotonic()
            yield line
        quiet = time.monotonic() - heard
        # At the limit too: what was true long ago is no reason to name a service.
        if quiet > self.interval + _STALE:
            raise OperationFailed(f"{self.host.name}: Docker did not answer for the last {quiet:.0f} s.")


def _read_lines(stream: BinaryIO, lines: queue.SimpleQueue[str | None]) -> None:
    # A raw stream reads a line byte by byte, and a buffered one waits until its buffer is full.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest = b""
    try:
        while chunk := read(_CHUNK):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put(line.decode(errors="replace"))
    except (OSError, ValueError):
        pass  # it was closed under our hands: the same as its end
    finally:
        lines.put(None)


def _ended_early(process: Process, host: str) -> WindlassError:
    try:
        code = process.wait()
    except WindlassError as error:
        return error
    said = process.error_text().strip()
    detail = f": {said}" if said else ""
    return OperationFailed(f"{host}: reading the state of the containers ended with code {code}{detail}")


class _Story:
    """Tells the listener of changes, and of nothing else."""

    def __init__(self, host: str, expected: Mapping[str, Expectation], emit: Emit) -> None:
        self._host = host
        self._emit = emit
        self._began = time.monotonic()
        self._told: dict[str, str | None] = dict.fromkeys(expected)

    def polled(self, reasons: Mapping[str, str]) -> None:
        for service, reason in reasons.items():
            if reason != self._told[service]:
                self._told[service] = reason
                self._tell(service, "started" if reason else "done", reason or "healthy")

    def failed(self, failure: Failed) -> None:
        self._tell(failure.service, "failed", failure.reason)

    def _tell(self, service: str, state: State, detail: str) -> None:
        seconds = None if state == "started" else time.monotonic() - self._began
        self._emit(StepChanged(self._host, f"service {service}", state, detail, seconds))


def log_script(container: str, lines: int = LOG_LINES) -> Script:
    """Return a script that prints what a container's failing health check said and the end of its log."""
    health = (
        '{{with .State.Health}}{{if ne .Status "healthy"}}{{$last := ""}}'
        "{{range .Log}}{{$last = .Output}}{{end}}{{$last}}{{end}}{{end}}"
    )
    name = quote(container)
    return Script.of(
        "read the end of a log",
        f"docker inspect --type container --format {quote(health)} {name} </dev/null 2>/dev/null |"
        " sed -n '/./s/^/health check: /p' | tail -n 3 || true",
        f"docker logs --tail {lines} {name} </dev/null 2>&1",
        timeout=_LOG_TIMEOUT,
    )


def last_words(host: Host, container: str, lines: int = LOG_LINES) -> list[str]:
    """Return the end of a container's log, redacted; nothing when it cannot be read."""
    heard: list[str] = []
    try:
        host.run(log_script(container, lines), on_line=heard.append, check=False)
    except WindlassError:
        return []  # the failure that made us ask is the one to report
    # Cut only here: a secret cut in two would pass the host's redaction.
    return [plain(line).rstrip()[:_LINE_LIMIT] for line in heard]


def _not_healthy(host: Host, failure: Failed) -> NotHealthy:
    lines = last_words(host, failure.container) if failure.container else []
    said = "".join(f"\n    | {line}" for line in lines)
    return NotHealthy(failure.service, f"{host.name}: {failure.sentence}{said}")
