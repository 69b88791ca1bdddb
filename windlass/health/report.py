"""How an environment is: its services and its checks on every host, as one value; and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, TypeVar

from windlass.environment.environment import Environment
from windlass.errors import WindlassError
from windlass.events import Emit, ignore
from windlass.health.checks import CheckResult, Snapshot, run_checks, take_snapshot, unknown_service
from windlass.health.containers import ContainerState
from windlass.health.polling import Expectation, HealthGate, NotHealthy, container_fault, wait_until_healthy
from windlass.hosts.base import Host, Redact

HOST_CHECK: Final = "host"
"""Name of the result that stands for a host which could not be asked."""

_RECHECK_SECONDS: Final = 1.0

T = TypeVar("T")

Expected = Mapping[str, Expectation]
ExpectedOf = Callable[[Host], Expected | None]
"""What a host should run; None where nothing says so. May raise a `WindlassError`."""


def unknown(host: Host) -> None:
    """Say that nothing is known of what a host should run."""
    del host


@dataclass(frozen=True)
class ServiceState:
    """A service on one host.

    Args:
        host: the host's name.
        service: the service.
        healthy: containers that are good; for a one-shot, that ended with 0.
        expected: containers it should have; None when no release says so.
        detail: what is wrong; empty when nothing is.
    """

    host: str
    service: str
    healthy: int
    expected: int | None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the service is what it should be."""
        return not self.detail


