"""Which container a Compose service runs in.

Containers are found by Compose's own labels, so that nothing depends on how they are named.
"""

from __future__ import annotations

from typing import Final

from windlass.errors import PreflightFailed
from windlass.hosts.base import Host
from windlass.shell import Command, Script

# https://docs.docker.com/reference/compose-file/services/#labels: Compose's canonical labels.
_PROJECT: Final = "com.docker.compose.project"
_SERVICE: Final = "com.docker.compose.service"
_ONE_OFF: Final = "com.docker.compose.oneoff"
_TIMEOUT_SECONDS: Final = 30.0


def listing_command(app: str, service: str) -> Command:
    """Return the command that prints `<id> <state> <name>` for each container of a service."""
    labels = (f"{_PROJECT}={app}", f"{_SERVICE}={service}", f"{_ONE_OFF}=False")
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    return Command.of(
        "docker", "ps", "--all", "--no-trunc", *filters, "--format", "{{.ID}} {{.State}} {{.Names}}"
    )


def only_running(listing: str, app: str, service: str, host: str) -> str:
    """Return the id of the one running container in a listing.

    Raises:
        PreflightFailed: none runs, or more than one does.
    """
    rows = [line.split(" ", 2) for line in listing.splitlines() if line.strip()]
    running = [row[0] for row in rows if row[1] == "running"]
    if len(running) == 1:
        return running[0]
    what = f"The service {service} of {app} on {host}"
    if running:
        names = ", ".join(row[2] for row in rows if row[1] == "running")
        raise PreflightFailed(f"{what} runs in {len(running)} containers ({names}), not in one.")
    if rows:
        states = ", ".join(f"{row[2]} is {row[1]}" for row in rows)
        raise PreflightFailed(
            f"{what} is not running: {states}.", f"Start it; `docker logs {rows[0][2]}` says why."
        )
    raise PreflightFailed(
        f"{what} has no container.", "Deploy the stack, or check `service` in `[databases]`."
    )


def find(host: Host, app: str, service: str) -> str:
    """Return the id of the one running container of a service.

    Raises:
        PreflightFailed: none runs, or more than one does.
        CommandFailed: the engine did not answer.
    """
    script = Script.of(
        f"find the container of {service}", listing_command(app, service).quoted(), timeout=_TIMEOUT_SECONDS
    )
    return only_running(host.run(script).text, app, service, host.name)
