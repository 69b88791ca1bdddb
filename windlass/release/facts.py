"""What is true on a host, asked in one script: tools, releases, journal, lock, containers, images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from windlass.errors import OperationFailed
from windlass.health.containers import ContainerState, parse_states, state_lines
from windlass.hosts.base import Host
from windlass.images.inventory import Inventory, inventory_lines, parse_inventory
from windlass.release.layout import META_FILE, Layout
from windlass.release.ledger import Entry, Meta, Run, runs
from windlass.shell import Script, assign

JOURNAL_LINES = 400
KEY_BYTES = 32
_MARK = "@@windlass "
_SECTIONS = ("tools", "lock", "releases", "journal", "containers", "images")


@dataclass(frozen=True)
class LockOwner:
    """Who holds a host's lock.

    Args:
        who: `user@machine`.
        action: what they do, such as `deploy`.
        release: the release they work on.
        since: UTC time.
        holder: process id on the host that holds it.
        token: the random name of this hold.
        alive: whether that process still runs.
    """

    who: str
    action: str
    release: str
    since: str
    holder: int
    token: str
    alive: bool = True

    def __str__(self) -> str:
        return f"{self.who}, {self.action} of {self.release}, since {self.since}"

    @classmethod
    def from_json(cls, text: str, *, alive: bool = True) -> LockOwner | None:
        """Read the owner file; None when there is none."""
        try:
            data = json.loads(text)
            return cls(
                who=str(data["who"]),
                action=str(data["action"]),
                release=str(data["release"]),
                since=str(data["since"]),
                holder=int(data["holder"]),
                token=str(data["token"]),
                alive=alive,
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Facts:
    """What is true on one host.

    Args:
        host: the host's name.
        directory: the application's folder, absolute.
        tools: version of each tool, or the error it gave: engine, compose, flock, arch.
        free_disk_mb: MiB free where releases and images go, the smaller; None when unknown.
        clock: the host's clock, seconds since the epoch.
        current: id of the running release; empty when there is none.
        previous: id of the one before.
        key: the host's key for content hashes; empty on a new host.
        owner: who holds the lock.
        working: whether a script of a deploy runs there, also one whose client is gone.
        releases: the releases kept on the host, by id.
        journal: its journal, oldest first.
        containers: what runs of the application.
        images: which images and layers it has.
    """

    host: str
    directory: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    free_disk_mb: int | None = None
    clock: int = 0
    current: str = ""
    previous: str = ""
    key: bytes = b""
    owner: LockOwner | None = None
    working: bool = False
    releases: Mapping[str, Meta] = field(default_factory=dict)
    journal: tuple[Entry, ...] = ()
    containers: tuple[ContainerState, ...] = ()
    images: Inventory | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The deploys and rollbacks of this host, oldest first."""
        return runs(self.journal)

    @property
    def interrupted(self) -> Run | None:
        """The last run, when nothing says how it ended and nobody is at it.

        A migration of its own after it says nothing about how a deploy ended.
        """
        found = self.runs
        last = [*found[-1:], *[run for run in found if run.action != "migrate"][-1:]]
        return next((run for run in last if run.state == "interrupted" and not self.is_busy(run)), None)

    @property
    def docker_fault(self) -> str:
        """Why Docker does not answer there; empty when it does."""
        version = self.tools.get("engine", "")
        return "" if version[:1].isdigit() else version or "there is no docker command"

    def is_busy(self, run: Run) -> bool:
        """Whether somebody is at this run at the moment."""
        if self.owner is None or not self.owner.alive or self.runs[-1:] != (run,):
            return False
        return run.state == "interrupted" and (self.owner.release, self.owner.action) == (
            run.release,
            run.action,
        )

    def running(self) -> dict[str, str]:
        """Return the content hash each service runs with now."""
        return {state.service: state.config for state in self.containers if state.status == "running"}

    def ready(self) -> set[str]:
        """Return the services that run and are not known to be unhealthy or starting."""
        bad = {each.service for each in self.containers if each.health not in {"", "healthy"}}
        return set(self.running()) - bad

    def release_of(self, service: str) -> str:
        """Return the release whose definition a service runs; empty when it is none of those kept."""
        config = self.running().get(service, "")
        ordered = sorted(self.releases.values(), key=lambda meta: meta.id, reverse=True)
        preferred = [self.releases[self.current]] if self.current in self.releases else []
        for meta in (*preferred, *ordered):
            if config and meta.hashes.get(service) == config:
                return meta.id
        return ""


def _section(name: str) -> str:
    """Return the line that begins a section, on a line of its own whatever stands before it."""
    return f"printf '\\n%s\\n' '{_MARK}{name}'"