@dataclass(frozen=True)
class Report:
    """How an environment is.

    Args:
        services: every service on every host.
        checks: every check from every host; one named `host` for a host that could not be asked or runs
            nothing at all.
    """

    services: tuple[ServiceState, ...]
    checks: tuple[CheckResult, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything is as it should be."""
        return not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, one clause each."""
        services = [
            f"service {each.service} on {each.host} is not healthy: {each.detail}"
            for each in self.services
            if not each.ok
        ]
        return (*services, *(_clause(check) for check in self.checks if not check.ok))

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence; or that nothing is."""
        if self.healthy:
            return "Everything is healthy."
        first, *others = self.faults
        return f"{first} (and {len(others)} more)" if others else first

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "healthy": self.healthy,
            "services": [asdict(each) | {"ok": each.ok} for each in self.services],
            "checks": [asdict(each) for each in self.checks],
        }


def _clause(check: CheckResult) -> str:
    if check.name == HOST_CHECK:
        return check.detail.removesuffix(".")
    return f"check {check.name} from {check.host} failed: {check.detail}"


def inferred(states: Iterable[ContainerState]) -> dict[str, Expectation]:
    """Return what containers seem to be meant as, where no release says so.

    Those there are count as those wanted; one that ended with 0 and is not restarted is a one-shot.
    """
    found: dict[str, list[ContainerState]] = {}
    for state in states:
        found.setdefault(state.service, []).append(state)
    return {
        service: Expectation(len(group), one_shot=all(_looks_done(state) for state in group))
        for service, group in found.items()
    }


def _looks_done(state: ContainerState) -> bool:
    return state.status == "exited" and state.exit_code == 0 and state.restart_policy in ("no", "on-failure")


def service_states(snapshot: Snapshot, expected: Expected | None) -> tuple[ServiceState, ...]:
    """Judge every service of a host by one look at its containers."""
    wanted = inferred(snapshot.states) | dict(expected or {})
    gate = HealthGate(wanted, polls=1)
    gate.feed(snapshot.states, snapshot.now)
    return tuple(
        ServiceState(
            snapshot.host,
            service,
            healthy=sum(
                not container_fault(state, snapshot.now, one_shot=wanted[service].one_shot)
                for state in snapshot.states
                if state.service == service
            ),
            expected=expected[service].replicas if expected and service in expected else None,
            detail=gate.reasons[service],
        )
        for service in sorted(wanted)
    )


def check_all(
    hosts: Iterable[Host],
    environment: Environment,
    service: str | None = None,
    *,
    expected: ExpectedOf = unknown,
    redact: Redact | None = None,
) -> Report:
    """Look at the containers of every host and run every check.

    Args:
        hosts: the hosts.
        environment: the environment.
        service: only this service and the checks that speak for it.
        expected: what each host should run.
        redact: takes secrets out of what the checks find; without it, those of the environment.

    Raises:
        ConfigurationError: no service has that name.
    """
    machines = tuple(hosts)
    looks = _map(machines, environment, lambda host: _look(host, environment.settings.app, expected))
    states = [state for look in looks for state in look.services]
    if service is not None:
        _require_known(service, states, looks, environment)
        states = [state for state in states if state.service == service]
    down = {look.host: look.fault for look in looks if look.unreachable}
    asked = [
        CheckResult(HOST_CHECK, None, look.host, False, look.fault, look.seconds)
        for look in looks
        if look.fault
    ]
    checks = run_checks(machines, environment, service=service, unreachable=down, redact=redact)
    return Report(tuple(states), (*asked, *checks))


@dataclass(frozen=True)
class _Look:
    host: str
    services: tuple[ServiceState, ...] = ()
    fault: str = ""
    unreachable: bool = False
    seconds: float = 0.0


def _look(host: Host, app: str, expected: ExpectedOf) -> _Look:
    snapshot = take_snapshot(host, app)
    fault, wanted = snapshot.error, None
    if not fault:
        try:
            wanted = expected(host)
        except WindlassError as error:
            fault = error.message
    if not fault and not snapshot.states and not wanted:
        fault = f"{host.name}: nothing of {app} runs"
    services = () if fault else service_states(snapshot, wanted)
    return _Look(host.name, services, fault, snapshot.unreachable, snapshot.seconds)


def _map(hosts: Sequence[Host], environment: Environment, work: Callable[[Host], T]) -> list[T]:
    if not hosts:
        return []
    with ThreadPoolExecutor(min(environment.settings.deploy.parallel_hosts, len(hosts))) as pool:
        return list(pool.map(work, hosts))


def _require_known(
    service: str, states: Iterable[ServiceState], looks: Iterable[_Look], environment: Environment
) -> None:
    checked = {check.service for check in environment.settings.health.checks.values() if check.service}
    known = checked | {state.service for state in states}
    # A host that does not answer may well run it.
    if service not in known and not any(look.fault for look in looks):
        raise unknown_service(service, known)


def wait_all(
    hosts: Iterable[Host],
    environment: Environment,
    seconds: float,
    service: str | None = None,
    *,
    expected: ExpectedOf = unknown,
    emit: Emit = ignore,
    redact: Redact | None = None,
) -> Report:
    """Wait until every host's services are healthy and then until every check passes.

    Args:
        hosts: the hosts.
        environment: the environment; its `[deploy]` says how often and how many times to look.
        seconds: longest wait.
        service: only this service and the checks that speak for it.
        expected: what each host should run; where it says nothing, what is there is waited for.
        emit: gets a `StepChanged` whenever the state of a service changes.
        redact: takes secrets out of what the checks find; without it, those of the environment.

    Returns:
        The report that found everything healthy.

    Raises:
        NotHealthy: a service failed, or something was not healthy in time.
        ConfigurationError: no service has that name.
        HostUnreachable: no connection could be made.
        LinkDropped: the connection died.
    """
    machines = tuple(hosts)
    end = time.monotonic() + seconds
    wait = _Wait(environment, end, service, expected, emit)
    look = partial(check_all, machines, environment, service, expected=expected, redact=redact)
    errors = [error for error in _map(machines, environment, wait.attempt) if error is not None]
    if errors:
        raise errors[0]
    while not (report := look()).healthy:
        if time.monotonic() + _RECHECK_SECONDS >= end:
            raise NotHealthy(service or "", f"not healthy after {seconds:g} s: {report.sentence}")
        time.sleep(_RECHECK_SECONDS)
    return report


@dataclass(frozen=True)
class _Wait:
    environment: Environment
    end: float
    service: str | None
    expected: ExpectedOf
    emit: Emit

    def attempt(self, host: Host) -> WindlassError | None:
        """Wait for one host; an error is returned, so that the other hosts are waited for too."""
        try:
            settings = self.environment.settings
            wait_until_healthy(
                host,
                settings.app,
                self._wanted(host),
                max(0.0, self.end - time.monotonic()),
                interval=settings.deploy.poll_interval,
                polls=settings.deploy.healthy_polls,
                emit=self.emit,
            )
        except WindlassError as error:
            return error
        return None

    def _wanted(self, host: Host) -> Expected:
        wanted = self.expected(host)
        if wanted is None:
            wanted = inferred(take_snapshot(host, self.environment.settings.app).states)
        return {name: each for name, each in wanted.items() if self.service in (None, name)}
