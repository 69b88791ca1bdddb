"""Runs the checks of `[health.checks]` from the hosts, and asks for the state of their containers.

A check ends in a result, whatever happens: a host that is down is a failed check, not an error.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from windlass.environment.environment import Environment
from windlass.environment.model import Check, CommandCheck, HttpCheck, TcpCheck
from windlass.errors import ConfigurationError, HostUnreachable, LinkDropped, WindlassError
from windlass.health.containers import ContainerState, list_line, parse_states, plain, state_lines
from windlass.health.web import CheckFailed, connection_sentence, request
from windlass.hosts.base import Host, Redact
from windlass.hosts.framing import TIMED_OUT
from windlass.secrets.redaction import Redactor
from windlass.shell import Command, Script, reveal

_STATES_TIMEOUT: Final = 30.0
_DETAIL_LIMIT: Final = 300
_NO_CONTAINER: Final = 125
_MARK: Final = re.compile(r"\n@@windlass [0-9a-f]+\n")


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Args:
        name: the check's key in `[health.checks]`; `host` for a host that could not be asked.
        service: the service it speaks for, if any.
        host: from where it was made.
        ok: whether all is as expected.
        detail: what was found, redacted.
        seconds: how long it took.
    """

    name: str
    service: str | None
    host: str
    ok: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """The containers of an application on one host.

    Args:
        host: the host's name.
        states: its containers.
        now: the host's clock, seconds since the epoch.
        error: why it could not be asked, naming the host; empty when it could.
        unreachable: whether that is since there is no link to it.
        seconds: how long that took.
    """

    host: str
    states: tuple[ContainerState, ...] = ()
    now: float = 0.0
    error: str = ""
    unreachable: bool = False
    seconds: float = 0.0


def take_snapshot(host: Host, project: str) -> Snapshot:
    """Ask a host for the state of a project's containers; an error becomes part of the answer."""
    script = Script.of(
        "look at the containers",
        *state_lines(project),
        r"printf '== %(%s)T\n' -1",
        timeout=_STATES_TIMEOUT,
    )
    began = time.monotonic()
    try:
        lines, _, now = host.run(script).text.rpartition("== ")
        states = parse_states(lines)
    except WindlassError as error:
        lost = isinstance(error, HostUnreachable | LinkDropped)
        seconds = time.monotonic() - began
        return Snapshot(host.name, error=error.message, unreachable=lost, seconds=seconds)
    return Snapshot(host.name, states, float(now), seconds=time.monotonic() - began)


def run_checks(
    hosts: Iterable[Host],
    environment: Environment,
    *,
    service: str | None = None,
    smoke: bool = False,
    unreachable: Mapping[str, str] | None = None,
    redact: Redact | None = None,
) -> tuple[CheckResult, ...]:
    """Run the environment's checks from every host, several at a time.

    Args:
        hosts: from where.
        environment: its checks, and the variables secret headers take their values from.
        service: only the checks that speak for this service.
        smoke: only the checks with `smoke = true`, as a deploy does.
        unreachable: host to the reason why it cannot be asked; its checks fail with that.
        redact: takes secrets out of what is found, such as those of the Compose project; without it, only
            those of the environment.

    Returns:
        One result for each host and check, in the order of the file.
    """
    chosen = {
        name: check
        for name, check in environment.settings.health.checks.items()
        if (service is None or check.service == service) and (check.smoke or not smoke)
    }
    jobs = [(host, name, check) for host in hosts for name, check in chosen.items()]
    if not jobs:
        return ()
    down = unreachable or {}
    shown = _redactor(environment, redact)

    def work(job: tuple[Host, str, Check]) -> CheckResult:
        host, name, check = job
        if host.name in down:
            return CheckResult(name, check.service, host.name, False, down[host.name], 0.0)
        return run_check(host, name, check, environment, shown)

    with ThreadPoolExecutor(min(environment.settings.deploy.parallel_hosts, len(jobs))) as pool:
        return tuple(pool.map(work, jobs))


