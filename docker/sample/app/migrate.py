"""Brings the database's schema up to date: `python3 -m app.migrate [--status | --list]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from app import database, lifecycle, migrations
from app.database import Connection
from app.migrations import Migration, MigrationError

# Any number will do as long as every run of this application takes the same one.
LOCK = 7_305_815_001

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class InjectedFailureError(Exception):
    """FAIL_MIGRATION asked for it."""


def wait_for_database(seconds: float) -> Connection:
    """Connect, trying again while the database comes up; the last error is raised when time is up."""
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            return database.connect()
        except psycopg.OperationalError as error:
            # A wrong password does not get better by waiting.
            if time.monotonic() >= deadline or "authentication failed" in str(error):
                raise
        if not told:
            print("waiting for the database", flush=True)
            told = True
        time.sleep(0.5)


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Hold the advisory lock: of two runs at once the second waits and then finds nothing to do."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
    if not row or not row[0]:
        print("waiting for another migration run", flush=True)
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def apply(connection: Connection, migration: Migration, fail: bool) -> None:
    """Run one file and record it, both or neither."""
    started = time.monotonic()
    with connection.transaction():
        connection.execute(migration.sql)
        connection.execute(
            "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)",
            (migration.name, migration.checksum),
        )
        if fail:
            raise InjectedFailureError(f"FAIL_MIGRATION is set: {migration.name} rolled back")
    print(f"applied {migration.name} in {(time.monotonic() - started) * 1000:.0f} ms", flush=True)


def migrate(connection: Connection, known: tuple[Migration, ...], fail: bool) -> None:
    """Apply everything that is pending, in order."""
    with locked(connection):
        connection.execute(_TABLE)
        todo = migrations.pending(known, database.applied_migrations(connection))
        for migration in todo:
            apply(connection, migration, fail)
    if fail:
        raise InjectedFailureError("FAIL_MIGRATION is set: there was nothing to apply")
    print(f"{len(todo)} applied, schema is at {known[-1].name if known else 'nothing'}")


def status_lines(known: tuple[Migration, ...], applied: dict[str, str]) -> list[str]:
    """Return one line per migration: its state, then its name."""
    todo = {migration.name for migration in migrations.pending(known, applied)}
    names = {migration.name for migration in known}
    lines = [f"{'pending' if migration.name in todo else 'applied'} {migration.name}" for migration in known]
    return lines + [f"unknown {name}" for name in sorted(set(applied) - names)]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="app.migrate", description="Apply pending migrations.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--status", action="store_true", help="print applied, pending and unknown migrations")
    mode.add_argument("--list", action="store_true", help="print the migrations this image brings")
    parser.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="for the database (60)")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    known = migrations.discover()
    if options.list:
        print("\n".join(migration.name for migration in known))
        return
    with wait_for_database(options.wait) as connection:
        if options.status:
            print("\n".join(status_lines(known, database.applied_migrations(connection))))
        else:
            migrate(connection, known, fail=os.environ.get("FAIL_MIGRATION") == "1")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every failure is one sentence and exit code 1."""
    lifecycle.exit_on_signal()
    try:
        _run(_arguments(arguments))
    except (MigrationError, InjectedFailureError, psycopg.Error) as error:
        print(f"migrate: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
