"""What runs of a Compose project on a host: the question as bash lines, the answer as values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from windlass.errors import OperationFailed
from windlass.shell import quote

PROJECT_LABEL: Final = "com.docker.compose.project"
SERVICE_LABEL: Final = "com.docker.compose.service"
ONE_OFF_LABEL: Final = "com.docker.compose.oneoff"
CONFIG_LABEL: Final = "windlass.config"

HEALTH_OUTPUT_LIMIT: Final = 200
"""Longest kept output of a container's own health check, in characters."""

_NEVER: Final = "0001-"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# `.ID` as the Go field is called, not `.Id` as in the JSON: a name only the JSON has makes Docker use
# the raw JSON for the whole template, where a container without a health check has no `.State.Health`.
# The output of a passing health check interests nobody and may be 4 KiB per container and poll.
_TEMPLATE: Final = (
    '{"id":{{json .ID}},"name":{{json .Name}}'
    f',"service":{{{{json (index .Config.Labels "{SERVICE_LABEL}")}}}}'
    f',"config":{{{{json (index .Config.Labels "{CONFIG_LABEL}")}}}}'
    ',"status":{{json .State.Status}}'
    ',"health":{{with .State.Health}}{{json .Status}}{{else}}""{{end}}'
    ',"exit_code":{{json .State.ExitCode}},"restart_count":{{json .RestartCount}}'
    ',"started_at":{{json .State.StartedAt}}'
    ',"restart_policy":{{json .HostConfig.RestartPolicy.Name}},"image":{{json .Config.Image}}'
    ',"health_output":{{$last := ""}}{{with .State.Health}}{{if ne .Status "healthy"}}'
    "{{range .Log}}{{$last = .Output}}{{end}}{{end}}{{end}}{{json $last}}}"
)


@dataclass(frozen=True)
class ContainerState:
    """One container of a Compose project, as Docker saw it.

    Args:
        id: the full id.
        name: the name, without the leading slash.
        service: the Compose service it belongs to.
        config: the label `windlass.config`; empty when Windlass did not start it.
        status: Docker's word: created, running, paused, restarting, removing, exited or dead.
        health: starting, healthy or unhealthy; empty when it has no health check.
        exit_code: of its last run; 0 while it never ended.
        restart_count: how often its restart policy started it again.
        started_at: start of its last run in seconds since the epoch, by the host's clock; None: never.
        restart_policy: no, always, unless-stopped or on-failure.
        image: the image as the container names it.
        health_output: the end of what its last failing health check said. Not redacted: it may hold
            a secret, and so it is not shown by `repr`.
    """

    id: str
    name: str
    service: str
    config: str = ""
    status: str = "running"
    health: str = ""
    exit_code: int = 0
    restart_count: int = 0
    started_at: float | None = None
    restart_policy: str = "no"
    image: str = ""
    health_output: str = field(default="", repr=False)


def list_line(project: str, *, service: str | None = None, running_only: bool = False) -> str:
    """Return the bash line that sets `ids` to the full ids of a project's containers, without one-offs.

    It ends the script with Docker's exit code when Docker does not answer.
    """
    labels = [f"{PROJECT_LABEL}={project}", f"{ONE_OFF_LABEL}=False"]
    if service is not None:
        labels.append(f"{SERVICE_LABEL}={service}")
    filters = " ".join(f"--filter {quote('label=' + label)}" for label in labels)
    everything = "" if running_only else " --all"
    return f"ids=$(docker ps{everything} --quiet --no-trunc {filters} </dev/null) || exit"


def state_lines(project: str) -> list[str]:
    """Return bash lines that print the state of every container of a project, one JSON object per line."""
    inspect = f"docker inspect --type container --format {quote(_TEMPLATE)} $ids </dev/null"
    return [
        list_line(project),
        # A container may vanish between the two commands; the others are printed all the same.
        'if [ -n "$ids" ]; then {',
        f"said=$({inspect} 2>&1 >&3) || case $said in",
        "*[Nn]o\\ such*) ;;",
        "*) printf '%s\\n' \"$said\" >&2; exit 1 ;;",
        "esac; } 3>&1; fi",
    ]


def parse_states(text: str) -> tuple[ContainerState, ...]:
    """Read what the lines of `state_lines` printed, ordered by service and name.

    Raises:
        OperationFailed: a line is not what Docker prints for them.
    """
    states = (_state(line) for line in text.split("\n") if line.strip())
    return tuple(sorted(states, key=lambda state: (state.service, len(state.name), state.name)))


def plain(text: str) -> str:
    """Return what a container said as one line, without the control sequences a terminal would obey."""
    return _CONTROL.sub("", text.replace("\n", " "))


def _state(line: str) -> ContainerState:
    try:
        return _from_json(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        # No cause: the line may hold the output of a health check, and that a secret.
        raise OperationFailed("Docker's answer about the containers could not be read.") from None


def _from_json(data: Mapping[str, Any]) -> ContainerState:
    health = data["health"]
    return ContainerState(
        id=data["id"],
        name=data["name"].removeprefix("/"),
        service=data["service"] or "",
        config=data["config"] or "",
        status=data["status"],
        health="" if health == "none" else health,
        exit_code=int(data["exit_code"]),
        restart_count=int(data["restart_count"]),
        started_at=_seconds(data["started_at"]),
        restart_policy=data["restart_policy"] or "no",
        image=data["image"],
        health_output=data["health_output"].strip()[-HEALTH_OUTPUT_LIMIT:],
    )


def _seconds(moment: str) -> float | None:
    return None if moment.startswith(_NEVER) else datetime.fromisoformat(moment).timestamp()