def run_check(host: Host, name: str, check: Check, environment: Environment, redact: Redact) -> CheckResult:
    """Run one check from one host; `redact` takes secrets out of what it found."""
    began = time.monotonic()
    try:
        ok, detail = True, _found(host, check, environment)
    except CheckFailed as error:
        ok, detail = False, str(error)
    except WindlassError as error:
        ok, detail = False, error.message
    # Redacted before it is cut: a secret cut in two would pass.
    shown = plain(redact(detail))[:_DETAIL_LIMIT]
    return CheckResult(name, check.service, host.name, ok, shown, time.monotonic() - began)


def _found(host: Host, check: Check, environment: Environment) -> str:
    match check:
        case HttpCheck():
            return request(host, check, _secret_headers(check, environment))
        case TcpCheck():
            return _connect(host, check)
        case CommandCheck():
            return _execute(host, check, environment.settings.app)


def _secret_headers(check: HttpCheck, environment: Environment) -> dict[str, str]:
    absent = [name for name in check.secret_headers.values() if name not in environment.variables]
    if absent:
        raise CheckFailed(f"the variable {absent[0]} of a secret header is not set")
    return {
        header: reveal(environment.variables[name].value) for header, name in check.secret_headers.items()
    }


def _redactor(environment: Environment, redact: Redact | None) -> Redact:
    # What goes into a secret header is secret, whatever its variable's name says.
    headers = {
        reveal(environment.variables[name].value)
        for check in environment.settings.health.checks.values()
        if isinstance(check, HttpCheck)
        for name in check.secret_headers.values()
        if name in environment.variables
    }
    own = Redactor([*environment.secrets.values(), *headers]).redact
    # The one given first: what it looks for may hold a secret of ours in its middle.
    return own if redact is None else lambda text: own(redact(text))


def _connect(host: Host, check: TcpCheck) -> str:
    place = f"{check.address}:{check.port}"
    try:
        host.dial(check.address, check.port, check.timeout).close()
    except OSError as error:
        raise CheckFailed(connection_sentence(error, place)) from None
    return f"{place} accepts connections"


def command_script(check: CommandCheck, project: str) -> Script:
    """Return the script that runs a check's command in every running container of its service."""
    service = check.service or ""
    command = Command(tuple(check.command)).quoted()
    return Script.of(
        f"run a check in {service}",
        list_line(project, service=service, running_only=True),
        f'[ -n "$ids" ] || exit {_NO_CONTAINER}',
        "for id in $ids; do",
        'printf "\\n@@windlass %s\\n" "$id"',
        f'docker exec -i "$id" {command} 2>&1 </dev/null || exit',
        "done",
        timeout=check.timeout,
    )


def _execute(host: Host, check: CommandCheck, project: str) -> str:
    if not check.service:
        raise CheckFailed("the check names no service to run its command in")
    began = time.monotonic()
    completed = host.run(command_script(check, project), check=False)
    outputs = _MARK.split("\n" + completed.text)[1:]
    if completed.code == _NO_CONTAINER and not outputs:
        raise CheckFailed(f"{check.service} has no running container")
    if completed.code == TIMED_OUT and time.monotonic() - began >= check.timeout:
        raise CheckFailed(f"the command did not end within {check.timeout:g} s")
    if completed.code != 0:
        said = _last_line(outputs[-1] if outputs else completed.stderr.decode(errors="replace"))
        raise CheckFailed(f"the command ended with code {completed.code}" + (f": {said}" if said else ""))
    lacking = [output for output in outputs if check.expect is not None and check.expect not in output]
    if lacking:
        raise CheckFailed(f"the output has no {check.expect!r}, its last line is: {_last_line(lacking[0])}")
    return "the command ended with code 0"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")


def unknown_service(service: str, known: Iterable[str]) -> ConfigurationError:
    """Return the error for a service that neither runs nor has a check."""
    names = sorted(set(known))
    near = difflib.get_close_matches(service, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Services: {', '.join(names) or 'none'}."
    return ConfigurationError(f"There is no service {service}.", hint)
