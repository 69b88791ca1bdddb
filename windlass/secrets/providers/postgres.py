"""Secrets in a table of a PostgreSQL database, a row each, such as the settings an application reads."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import (
    Client,
    Context,
    Failure,
    Provider,
    ProviderError,
    Resolved,
    Version,
    Written,
    all_failed,
    import_sdk,
    setting,
)
from windlass.secrets.providers.process import NAME
from windlass.secrets.redaction import Redactor
from windlass.secrets.settings import PostgresSettings
from windlass.secrets.shapes import value_is_secret
from windlass.secrets.writers.entries import text_fault
from windlass.shell import Sensitive

_EXTRA: Final = "postgres"
# Seconds to connect, for a statement on the server, and until the link counts as dead.
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 15
LINK_SECONDS: Final = 30.0
_URL: Final = re.compile(r"postgres(?:ql)?(?:\+\w+)?://")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(?::[0-9]{0,5})?")
_CURRENT: Final = Version("", stages=("current",))
_TOLD_LIMIT: Final = 200
# Writers of Windlass wait for each other: a table without a unique key would get two rows of a name.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('windlass secrets'))"


def _fault(target: str) -> str:
    if target != target.strip():
        return "the name has spaces around it"
    return "" if target else "the name is missing"


@dataclass(frozen=True)
class Database:
    """How the database is reached.

    Args:
        conninfo: the address in the form of libpq; secret.
        schema: the schema of a table that names none; empty: what the server's search path says.
        place: host, port and name of the database, for people.
        redact: takes the address's secrets out of a text.
    """

    conninfo: Sensitive
    schema: str
    place: str
    redact: Redactor


class PostgresClient(Client):
    """Reads and writes rows of a table.

    Args:
        psycopg: the SDK.
        database: the database.
        settings: the `[secrets.postgres]` table.
    """

    def __init__(self, psycopg: Any, database: Database, settings: PostgresSettings) -> None:
        self._psycopg = psycopg
        self._database = database
        self._settings = settings
        self._sql = import_sdk("psycopg.sql", _EXTRA)

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return f"the table {self._settings.table} of {self._database.place}"

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Get all in one query, in a transaction that may only read."""
        try:
            for target in targets:
                target.encode()
            with self._transaction(read_only=True) as connection:
                rows = self._rows(connection, list(targets))
                missing = [target for target in targets if target not in rows]
                names = self._names(connection) if missing else []
        except UnicodeEncodeError:
            return all_failed(targets, Failure("a name is not valid Unicode"))
        except self._psycopg.Error as error:
            return all_failed(targets, self._failure(error))
        return {
            target: _value(target, rows[target]) if target in rows else self._missing(target, names)
            for target in targets
        }

    def _rows(self, connection: Any, names: list[str]) -> dict[str, list[str | None]]:
        found: dict[str, list[str | None]] = {}
        query = self._query("SELECT {name}::text, {value}::text FROM {table} WHERE {name}::text = ANY(%s)")
        for name, value in connection.execute(query, [names]):
            found.setdefault(name, []).append(value)
        return found

    def _names(self, connection: Any) -> list[str]:
        query = self._query("SELECT {name}::text FROM {table} WHERE {name} IS NOT NULL")
        return [name for (name,) in connection.execute(query)]

    def _query(self, text: str) -> Any:
        schema, dot, table = self._settings.table.rpartition(".")
        parts = [schema] if dot else [self._database.schema] if self._database.schema else []
        return self._sql.SQL(text).format(
            table=self._sql.Identifier(*parts, table),
            name=self._sql.Identifier(self._settings.name_column),
            value=self._sql.Identifier(self._settings.value_column),
        )

    def _missing(self, target: str, names: Sequence[str]) -> Failure:
        close = get_close_matches(target, names, 1)
        hint = f"did you mean {close[0]}?" if close else ""
        return Failure(f"{self.provider_name} has no row {target}", hint, missing=True)

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Set values, all in one transaction: a row that is there is changed, else one is added."""
        written: dict[str, Written] = {}
        if not values:
            return written
        try:
            with self._transaction(read_only=False) as connection:
                connection.execute(_LOCK)
                for target, value in values.items():
                    written[target] = self._write(connection, target, value.reveal())
        except self._psycopg.Error as error:
            failure = self._failure(error)
            if len(written) == len(values):
                # It ended while the transaction did.
                unknown = "it is not known whether the values were written"
                failure = Failure(f"{failure.reason}, and {unknown}", "look at them, then write again")
            return dict.fromkeys(values, failure)
        return written

    def _write(self, connection: Any, target: str, value: str) -> Written:
        if fault := text_fault(target + value):
            return Failure(fault)
        if "\0" in target + value:
            return Failure("the value holds a NUL, which PostgreSQL cannot keep")
        try:
            with connection.transaction():
                rows = self._rows(connection, [target]).get(target, [])
                if len(rows) > 1:
                    return _ambiguous(target, len(rows))
                if rows == [value]:
                    return _CURRENT
                self._set(connection, target, value, is_there=bool(rows))
        except self._psycopg.OperationalError:
            raise
        except self._psycopg.Error as error:
            return self._failure(error)
        return _CURRENT

    def _set(self, connection: Any, target: str, value: str, *, is_there: bool) -> None:
        if is_there:
            query = self._query("UPDATE {table} SET {value} = %s WHERE {name}::text = %s")
            connection.execute(query, [value, target])
        else:
            query = self._query("INSERT INTO {table} ({name}, {value}) VALUES (%s, %s)")
            connection.execute(query, [target, value])

    def canonical(self, target: str) -> str:
        """Return the row; it has no fields."""
        return f"{self.provider_name}:{quote(target)}"

    def members(self, scope: str) -> dict[str, str]:
        """Return the rows whose names are names of variables."""
        _whole(scope)
        try:
            with self._transaction(read_only=True) as connection:
                names = sorted(name for name in self._names(connection) if NAME.fullmatch(name))
        except self._psycopg.Error as error:
            failure = self._failure(error)
            raise ProviderError(_sentence(failure.reason), failure.fix) from None
        twice = next((name for name, after in pairwise(names) if name == after), None)
        if twice is not None:
            raise ProviderError(_sentence(_ambiguous(twice, names.count(twice)).reason))
        return {name: name for name in names}

    def member(self, scope: str, name: str) -> str:
        """Return the row of a variable."""
        _whole(scope)
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a variable.")
        return name

    @contextmanager
    def _transaction(self, *, read_only: bool) -> Iterator[Any]:
        """Open a connection for one transaction, which is undone where it does not end well.

        Raises:
            psycopg.Error: it cannot be opened, or something in it failed.
        """
        connection = self._psycopg.connect(
            self._database.conninfo.reveal(), client_encoding="utf8", prepare_threshold=None
        )
        with _watched(connection), connection:
            connection.read_only = read_only
            # For this transaction only: behind a pooler the session is somebody else's next.
            connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}")
            yield connection

    def _failure(self, error: Any) -> Failure:
        """Return what is wrong, without a value and without the address's secrets."""
        state = error.sqlstate or ""
        reason = _STATES.get(state) or _STATES.get(state[:2])
        if reason is not None:
            words = self._words(error)
            return Failure(reason[0].format(**words), reason[1].format(**words))
        if not isinstance(error, self._psycopg.OperationalError) or state:
            kind = f"{type(error).__name__}, SQLSTATE {state}" if state else type(error).__name__
            return Failure(f"{self._database.place} failed with {kind}", "look into its log")
        return _unreachable(self._database, str(error))

    def _words(self, error: Any) -> dict[str, str]:
        return {
            "place": self._database.place,
            "table": self._settings.table,
            "name": self._settings.name_column,
            "value": self._settings.value_column,
            "column": error.diag.column_name or "?",
            "seconds": str(STATEMENT_SECONDS),
        }


