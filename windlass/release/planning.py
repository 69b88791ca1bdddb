"""What a deploy would do: pure functions from the release and what the hosts run now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from windlass.environment.environment import Environment
from windlass.errors import PreflightFailed
from windlass.release.facts import Facts
from windlass.release.ledger import Meta
from windlass.stack.model import Stack
from windlass.stack.parts import differences

OLDEST_COMPOSE = (2, 24, 4)  # the first with `!override`; older ones lack options used here
UNLESS_BUILT = "unless the build makes another image"
Kind = Literal["create", "recreate", "unchanged", "remove"]


@dataclass(frozen=True)
class Change:
    """What becomes of one service on one host.

    Args:
        service: the service.
        kind: what happens to it.
        reason: why, such as `image sample-api:1 → sample-api:2` or `secret API_KEY changed`.
    """

    service: str
    kind: Kind
    reason: str = ""


@dataclass(frozen=True)
class PlannedStep:
    """One step, as it will run: `script` is the very text sent to the host, secrets masked."""

    phase: str
    host: str
    what: str
    script: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything a deploy would do.

    Args:
        environment: its name.
        action: `deploy` or `rollback`.
        release: the release's id.
        tag: the image tag.
        strategy: how services change from the old release to the new.
        was: the running release of each host; empty on a new one.
        changes: what becomes of each service, by host.
        steps: the steps in order.
        notes: what was changed in the user's Compose file, and why.
        warnings: findings that do not stop the deploy.
    """

    environment: str
    action: str
    release: str
    tag: str
    strategy: str
    was: Mapping[str, str]
    changes: Mapping[str, tuple[Change, ...]]
    steps: tuple[PlannedStep, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether every service already runs as planned."""
        return all(change.kind == "unchanged" for changes in self.changes.values() for change in changes)

    def as_data(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)


def changes(meta: Meta, facts: Facts, *, builds: bool = False) -> tuple[Change, ...]:
    """Compare a release with what runs on a host.

    Args:
        meta: the release.
        facts: what is true on the host.
        builds: whether its images are still to be built: what comes out of that is not known yet.
    """
    running = facts.running()
    images = {state.service: state.image for state in facts.containers}
    found = [_change(service, meta, facts, images) for service in meta.hashes]
    if builds:
        found = [
            Change(each.service, each.kind, UNLESS_BUILT)
            if each.kind == "unchanged" and meta.images.get(each.service) in meta.built
            else each
            for each in found
        ]
    gone = sorted(service for service in running if service not in meta.hashes)
    return (*found, *(Change(service, "remove", "no longer in the Compose files") for service in gone))


def _change(service: str, meta: Meta, facts: Facts, images: Mapping[str, str]) -> Change:
    running = facts.running()
    if service in meta.one_shots:
        return Change(service, "recreate" if service in images else "create", "runs once")
    if service not in running:
        return Change(service, "create", "does not run yet")
    was, will = images.get(service, ""), meta.images.get(service, "")
    new_image = (f"image {was} → {will}",) if was != will else ()
    if running[service] == meta.hashes[service] and not new_image:
        return Change(service, "unchanged")
    reasons = (*new_image, *_reasons(service, meta, facts)) or ("configuration, variables or mounted files",)
    return Change(service, "recreate", ", ".join(reasons))


def _reasons(service: str, meta: Meta, facts: Facts) -> tuple[str, ...]:
    """Return what differs from the release whose definition runs, by name; nothing where none is known."""
    before = facts.releases.get(facts.release_of(service))
    if before is None or not before.parts.get(service):
        return ()
    return differences(before.parts[service], meta.parts.get(service, {}))


def one_by_one(stack: Stack, changes: Iterable[Change]) -> tuple[str, ...]:
    """Return the services to recreate before all others, in this order, so that no other changes by it.

    Older versions of Compose (2.26 does, 2.40 does not) recreate whatever depends on a service they
    recreate. One that is brought up by name comes with what it depends on, and not with what depends on it.

    Args:
        stack: says what depends on what.
        changes: what becomes of each service on the host.
    """
    services = stack.services
    recreated = {each.service for each in changes if each.kind == "recreate" and each.service in services}
    recreated -= {name for name in recreated if services[name].one_shot}
    above: dict[str, set[str]] = {name: set() for name in services}
    for name in services:
        for needed in needed_services(stack, name) & set(services):
            above[needed].add(name)
    # What runs once would run twice: by name, and with all.
    found = [
        name
        for name in sorted(recreated)
        if above[name] - recreated
        and not any(services[each].one_shot for each in needed_services(stack, name) & set(services))
    ]
    return tuple(sorted(found, key=lambda name: (len(needed_services(stack, name)), name)))


def needed_services(stack: Stack, service: str) -> set[str]:
    """Return the services a service depends on, and those these depend on."""
    found: set[str] = set()
    todo = [service]
    while todo:
        name = todo.pop()
        new = set(stack.services[name].depends_on if name in stack.services else ()) - found
        found |= new
        todo += new
    return found


def preflight(environment: Environment, facts: Iterable[Facts], *, take_over: bool = False) -> None:
    """Check every host before anything is changed.

    Args:
        environment: the environment.
        facts: what is true on each host.
        take_over: whether a release of another environment may be replaced.

    Raises:
        PreflightFailed: with one line for each problem on each host.
    """
    asked = tuple(facts)
    problems = [f"{each.host}: {problem}" for each in asked for problem in _problems(environment, each)]
    if not take_over:
        problems += [f"{each.host}: {text}" for each in asked if (text := _of_another(environment, each))]
    if problems:
        raise PreflightFailed(
            "\n".join(problems)
            if len(problems) == 1
            else "several checks failed:\n  " + "\n  ".join(problems),
            "Nothing was changed.",
        )


def _of_another(environment: Environment, facts: Facts) -> str:
    """Return what is wrong when the host runs the release of another environment; empty otherwise."""
    current = facts.releases.get(facts.current)
    if current is None or current.environment == environment.name:
        return ""
    return (
        f"{facts.directory} runs {current.id} of the environment {current.environment}, which this would"
        " replace; give one of them another `app` or `directory`, or deploy with --take-over"
    )


def _problems(environment: Environment, facts: Facts) -> list[str]:
    problems = []
    engine, compose = facts.tools.get("engine", ""), facts.tools.get("compose", "")
    if _version(engine) is None:
        problems.append(f"its Docker Engine does not answer ({engine or 'no docker command'})")
    if (found := _version(compose)) is None:
        problems.append(f"it has no Docker Compose v2 plugin ({compose or 'no answer'})")
    elif found < OLDEST_COMPOSE:
        problems.append(f"its Docker Compose is {compose}; 2.24.4 or newer is needed")
    if not facts.tools.get("flock"):
        problems.append("it has no `flock` (package util-linux)")
    if facts.tools.get("writable", "yes") != "yes":
        where = facts.tools["writable"].removeprefix("no: ")
        problems.append(
            f"its user may not write to {where}; create {facts.directory} for it, or set `directory`"
        )
    needed = environment.settings.deploy.min_free_disk_mb
    if facts.free_disk_mb is not None and facts.free_disk_mb < needed:
        problems.append(f"only {facts.free_disk_mb} MiB of disk are free; {needed} MiB are asked for")
    return problems


def _version(text: str) -> tuple[int, ...] | None:
    head = text.strip().removeprefix("v").split("-")[0].split("+")[0]
    parts = head.split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def doomed(facts: Facts, release: str, keep: int) -> tuple[Meta, ...]:
    """Return the releases to prune once `release` is current: the oldest beyond `keep`.

    The current one and the newest that ran well stay whatever `keep` says: they are what to go back to.
    """
    protected = {release, facts.current, last_good(facts, besides=release)}
    # The new release is not on the host yet when this is planned, and counts all the same.
    ordered = sorted({*facts.releases, release}, reverse=True)
    kept = [identity for identity in ordered if identity in protected]
    for identity in ordered:
        if identity not in kept and len(kept) < keep:
            kept.append(identity)
    return tuple(facts.releases[identity] for identity in ordered if identity not in kept)


def without_images(facts: Facts, pruned: Sequence[Meta], release: str, keep: int) -> tuple[Meta, ...]:
    """Return the kept releases whose images go: those beyond the newest `keep`, but for what runs."""
    gone = {meta.id for meta in pruned}
    protected = {release, facts.current, last_good(facts, besides=release)}
    kept = [identity for identity in sorted(facts.releases, reverse=True) if identity not in gone]
    newest = set(sorted({*kept, release}, reverse=True)[:keep])
    return tuple(facts.releases[each] for each in kept if each not in newest and each not in protected)


def last_good(facts: Facts, besides: str = "") -> str:
    """Return the newest release on the host that ran well, besides one; empty when there is none.

    A release whose last run failed is never picked.
    """
    state: dict[str, str] = {}
    order: list[str] = []
    for run in (run for run in facts.runs if run.action in {"deploy", "rollback"}):
        state[run.release] = run.state
        if run.state != "live":
            continue
        if run.action == "rollback" and run.release in order:
            # What was rolled back from is no release to go back to.
            order = order[: order.index(run.release) + 1]
        else:
            order = [identity for identity in order if identity != run.release] + [run.release]
    for identity in reversed(order):
        if identity != besides and state[identity] == "live" and identity in facts.releases:
            return identity
    return ""


def kept_references(facts: Facts, pruned: Sequence[Meta], meta: Meta) -> set[str]:
    """Return the image references that releases still on the host name."""
    gone = {each.id for each in pruned}
    kept = [each for each in facts.releases.values() if each.id not in gone]
    return {reference for each in (*kept, meta) for reference in each.images.values()}
