"""PostgreSQL in a container of the stack: the commands of its own client tools.

One binary per `docker exec`, never a shell pipe inside the container: an orphaned child of a killed
shell lands on PID 1, the postmaster, which then crash-restarts. Never a terminal: it changes bytes.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final, Literal

from windlass.databases import containers
from windlass.environment.model import DatabaseSettings, Settings
from windlass.errors import ConfigurationError, PreflightFailed
from windlass.hosts.base import Host
from windlass.shell import Command, Script

Compression = Literal["zstd", "none"]

# Longest wait for a lock on a table. While a dump waits behind a schema change, so does every query of
# the application behind that change.
LOCK_WAIT_SECONDS: Final = 20
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+\S*)")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server.

    Args:
        container: its container's id or name.
        user: the role to connect as, over the container's local socket.
    """

    container: str
    user: str

    def client(
        self, program: str, *words: str, database: str, label: str = "windlass", terminal: bool = False
    ) -> Command:
        """Return the command that runs a client program against a database.

        Args:
            program: `psql`, `pg_dump` or `pg_restore` of the server's own image.
            words: its further arguments.
            database: the database's name, whatever characters it has.
            label: the application name its connections carry.
            terminal: for an interactive program.
        """
        password = () if terminal else ("--no-password",)
        return Command.of(
            *("docker", "exec", "--interactive", *(("--tty",) if terminal else ())),
            *("--env", f"PGAPPNAME={label}", self.container, program),
            *(f"--username={self.user}", f"--dbname={connection_string(database)}", *password, *words),
        )


def connection_string(database: str) -> str:
    """Return a libpq connection string that names exactly this database.

    A bare name would be read as such a string itself when it holds `=` or starts with `postgresql:`;
    https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE has the quoting.
    """
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def choose(settings: Settings, name: str | None) -> tuple[str, DatabaseSettings]:
    """Return the key and settings of the database asked for; of the only one when none is named.

    Raises:
        ConfigurationError: there is none of that name, none at all, or several and none named.
    """
    known = settings.databases
    if name in known:
        return name, known[name]
    if not known:
        raise ConfigurationError(
            "The environment has no database.", "Add a table `[databases.<name>]` to envs/."
        )
    if name is not None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Databases: {', '.join(known)}."
        raise ConfigurationError(f"The environment has no database {name}.", hint)
    if len(known) > 1:
        raise ConfigurationError("The environment has several databases.", f"Name one: {', '.join(known)}.")
    return next(iter(known.items()))


def locate(host: Host, app: str, settings: DatabaseSettings) -> Server:
    """Return the server of a database of the stack.

    Raises:
        PreflightFailed: its service does not run in exactly one container.
    """
    return Server(containers.find(host, app, settings.service), settings.user)


def version_command(server: Server) -> Command:
    """Return the command that prints the version of the server's own client tools."""
    return Command.of("docker", "exec", server.container, "pg_dump", "--version")


def client_version(host: Host, server: Server) -> str:
    """Return the version of the client tools in the server's container, such as `17.5`.

    Raises:
        PreflightFailed: the container has no client tools.
    """
    script = Script.of("ask pg_dump for its version", version_command(server).quoted(), timeout=30.0)
    completed = host.run(script, check=False)
    version = parse_version(completed.text)
    if completed.code != 0 or version is None:
        raise PreflightFailed(
            f"The container {server.container[:12]} on {host.name} has no working pg_dump.",
            "The database's own image must hold PostgreSQL's client programs.",
        )
    return version


def parse_version(text: str) -> str | None:
    """Return the version in what a client program prints for `--version`; None when there is none."""
    match = _VERSION.search(text)
    return match[1] if match else None


def major(version: str) -> int:
    """Return the major version of a version such as `17.5 (Debian 17.5-1)`, `18beta1` or `15.18`."""
    match = re.match(r"\d+", version)
    if match is None:
        raise ValueError(f"no PostgreSQL version: {version}")
    return int(match[0])


def dump_command(
    server: Server, database: str, snapshot: str, *, compression: Compression, replica: bool, label: str
) -> Command:
    """Return the command that writes a database as of a snapshot to stdout, in the custom format."""
    return server.client(
        "pg_dump",
        "--format=custom",
        # pg_dump's default, gzip level 6, takes five times as long and is no smaller.
        "--compress=zstd:1" if compression == "zstd" else "--compress=0",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={LOCK_WAIT_SECONDS * 1000}",
        *(("--no-unlogged-table-data",) if replica else ()),
        database=database,
        label=label,
    )


def restore_command(server: Server, database: str, label: str) -> Command:
    """Return the command that loads an archive from stdin into a database.

    Owners and grants are part of what is restored: a role that is missing is an error, not a warning.
    """
    return server.client("pg_restore", "--exit-on-error", database=database, label=label)


def read_command(server: Server) -> Command:
    """Return the command that reads an archive from stdin to its end and keeps nothing."""
    return Command.of("docker", "exec", "--interactive", server.container, "pg_restore", "--file=/dev/null")


def shell_command(server: Server, database: str) -> Command:
    """Return the command of an interactive psql; it needs a terminal."""
    return server.client("psql", database=database, label="windlass shell", terminal=True)
