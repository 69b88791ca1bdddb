"""Where a release's files are on a host: one folder per application, the same on every host.

`<directory>/` holds `releases/<id>/` (stack.json, secrets.env in 0600, meta.json, migrate.log),
`current` and `previous` (links), `files/` (what the stack mounts, by content), `shared/` (folders that
outlive releases), `journal.jsonl`, `key`, and the two lock files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from windlass.environment.environment import Environment

STACK_FILE = "stack.json"
SECRETS_FILE = "secrets.env"
META_FILE = "meta.json"
MIGRATE_LOG = "migrate.log"


@dataclass(frozen=True)
class Layout:
    """The paths under an application's folder on one host.

    Args:
        directory: the folder; relative to the login's home on servers.
    """

    directory: str

    def path(self, *names: str) -> str:
        """Return a path below the folder."""
        return str(PurePosixPath(self.directory, *names))

    def release(self, identity: str, *names: str) -> str:
        """Return a path in a release's folder."""
        return self.path("releases", identity, *names)

    @property
    def journal(self) -> str:
        """The journal: one JSON line for each thing that began or ended."""
        return self.path("journal.jsonl")

    @property
    def owner(self) -> str:
        """Who holds the lock, as JSON."""
        return self.path("lock.json")


def layout(environment: Environment, host: str) -> Layout:
    """Return the layout on a host of the environment."""
    settings = environment.settings
    directory = settings.directory.replace("{app}", settings.app)
    if settings.hosts[host].transport == "local":
        return Layout(str(environment.root / Path(directory).expanduser()))
    return Layout(directory)
