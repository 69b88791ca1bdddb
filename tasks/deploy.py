"""Deploy the stack, see what runs, go back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import EnvironmentTask, is_dry, task

if TYPE_CHECKING:
    from windlass.hosts.group import Hosts
    from windlass.release.deploying import Options
    from windlass.release.facts import Facts
    from windlass.release.planning import Plan
    from windlass.release.switching import Outcome

    from ._terminal import Terminal

DEPLOY_HELP = {
    "tag": "Tag of the images; without it, made from the commit.",
    "build": "Build the images first; --no-build takes those of --tag from here, the registry or the host.",
    "skip-migrate": "Leave the database migration out.",
    "take-over": "Replace what another environment runs in the same place on a host.",
    "yes": "Do not ask, even where the environment is protected.",
    "json": "Write the result as JSON to stdout and events as JSON Lines to stderr.",
}
ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
JSON_HELP = "Write JSON instead of a table."
_WHY_LENGTH = 120


def _deploy(context: Context, name: str, options: Options, *, yes: bool, as_json: bool) -> None:
    from windlass.release.deploying import Session, deploy, make_plan

    from . import _terminal

    terminal = _terminal.Terminal(as_json=as_json)
    environment = _terminal.open_environment(name)
    redactor = _terminal.redactor_of(environment)
    with _terminal.connected(environment, redactor=redactor) as hosts:
        session = Session(environment, hosts, terminal.emit, redactor)
        # Who cannot be asked is refused before any host is; who can sees first what would change.
        if not is_dry(context) and not _terminal.can_ask():
            _terminal.confirm(environment, f"deploy.{name}", yes=yes)
        prepared = make_plan(session, options)
        if is_dry(context):
            _show_plan(terminal, prepared.plan, scripts=True)
            return
        _show_changes(terminal, prepared.plan)
        _terminal.confirm(environment, f"deploy.{name}", yes=yes)
        _finish(terminal, deploy(session, prepared))


def _finish(terminal: Terminal, outcome: Outcome) -> None:
    """Show what every host was and is, then raise what went wrong."""
    data = {
        "release": outcome.release,
        "ok": outcome.error is None,
        "error": None if outcome.error is None else outcome.error.message,
        "hosts": [vars(row) for row in outcome.rows],
    }
    terminal.result(data)
    rows = [(row.host, row.was or "-", row.now or "-", row.state) for row in outcome.rows]
    terminal.table("", ("host", "was", "is", "state"), rows)
    if outcome.error is not None:
        raise outcome.error


def _show_changes(terminal: Terminal, plan: Plan) -> None:
    rows = [
        (host, change.service, change.kind, change.reason)
        for host, changes in plan.changes.items()
        for change in changes
    ]
    terminal.table(
        f"{plan.action} of {plan.release} to {plan.environment} ({plan.strategy})",
        ("host", "service", "change", "why"),
        rows,
    )
    if plan.unchanged:
        unknown = any(each.reason for changes in plan.changes.values() for each in changes)
        but = ", unless a build makes another image" if unknown else ": every service runs as planned"
        terminal.say(f"Nothing would change{but}.")


def _show_plan(terminal: Terminal, plan: Plan, *, scripts: bool) -> None:
    terminal.result(plan.as_data())
    _show_changes(terminal, plan)
    terminal.table("", ("phase", "host", "step"), [(each.phase, each.host, each.what) for each in plan.steps])
    if scripts:
        for each in plan.steps:
            if each.script:
                terminal.say(f"\n# {each.phase} on {each.host}\n{each.script}")


def environment_task(name: str) -> EnvironmentTask:
    """Return the task that deploys to one environment."""

    def body(
        context: Context,
        tag: str = "",
        build: bool = True,
        skip_migrate: bool = False,
        take_over: bool = False,
        yes: bool = False,
        json: bool = False,
    ) -> None:
        from windlass.release.deploying import Options

        options = Options(tag=tag, build=build, skip_migrate=skip_migrate, take_over=take_over)
        _deploy(context, name, options, yes=yes, as_json=json)

    body.__doc__ = f"Deploy the stack to {name}: build, ship, migrate, start, check, or put back what ran."
    return EnvironmentTask(body, action="deploy", environment=name, help=DEPLOY_HELP)


@task(
    help={"env": ENV_HELP, "tag": DEPLOY_HELP["tag"], "scripts": "Show the scripts too.", "json": JSON_HELP}
)
def plan(context: Context, env: str = "", tag: str = "", scripts: bool = False, json: bool = False) -> None:
    """Show what a deploy would change on every host; changes nothing."""
    from windlass.release.deploying import Options, Session, make_plan

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env or None)
    redactor = _terminal.redactor_of(environment)
    with _terminal.connected(environment, redactor=redactor) as hosts:
        session = Session(environment, hosts, terminal.emit, redactor)
        prepared = make_plan(session, Options(tag=tag))
    _show_plan(terminal, prepared.plan, scripts=scripts)


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def status(context: Context, env: str = "", json: bool = False) -> None:
    """Say what runs on every host now, who holds the lock, and whether a deploy was interrupted."""
    from windlass.errors import OperationFailed
    from windlass.hosts.group import raise_first
    from windlass.release.facts import as_data, look
    from windlass.release.layout import layout

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json, quiet=True)
    environment = _terminal.open_hosts(env or None)
    project = environment.settings.app
    with _terminal.connected(environment) as hosts:
        results = hosts.map(
            lambda host: look(host, layout(environment, host.name), project, with_images=False)
        )
    known = [result.unwrap() for result in results if result.ok]
    terminal.result(
        [
            as_data(result.unwrap()) if result.ok else {"host": result.host.name, "error": str(result.error)}
            for result in results
        ]
    )
    rows = [row for facts in known for row in _running_rows(facts)]
    rows += [(result.host.name, "-", "not reached", "-", "-") for result in results if not result.ok]
    columns = ("host", "service", "state", "health", "release")
    terminal.table(f"{project} in {environment.name}", columns, rows)
    for facts in known:
        for line in _state_lines(facts):
            terminal.say(f"{facts.host}: {line}")
    raise_first(results)
    silent = ", ".join(facts.host for facts in known if facts.docker_fault)
    if silent:
        raise OperationFailed(f"What runs on {silent} is not known: Docker does not answer there.")


def _running_rows(facts: Facts) -> list[tuple[str, ...]]:
    nothing = (facts.host, "-", "unknown" if facts.docker_fault else "nothing runs", "-", "-")
    return [
        (
            facts.host,
            state.service,
            state.status,
            state.health or "-",
            facts.release_of(state.service) or "?",
        )
        for state in facts.containers
    ] or [nothing]


def _state_lines(facts: Facts) -> list[str]:
    """Return what is to be said of a host beside what runs there."""
    lines = [f"current {facts.current or 'none'}, previous {facts.previous or 'none'}"]
    if facts.docker_fault:
        lines.append(f"its Docker Engine does not answer: {facts.docker_fault}")
    if facts.owner is not None and facts.owner.alive:
        lines.append(f"locked by {facts.owner}")
    if facts.working and facts.owner is None:
        lines.append("a script of an earlier deploy still runs; the next waits for it")
    if (run := facts.interrupted) is not None:
        back = f", or go back with `inv deploy.rollback --to {facts.current}`" if facts.current else ""
        lines.append(
            f"the {run.action} of {run.release} by {run.who} was interrupted {run.where} ({run.ended});"
            f" deploy again{back}"
        )
    return lines


@task(help={"env": ENV_HELP, "limit": "How many to show.", "json": JSON_HELP})
def history(context: Context, env: str = "", limit: str = "20", json: bool = False) -> None:
    """List the deploys and rollbacks of every host: when, what, who, and how each ended."""
    import textwrap

    from windlass.release.deploying import look_all

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json, quiet=True)
    shown = _terminal.whole_number("--limit", limit, least=1)
    environment = _terminal.open_hosts(env or None)
    with _terminal.connected(environment) as hosts:
        facts = look_all(environment, hosts, with_images=False)
    rows = []
    data = []
    for each in facts.values():
        for run in list(reversed(each.runs))[:shown]:
            state = "running" if each.is_busy(run) else run.state
            commit = each.releases[run.release].commit[:12] if run.release in each.releases else ""
            data.append(vars(run) | {"host": each.host, "commit": commit, "state": state})
            why = textwrap.shorten(run.detail, _WHY_LENGTH, placeholder=" …")
            rows.append((each.host, run.started, run.action, run.release, state, commit, run.who, why))
    terminal.result(data)
    columns = ("host", "started", "action", "release", "ended", "commit", "who", "why")
    terminal.table(f"deploys of {environment.name}", columns, rows)


@task(
    help={
        "env": ENV_HELP,
        "service": "Only this service; may be given several times.",
        "tail": "Lines per container to begin with.",
        "follow": "Go on until Ctrl-C.",
        "since": "Only newer than this, such as 10m or 2026-03-01T12:00:00Z.",
    },
    iterable=("service",),
)
def logs(
    context: Context,
    env: str = "",
    service: list[str] | None = None,
    tail: str = "100",
    follow: bool = False,
    since: str = "",
) -> None:
    """Show the services' logs of every host, secrets masked."""
    from windlass.engines import compose
    from windlass.shell import NO_LIMIT, Script

    from . import _terminal

    del context
    terminal = _terminal.Terminal()
    lines = _terminal.whole_number("--tail", tail)
    environment = _terminal.open_environment(env or None)
    command = compose.logs(environment.settings.app, service or [], tail=lines, follow=follow, since=since)
    script = Script.of("show the logs", command.quoted(), timeout=NO_LIMIT if follow else 120)
    redactor = _terminal.project_redactor(environment, terminal.emit)
    with _terminal.connected(environment, redactor=redactor) as hosts:
        if service:
            _require_services(hosts, environment.settings.app, service)
        several = len(hosts) > 1

        def show(host: object) -> None:
            prefix = f"{host.name} " if several else ""  # type: ignore[attr-defined]
            host.run(  # type: ignore[attr-defined]
                script, on_line=lambda line: terminal.say(prefix + line), keep=False
            )

        # All at once: one that is followed does not end and make room for the next.
        for result in hosts.map(show, parallel=len(hosts)):
            result.unwrap()


