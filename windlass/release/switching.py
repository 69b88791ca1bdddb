"""From the old release to the new, host by host, and back when one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from windlass.environment.environment import Environment
from windlass.errors import MixedState, OperationFailed, WindlassError
from windlass.events import Emit, Notice
from windlass.health.checks import run_checks
from windlass.health.polling import Expectation, wait_until_healthy
from windlass.hosts.base import Host, Redact
from windlass.progress import phase, step
from windlass.release import scripts
from windlass.release.facts import Facts
from windlass.release.ledger import Meta
from windlass.shell import Script

State = Literal["live", "as before", "restored", "failed", "unknown"]


@dataclass(frozen=True)
class Target:
    """A host in a deploy.

    Args:
        host: the host.
        work: what its scripts share.
        facts: what was true there when the deploy was planned.
        meta: the release, as it is recorded there.
        first: services to recreate by themselves before all others.
    """

    host: Host
    work: scripts.Work
    facts: Facts
    meta: Meta
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What became of one host."""

    host: str
    was: str
    now: str
    state: State


@dataclass(frozen=True)
class Outcome:
    """How a deploy ended.

    Args:
        release: the release.
        rows: what each host was and is.
        error: why it did not end well; None when it did.
    """

    release: str
    rows: tuple[Row, ...]
    error: WindlassError | None = None


def expectations(meta: Meta) -> dict[str, Expectation]:
    """Return what every service of a release must come to."""
    return {
        service: Expectation(
            replicas=meta.replicas.get(service, 1),
            one_shot=service in meta.one_shots,
            config=meta.hashes.get(service),
        )
        for service in meta.hashes
    }


def has_smoke(environment: Environment) -> bool:
    """Whether the environment has checks a deploy runs."""
    return any(check.smoke for check in environment.settings.health.checks.values())


def switch(
    environment: Environment,
    targets: Sequence[Target],
    records: Mapping[str, Script],
    emit: Emit,
    redact: Redact,
) -> Outcome:
    """Make the release run on every host, one after another, and record it once all are good.

    Args:
        environment: the environment.
        targets: the hosts, in order.
        records: the script that ends the deploy on each host.
        emit: told what happens.
        redact: takes secrets out of what checks find.
    """
    release = targets[0].work.release
    begun: list[Target] = []
    try:
        for target in targets:
            begun.append(target)
            _start(environment, target, emit, redact)
    except WindlassError as error:
        return _go_back(environment, targets, begun, error, emit)
    except KeyboardInterrupt:
        return _go_back(environment, targets, begun, OperationFailed("It was interrupted."), emit)
    except BaseException as error:
        # Whatever it is, no host is left half way.
        _go_back(environment, targets, begun, OperationFailed(f"A defect: {type(error).__name__}."), emit)
        raise
    with phase(emit, "record"):
        failures = {target.host.name: _record(target, records[target.host.name], emit) for target in targets}
    rows = tuple(
        Row(
            each.host.name,
            each.facts.current,
            "?" if failures[each.host.name] else release,
            "unknown" if failures[each.host.name] else "live",
        )
        for each in targets
    )
    failed = [f"{name}: {error.message.splitlines()[0]}" for name, error in failures.items() if error]
    if not failed:
        return Outcome(release, rows)
    unrecorded = MixedState(
        "The release runs and is healthy, but could not be recorded everywhere: " + "; ".join(failed),
        "`inv deploy.status` says what is true; deploy again once the cause is gone.",
    )
    return Outcome(release, rows, unrecorded)


def _record(target: Target, script: Script, emit: Emit) -> WindlassError | None:
    """Record the release on one host; an error keeps no other host from being recorded."""
    try:
        target.host.run(script)
    except WindlassError as error:
        emit(Notice("error", str(error)))
        return error
    return None


def _start(environment: Environment, target: Target, emit: Emit, redact: Redact) -> None:
    settings = environment.settings.deploy
    name = target.host.name
    with phase(emit, "up"), step(emit, name, "start the release"):
        target.host.run(scripts.up(target.work, settings, target.meta.aliases, target.first))
    with phase(emit, "health"):
        _wait(environment, target.host, target.meta, emit)
    if has_smoke(environment):
        with phase(emit, "smoke") as detail:
            detail.text = _smoke(environment, target.host, redact)


def _wait(environment: Environment, host: Host, meta: Meta, emit: Emit) -> None:
    settings = environment.settings.deploy
    wait_until_healthy(
        host,
        environment.settings.app,
        expectations(meta),
        settings.health_timeout,
        interval=settings.poll_interval,
        polls=settings.healthy_polls,
        emit=emit,
    )


def _smoke(environment: Environment, host: Host, redact: Redact) -> str:
    results = run_checks([host], environment, smoke=True, redact=redact)
    bad = [f"{result.name}: {result.detail}" for result in results if not result.ok]
    if bad:
        raise OperationFailed(f"{host.name}: smoke checks failed: " + "; ".join(bad))
    return "1 check" if len(results) == 1 else f"{len(results)} checks"


def _go_back(
    environment: Environment,
    targets: Sequence[Target],
    begun: Sequence[Target],
    error: WindlassError,
    emit: Emit,
) -> Outcome:
    """Put every host that was begun back to the release it ran, newest first."""
    emit(Notice("error", str(error)))
    rows: dict[str, Row] = {}
    with phase(emit, "restore"):
        for target in reversed(begun):
            rows[target.host.name] = _restore(environment, target, error, emit)
    for target in targets:
        if target.host.name not in rows:
            rows[target.host.name] = _untouched(target, error)
    ordered = tuple(rows[target.host.name] for target in targets)
    return Outcome(targets[0].work.release, ordered, _verdict(ordered, error))


def _restore(environment: Environment, target: Target, error: WindlassError, emit: Emit) -> Row:
    name, previous = target.host.name, target.facts.current
    reason = error.message[:300]
    try:
        if previous not in target.facts.releases:
            target.host.run(scripts.end(target.work, "failed", reason))
            return Row(name, previous, target.work.release, "failed")
        with step(emit, name, f"put {previous} back"):
            target.host.run(
                scripts.restore(target.work, target.facts.releases[previous], environment.settings.deploy)
            )
            _wait(environment, target.host, target.facts.releases[previous], emit)
    except WindlassError as second:
        emit(Notice("error", f"{name}: {second}"))
        return Row(name, previous, "?", "unknown")
    try:
        target.host.run(scripts.end(target.work, "done", reason, phase="restore"))
    except WindlassError as second:
        emit(Notice("warning", f"{name}: {previous} is back, which could not be written down: {second}"))
    return Row(name, previous, previous, "restored")


def _untouched(target: Target, error: WindlassError) -> Row:
    try:
        target.host.run(scripts.end(target.work, "failed", f"another host failed: {error.message[:200]}"))
    except WindlassError:
        return Row(target.host.name, target.facts.current, target.facts.current, "unknown")
    return Row(target.host.name, target.facts.current, target.facts.current, "as before")


def _verdict(rows: Sequence[Row], error: WindlassError) -> WindlassError:
    reason = error.message.splitlines()[0]  # the whole was told when it happened
    if all(row.state in {"restored", "as before"} for row in rows):
        return OperationFailed(
            f"The release failed and every host runs what it ran before: {reason}", error.hint
        )
    if len(rows) == 1 and rows[0].state == "failed":
        return OperationFailed(
            f"The first release failed and there is none to go back to: {reason}",
            "Its containers are left for `inv deploy.logs`; mend it and deploy again.",
        )
    return MixedState(
        f"The release failed and not every host could be put back: {reason}",
        "The table says what each host runs; `inv deploy.status` asks them again.",
    )
