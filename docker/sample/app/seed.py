"""Fills the database with made-up orders: `python3 -m app.seed --rows N`.

Row n is the same on every machine and in every run. Running it again adds only the rows that are missing.
"""

from __future__ import annotations

import argparse
import sys
import time

import psycopg

from app import lifecycle, rows
from app.database import Connection
from app.migrate import wait_for_database

LOCK = 7_305_815_002


def seed(connection: Connection, count: int) -> int:
    """Make sure that the first `count` seeded rows are there; return how many were added."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        found = connection.execute("SELECT coalesce(max(seed_number), 0) FROM orders").fetchone()
        present = int(found[0]) if found else 0
        with connection.cursor().copy(f"COPY orders ({rows.COLUMNS}) FROM STDIN") as copy:
            for block in rows.blocks(present + 1, count):
                copy.write(block)
    # Statistics for the planner, which would otherwise come minutes later.
    connection.execute("ANALYZE orders")
    return max(0, count - present)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every failure is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="app.seed", description="Fill the database with made-up orders.")
    parser.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="seeded rows there shall be (1000)"
    )
    options = parser.parse_args(arguments)
    if options.rows < 0:
        parser.error("--rows must not be negative")
    lifecycle.exit_on_signal()
    started = time.monotonic()
    try:
        with wait_for_database(60.0) as connection:
            added = seed(connection, options.rows)
    except psycopg.Error as error:
        print(f"seed: {str(error).strip()}", file=sys.stderr)
        return 1
    print(f"seeded {added} rows in {time.monotonic() - started:.1f} s ({options.rows - added} were there)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
