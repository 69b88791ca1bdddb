"""A PostgreSQL server in a container, labelled as Compose labels a service."""

import os
import secrets
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.testbed.docker import docker, run, succeeds
from tests.testbed.image import base_images

_READY_SECONDS = 180.0


class PostgresServer:
    """A running server; use it as a context manager, which removes it.

    Args:
        options: settings for the server, such as `shared_buffers=256MB`.
    """

    user = "app"
    database = "shop"

    def __init__(self, *options: str) -> None:
        self.app = f"wltest-{os.getpid()}-{secrets.token_hex(3)}"
        self.options = ("fsync=off", "jit=off", *options)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._remove()
            raise
        return self

    def _start(self) -> None:
        labels = (
            f"com.docker.compose.project={self.app}",
            "com.docker.compose.service=db",
            "com.docker.compose.oneoff=False",
        )
        docker(
            *("run", "--detach", "--name", self.app, "--network", "none", "--shm-size", "256m"),
            *(word for label in labels for word in ("--label", label)),
            *("--env", f"POSTGRES_USER={self.user}", "--env", f"POSTGRES_DB={self.database}"),
            *("--env", f"POSTGRES_PASSWORD={secrets.token_hex(8)}"),
            base_images()["POSTGRES_IMAGE"],
            *(word for option in self.options for word in ("-c", option)),
        )
        deadline = time.monotonic() + _READY_SECONDS
        # On TCP: the first start, which fills the data folder, answers on the socket only.
        while not succeeds("exec", self.app, "pg_isready", "-q", "-h", "127.0.0.1", "-U", self.user):
            assert time.monotonic() < deadline, docker("logs", self.app)
            time.sleep(0.2)

    def _remove(self) -> None:
        docker("rm", "--force", "--volumes", self.app, check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def argv(self, database: str | None = None) -> list[str]:
        """Return the command of a psql that reads statements from stdin."""
        quoted = (database or self.database).replace("\\", "\\\\").replace("'", "\\'")
        options = ("-XqAt", "-v", "ON_ERROR_STOP=1", "-U", self.user, "-d", f"dbname='{quoted}'")
        return ["docker", "exec", "-i", self.app, "psql", *options]

    def sql(self, text: str, database: str | None = None) -> str:
        """Run statements and return what they print."""
        return run(self.argv(database), stdin=text, timeout=600).stdout.rstrip("\n")

    def databases(self) -> set[str]:
        """Return the names of all databases but the templates."""
        return set(
            self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate", "postgres").split("\n")
        )

    def dumping(self) -> list[int]:
        """Return the processes of pg_dump in the container, by the machine's own numbers."""
        rows = docker("top", self.app, "-eo", "pid,comm").splitlines()[1:]
        return [int(row.split()[0]) for row in rows if row.split()[1] == "pg_dump"]

    def popen(self, database: str | None = None) -> subprocess.Popen[bytes]:
        """Start a psql that reads statements from a pipe."""
        return subprocess.Popen(self.argv(database), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