# By SQLSTATE, or its class: the reason and what to do.
_STATES: Final = {
    "42P01": (
        "{place} has no table {table}",
        "correct [secrets.postgres] table, in the case it was made in, or let the user use its schema",
    ),
    "3F000": ("{place} has no such schema for {table}", "correct [secrets.postgres] table"),
    "42703": (
        "the table {table} of {place} lacks the column {name} or {value}",
        "correct [secrets.postgres] name_column and value_column",
    ),
    "42501": ("the user may not do this with the table {table} of {place}", "grant it the right"),
    "25006": ("{place} takes no writes: it is a standby, or set to read only", "name its primary"),
    "57014": ("{place} needed more than {seconds} s", "look whether something locks the table {table}"),
    "23502": (
        "a new row of {table} needs a value for the column {column}, which has no default",
        "add the row once by hand, and write the secret then",
    ),
    "23505": ("a row of this name came into {table} at the same time", "try again"),
    "22001": ("the column {value} of {table} is too short for the value", "make it longer"),
    "428C9": ("the column {column} of {table} is computed and cannot be set", "name another column"),
    "28P01": ("{place} refuses the user or its password", "correct [secrets.postgres] url"),
    "28": ("{place} refuses the login", "correct [secrets.postgres] url, or its pg_hba.conf"),
    "3D000": ("{place}: there is no such database", "correct [secrets.postgres] url"),
    "53300": ("{place} has no connection left", "close others, or raise its max_connections"),
    "57P": ("{place} is starting or stopping", "try again"),
}
# What libpq says of a connection that did not come about has no SQLSTATE.
_SAID: Final = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28"),
    ("does not exist", "3D000"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("is starting up", "57P"),
    ("is shutting down", "57P"),
)


