"""Giving a restored database its name, while clients hammer the one that has it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from windlass.databases import sql
from windlass.databases.postgres import Server
from windlass.databases.session import Session
from windlass.errors import WindlassError
from windlass.events import Emit
from windlass.hosts.base import Host
from windlass.progress import phase

_PAUSE_SECONDS: Final = 0.05


def swap(host: Host, server: Server, control: Session, *, scratch: str, into: str, emit: Emit) -> str | None:
    """Rename `scratch` to `into`; what had that name is kept under another, which is returned.

    One transaction: either both renames happen or neither. The new database gets the owner, grants,
    limit and settings of the one it replaces.

    Args:
        host: where the server runs.
        server: the server.
        control: a session on neither of the databases.
        scratch: the database that was restored.
        into: the name it is to have.
        emit: hears the phase.

    Raises:
        CommandFailed: the server refused; nothing was renamed.
    """
    with phase(emit, f"swap into {into}") as detail:
        if not control.rows(sql.exists(into)):
            control.rows(sql.rename(scratch, into))
            return None
        kept = kept_name(into, datetime.now(UTC))
        # RENAME takes the lock that new connections need and then waits up to five seconds for the old
        # ones to go (CountOtherDBBackends() in procarray.c): they are ended while it waits.
        statements = ["BEGIN;", sql.inherit_settings(into, scratch)]
        statements += [sql.rename(into, kept), sql.rename(scratch, into), "COMMIT;"]
        with Session(host, server, control.database) as ender, _ending_connections(ender, into):
            control.rows("\n".join(statements))
        detail.text = f"the old one is {kept}"
        return kept


def kept_name(into: str, now: datetime) -> str:
    """Return the name a replaced database is kept under; `now` is in UTC. It needs no quotes."""
    return sql.derived_name(into, f"_before_{now:%Y%m%d_%H%M%S}")


@contextmanager
def _ending_connections(session: Session, database: str) -> Iterator[None]:
    """End the connections to a database, again and again, while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=_until(over, lambda: session.rows(sql.end_connections(database))))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _until(over: threading.Event, work: Callable[[], object]) -> Callable[[], None]:
    def loop() -> None:
        with suppress(WindlassError, OSError):  # then the rename itself says that somebody is connected
            while not over.is_set():
                work()
                over.wait(_PAUSE_SECONDS)

    return loop
