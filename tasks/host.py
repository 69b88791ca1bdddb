"""The hosts of an environment: what they are, whether to trust them, whether they answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import is_dry, task

if TYPE_CHECKING:
    from windlass.environment.environment import Environment
    from windlass.errors import WindlassError
    from windlass.hosts.group import HostResult
    from windlass.hosts.keys import Link, Offer
    from windlass.hosts.report import Report

    from ._terminal import Terminal

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
HOST_HELP = "Only this host."
JSON_HELP = "Write JSON instead of a table."
_SERVER_KEY = "ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"
_KINDS = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def list_(context: Context, env: str = "", json: bool = False) -> None:
    """List the hosts and whether their keys are trusted; connects to none."""
    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_hosts(env or None)
    rows = [_row(environment, name) for name in environment.settings.hosts]
    terminal.result(rows)
    columns = ("name", "transport", "address", "user", "port", "jump", "trusted")
    terminal.table(
        f"hosts of {environment.name}", columns, [[_cell(row[each]) for each in columns] for row in rows]
    )


def _row(environment: Environment, name: str) -> dict[str, object]:
    """Return what `host.list` says of a host."""
    from windlass.hosts.address import resolve
    from windlass.hosts.known_hosts import KnownHosts
    from windlass.hosts.ssh import known_hosts_files

    settings = environment.settings.hosts[name]
    row: dict[str, object] = {"name": name, "transport": settings.transport}
    if settings.transport == "local":
        return row | dict.fromkeys(("address", "user", "port", "jump", "trusted"))
    address = resolve(name, settings, environment.root)
    known = KnownHosts.read(known_hosts_files(settings, environment.root))
    return row | {
        "address": address.host,
        "user": address.user,
        "port": address.port,
        "jump": str(address.jump) if address.jump else address.proxy_command,
        "trusted": bool(known.of(address)),
    }


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
    return str(value)


@task(
    help={
        "env": ENV_HELP,
        "host": HOST_HELP,
        "fingerprint": "The key's fingerprint as you know it, SHA256:…; then nothing is asked. Repeatable.",
        "replace": "Trust the new key of a host whose key has changed, and forget the old one.",
        "yes": "Take the key shown without asking; only on a terminal.",
    },
    iterable=("fingerprint",),
)
def trust(
    context: Context,
    env: str = "",
    host: str = "",
    fingerprint: list[str] | None = None,
    replace: bool = False,
    yes: bool = False,
) -> None:
    """Show the keys of hosts never met before and, once confirmed, trust them from then on."""
    from windlass.errors import WindlassError
    from windlass.hosts.group import chosen_names

    from . import _terminal

    terminal = _terminal.Terminal()
    environment = _terminal.open_hosts(env or None)
    contact = _FirstContact(environment, terminal, tuple(fingerprint or ()), replace, yes, is_dry(context))
    failures: list[WindlassError] = []
    for name in chosen_names(environment, host or None):
        try:
            contact.trust(name)
        except WindlassError as error:
            failures.append(error)
    _raise(failures)


def _raise(failures: list[WindlassError]) -> None:
    """Raise the first error after saying the others: every host has its sentence."""
    for each in failures[1:]:
        sys.stderr.write(f"error: {each}\n")
    if failures:
        raise failures[0]


class _FirstContact:
    """Shows keys, asks, and records."""

    def __init__(
        self,
        environment: Environment,
        terminal: Terminal,
        fingerprints: tuple[str, ...],
        replace: bool,
        yes: bool,
        dry: bool,
    ) -> None:
        self._environment = environment
        self._terminal = terminal
        self._fingerprints = fingerprints
        self._replace = replace
        self._yes = yes
        self._dry = dry

    def trust(self, name: str) -> None:
        """Go the way to a host and trust each server on it."""
        from windlass.hosts.address import resolve
        from windlass.hosts.keys import ask, way
        from windlass.hosts.ssh import known_hosts_files

        settings = self._environment.settings.hosts[name]
        if settings.transport == "local":
            self._terminal.say(f"{name}: this machine, no key needed")
            return
        files = known_hosts_files(settings, self._environment.root)
        for link in way(name, resolve(name, settings, self._environment.root)):
            if self._dry:
                self._terminal.say(self._plan(link, files[0]))
            else:
                self._decide(ask(link, files, settings.connect_timeout), files[0])

    def _plan(self, link: Link, file: Path) -> str:
        place = f"{link.address.host}:{link.address.port}"
        return (
            f"{link.label}: would ask {place} for its key and, once confirmed, add it to {self._shown(file)}"
        )

    def _shown(self, file: Path) -> str:
        root = self._environment.root
        return str(file.relative_to(root) if file.is_relative_to(root) else file)

    def _decide(self, offer: Offer, file: Path) -> None:
        from windlass.hosts.connection import fingerprint
        from windlass.hosts.known_hosts import record

        label, shown = offer.link.label, fingerprint(offer.key)
        if offer.state == "trusted":
            self._terminal.say(f"{label}: {shown} is trusted already")
            return
        self._terminal.say(f"{label} ({offer.name}) shows {shown}")
        if offer.state == "changed" and not self._replace:
            raise _changed(offer)
        self._confirm(offer)
        record(file, offer.name, offer.key, replace=offer.state == "changed")
        self._terminal.say(f"{label}: trusted, in {self._shown(file)}")

    def _confirm(self, offer: Offer) -> None:
        from windlass.errors import HostKeyError, NotConfirmed
        from windlass.hosts.connection import fingerprint
        from windlass.hosts.keys import matches

        from . import _terminal

        label, key = offer.link.label, offer.key
        if self._fingerprints:
            if not any(matches(key, each) for each in self._fingerprints):
                raise HostKeyError(
                    f"{label} shows {fingerprint(key)}, not the fingerprint given; nothing was trusted.",
                    "Somebody may stand in between, or it is the fingerprint of another key of that server.",
                )
            return
        command = _SERVER_KEY.format(kind=_KINDS.get(key.get_name(), "ecdsa"))
        if not _terminal.can_ask():
            raise NotConfirmed(
                f"The key of {label} is not trusted, and nobody is here to compare it.",
                f"Give its fingerprint with --fingerprint; on the server, `{command}` shows it.",
            )
        self._terminal.say(f"  Compare it on the server, through another way in: {command}")
        if not self._yes and not _terminal.ask(f"Trust this key of {label}? [y/N] "):
            raise NotConfirmed(f"The key of {label} was not confirmed; nothing was trusted.")


def _changed(offer: Offer) -> Exception:
    from windlass.errors import HostKeyError
    from windlass.hosts.connection import fingerprint

    before = " and ".join(fingerprint(key) for key in offer.trusted)
    return HostKeyError(
        f"{offer.link.label} is known by another key, {before}; nothing was changed.",
        "Somebody may stand in between. If the server was rebuilt, add --replace.",
    )


@task(help={"env": ENV_HELP, "host": HOST_HELP, "json": JSON_HELP})
def check(context: Context, env: str = "", host: str = "", json: bool = False) -> None:
    """Connect to every host and report its tools, disk and clock, and whether Docker can be used."""
    from windlass.hosts.report import report

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_hosts(env or None)
    settings = environment.settings
    if is_dry(context):
        names = [host] if host else list(settings.hosts)
        terminal.result({"would_check": names})
        terminal.say(f"would connect to {', '.join(names)} and ask each for its tools, disk and clock")
        return
    directory = settings.directory.format(app=settings.app)
    with _terminal.connected(environment, host or None) as hosts:
        results = hosts.map(lambda each: report(each, directory))
    _show(terminal, environment.name, results)
    _raise([result.error for result in results if result.error is not None])


def _show(terminal: Terminal, environment: str, results: tuple[HostResult[Report], ...]) -> None:
    terminal.result(
        [
            {"ok": True, **vars(result.unwrap())}
            if result.ok
            else {"ok": False, "host": result.host.name, "error": getattr(result.error, "message", "")}
            for result in results
        ]
    )
    columns = ("host", "state", "user", "docker", "compose", "disk free", "clock")
    terminal.table(f"hosts of {environment}", columns, [_report_row(result) for result in results])
    for result in results:
        if result.ok and result.unwrap().docker_error:
            terminal.say(f"{result.host.name}: Docker cannot be used: {result.unwrap().docker_error}")


def _report_row(result: HostResult[Report]) -> tuple[str, ...]:
    from ._terminal import human_bytes

    if not result.ok:
        return (result.host.name, "unreachable" if _unreachable(result) else "failed", *"-----")
    found = result.unwrap()
    free, total = (
        None if size is None else size * 1024 * 1024 for size in (found.disk_free_mb, found.disk_total_mb)
    )
    disk = f"{human_bytes(free)} of {human_bytes(total)}"
    clock = "?" if found.clock_difference is None else f"{found.clock_difference:+.1f} s"
    state = "ok" if found.engine and found.compose else "no Docker" if not found.engine else "no Compose"
    return (found.host, state, found.user, found.engine or "-", found.compose or "-", disk, clock)


def _unreachable(result: HostResult[Report]) -> bool:
    from windlass.errors import HostUnreachable

    return isinstance(result.error, HostUnreachable)


namespace = Collection("host", list_, trust, check)
