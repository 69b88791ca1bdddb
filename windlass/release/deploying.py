"""The pipeline of a deploy: plan, preflight, lock, build, ship, stage, migrate, up, health, smoke, record.

Up to `migrate` nothing a user can notice happens, so a failure there changes nothing. From `up` on,
hosts go one by one; the first that fails is put back to the release it ran, and so are those before
it, newest first. The database is never put back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from windlass.environment.environment import Environment
from windlass.environment.model import DeploySettings, MigrateSettings
from windlass.errors import CommandFailed, LinkDropped, Locked, OperationFailed, WindlassError
from windlass.events import Emit, Notice, Output
from windlass.hosts.base import Host
from windlass.hosts.group import Hosts, raise_first
from windlass.identity import who
from windlass.images.building import build
from windlass.images.naming import default_tag
from windlass.progress import phase, step
from windlass.release import planning, scripts
from windlass.release.delivery import Delivery, built_references
from windlass.release.facts import KEY_BYTES, Facts, look
from windlass.release.layout import MIGRATE_LOG, Layout, layout
from windlass.release.lock import DeployLock, acquire_all
from windlass.release.planning import PlannedStep
from windlass.release.preparing import Bundle, Candidate, bundle, prepare, project_secrets
from windlass.release.switching import Outcome, Target, has_smoke, switch
from windlass.secrets.redaction import Redactor
from windlass.shell import Script

STAGE_TIMEOUT = 600.0
_NO_LOCK_YET = "<lock>"
_NO_RETURN = (
    "the secrets of the running release were kept in memory and are gone: should this deploy fail, "
    "it cannot be put back by itself"
)


@dataclass(frozen=True)
class Options:
    """What a deploy was asked for.

    Args:
        tag: the image tag; empty: made from the commit.
        build: whether images are built; without, they must be here, in the registry or on the host.
        skip_migrate: leave the migration out.
        take_over: replace the release of another environment that runs on a host.
    """

    tag: str = ""
    build: bool = True
    skip_migrate: bool = False
    take_over: bool = False


@dataclass(frozen=True)
class Session:
    """Where a deploy happens and who is told.

    Args:
        environment: the environment.
        hosts: its hosts.
        emit: told what happens.
        redactor: takes secrets out of what commands say; learns those of the Compose project.
    """

    environment: Environment
    hosts: Hosts
    emit: Emit
    redactor: Redactor


@dataclass(frozen=True)
class Prepared:
    """A deploy ready to be carried out.

    Args:
        candidate: the release.
        facts: what was true on each host.
        bundles: the release rendered for each host.
        key: the key of content hashes the hosts share.
        options: what was asked for.
        plan: what will be done.
    """

    candidate: Candidate
    facts: Mapping[str, Facts]
    bundles: Mapping[str, Bundle]
    key: bytes
    options: Options
    plan: planning.Plan


def make_plan(session: Session, options: Options) -> Prepared:
    """Find out what a deploy would do; changes nothing.

    Raises:
        ConfigurationError: the environment or the stack is invalid.
        PreflightFailed: a host is not fit for it.
        HostUnreachable: a host cannot be reached.
    """
    environment, emit = session.environment, session.emit
    with phase(emit, "plan") as detail:
        tag = options.tag or default_tag(environment.root)
        candidate = prepare(environment, tag, datetime.now(UTC))
        session.redactor.learn(project_secrets(candidate.stack))
        facts = look_all(environment, session.hosts)
        key = _key(facts.values())
        detail.text = f"release {candidate.id}"
    for finding in candidate.warnings:
        emit(Notice("warning", f"{finding.service or 'stack'}: {finding.message}"))
    with phase(emit, "preflight"):
        planning.preflight(environment, facts.values(), take_over=options.take_over)
    bundles = {name: bundle(environment, candidate, each.directory, key) for name, each in facts.items()}
    plan = planning.Plan(
        environment=environment.name,
        action="deploy",
        release=candidate.id,
        tag=candidate.tag,
        strategy=environment.settings.deploy.strategy,
        was={name: each.current for name, each in facts.items()},
        changes={
            name: planning.changes(bundles[name].meta, each, builds=options.build)
            for name, each in facts.items()
        },
        steps=(),
        notes=next(iter(bundles.values())).notes,
        warnings=tuple(f"{each.service or 'stack'}: {each.message}" for each in candidate.warnings),
    )
    for text in plan.notes:
        emit(Notice("info", text))
    prepared = Prepared(candidate, facts, bundles, key, options, plan)
    return _with_steps(environment, prepared)


def look_all(environment: Environment, hosts: Hosts, *, with_images: bool = True) -> dict[str, Facts]:
    """Ask every host what is true, all at once.

    Raises:
        WindlassError: a host could not be asked; every one that failed is named.
    """
    project = environment.settings.app
    results = hosts.map(
        lambda host: look(host, layout(environment, host.name), project, with_images=with_images)
    )
    raise_first(results)
    return {result.host.name: result.unwrap() for result in results}


def _key(facts: Iterable[Facts]) -> bytes:
    """Return the key the hosts share, a new one where no host has one."""
    for each in facts:
        if each.key:
            return each.key
    return secrets.token_bytes(KEY_BYTES)


def _with_steps(environment: Environment, prepared: Prepared) -> Prepared:
    """Add the steps to the plan, their scripts from the very builders that run."""
    settings, candidate, options = environment.settings.deploy, prepared.candidate, prepared.options
    names = list(prepared.facts)
    works = {name: _work(environment, prepared, name, _NO_LOCK_YET) for name in names}

    def of(phase_name: str, name: str, script: Script) -> PlannedStep:
        return PlannedStep(phase_name, name, script.what, str(script))

    steps = [PlannedStep("lock", name, "take the lock") for name in names]
    if options.build:
        steps += [PlannedStep("build", "here", f"build {each}") for each in built_references(candidate)]
    steps += [PlannedStep("ship", name, "give the host the images it lacks") for name in names]
    steps += [of("stage", name, _stage_script(settings, prepared, works[name], name)) for name in names]
    if settings.migrate and not options.skip_migrate:
        steps.append(of("migrate", names[0], _migrate_script(settings.migrate, prepared, works[names[0]])))
    for name in names:
        steps += [
            of("up", name, scripts.up(works[name], settings, first=_first(prepared, name))),
            PlannedStep("health", name, "wait until every service is healthy"),
        ]
        if has_smoke(environment):
            steps.append(PlannedStep("smoke", name, "run the smoke checks"))
    steps += [of("record", name, _record_script(environment, prepared, works[name], name)) for name in names]
    plan = planning.Plan(**{**vars(prepared.plan), "steps": tuple(steps)})
    return Prepared(**{**vars(prepared), "plan": plan})


def _work(environment: Environment, prepared: Prepared, host: str, token: str) -> scripts.Work:
    return scripts.Work(
        layout=Layout(prepared.facts[host].directory),
        project=environment.settings.app,
        release=prepared.candidate.id,
        action="deploy",
        who=who(),
        token=token,
        wait=scripts.patience(environment.settings.deploy),
    )


def _first(prepared: Prepared, host: str) -> tuple[str, ...]:
    return planning.one_by_one(prepared.candidate.stack, prepared.plan.changes[host])


def _stage_script(settings: DeploySettings, prepared: Prepared, work: scripts.Work, host: str) -> Script:
    bundled, facts = prepared.bundles[host], prepared.facts[host]
    return scripts.stage(
        work,
        bundled.archive,
        current=facts.current,
        directories=bundled.directories,
        files=bundled.folders,
        aliases=bundled.meta.aliases,
        key="" if facts.key else prepared.key.hex(),
        in_memory=settings.secrets_in == "memory",
        timeout=STAGE_TIMEOUT,
    )


def _migrate_script(settings: MigrateSettings, prepared: Prepared, work: scripts.Work) -> Script:
    stack, facts = prepared.candidate.stack, next(iter(prepared.facts.values()))
    # Where all it needs is up, nothing is touched before the switch, whatever the new release changes.
    ready = planning.needed_services(stack, settings.service) <= facts.ready()
    return scripts.migrate(work, settings, dependencies=not ready)


def _record_script(environment: Environment, prepared: Prepared, work: scripts.Work, host: str) -> Script:
    facts, settings = prepared.facts[host], environment.settings
    pruned = planning.doomed(facts, work.release, settings.deploy.keep_releases)
    aged = planning.without_images(facts, pruned, work.release, settings.images.keep)
    kept = planning.kept_references(facts, (*pruned, *aged), prepared.bundles[host].meta)
    return scripts.record(work, previous=facts.current, prune=pruned, without_images=aged, keep_images=kept)


def deploy(session: Session, prepared: Prepared) -> Outcome:
    """Carry out a plan.

    Returns:
        What each host was and is, and the error if it did not end well.

    Raises:
        WindlassError: before anything a user could notice was changed.
    """
    pairs = [(host, Layout(prepared.facts[host.name].directory)) for host in session.hosts]
    with phase(session.emit, "lock"):
        since = datetime.now(UTC).isoformat("T", "seconds")
        release = prepared.candidate.id
        locks = acquire_all(pairs, who=who(), action="deploy", release=release, since=since)
    try:
        return _locked(session, prepared, locks)
    finally:
        for lock in locks.values():
            lock.release()


def _locked(session: Session, prepared: Prepared, locks: Mapping[str, DeployLock]) -> Outcome:
    environment, emit, redact = session.environment, session.emit, session.redactor.redact
    candidate, options = prepared.candidate, prepared.options
    if options.build:
        with phase(emit, "build"):
            build(environment, candidate.stack, candidate.tag, emit, redact, revision=candidate.commit)
    with phase(emit, "ship") as detail:
        delivery = Delivery(environment, candidate, prepared.facts, emit, redact, built=options.build)
        detail.text = delivery.deliver(session.hosts)
    targets = [
        Target(
            host=host,
            work=_work(environment, prepared, host.name, locks[host.name].token),
            facts=prepared.facts[host.name],
            meta=prepared.bundles[host.name].meta,
            first=_first(prepared, host.name),
        )
        for host in session.hosts
    ]
    with phase(emit, "stage"):
        _stage(session, targets, prepared)
    if environment.settings.deploy.migrate and not options.skip_migrate:
        _migrate(session, targets, prepared)
    records = {
        target.host.name: _record_script(environment, prepared, target.work, target.host.name)
        for target in targets
    }
    return switch(environment, targets, records, emit, redact)


def _stage(session: Session, targets: Sequence[Target], prepared: Prepared) -> None:
    works = {target.host.name: target.work for target in targets}
    settings = session.environment.settings.deploy

    def work(host: Host) -> None:
        with step(session.emit, host.name, "stage the release"):
            script = _stage_script(settings, prepared, works[host.name], host.name)
            done = host.run(script, payload=prepared.bundles[host.name].archive)
        if scripts.NO_RETURN in done.text.split():
            session.emit(Notice("warning", f"{host.name}: {_NO_RETURN}"))

    try:
        raise_first(session.hosts.map(work))
    except WindlassError as error:
        give_up(targets, "stage", error)
        if isinstance(error, CommandFailed) and error.code == scripts.STALE:
            raise Locked("Another deploy ended after this one was planned.", "Run it again.") from None
        raise


def _migrate(session: Session, targets: Sequence[Target], prepared: Prepared) -> None:
    settings = session.environment.settings.deploy.migrate
    assert settings is not None  # noqa: S101 - the caller asked
    target = targets[0]
    name, service = target.host.name, settings.service
    try:
        with phase(session.emit, "migrate"):
            target.host.run(
                _migrate_script(settings, prepared, target.work),
                on_line=lambda line: session.emit(Output(name, service, line)),
            )
    except WindlassError as error:
        give_up(targets, "migrate", error)
        log = target.work.layout.release(target.work.release, MIGRATE_LOG)
        hint = f"Its whole log is on {name}: {log}"
        if isinstance(error, LinkDropped):
            raise LinkDropped(
                f"No service was touched, but the migration may go on: {error.message}", hint
            ) from None
        raise OperationFailed(
            f"The migration failed, so nothing was switched: {error.message}", hint
        ) from None


def give_up(targets: Sequence[Target], where: str, error: WindlassError) -> None:
    """Write down on every host that this deploy ended; a host that is gone cannot be told."""
    for target in targets:
        try:
            target.host.run(scripts.end(target.work, "failed", f"{where}: {error.message[:300]}"))
        except WindlassError:
            continue
