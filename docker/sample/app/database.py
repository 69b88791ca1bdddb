"""PostgreSQL: a small pool, and every question the application asks.

Where and as whom to connect comes from libpq's own variables (`PGHOST`, `PGUSER`, `PGPASSWORD`, …).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from psycopg.rows import TupleRow

from app.errors import UnavailableError
from app.validation import NewOrder

Connection = psycopg.Connection[TupleRow]
Order = dict[str, Any]

CONNECT_SECONDS = 3
WAIT_SECONDS = 5.0

_INSERT = """
INSERT INTO orders (item, quantity) VALUES (%s, %s)
RETURNING id, item, quantity, created_at, processed_at
"""
_FIND = "SELECT id, item, quantity, created_at, processed_at FROM orders WHERE id = %s"
_LAST = "SELECT id, item, quantity, created_at, processed_at FROM orders ORDER BY id DESC LIMIT %s"
_MARK = "UPDATE orders SET processed_at = now() WHERE id = %s AND processed_at IS NULL"
_OVERDUE = """
SELECT id FROM orders
WHERE processed_at IS NULL AND created_at < now() - make_interval(secs => %s)
ORDER BY created_at LIMIT %s
"""


def connect() -> Connection:
    """Open one connection that commits every statement by itself."""
    return psycopg.connect(connect_timeout=CONNECT_SECONDS, autocommit=True)


def applied_migrations(connection: Connection) -> dict[str, str]:
    """Return name and checksum of every applied migration; none before the first run."""
    try:
        rows = connection.execute("SELECT name, checksum FROM schema_migrations").fetchall()
    except pg_errors.UndefinedTable:
        return {}
    return {str(name): str(checksum) for name, checksum in rows}


def _order(row: TupleRow) -> Order:
    number, item, quantity, created_at, processed_at = row
    return {
        "id": number,
        "item": item,
        "quantity": quantity,
        "created_at": created_at.isoformat(),
        "processed_at": processed_at.isoformat() if processed_at else None,
    }


class Database:
    """Up to `size` connections shared by threads."""

    def __init__(self, size: int = 10) -> None:
        """Open nothing yet: the database may come later than the application."""
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(size)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a working connection; every failure of the database is UnavailableError."""
        if not self._slots.acquire(timeout=WAIT_SECONDS):
            raise UnavailableError("the database is busy")
        try:
            with self._translated():
                connection = self._take()
                try:
                    yield connection
                finally:
                    self._give_back(connection)
        finally:
            self._slots.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except pg_errors.UndefinedTable:
            raise UnavailableError("the database is not migrated") from None
        except psycopg.Error as error:
            raise UnavailableError("the database does not answer") from error

    def _take(self) -> Connection:
        """Return an idle connection that still answers, else a new one.

        The extra round trip costs less than a request that fails because the database restarted meanwhile.
        """
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return connect()
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _give_back(self, connection: Connection) -> None:
        if not connection.closed:
            self._idle.put(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def ping(self) -> None:
        """Raise unless the database answers."""
        with self.connection() as connection:
            connection.execute("SELECT 1")

    def applied(self) -> Mapping[str, str]:
        """Return the applied migrations."""
        with self.connection() as connection:
            return applied_migrations(connection)

    def add_order(self, order: NewOrder) -> Order:
        """Store an order."""
        with self.connection() as connection:
            row = connection.execute(_INSERT, (order.item, order.quantity)).fetchone()
        if row is None:
            raise UnavailableError("the database did not store the order")
        return _order(row)

    def find_order(self, number: int) -> Order | None:
        """Return one order."""
        with self.connection() as connection:
            row = connection.execute(_FIND, (number,)).fetchone()
        return _order(row) if row else None

    def last_orders(self, limit: int) -> list[Order]:
        """Return the newest orders, newest first."""
        with self.connection() as connection:
            return [_order(row) for row in connection.execute(_LAST, (limit,)).fetchall()]

    def mark_processed(self, number: int) -> bool:
        """Mark an order as done; False when it already was, so that doing it twice is harmless."""
        with self.connection() as connection:
            return connection.execute(_MARK, (number,)).rowcount == 1

    def overdue_orders(self, seconds: float, limit: int) -> list[int]:
        """Return orders that waited longer than this: their place in the queue was lost."""
        with self.connection() as connection:
            return [int(row[0]) for row in connection.execute(_OVERDUE, (seconds, limit)).fetchall()]
