"""A snapshot held open while pg_dump works from it, and the facts that belong to exactly that snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from windlass.databases import sql
from windlass.databases.postgres import LOCK_WAIT_SECONDS
from windlass.databases.session import Session

_BEGIN: Final = f"""
SET lock_timeout = {LOCK_WAIT_SECONDS * 1000};
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"""


@dataclass(frozen=True)
class Locale:
    """How a database encodes and sorts text; `provider` and `locale` are None before PostgreSQL 15.

    Args:
        encoding: such as `UTF8`.
        collate: LC_COLLATE.
        ctype: LC_CTYPE.
        provider: `libc`, `icu` or `builtin`.
        locale: the name for ICU or the builtin provider.
        version: the collation's version when the database was made.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str | None = None
    locale: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class DatabaseFacts:
    """What a database is.

    Args:
        version: the server's version, such as `17.5 (Debian 17.5-1)`.
        owner: the role that owns the database.
        size_bytes: its size on the server's disk.
        locale: its encoding and collation.
    """

    version: str
    owner: str
    size_bytes: int
    locale: Locale


@dataclass(frozen=True)
class Snapshot:
    """A snapshot another session may use while the session that made it lives.

    Args:
        id: what `SET TRANSACTION SNAPSHOT` takes.
        time: when it was taken, by the server's clock, in UTC.
        lsn: the write-ahead log's position just after.
        replica: whether the server is a read replica.
    """

    id: str
    time: datetime
    lsn: str
    replica: bool


def take_snapshot(session: Session) -> Snapshot:
    """Begin a read-only transaction and export its snapshot; it lives as long as the session."""
    (row,) = session.rows(_BEGIN + sql.EXPORT_SNAPSHOT)
    time = datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)
    return Snapshot(row["id"], time, row["lsn"], row["replica"])


def read_facts(session: Session) -> DatabaseFacts:
    """Return what the session's database is."""
    (row,) = session.rows(sql.DATABASE)
    return DatabaseFacts(row["version"], row["owner"], row["bytes"], locale_of(row))


def locale_of(row: dict[str, Any]) -> Locale:
    """Return the locale in a row of `pg_database`, whose columns differ between major versions."""
    providers = {"c": "libc", "i": "icu", "b": "builtin"}
    return Locale(
        encoding=row["encoding_name"],
        collate=row["datcollate"],
        ctype=row["datctype"],
        provider=providers.get(row.get("datlocprovider", "")),
        # PostgreSQL 15 and 16 call the column daticulocale, 17 datlocale.
        locale=row.get("datlocale") or row.get("daticulocale"),
        version=row.get("datcollversion"),
    )


def count_rows(session: Session) -> dict[str, int]:
    """Return the exact number of rows of each user table, by `schema.table`, in the session's snapshot."""
    return {sql.table_name(schema, table): count for schema, table, count in session.rows(sql.COUNT_ROWS)}


def read_extensions(session: Session) -> dict[str, str]:
    """Return the version of each extension, by its name."""
    return dict(session.rows(sql.EXTENSIONS))


def create_database(name: str, owner: str, locale: Locale, *, server_major: int) -> str:
    """Return the statement that makes an empty database with this encoding and collation.

    From template0: nothing a site added to template1 may collide with the archive, and only template0
    may be copied with another encoding (https://www.postgresql.org/docs/17/manage-ag-templatedbs.html).
    """
    words = [
        f"CREATE DATABASE {sql.identifier(name)} TEMPLATE template0 OWNER {sql.identifier(owner)}",
        f"ENCODING {sql.literal(locale.encoding)}",
        f"LC_COLLATE {sql.literal(locale.collate)} LC_CTYPE {sql.literal(locale.ctype)}",
    ]
    if locale.provider and server_major >= _PROVIDERS_SINCE:
        words.append(f"LOCALE_PROVIDER {locale.provider}")
        if locale.locale and locale.provider != "libc":
            words.append(f"{locale.provider.upper()}_LOCALE {sql.literal(locale.locale)}")
    return " ".join(words) + ";"


_PROVIDERS_SINCE: Final = 15
