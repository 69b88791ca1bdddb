"""What is written down about releases: `meta.json` in each, and the journal of all that was done.

The journal is written by the host's own scripts, at the start and the end of each phase, so it is true
whatever becomes of the client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from windlass.shell import quote

SCHEMA = 1
# https://github.com/distribution/reference: a tag has at most 128 characters.
_LONGEST_TAG = 128


@dataclass(frozen=True)
class Meta:
    """A release, as its folder on a host describes it.

    Args:
        id: `<UTC time>-<tag>`.
        app: the application.
        environment: the environment it was made for.
        tag: the image tag.
        commit: the commit it was made from; empty outside git.
        images: the image reference of each service.
        built: those references the deploy's own images have.
        hashes: the keyed content hash of each service.
        replicas: containers of each service.
        one_shots: services that do their work and end.
        who: `user@machine` that made it.
        version: the Windlass that made it.
        parts: of each service, a keyed digest of every variable, secret and mount, by what it is.
    """

    id: str
    app: str
    environment: str
    tag: str
    commit: str
    images: Mapping[str, str]
    hashes: Mapping[str, str]
    replicas: Mapping[str, int]
    one_shots: tuple[str, ...]
    who: str
    version: str
    built: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def aliases(self) -> dict[str, str]:
        """Return the reference each of its own images also has on a host, and this release alone.

        A tag may be given to another image later; a release comes back with the image it had.
        """
        name = self.id[:_LONGEST_TAG]
        return {reference: f"{reference.rpartition(':')[0]}:{name}" for reference in self.built}

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Meta:
        """Read what `to_json` wrote; keys of a newer version are left out."""
        data = json.loads(text)
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        lists = {name: tuple(data.get(name, ())) for name in ("one_shots", "built")}
        return cls(**known | lists)


@dataclass(frozen=True)
class Entry:
    """A line of the journal; `at` is UTC by the host's clock, such as `2026-03-01T12:00:00Z`."""

    at: str
    release: str
    action: str
    phase: str
    state: str
    who: str = ""
    detail: str = ""

    @classmethod
    def from_json(cls, text: str) -> Entry | None:
        """Read a line; None for one that a crash cut short."""
        try:
            data = json.loads(text)
            return cls(**{name: str(data.get(name, "")) for name in cls.__dataclass_fields__})
        except (ValueError, AttributeError):
            return None


def journal_line(
    journal: str, *, release: str, action: str, phase: str, state: str, who: str, detail: str = ""
) -> str:
    """Return the script line that appends an entry; one `write` of a short line, so lines never mix.

    A line that a crash or a full disk cut short is ended first, or it would swallow the next one.
    """
    data = {
        "release": release,
        "action": action,
        "phase": phase,
        "state": state,
        "who": who,
        "detail": detail,
    }
    fields = quote(json.dumps(data, sort_keys=True)[1:])
    now = '"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'
    file = quote(journal)
    whole = f'[ -z "$(tail -c 1 {file} 2>/dev/null)" ] || echo >>{file}; '
    return f"""{whole}printf '{{"at": "%s", %s\\n' {now} {fields} >>{file}"""


@dataclass(frozen=True)
class Run:
    """One deploy or rollback, put together from the journal.

    Args:
        release: what was to run.
        action: `deploy`, `rollback` or `migrate`.
        who: `user@machine`.
        started: UTC time of its first entry.
        ended: UTC time of its last entry.
        phase: the last phase it reached.
        state: `live`, `failed`, `restored`, `done`, or `interrupted` when nothing says how it ended.
        detail: why it failed.
        phases: all it reached, in order.
        where: its last entry in words, such as `in migrate` or `after up`.
    """

    release: str
    action: str
    who: str
    started: str
    ended: str
    phase: str
    state: str
    detail: str = ""
    phases: tuple[str, ...] = field(default=())
    where: str = ""


# A migration of its own is one phase; within a deploy it is one of several.
_BEGIN = {("begin", "started")}
_BEGINNINGS = {"migrate": {("migrate", "started")}}
_ENDINGS = {("record", "done"): "live", ("restore", "done"): "restored", ("end", "failed"): "failed"}


def runs(entries: Iterable[Entry]) -> tuple[Run, ...]:
    """Put the journal's entries together into runs, oldest first."""
    found: list[Run] = []
    for entry in entries:
        if (entry.phase, entry.state) in _BEGINNINGS.get(entry.action, _BEGIN):
            found.append(_begin(entry))
        else:  # what is read of a long journal may begin in the middle of a run
            found[-1:] = [_advance(found[-1] if found else _begin(entry), entry)]
    return tuple(found)


def _begin(entry: Entry) -> Run:
    return Run(
        entry.release,
        entry.action,
        entry.who,
        entry.at,
        entry.at,
        entry.phase,
        "interrupted",
        entry.detail,
        where=_where(entry),
    )


def _where(entry: Entry) -> str:
    # A deploy begins with the script that stages it; a rollback finds all it needs there.
    if entry.phase == "begin":
        return "in stage" if entry.action == "deploy" else "before up"
    return f"{'in' if entry.state == 'started' else 'after'} {entry.phase}"


def _advance(run: Run, entry: Entry) -> Run:
    ending = _ENDINGS.get((entry.phase, entry.state))
    if (run.action, entry.phase, entry.state) == ("migrate", "migrate", "done"):
        ending = "done"
    return Run(
        run.release,
        run.action,
        run.who,
        run.started,
        entry.at,
        entry.phase if ending is None else run.phase,
        ending or run.state,
        entry.detail or run.detail,
        (*run.phases, entry.phase) if entry.phase not in run.phases else run.phases,
        _where(entry),
    )
