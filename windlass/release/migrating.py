"""The configured migration on its own: with what the live release is made of, under the deploy lock."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from windlass.environment.environment import Environment
from windlass.environment.model import MigrateSettings
from windlass.errors import ConfigurationError, OperationFailed, WindlassError
from windlass.events import Emit, Output
from windlass.hosts.base import Host
from windlass.identity import who
from windlass.progress import phase
from windlass.release import scripts
from windlass.release.facts import Facts, look
from windlass.release.layout import Layout, layout
from windlass.release.lock import acquire_all
from windlass.shell import Script

ACTION = "migrate"


def plan_migration(environment: Environment, host: Host) -> tuple[Script, Facts]:
    """Return the script a migration would run, and what is true on the host; changes nothing.

    Raises:
        ConfigurationError: the environment has no migration.
        OperationFailed: no release is live on the host.
    """
    settings = _configured(environment)
    facts = look(host, layout(environment, host.name), environment.settings.app, with_images=False)
    if not facts.current:
        raise OperationFailed(f"No release is live on {host.name}.", "Deploy one first.")
    return scripts.migrate(_work(environment, facts, "<lock>"), settings), facts


def migrate(environment: Environment, host: Host, facts: Facts, emit: Emit) -> None:
    """Run the migration of the live release on a host; one host does it for all.

    Raises:
        Locked: a deploy is under way.
        CommandFailed: the migration failed or took too long; no service was touched.
    """
    settings = _configured(environment)
    since = datetime.now(UTC).isoformat("T", "seconds")
    place = Layout(facts.directory)
    locks = acquire_all([(host, place)], who=who(), action=ACTION, release=facts.current, since=since)
    try:
        work = _work(environment, facts, locks[host.name].token)
        with phase(emit, ACTION):
            try:
                host.run(
                    scripts.migrate(work, settings),
                    on_line=lambda line: emit(Output(host.name, settings.service, line)),
                )
            except WindlassError as error:
                with suppress(WindlassError):  # the error itself is what counts
                    host.run(scripts.end(work, "failed", error.message[:300]))
                raise
    finally:
        locks[host.name].release()


def _configured(environment: Environment) -> MigrateSettings:
    settings = environment.settings.deploy.migrate
    if settings is None:
        raise ConfigurationError(
            f"{environment.name} has no migration.", "Add `[deploy.migrate]` with `service` and `command`."
        )
    return settings


def _work(environment: Environment, facts: Facts, token: str) -> scripts.Work:
    return scripts.Work(
        layout=Layout(facts.directory),
        project=environment.settings.app,
        release=facts.current,
        action=ACTION,
        who=who(),
        token=token,
        wait=scripts.patience(environment.settings.deploy),
    )