def _require_services(hosts: Hosts, app: str, wanted: Sequence[str]) -> None:
    """Refuse a service that has no container on any host: Compose would show nothing and say nothing."""
    from windlass.engines import compose
    from windlass.health.checks import unknown_service
    from windlass.shell import Script

    script = Script.of("list the services", compose.running_services(app).quoted(), timeout=30)
    found = {
        name for each in hosts.map(lambda host: host.run(script).text) for name in each.unwrap().splitlines()
    }
    for name in wanted:
        if name not in found:
            raise unknown_service(name, found)


@task(help={"env": ENV_HELP, "yes": DEPLOY_HELP["yes"], "json": JSON_HELP})
def unlock(context: Context, env: str = "", yes: bool = False, json: bool = False) -> None:
    """End a hold of the deploy lock that should not be there; says whose it was."""
    from windlass.release.layout import layout
    from windlass.release.lock import unlock as end_hold

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_hosts(env or None)
    if is_dry(context):
        terminal.result({"would_unlock": list(environment.settings.hosts)})
        terminal.say(f"would end the hold of the lock on: {', '.join(environment.settings.hosts)}")
        return
    _terminal.confirm(environment, "deploy.unlock", yes=yes)
    with _terminal.connected(environment) as hosts:
        results = hosts.map(lambda host: end_hold(host, layout(environment, host.name)))
    owners = {result.host.name: result.unwrap() for result in results}
    terminal.result({name: None if owner is None else str(owner) for name, owner in owners.items()})
    for name, owner in owners.items():
        terminal.say(f"{name}: " + ("was not locked" if owner is None else f"ended the hold of {owner}"))


