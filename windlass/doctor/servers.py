"""Looks at the hosts of an environment: whether they answer, with which tools, disk and clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from windlass.doctor.findings import Finding, version_of
from windlass.doctor.machine import compose_finding
from windlass.environment.environment import Environment
from windlass.errors import HostKeyError, HostUnreachable, WindlassError
from windlass.hosts.base import Host
from windlass.hosts.group import Hosts
from windlass.hosts.report import Report, report
from windlass.shell import Script

# Signatures of AWS and one-time passwords are refused at some minutes and at 30 seconds; two already put
# the lines of two hosts' logs in a wrong order.
CLOCK_WARNING_SECONDS: Final = 2.0
CLOCK_FAILED_SECONDS: Final = 30.0
# By tool, the Debian package that has it.
TOOLS: Final = {
    "bash": "bash",
    "flock": "util-linux",
    "tar": "tar",
    "gzip": "gzip",
    "awk": "mawk",
    "sha256sum": "coreutils",
    "timeout": "coreutils",
    "realpath": "coreutils",
}
_ASK_SECONDS: Final = 30.0


def examine(environment: Environment, hosts: Hosts) -> tuple[Finding, ...]:
    """Look at every host, several at a time; one that is down hides no other."""
    directory = environment.settings.directory.format(app=environment.settings.app)
    results = hosts.map(lambda host: (report(host, directory), _tools(host)))
    found: list[Finding] = []
    for result in results:
        name = result.host.name
        if result.error is not None:
            found.append(_unreachable(environment, name, result.error))
        else:
            seen, tools = result.unwrap()
            found += _seen(environment, seen, directory)
            found += _of_tools(name, tools)
    return tuple(found)


def _unreachable(environment: Environment, name: str, error: WindlassError) -> Finding:
    what = "host key" if isinstance(error, HostKeyError) else "connection"
    if isinstance(error, HostKeyError):
        fix = error.hint or f"Run `inv host.trust --env {environment.name} --host {name}`."
    elif isinstance(error, HostUnreachable):
        fix = error.hint or f"Check that it is up, and address, user and port in [hosts.{name}]."
    else:
        fix = error.hint or "Windlass needs bash and coreutils there."
    return Finding(name, what, "failed", error.message, fix)


def _seen(environment: Environment, seen: Report, directory: str) -> Iterator[Finding]:
    yield Finding(seen.host, "connection", "ok", f"as {seen.user}")
    yield _engine(seen)
    if seen.engine:
        yield compose_finding(seen.host, seen.compose)
    yield _folder(seen, directory)
    yield _disk(seen, environment.settings.deploy.min_free_disk_mb)
    yield _clock(seen)


def _engine(seen: Report) -> Finding:
    if version_of(seen.engine):
        return Finding(seen.host, "Docker", "ok", seen.engine)
    fix = f"Let {seen.user} use Docker: sudo usermod -aG docker {seen.user}, then log in again."
    if "permission denied" not in seen.docker_error.lower():
        fix = "Install Docker there (https://docs.docker.com/engine/install/), or start it."
    return Finding(seen.host, "Docker", "failed", seen.docker_error or seen.engine, fix)


def _folder(seen: Report, directory: str) -> Finding:
    if seen.writable:
        return Finding(seen.host, "folder", "ok", directory)
    fix = f"On the host: sudo install -d -o {seen.user} {directory}; or set `directory`."
    return Finding(seen.host, "folder", "failed", f"{seen.user} may not write to {directory}", fix)


def _disk(seen: Report, needed: int) -> Finding:
    if seen.disk_free_mb is None:
        return Finding(seen.host, "disk", "warning", "it is not known", "Look with df on the host.")
    found = f"{seen.disk_free_mb} MiB free of {seen.disk_total_mb} MiB"
    if seen.disk_free_mb >= needed:
        return Finding(seen.host, "disk", "ok", found)
    fix = f"Free some: {needed} MiB are asked for by deploy.min_free_disk_mb. Look with docker system df."
    return Finding(seen.host, "disk", "failed", found, fix)


def _clock(seen: Report) -> Finding:
    ahead = seen.clock_difference
    if ahead is None:
        return Finding(seen.host, "clock", "warning", "it is not known", "Look with date on the host.")
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    if abs(ahead) <= CLOCK_WARNING_SECONDS:
        return Finding(seen.host, "clock", "ok", "right" if ahead == 0 else found)
    fix = "Keep both clocks right: sudo timedatectl set-ntp true, on the host or here."
    return Finding(
        seen.host, "clock", "failed" if abs(ahead) > CLOCK_FAILED_SECONDS else "warning", found, fix
    )


def _tools(host: Host) -> tuple[str, ...]:
    """Return which of the tools a host lacks."""
    script = Script.of(
        "look for tools",
        "set +e",
        *(f"command -v {tool} >/dev/null 2>&1 || echo {tool}" for tool in TOOLS),
        "true",
        timeout=_ASK_SECONDS,
    )
    said = host.run(script).text.split()
    return tuple(tool for tool in TOOLS if tool in said)


def _of_tools(host: str, missing: tuple[str, ...]) -> Iterator[Finding]:
    if not missing:
        yield Finding(host, "tools", "ok", ", ".join(TOOLS))
        return
    packages = " ".join(dict.fromkeys(TOOLS[tool] for tool in missing))
    fix = f"On the host: sudo apt-get install {packages} (the names are Debian's)."
    yield Finding(host, "tools", "failed", f"missing: {', '.join(missing)}", fix)
