"""Backups that are there: list them, prove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import is_dry, task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from windlass.backup.catalogue import Entry, Listing
    from windlass.backup.stores.base import Store
    from windlass.backup.verifying import Level, Verification
    from windlass.environment.environment import Environment
    from windlass.hosts.base import Host

    from ._terminal import Terminal

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
DATABASE_HELP = "Only this database, a key of `[databases]`; without it all of them."
STORE_HELP = "The store, a key of `[backup.stores]`; without it the one `[backup]` names."
JSON_HELP = "Write the result as JSON to stdout and events as JSON Lines to stderr."


@task(help={"env": ENV_HELP, "database": DATABASE_HELP, "store": STORE_HELP, "json": JSON_HELP})
def list_(
    context: Context,
    env: str | None = None,
    database: str | None = None,
    store: str | None = None,
    json: bool = False,
) -> None:
    """List the backups in a store, newest first, damaged ones too."""
    del context  # it changes nothing: a dry run is the same
    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    source, listing = _listing(environment, database, store)
    terminal.result(
        {
            "store": source.name,
            "backups": [entry.as_dict() for entry in listing.entries],
            "unfinished": len(listing.leftovers),
        }
    )
    columns = ("id", "database", "age", "size", "rows", "duration", "state")
    terminal.table(f"{environment.name}: {source.describe()}", columns, map(_row, listing.entries))
    if not listing.entries:
        terminal.say("There is no backup; `inv db.backup` takes one.")
    if listing.leftovers:
        terminal.say(f"{len(listing.leftovers)} unfinished, which do not count; a later backup removes them.")


@task(
    help={
        "env": ENV_HELP,
        "database": DATABASE_HELP,
        "backup": "The backup's id, `latest` (of each database), or `all`.",
        "level": "`hash` checks size and SHA-256; `read` has pg_restore read all of it too.",
        "store": STORE_HELP,
        "on": "The host whose database container reads the archive; without it the first one.",
        "json": JSON_HELP,
    }
)
def verify(
    context: Context,
    env: str | None = None,
    database: str | None = None,
    backup: str = "latest",
    level: str = "read",
    store: str | None = None,
    on: str | None = None,
    json: bool = False,
) -> None:
    """Read backups back and check them against their manifests; exit code 16 when one is damaged."""
    from windlass.errors import BackupError

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env)
    depth = _level(level)
    source, listing = _listing(environment, database, store)
    entries = list(_chosen(listing, backup))
    if is_dry(context):
        _show_plan(terminal, entries, depth)
        return
    with _terminal.connected(environment, on) as hosts:
        results = [_verified(source, entry, depth, hosts.first, environment, terminal) for entry in entries]
    terminal.result([result.as_dict() for result in results])
    rows = [
        (result.id, finding.check, "good" if finding.ok else "damaged", finding.detail)
        for result in results
        for finding in result.findings
    ]
    terminal.table("", ("id", "check", "state", "detail"), rows)
    damaged = [result.id for result in results if not result.ok]
    if damaged:
        raise BackupError(f"{len(damaged)} of {len(results)} backups are damaged: {', '.join(damaged)}.")
    terminal.say(f"{len(results)} of {len(results)} backups are good.")


def _listing(environment: Environment, database: str | None, store: str | None) -> tuple[Store, Listing]:
    from windlass.backup.catalogue import list_backups
    from windlass.backup.stores import open_store
    from windlass.databases.postgres import choose

    if database is not None:
        choose(environment.settings, database)
    source = open_store(environment, store)
    return source, list_backups(source, environment.settings.app, environment.name, database)


def _chosen(listing: Listing, wanted: str) -> Iterable[Entry]:
    """Return the backups meant: one by its id, the newest of each database, or all."""
    from windlass.backup.catalogue import LATEST, find
    from windlass.errors import BackupError

    if not listing.entries:
        raise BackupError("There is no backup.", "`inv db.backup` takes one.")
    if wanted == "all":
        return listing.entries
    if wanted == LATEST:
        return _newest_of_each(listing)
    return [find(listing, wanted)]


def _newest_of_each(listing: Listing) -> Iterator[Entry]:
    seen = set()
    for entry in listing.entries:
        folder = entry.folder.rpartition("/")[0]
        if folder not in seen:
            seen.add(folder)
            yield entry


def _level(level: str) -> Level:
    from windlass.backup.verifying import LEVELS
    from windlass.errors import ConfigurationError

    for known in LEVELS:
        if level == known:
            return known
    raise ConfigurationError(f"There is no level {level}.", f"Levels: {', '.join(LEVELS)}.")


def _verified(
    source: Store, entry: Entry, level: Level, host: Host, environment: Environment, terminal: Terminal
) -> Verification:
    from windlass.backup.verifying import find_reader, verify

    reader = None
    if level == "read" and entry.ok and entry.manifest is not None:
        reader = find_reader(host, environment, entry.manifest)
    return verify(source, entry, level, reader, terminal.emit)


def _show_plan(terminal: Terminal, entries: list[Entry], level: Level) -> None:
    from windlass.databases.postgres import Server, read_command

    commands = []
    for entry in entries:
        file = entry.manifest.file if entry.manifest else "manifest.json"
        commands.append(f"sha256sum {entry.folder}/{file}")
        if level == "read" and entry.manifest:
            reading = read_command(Server(f"<container of {entry.manifest.service}>", ""))
            commands.append(f"{reading.quoted()} < {entry.folder}/{file}")
    terminal.result({"commands": commands})
    for command in commands:
        terminal.say(command)


def _row(entry: Entry) -> tuple[object, ...]:
    from datetime import UTC, datetime

    from ._terminal import human_bytes, human_seconds

    database = entry.folder.split("/")[-2]
    state = "good" if entry.ok else f"damaged: {entry.problem}"
    manifest = entry.manifest
    if manifest is None:
        return entry.id, database, "?", "?", "?", "?", state
    age = (datetime.now(UTC) - manifest.snapshot_time).total_seconds()
    size, duration = human_bytes(manifest.stored_bytes), human_seconds(manifest.seconds)
    return entry.id, database, human_seconds(age), size, manifest.rows, duration, state


namespace = Collection("backup")
namespace.add_task(list_, name="list")
namespace.add_task(verify)
