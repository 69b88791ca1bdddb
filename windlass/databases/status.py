"""What a database is doing right now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from windlass.databases import snapshot
from windlass.databases.postgres import Server
from windlass.databases.session import Session
from windlass.databases.sql import table_name
from windlass.hosts.base import Host

Role = Literal["primary", "replica"]

_CONNECTIONS: Final = """
SELECT pg_catalog.jsonb_build_array(coalesce(state, 'none'), pg_catalog.count(*))
  FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
   AND backend_type = 'client backend'
 GROUP BY state ORDER BY 1;"""

# An estimate of the statistics collector, in no time; a table that was never analysed counts what it knows.
_TABLES: Final = """
SELECT pg_catalog.jsonb_build_object('schema', n.nspname, 'table', c.relname,
         'rows', greatest(coalesce(s.n_live_tup, 0), c.reltuples::bigint, 0),
         'bytes', pg_catalog.pg_total_relation_size(c.oid))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stat_user_tables s ON s.relid = c.oid
 WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
 ORDER BY pg_catalog.pg_total_relation_size(c.oid) DESC, n.nspname, c.relname;"""

_SERVER: Final = """
SELECT pg_catalog.jsonb_build_object(
         'replica', pg_catalog.pg_is_in_recovery(),
         'max_connections', pg_catalog.current_setting('max_connections')::int,
         'oldest', (SELECT extract(epoch FROM pg_catalog.max(pg_catalog.clock_timestamp() - xact_start))
                      FROM pg_catalog.pg_stat_activity
                     WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()),
         'replicas', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication));"""


@dataclass(frozen=True)
class TableStatus:
    """A table: its name, an estimate of its rows, and its size with indexes in bytes."""

    name: str
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class DatabaseStatus:
    """What a database is doing.

    Args:
        name: its name.
        version: the server's.
        role: whether the server is the primary or a read replica.
        replicas: how many replicas stream from it.
        size_bytes: the database's size.
        connections: how many connections there are in each state, without our own.
        max_connections: how many the server allows in all.
        oldest_transaction_seconds: how long the oldest open transaction has been; None when none is open.
        tables: the tables, largest first.
    """

    name: str
    version: str
    role: Role
    replicas: int
    size_bytes: int
    connections: dict[str, int]
    max_connections: int
    oldest_transaction_seconds: float | None
    tables: tuple[TableStatus, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return asdict(self)


def read_status(host: Host, server: Server, database: str) -> DatabaseStatus:
    """Ask a server what a database is doing.

    Raises:
        CommandFailed: the server refused the connection or a query.
    """
    with Session(host, server, database, "windlass status") as session:
        facts = snapshot.read_facts(session)
        connections = dict(session.rows(_CONNECTIONS))
        (row,) = session.rows(_SERVER)
        tables = tuple(_table(each) for each in session.rows(_TABLES))
        session.end()
    return DatabaseStatus(
        name=database,
        version=facts.version,
        role="replica" if row["replica"] else "primary",
        replicas=row["replicas"],
        size_bytes=facts.size_bytes,
        connections=connections,
        max_connections=row["max_connections"],
        oldest_transaction_seconds=row["oldest"],
        tables=tables,
    )


def _table(row: dict[str, Any]) -> TableStatus:
    return TableStatus(table_name(row["schema"], row["table"]), row["rows"], row["bytes"])
