"""Health: what runs, what its checks say, and waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass.environment.environment import Environment
    from windlass.health.report import ExpectedOf, Report
    from windlass.hosts.base import Host

    from ._terminal import Terminal

_ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
_SERVICE_HELP = "Only this service and the checks that speak for it."


@task(
    help={
        "env": _ENV_HELP,
        "service": _SERVICE_HELP,
        "json": "Write JSON instead of a table.",
    },
    default=True,
)
def check(context: Context, env: str = "", service: str = "", json: bool = False) -> None:
    """Look at all services and checks; exit code 1 when one is unhealthy."""
    del context
    from windlass.errors import OperationFailed
    from windlass.health.report import check_all

    from ._terminal import Terminal, connected, open_environment, project_redactor

    terminal = Terminal(as_json=json)
    environment = open_environment(env or None)
    redactor = project_redactor(environment, terminal.emit)
    with connected(environment, redactor=redactor) as hosts:
        report = check_all(
            hosts,
            environment,
            service or None,
            expected=_released(environment),
            redact=redactor.redact,
        )
    terminal.result({"environment": environment.name} | report.as_data())
    _show(terminal, environment, report)
    if not report.healthy:
        raise OperationFailed(report.sentence)


@task(
    help={
        "env": _ENV_HELP,
        "service": _SERVICE_HELP,
        "seconds": "Longest wait, such as 60, 90s or 5m.",
        "json": "Write the result as JSON to stdout and events as JSON Lines to stderr.",
    }
)
def wait(context: Context, env: str = "", service: str = "", seconds: str = "60", json: bool = False) -> None:
    """Wait until all services are healthy and all checks pass."""
    del context
    from windlass.health.report import wait_all

    from ._terminal import Terminal, connected, open_environment, project_redactor

    terminal = Terminal(as_json=json)
    limit = _duration(seconds)
    environment = open_environment(env or None)
    redactor = project_redactor(environment, terminal.emit)
    with connected(environment, redactor=redactor) as hosts:
        report = wait_all(
            hosts,
            environment,
            limit,
            service or None,
            expected=_released(environment),
            emit=terminal.emit,
            redact=redactor.redact,
        )
    terminal.result({"environment": environment.name} | report.as_data())
    terminal.say(report.sentence)


def _released(environment: Environment) -> ExpectedOf:
    """Return what each host's current release says it should run."""
    from windlass.health.polling import Expectation
    from windlass.release.facts import look
    from windlass.release.layout import layout

    def expected(host: Host) -> dict[str, Expectation] | None:
        facts = look(host, layout(environment, host.name), environment.settings.app, with_images=False)
        release = facts.releases.get(facts.current)
        if release is None:
            return None
        return {
            service: Expectation(replicas, one_shot=service in release.one_shots)
            for service, replicas in release.replicas.items()
        }

    return expected


def _show(terminal: Terminal, environment: Environment, report: Report) -> None:
    if report.services:
        terminal.table(
            f"{environment.name}: services", ("host", "service", "healthy", "state"), _service_rows(report)
        )
    if report.checks:
        terminal.table(
            f"{environment.name}: checks",
            ("host", "check", "service", "state", "detail"),
            _check_rows(report),
        )


def _service_rows(report: Report) -> Iterable[tuple[str, ...]]:
    for each in report.services:
        count = str(each.healthy) if each.expected is None else f"{each.healthy} of {each.expected}"
        yield each.host, each.service, count, each.detail or "healthy"


def _check_rows(report: Report) -> Iterable[tuple[str, ...]]:
    for each in report.checks:
        state = "passed" if each.ok else "failed"
        yield each.host, each.name, each.service or "", f"{state} ({each.seconds:.2f} s)", each.detail


def _duration(text: str) -> float:
    from windlass.errors import ConfigurationError
    from windlass.fields import parse_duration

    try:
        return float(str(parse_duration(text)))
    except ValueError as error:
        raise ConfigurationError(f"--seconds {text}: {error}.") from None


namespace = Collection("health")
namespace.add_task(check)
namespace.add_task(wait)
