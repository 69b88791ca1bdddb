"""Back to a release that ran well: the same pipeline, with what is stored on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from windlass.environment.environment import Environment
from windlass.errors import CommandFailed, ConfigurationError, Locked, OperationFailed, WindlassError
from windlass.events import Emit
from windlass.hosts.base import Redact
from windlass.hosts.group import Hosts
from windlass.identity import who
from windlass.progress import phase
from windlass.release import planning, scripts
from windlass.release.delivery import has_reference
from windlass.release.deploying import give_up, look_all
from windlass.release.facts import Facts
from windlass.release.layout import Layout
from windlass.release.lock import acquire_all
from windlass.release.switching import Outcome, Target, has_smoke, switch


def plan_rollback(
    environment: Environment, hosts: Hosts, to: str, emit: Emit
) -> tuple[planning.Plan, dict[str, Facts]]:
    """Find out what a rollback would do; changes nothing.

    Args:
        environment: the environment.
        hosts: its hosts.
        to: the release to go to; empty: the current one after an interrupted deploy, else the newest
            that ran well before it.
        emit: told what happens.

    Raises:
        OperationFailed: there is no such release on every host, or its images are gone.
    """
    with phase(emit, "plan") as detail:
        facts = look_all(environment, hosts)
        target = to or _choose(facts)
        for each in facts.values():
            _require(each, target)
        detail.text = f"release {target}"
    with phase(emit, "preflight"):
        planning.preflight(environment, facts.values())
    metas = {name: each.releases[target] for name, each in facts.items()}
    steps = [planning.PlannedStep("lock", name, "take the lock") for name in facts]
    for name, each in facts.items():
        work = _work(environment, each, target, "<lock>")
        begin = scripts.begin(work, each.current)
        up = scripts.up(work, environment.settings.deploy, metas[name].aliases)
        record = scripts.record(work, previous=each.current)
        steps += [planning.PlannedStep("begin", name, begin.what, str(begin))]
        steps += [planning.PlannedStep("up", name, up.what, str(up))]
        steps += [planning.PlannedStep("health", name, "wait until every service is healthy")]
        if has_smoke(environment):
            steps += [planning.PlannedStep("smoke", name, "run the smoke checks")]
        steps += [planning.PlannedStep("record", name, record.what, str(record))]
    plan = planning.Plan(
        environment=environment.name,
        action="rollback",
        release=target,
        tag=next(iter(metas.values())).tag,
        strategy=environment.settings.deploy.strategy,
        was={name: each.current for name, each in facts.items()},
        changes={name: planning.changes(metas[name], each) for name, each in facts.items()},
        steps=tuple(steps),
        notes=("The database stays as it is: migrations are not undone.",),
    )
    return plan, facts


def _choose(facts: Mapping[str, Facts]) -> str:
    first = next(iter(facts.values()))
    if first.interrupted is not None and first.current not in {"", first.interrupted.release}:
        return first.current  # what was interrupted never became the current one: back is where it was
    target = planning.last_good(first, besides=first.current)
    if not target:
        raise OperationFailed(
            f"{first.host} has no earlier release that ran well.", "`inv deploy.history` lists what it has."
        )
    return target


def _require(facts: Facts, target: str) -> None:
    if target not in facts.releases:
        known = ", ".join(sorted(facts.releases, reverse=True)) or "none"
        raise ConfigurationError(f"{facts.host} does not keep the release {target}.", f"It keeps: {known}.")
    meta = facts.releases[target]
    images = {meta.aliases.get(reference, reference) for reference in meta.images.values()}
    lacking = sorted(each for each in images if not has_reference(facts.images, each))
    if lacking:
        raise OperationFailed(
            f"{facts.host} no longer has the images of {target}: {', '.join(lacking)}.",
            f"Deploy the commit {meta.commit[:12] or 'it was made from'} anew.",
        )


def _work(environment: Environment, facts: Facts, release: str, token: str) -> scripts.Work:
    return scripts.Work(
        layout=Layout(facts.directory),
        project=environment.settings.app,
        release=release,
        action="rollback",
        who=who(),
        token=token,
        wait=scripts.patience(environment.settings.deploy),
    )


def _begin(targets: Sequence[Target]) -> None:
    try:
        for target in targets:
            target.host.run(scripts.begin(target.work, target.facts.current))
    except WindlassError as error:
        give_up(targets, "begin", error)
        if isinstance(error, CommandFailed) and error.code == scripts.STALE:
            raise Locked("Another deploy ended after this rollback was planned.", "Run it again.") from None
        raise


def roll_back(
    environment: Environment,
    hosts: Hosts,
    plan: planning.Plan,
    facts: Mapping[str, Facts],
    emit: Emit,
    redact: Redact,
) -> Outcome:
    """Carry out a planned rollback; see `deploying.deploy`."""
    pairs = [(host, Layout(facts[host.name].directory)) for host in hosts]
    with phase(emit, "lock"):
        since = datetime.now(UTC).isoformat("T", "seconds")
        locks = acquire_all(pairs, who=who(), action="rollback", release=plan.release, since=since)
    try:
        targets = [
            Target(
                host=host,
                work=_work(environment, facts[host.name], plan.release, locks[host.name].token),
                facts=facts[host.name],
                meta=facts[host.name].releases[plan.release],
            )
            for host in hosts
        ]
        _begin(targets)
        records = {
            target.host.name: scripts.record(target.work, previous=target.facts.current) for target in targets
        }
        return switch(environment, targets, records, emit, redact)
    finally:
        for lock in locks.values():
            lock.release()
