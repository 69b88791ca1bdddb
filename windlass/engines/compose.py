"""Docker Compose on a host, as pure builders of command lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from windlass.shell import Command, quote


def compose(project: str, stack: str, secrets: str) -> Command:
    """Return the start of every Compose command for a release.

    Args:
        project: the Compose project's name.
        stack: path of the rendered stack.
        secrets: path of its 0600 file of secret values, which Compose interpolates.
    """
    return Command.of(
        "docker", "compose", "--ansi", "never", "-p", project, "-f", stack, "--env-file", secrets
    )


def up(base: Command, services: Sequence[str] = (), *, recreate: bool = True) -> Command:
    """Return the command that makes a stack run as its file says, replacing only what differs.

    `--pull never`: images are there since the release was staged; a pull here would make the gap longer.
    Services no longer in the file are removed, unless `services` names only some.
    """
    options = ["up", "--detach", "--no-build", "--pull", "never", "--quiet-pull"]
    options += ["--remove-orphans"] if not services else []
    options += [] if recreate else ["--no-recreate"]
    return Command((*base.words, *options, *services))


def run_once(
    base: Command, name: str, service: str, command: Sequence[str], *, dependencies: bool = True
) -> Command:
    """Return the command that runs something once in a new container of a service, then removes it.

    With `dependencies` the services it depends on are started and waited for, and those that run with
    another definition are replaced. The name lets a time limit remove the container, which ending the
    client does not.
    """
    options = ["--rm", "-T", "--quiet-pull", "--name", name, *([] if dependencies else ["--no-deps"])]
    return Command((*base.words, "run", *options, service, *command))


def logs(project: str, services: Sequence[str], *, tail: int, follow: bool, since: str = "") -> Command:
    """Return the command that shows the logs of a running project, found by its labels."""
    words = [
        "docker",
        "compose",
        "--ansi",
        "never",
        "-p",
        project,
        "logs",
        "--timestamps",
        "--tail",
        str(tail),
    ]
    words += ["--follow"] if follow else []
    words += ["--since", since] if since else []
    # After `--`, a name such as `--help` is no option.
    return Command((*words, "--", *services))


def running_services(project: str) -> Command:
    """Return the command that lists the services of a project that have containers, one a line."""
    label = f"label=com.docker.compose.project={project}"
    return Command.of(
        *("docker", "ps", "--all", "--filter", label),
        *("--format", '{{.Label "com.docker.compose.service"}}'),
    )


def outliving(lines: Sequence[str]) -> list[str]:
    """Return script lines that run to their end also when nobody reads what they say any more.

    A lost link breaks the pipes of a script: Compose would end at its next word, and leave a service
    stopped that it was about to start again.
    """
    return ["{", *lines, "} 2>&1 | { cat >&2 || cat >/dev/null; }"]


def limited_together(commands: Sequence[Command], seconds: float) -> list[str]:
    """Return script lines that run commands in turn and end them after a number of seconds in all."""
    if len(commands) == 1:
        return limited(commands[0], seconds)
    lines = [f"ends=$((SECONDS + {math.ceil(seconds)}))"]
    for command in commands:
        lines += [
            "left=$((ends - SECONDS))",
            '[ "$left" -gt 0 ] || exit 124',
            f'timeout -k 5 "$left" {command.quoted()} </dev/null',
        ]
    return lines


def limited(command: Command, seconds: float, container: str | None = None) -> list[str]:
    """Return script lines that end a command after a number of seconds, and remove its container then."""
    line = f"timeout -k 5 {seconds:g} {command.quoted()} </dev/null"
    if container is None:
        return [line]
    removal = f"docker rm -f {quote(container)} >/dev/null 2>&1 || true"
    return [
        f"code=0; {line} || code=$?",
        f"if [ $code -ge 124 ]; then {removal}; fi",
        "[ $code -eq 0 ] || exit $code",
    ]
