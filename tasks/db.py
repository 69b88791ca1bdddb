"""Databases of the stack: back up, restore, migrate, look, connect."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import is_dry, task

if TYPE_CHECKING:
    from windlass.backup.catalogue import Listing
    from windlass.backup.manifest import Manifest
    from windlass.backup.restoring import Restored
    from windlass.databases.status import DatabaseStatus

    from ._terminal import Terminal

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
DATABASE_HELP = "The database, a key of `[databases]`; without it the only one."
HOST_HELP = "The host its container runs on; without it the first one."
STORE_HELP = "The store, a key of `[backup.stores]`; without it the one `[backup]` names."
JSON_HELP = "Write the result as JSON to stdout and events as JSON Lines to stderr."
_SHOWN_TABLES = 20


@task(
    help={
        "env": ENV_HELP,
        "database": DATABASE_HELP,
        "store": STORE_HELP,
        "on": HOST_HELP,
        "json": JSON_HELP,
    }
)
def backup(
    context: Context,
    env: str | None = None,
    database: str | None = None,
    store: str | None = None,
    on: str | None = None,
    json: bool = False,
) -> None:
    """Back a database up to a store, with a manifest that proves what is in it."""
    from windlass.backup.stores import open_store
    from windlass.backup.taking import plan, take

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    target = open_store(environment, store)
    if is_dry(context):
        _show_commands(terminal, plan(environment, database, target))
        return
    with _terminal.connected(environment, on) as hosts:
        manifest = take(hosts.first, environment, database, target, terminal.emit)
    terminal.result(manifest.as_dict())
    terminal.say(_taken(manifest, target.describe()))


@task(
    help={
        "env": ENV_HELP,
        "database": DATABASE_HELP,
        "backup": "The backup's id, or `latest`.",
        "into": "The database to restore into; without it the one `[databases]` names.",
        "overwrite": "Replace a database of that name; it is kept under another one.",
        "store": STORE_HELP,
        "on": HOST_HELP,
        "yes": "Do not ask, even where the environment is protected.",
        "json": JSON_HELP,
    }
)
def restore(
    context: Context,
    env: str | None = None,
    database: str | None = None,
    backup: str = "latest",
    into: str | None = None,
    overwrite: bool = False,
    store: str | None = None,
    on: str | None = None,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Restore a backup beside what is there, prove its row counts, and only then give it its name."""
    from windlass.backup import catalogue, restoring
    from windlass.backup.stores import open_store
    from windlass.databases.postgres import choose

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    key, _ = choose(environment.settings, database)
    source = open_store(environment, store)
    listing = catalogue.list_backups(source, environment.settings.app, environment.name, key)
    entry = catalogue.find(listing, backup)
    if is_dry(context):
        _show_commands(terminal, restoring.plan(environment, key, entry, into))
        return
    _terminal.confirm(environment, "db.restore", yes=yes)
    with _terminal.connected(environment, on) as hosts:
        restored = restoring.restore(
            hosts.first,
            environment,
            key,
            source,
            entry,
            into=into,
            overwrite=overwrite,
            emit=terminal.emit,
        )
    terminal.result(restored.as_dict())
    terminal.say(_restored(restored))


@task(
    help={
        "env": ENV_HELP,
        "on": "The host to run it on; without it the first one.",
        "yes": "Do not ask, even where the environment is protected.",
        "json": JSON_HELP,
    }
)
def migrate(
    context: Context, env: str | None = None, on: str | None = None, yes: bool = False, json: bool = False
) -> None:
    """Run the configured migration with the image of the live release."""
    from windlass.release.migrating import migrate as run_migration
    from windlass.release.migrating import plan_migration

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    redactor = _terminal.project_redactor(environment, terminal.emit)
    with _terminal.connected(environment, on, redactor) as hosts:
        script, facts = plan_migration(environment, hosts.first)
        if is_dry(context):
            _show_commands(terminal, [str(script)])
            return
        _terminal.confirm(environment, "db.migrate", yes=yes)
        run_migration(environment, hosts.first, facts, terminal.emit)
        terminal.result({"ok": True, "host": hosts.first.name, "release": facts.current})