def _unreachable(database: Database, said: str) -> Failure:
    for words, state in _SAID:
        if words in said:
            reason, fix = _STATES[state]
            return Failure(reason.format(place=database.place), fix)
    line = database.redact(said.strip().partition("\n")[0].removeprefix("connection failed: "))
    told = "" if value_is_secret(line) else f": {line[:_TOLD_LIMIT]}"
    return Failure(f"{database.place} cannot be reached{told}", "check its address, and whether it runs")


def _value(target: str, values: Sequence[str | None]) -> Resolved:
    if len(values) > 1:
        return _ambiguous(target, len(values))
    if values[0] is None:
        return Failure(f"the value of the row {target} is NULL", missing=True)
    return Sensitive(values[0])


def _ambiguous(target: str, count: int) -> Failure:
    return Failure(f"there are {count} rows {target}", "keep one, and make the column of names unique")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _whole(scope: str) -> None:
    if scope:
        raise ProviderError(f"postgres:{scope} names one row.", "Write `postgres:` for the whole table.")


@contextmanager
def _watched(connection: Any) -> Iterator[None]:
    """End a link on which nothing comes any more: the server's own time limits do not help there."""

    # A copy, whose number no other connection can get while it is watched.
    link = socket.socket(fileno=os.dup(connection.fileno()))

    def end() -> None:
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(LINK_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        link.close()


def database_of(psycopg: Any, url: Sensitive) -> Database:
    """Read the database's address, also one for Prisma or SQLAlchemy.

    Args:
        psycopg: the SDK.
        url: the address as the application has it. Parameters libpq does not know are left out.

    Raises:
        ProviderError: it is none; the sentence holds nothing of it.
    """
    text = url.reveal().strip()
    schema = ""
    if _URL.match(text):
        text, schema = _for_libpq(psycopg, text)
    try:
        values = psycopg.conninfo.conninfo_to_dict(text)
    except (psycopg.Error, ValueError):
        raise _no_address() from None
    if not values:
        raise _no_address()
    values.setdefault("connect_timeout", CONNECT_SECONDS)
    host = str(values.get("host") or values.get("hostaddr") or "this machine")
    port = f":{values['port']}" if "port" in values else ""
    place = f"the database {values.get('dbname') or values.get('user') or ''} on {host}{port}"
    hidden = [str(each) for key, each in values.items() if key in {"password", "sslpassword", "passfile"}]
    hidden += [unquote(each) for each in hidden]
    redact = Redactor([text, url.reveal(), *hidden])
    return Database(Sensitive(psycopg.conninfo.make_conninfo(**values)), schema, redact(place), redact)


def _for_libpq(psycopg: Any, text: str) -> tuple[str, str]:
    """Return an address with what libpq understands, and the schema that Prisma's names."""
    try:
        parts = urlsplit(text)
        hosts = parts.netloc.rpartition("@")[2].split(",")
    except ValueError:
        raise _no_address() from None
    # Else a password with such a sign in it would be taken for the host, the port or the name, and shown.
    if "#" in text or "@" in parts.path + parts.query or not all(map(_HOST.fullmatch, hosts)):
        raise _no_address()
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    # As they stand: to libpq `+` is no space.
    pairs = [(unquote(pair.partition("=")[0]), pair) for pair in parts.query.split("&")]
    query = "&".join(pair for key, pair in pairs if key in known)
    schema = next((unquote(pair.partition("=")[2]) for key, pair in pairs if key == "schema"), "")
    return urlunsplit(("postgresql", parts.netloc, parts.path, query, "")), schema


def _no_address() -> ProviderError:
    return ProviderError(
        "What [secrets.postgres] url gives is no address of a PostgreSQL database.",
        "It is like postgresql://user:password@host:5432/name?sslmode=require.",
    )


def _connect(context: Context) -> Client:
    psycopg = import_sdk("psycopg", _EXTRA)
    # What it would say of a dead link is told as a failure.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    settings = context.settings.postgres
    return PostgresClient(psycopg, database_of(psycopg, setting(context, settings.url)), settings)


PROVIDER: Final = Provider(
    "postgres",
    "${postgres:NAME}",
    "The value of the row `NAME` in the table that `[secrets.postgres]` names, "
    "in the database of the variable `DATABASE_URL` unless it says otherwise.",
    _fault,
    _connect,
    "postgres",
)