def facts_script(layout: Layout, project: str, *, with_images: bool = True) -> Script:
    """Return the script whose output `parse_facts` reads; it changes nothing."""
    inventory = inventory_lines() if with_images else []
    lines = [
        assign("dir", layout.directory),
        "set +e",
        _section("tools"),
        """printf 'engine=%s\\n' "$(docker version --format '{{.Server.Version}}' 2>&1 | tail -n 1)" """,
        """printf 'compose=%s\\n' "$(docker compose version --short 2>&1 | tail -n 1)" """,
        "printf 'flock=%s\\n' \"$(command -v flock)\"",
        "printf 'arch=%s\\n' \"$(uname -m)\"",
        "printf 'clock=%s\\n' \"$(date +%s)\"",
        'where=$dir; while [ ! -d "$where" ]; do where=$(dirname "$where"); done',
        'if [ -w "$where" ]; then echo writable=yes; else echo writable="no: $where"; fi',
        # The engine's own folder may be closed to this user; its file system is not.
        "data=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)",
        'printf "disk=%s\\n" "$(df -Pk "$where" ${data:+"$data"} 2>/dev/null'
        ' | awk \'NR>1 && $4 ~ /^[0-9]+$/ {if (m=="" || $4<m) m=$4} END {print m}\')"',
        'printf "directory=%s\\n" "$(realpath -m "$dir")"',
        'printf "current=%s\\n" "$(basename "$(readlink "$dir/current")" 2>/dev/null)"',
        'printf "previous=%s\\n" "$(basename "$(readlink "$dir/previous")" 2>/dev/null)"',
        'printf "key=%s\\n" "$(cat "$dir/key" 2>/dev/null)"',
        _section("lock"),
        'if [ -r "$dir/lock.json" ]; then',
        '  if flock -n "$dir/lock" true 2>/dev/null; then echo stale; else echo held; fi',
        '  cat "$dir/lock.json"; echo',
        "fi",
        'if [ -e "$dir/work.lock" ] && ! flock -n "$dir/work.lock" true 2>/dev/null; then echo working; fi',
        _section("releases"),
        f'for meta in "$dir"/releases/*/{META_FILE}; do [ -r "$meta" ] && cat "$meta" && echo; done',
        _section("journal"),
        f'tail -n {JOURNAL_LINES} "$dir/journal.jsonl" 2>/dev/null',
        _section("containers"),
        # In a shell of their own: where Docker is down they end it, not the whole answer.
        "(",
        *state_lines(project),
        ")",
        _section("images"),
        *inventory,
        "true",
    ]
    return Script.of("look at the host", *lines, timeout=60)


def parse_facts(host: str, text: str) -> Facts:
    """Read what `facts_script` printed.

    Raises:
        OperationFailed: the answer is not complete.
    """
    sections = _sections(text)
    if set(_SECTIONS) - set(sections):
        raise OperationFailed(f"{host}: the answer about its state is not complete.")
    values = dict(line.partition("=")[::2] for line in sections["tools"] if "=" in line)
    metas = (_meta(line) for line in sections["releases"] if line.strip())
    return Facts(
        host=host,
        directory=values.get("directory", ""),
        tools={name: values.get(name, "") for name in ("engine", "compose", "flock", "arch", "writable")},
        free_disk_mb=int(values["disk"]) // 1024 if values.get("disk", "").isdigit() else None,
        clock=int(values.get("clock") or 0),
        current=values.get("current", ""),
        previous=values.get("previous", ""),
        key=_key(values.get("key", "")),
        owner=_owner(sections["lock"]),
        working="working" in sections["lock"],
        releases={meta.id: meta for meta in metas if meta is not None},
        journal=tuple(entry for line in sections["journal"] if (entry := Entry.from_json(line))),
        containers=parse_states("\n".join(sections["containers"])),
        images=_images(sections["images"]),
    )


def look(host: Host, layout: Layout, project: str, *, with_images: bool = True) -> Facts:
    """Ask a host what is true."""
    return parse_facts(host.name, host.run(facts_script(layout, project, with_images=with_images)).text)


def _sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):
        if line.startswith(_MARK):
            current = found.setdefault(line.removeprefix(_MARK), [])
        elif line:
            current.append(line)
    return found


def _images(lines: list[str]) -> Inventory | None:
    """Read the inventory; None when it was not asked for, or Docker did not answer."""
    try:
        return parse_inventory("".join(f"{line}\n" for line in lines)) if lines else None
    except OperationFailed:
        return None


def _key(text: str) -> bytes:
    """Read a host's key; nothing for one that a full disk cut short."""
    try:
        return bytes.fromhex(text.strip()) if len(text.strip()) == 2 * KEY_BYTES else b""
    except ValueError:
        return b""


def _meta(line: str) -> Meta | None:
    try:
        return Meta.from_json(line)
    except (ValueError, TypeError, AttributeError):
        return None


def _owner(lines: list[str]) -> LockOwner | None:
    if len(lines) < 2 or lines[0] not in {"held", "stale"}:
        return None
    return LockOwner.from_json(lines[1], alive=lines[0] == "held")


def as_data(facts: Facts) -> dict[str, Any]:
    """Return what `deploy.status --json` shows of a host; no key, no image list."""
    return {
        "host": facts.host,
        "current": facts.current,
        "previous": facts.previous,
        "lock": None if facts.owner is None else {"owner": str(facts.owner), "alive": facts.owner.alive},
        "working": facts.working,
        "docker": facts.docker_fault or "answers",
        "interrupted": None if facts.interrupted is None else vars(facts.interrupted),
        "services": [
            {
                "service": state.service,
                "container": state.name,
                "status": state.status,
                "health": state.health,
                "image": state.image,
                "release": facts.release_of(state.service),
            }
            for state in facts.containers
        ],
    }
