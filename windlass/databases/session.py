"""A psql held open: statements go in on stdin, rows come out as one JSON value per line.

Each exchange ends with a random marker echoed by psql, so that no value can be taken for its end.
"""

from __future__ import annotations

import json
import secrets
from types import TracebackType
from typing import Any, Final, Self

from windlass.databases.postgres import Server
from windlass.errors import CommandFailed, LinkDropped
from windlass.hosts.base import Host, Process
from windlass.shell import Command

_CHUNK: Final = 65536

# The server's or the role's own limits must not end a session that waits for a long dump. `jit` only
# costs time here. `row_security = off` makes a filtered count an error, as pg_dump does.
_PREPARE: Final = """
SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0; SET jit = off; SET row_security = off;
SET search_path = pg_catalog;
SELECT pg_catalog.format('SET %I = 0', name) FROM pg_catalog.pg_settings
 WHERE name IN ('idle_session_timeout', 'transaction_timeout') \\gexec"""


def session_command(server: Server, database: str, label: str) -> Command:
    """Return the command of a session on a database; `label` is its application name."""
    return server.client(
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
        database=database,
        label=label,
    )


class Session:
    """A connection to a database; use it as a context manager.

    Args:
        host: where the container runs.
        server: the server.
        database: the database's name.
        label: the application name it carries in `pg_stat_activity`.
    """

    def __init__(self, host: Host, server: Server, database: str, label: str = "windlass") -> None:
        self.database = database
        self.what = f"the query on {database} of {host.name}"
        self._process: Process = host.open(session_command(server, database, label))
        self._buffer = b""

    def __enter__(self) -> Self:
        self._process.__enter__()
        try:
            self.rows(_PREPARE)
        except BaseException as error:
            self._process.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def rows(self, sql: str) -> list[Any]:
        """Run statements and return their rows, each of which must be one JSON value.

        Raises:
            CommandFailed: a statement failed, or the connection ended; the session is over.
            LinkDropped: the link to the host died.
        """
        marker = secrets.token_hex(16)
        self._write(f"{sql}\n\\echo {marker}\n".encode())
        end = f"{marker}\n".encode()
        lines: list[Any] = []
        while (line := self._line()) != end:
            lines.append(json.loads(line))
        return lines

    def end(self) -> None:
        """End the session as planned.

        Raises:
            CommandFailed: psql did not end with 0: what was held open may have been lost before.
            LinkDropped: the link to the host died.
        """
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self._fail()
        code = self._process.wait()
        if code != 0:
            raise CommandFailed(self.what, code, self._process.error_text())

    def kill(self) -> None:
        """End the session now, from any thread."""
        self._process.kill()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            self._fail()

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            # The stream is not buffered, so this gives what is there and does not wait for a full chunk.
            chunk = self._process.stdout.read(_CHUNK)
            if not chunk:
                self._fail()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def _fail(self) -> None:
        code = self._process.wait()
        said = self._process.error_text()
        if code == 0:
            raise LinkDropped(f"{self.what} ended before its answer came.", said)
        raise client_failure(self.what, code, said)


def client_failure(what: str, code: int, said: str) -> CommandFailed:
    """Return the error for a client tool of the server that ended with `code`, by what it said."""
    lower = said.lower()
    hint = ""
    if "no password supplied" in lower or "peer authentication failed" in lower:
        hint = (
            "The server wants a login on its local socket; allow it in pg_hba.conf: `local all <user> trust`."
        )
    elif "lock timeout" in lower or "lock-wait-timeout" in lower:
        hint = "A schema change holds or waits for a lock; try again when it is over."
    return CommandFailed(what, code, said, hint)