@task(
    help={
        "env": ENV_HELP,
        "database": DATABASE_HELP,
        "store": STORE_HELP,
        "on": HOST_HELP,
        "json": JSON_HELP,
    }
)
def status(
    context: Context,
    env: str | None = None,
    database: str | None = None,
    store: str | None = None,
    on: str | None = None,
    json: bool = False,
) -> None:
    """Show a database's size, connections, tables, oldest transaction, role and last backup."""
    from windlass.backup.catalogue import list_backups
    from windlass.backup.stores import open_store
    from windlass.databases import containers, postgres
    from windlass.databases.session import session_command
    from windlass.databases.status import read_status

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    app = environment.settings.app
    key, settings = postgres.choose(environment.settings, database)
    listing = list_backups(open_store(environment, store), app, environment.name, key)
    if is_dry(context):
        server = postgres.Server(f"<container of {settings.service}>", settings.user)
        query = session_command(server, settings.name, "windlass status")
        _show_commands(terminal, [containers.listing_command(app, settings.service).quoted(), query.quoted()])
        return
    with _terminal.connected(environment, on) as hosts:
        server = postgres.locate(hosts.first, app, settings)
        found = read_status(hosts.first, server, settings.name)
    newest = listing.entries[0].as_dict() if listing.entries else None
    terminal.result(found.as_dict() | {"last_backup": newest})
    _show_status(terminal, found, listing)


@task(help={"env": ENV_HELP, "database": DATABASE_HELP, "on": HOST_HELP})
def shell(
    context: Context, env: str | None = None, database: str | None = None, on: str | None = None
) -> None:
    """Open psql on a database, in its own container."""
    from windlass.databases import postgres
    from windlass.errors import ConfigurationError

    from . import _terminal

    environment = _terminal.open_environment(env)
    _, settings = postgres.choose(environment.settings, database)
    if is_dry(context):
        server = postgres.Server(f"<container of {settings.service}>", settings.user)
        _show_commands(_terminal.Terminal(), [postgres.shell_command(server, settings.name).quoted()])
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "db.shell needs a terminal.", "In scripts, use `docker exec -i <container> psql`."
        )
    with _terminal.connected(environment, on) as hosts:
        server = postgres.locate(hosts.first, environment.settings.app, settings)
        argv = hosts.first.interactive_argv(postgres.shell_command(server, settings.name))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - psql takes this process's place, with its terminal


def _show_commands(terminal: Terminal, commands: list[str]) -> None:
    terminal.result({"commands": commands})
    for command in commands:
        terminal.say(command)


def _taken(manifest: Manifest, place: str) -> str:
    from ._terminal import human_bytes, human_seconds

    return (
        f"Backup {manifest.id} of {manifest.database}: {manifest.rows} rows "
        f"in {len(manifest.tables)} tables, {human_bytes(manifest.stored_bytes)} in {place}, "
        f"{human_seconds(manifest.seconds)}."
    )


def _restored(restored: Restored) -> str:
    from ._terminal import human_seconds

    lines = [
        f"Backup {restored.id} is now {restored.database}: {restored.rows} rows in {restored.tables} tables, "
        f"as in its manifest, {human_seconds(restored.seconds)}."
    ]
    if restored.kept is not None:
        lines.append(f"The old database is kept as {restored.kept}.")
        lines.append(f"  To drop it, connected to another one: {' '.join(restored.drop)}")
        lines.append(f"  To go back, likewise: {' '.join(restored.undo)}")
    return "\n".join(lines)


def _show_status(terminal: Terminal, found: DatabaseStatus, listing: Listing) -> None:
    from ._terminal import human_bytes, human_seconds

    oldest = found.oldest_transaction_seconds
    states = ", ".join(f"{count} {state}" for state, count in found.connections.items()) or "none"
    rows = [
        ("server", f"PostgreSQL {found.version}, {found.role}, {found.replicas} replicas"),
        ("size", human_bytes(found.size_bytes)),
        ("connections", f"{states} (at most {found.max_connections})"),
        ("oldest transaction", "none" if oldest is None else human_seconds(oldest)),
        ("last backup", _last_backup(listing)),
    ]
    terminal.table(found.name, ("what", "value"), rows)
    tables = [(each.name, each.rows, human_bytes(each.size_bytes)) for each in found.tables]
    terminal.table("", ("table", "rows (estimate)", "size"), tables[:_SHOWN_TABLES])
    if len(tables) > _SHOWN_TABLES:
        terminal.say(f"and {len(tables) - _SHOWN_TABLES} smaller tables")


def _last_backup(listing: Listing) -> str:
    from datetime import UTC, datetime

    from ._terminal import human_seconds

    if not listing.entries:
        return "none"
    newest = listing.entries[0]
    if newest.manifest is None or not newest.ok:
        return f"{newest.id}: damaged: {newest.problem}"
    age = (datetime.now(UTC) - newest.manifest.snapshot_time).total_seconds()
    return f"{newest.id}, {human_seconds(age)} ago"


namespace = Collection("db")
for _each in (backup, restore, migrate, status, shell):
    namespace.add_task(_each)