@task(
    help={
        "env": ENV_HELP,
        "to": "The release to go to; without it, the newest that ran well before the current one.",
        "yes": DEPLOY_HELP["yes"],
        "json": DEPLOY_HELP["json"],
    }
)
def rollback(context: Context, env: str = "", to: str = "", yes: bool = False, json: bool = False) -> None:
    """Go back to a release that ran well, with its own images, files and variables; not the database."""
    from windlass.release.rolling_back import plan_rollback, roll_back

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env or None)
    redactor = _terminal.project_redactor(environment, terminal.emit)
    with _terminal.connected(environment, redactor=redactor) as hosts:
        if not is_dry(context):
            _terminal.confirm(environment, "deploy.rollback", yes=yes)
        planned, facts = plan_rollback(environment, hosts, to, terminal.emit)
        if is_dry(context):
            _show_plan(terminal, planned, scripts=True)
            return
        _finish(terminal, roll_back(environment, hosts, planned, facts, terminal.emit, redactor.redact))


def _environment_names() -> tuple[str, ...]:
    """Return the environments found from here upwards; none outside a project.

    Runs at every start of `inv`, so it reads names of files and nothing else.
    """
    from windlass.environment.loading import RESERVED, find_root, names
    from windlass.errors import ConfigurationError

    try:
        found = names(find_root(Path.cwd()))
    except ConfigurationError:
        return ()
    # `env.check` says that a name is taken; a list of tasks is no place for it.
    return tuple(name for name in found if name not in RESERVED)


namespace = Collection("deploy", plan, status, history, logs, unlock, rollback)
for _name in _environment_names():
    namespace.add_task(environment_task(_name))
