"""Releases, journals and hosts for tests of the release engine, as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from windlass.health.containers import ContainerState
from windlass.release.facts import Facts
from windlass.release.layout import Layout
from windlass.release.ledger import Entry, Meta
from windlass.release.scripts import Work

TOKEN = "0123456789abcdef"  # pragma: allowlist secret
# What a deploy's journal holds when it ends well, and where others stop.
LIVE = (
    "begin started",
    "stage done",
    "migrate started",
    "migrate done",
    "up started",
    "up done",
    "record done",
)
FAILED = (*LIVE[:3], "end failed")
RESTORED = (*LIVE[:6], "restore started", "restore done")
HEALTHY_HOST = {"engine": "26.1.5", "compose": "2.26.1-4", "flock": "/usr/bin/flock", "writable": "yes"}


def meta(identity: str, **changes: Any) -> Meta:
    """Return a release with the services api (hash `h-<id>`, image `api:<id>`) and db (always the same)."""
    values: dict[str, Any] = {
        "id": identity,
        "app": "shop",
        "environment": "prod",
        "tag": identity,
        "commit": "c" * 40,
        "images": {"api": f"shop-api:{identity}", "db": "postgres:17"},
        "hashes": {"api": f"h-{identity}", "db": "h-db"},
        "replicas": {"api": 1, "db": 1},
        "one_shots": (),
        "who": "me@here",
        "version": "0.1.0",
    }
    return Meta(**values | changes)


def entries(release: str, steps: Iterable[str], action: str = "deploy") -> list[Entry]:
    """Return the journal of one run."""
    words = [each.split() for each in steps]
    return [Entry("2026-03-01T12:00:00Z", release, action, phase, state, "me@here") for phase, state in words]


def facts(
    *identities: str,
    current: str = "",
    journal: Sequence[Entry] | None = None,
    containers: Sequence[ContainerState] = (),
    **changes: Any,
) -> Facts:
    """Return what a host says that keeps these releases, each of which ran well if no journal is given."""
    if journal is None:
        journal = [entry for identity in identities for entry in entries(identity, LIVE)]
    values: dict[str, Any] = {
        "host": "server1",
        "directory": "/srv/shop",
        "tools": HEALTHY_HOST,
        "free_disk_mb": 10_000,
        "current": current,
        "releases": {identity: meta(identity) for identity in identities},
        "journal": tuple(journal),
        "containers": tuple(containers),
    }
    return Facts(**values | changes)


def container(service: str, **changes: Any) -> ContainerState:
    """Return a healthy container."""
    values: dict[str, Any] = {"id": service * 8, "name": f"shop-{service}-1", "service": service}
    return ContainerState(**values | {"health": "healthy"} | changes)


def work(directory: Path | str, **changes: Any) -> Work:
    """Return what the scripts of a deploy share."""
    values: dict[str, Any] = {
        "layout": Layout(str(directory)),
        "project": "shop",
        "release": "r2",
        "action": "deploy",
        "who": "me@here",
        "token": TOKEN,
    }
    return Work(**values | changes)
