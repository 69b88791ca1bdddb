"""Comparing secrets, copying them from place to place, and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from invoke import Context

from ._secrets_shared import ENV_HELP, JSON_HELP, YES_HELP, learner, opened
from ._task import is_dry, task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from windlass.environment.keeping import Keeping
    from windlass.secrets.copying import Item, Plan
    from windlass.secrets.providers.base import Resolved

    from ._terminal import Terminal

_SETTINGS_HELP = "The environment whose [secrets] say how providers are reached; the default as elsewhere."
_SCOPES = "such as dotenv:.env.prod, aws:shop/prod#, azure:shop-vault, vault:shop or file:folder"


@dataclass(frozen=True)
class _Side:
    """One side of a comparison: values by name, and where each is kept."""

    values: Mapping[str, Resolved]
    kept: Mapping[str, str]


@task(
    help={
        "first": f"An environment, or a scope {_SCOPES}.",
        "second": "The other one.",
        "env": _SETTINGS_HELP,
        "json": JSON_HELP,
    }
)
def diff(context: Context, first: str = "", second: str = "", env: str = "", json: bool = False) -> None:
    """Compare the secrets of two environments or places: same, differs, or only in one; never a value."""
    from windlass.errors import ConfigurationError, OperationFailed
    from windlass.secrets.comparing import compare

    from . import _terminal

    del context
    if not first or not second:
        raise ConfigurationError("Two things are compared.", "Name them: --first staging --second prod.")
    terminal = _terminal.Terminal(as_json=json)
    names = _secret_names(first) | _secret_names(second)
    one, other = _side(first, env, names), _side(second, env, names)
    sides = {"only in a": f"only in {first}", "only in b": f"only in {second}"}
    rows = [
        {
            "name": each.name,
            "state": sides.get(each.state, each.state),
            "first": one.kept.get(each.name, ""),
            "second": other.kept.get(each.name, ""),
            "reason": each.reason,
        }
        for each in compare(one.values, other.values, names=(first, second))
    ]
    # An address may hold a value, as the arguments of a command can; those of both sides are known by now.
    rows = [{key: _terminal.redact_opened(text) for key, text in row.items()} for row in rows]
    terminal.result(rows)
    columns = ("name", "state", "first", "second", "reason")
    table = [[row[column] or "-" for column in columns] for row in rows]
    terminal.table(f"secrets of {first} and {second}", ("name", "state", first, second, "why"), table)
    unknown = [row["name"] for row in rows if row["state"] == "unknown"]
    if unknown:
        raise OperationFailed(f"Not compared, since a value cannot be had: {', '.join(unknown)}.")


def _secret_names(text: str) -> set[str]:
    """Return the secret variables of an environment; a scope holds nothing else."""
    if ":" in text:
        return set()
    with opened(text) as keeping:
        return set(keeping.secret_entries)


def _side(text: str, env: str, names: set[str]) -> _Side:
    """Return one side; a variable that is secret in the other environment counts here as well."""
    from windlass.environment.keeping import address_of
    from windlass.secrets.references import Address, Reference

    if ":" not in text:
        with opened(text) as keeping:
            entries = {name: entry for name, entry in keeping.found.entries.items() if name in names}
            kept = {name: str(entry.reference or entry.origin) for name, entry in entries.items()}
            return _Side(_learnt(keeping, keeping.values(entries)), kept)
    scope = address_of(text, "scope", as_scope=True)
    with opened(env) as keeping:
        members = keeping.resolver.client(scope.provider).members(scope.target)
        places = {name: Address(scope.provider, target) for name, target in members.items()}
        found = keeping.resolver.resolve(Reference((place,)) for place in places.values())
        values = {name: found[Reference((place,))].value for name, place in places.items()}
        return _Side(_learnt(keeping, values), {name: str(place) for name, place in places.items()})


def _learnt(keeping: Keeping, values: Mapping[str, Resolved]) -> Mapping[str, Resolved]:
    from windlass.shell import Sensitive

    learner(keeping).learn(each.reveal() for each in values.values() if isinstance(each, Sensitive))
    return values


@task(help={"name": "The variable.", "env": ENV_HELP, "to": "Which of its choices.", "json": JSON_HELP})
def history(context: Context, name: str = "", env: str = "", to: str = "", json: bool = False) -> None:
    """List the versions of a secret, newest first: when each was written and which is current."""
    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    with opened(env) as keeping:
        address = keeping.address(name, to)
        versions = keeping.resolver.client(address.provider).versions(address.target)
    rows = [
        {
            "version": each.id,
            "created": "" if each.created is None else each.created.isoformat("T", "seconds"),
            "stages": list(each.stages),
            "note": each.note,
        }
        for each in versions
    ]
    terminal.result(rows)
    table = [
        (each.id, str(row["created"]) or "-", ", ".join(each.stages) or "-", each.note or "-")
        for each, row in zip(versions, rows, strict=True)
    ]
    terminal.table(f"{name} at {address}", ("version", "written", "stages", "note"), table)


@task(
    help={
        "source": "The address to copy from, such as dotenv:.env#API_KEY or aws:shop/prod#API_KEY.",
        "target": "The address to copy to.",
        "env": _SETTINGS_HELP,
        "yes": YES_HELP,
        "json": "Write the result as JSON.",
    }
)
def copy(
    context: Context,
    source: str = "",
    target: str = "",
    env: str = "",
    yes: bool = False,
    json: bool = False,
) -> None:
    """Copy one secret from an address to another, after showing what would change; never a value."""
    from windlass.environment.keeping import address_of
    from windlass.secrets.copying import plan_one

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    places = address_of(source, "--source"), address_of(target, "--target")
    with opened(env) as keeping:
        plan = plan_one(keeping.resolver, *places)
        _carry_out(context, terminal, keeping, plan, f"{source} → {target}", yes=yes)


@task(
    help={
        "source": f"The scope to copy from, {_SCOPES}.",
        "target": "The scope to copy to.",
        "only": "Only names that fit this pattern, such as DB_*; may be given several times.",
        "env": _SETTINGS_HELP,
        "yes": YES_HELP,
        "json": "Write the result as JSON.",
    },
    iterable=("only",),
)
def sync(
    context: Context,
    source: str = "",
    target: str = "",
    only: list[str] | None = None,
    env: str = "",
    yes: bool = False,
    json: bool = False,
) -> None:
    """Copy all secrets of one place to another, after showing a plan; deletes nothing, shows no value."""
    from windlass.environment.keeping import address_of
    from windlass.secrets.copying import plan_scope

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    places = address_of(source, "--source", as_scope=True), address_of(target, "--target", as_scope=True)
    with opened(env) as keeping:
        plan = plan_scope(keeping.resolver, *places, only or [])
        _carry_out(context, terminal, keeping, plan, f"{source} → {target}", yes=yes)


def _carry_out(
    context: Context, terminal: Terminal, keeping: Keeping, plan: Plan, title: str, *, yes: bool
) -> None:
    """Show a plan, ask, write, and say what became of each."""
    from windlass.secrets.copying import carry_out

    from . import _terminal

    learner(keeping).learn(value.reveal() for value in plan.values.values())
    if is_dry(context):
        terminal.result(_data(plan.items, plan.note, ok=not plan.failed))
    _show(terminal, f"plan of {title}", plan.items, plan.note)
    if is_dry(context):
        return
    if plan.to_write:
        if keeping.environment.settings.protected:
            _terminal.confirm(keeping.environment, f"copying {title}", yes=yes)
        elif not yes:
            _ask(len(plan.to_write))
    with keeping.writing():
        done = carry_out(keeping.resolver, plan)
    failed = [item.name for item in done if item.state == "failed"]
    terminal.result(_data(done, plan.note, ok=not failed))
    if plan.to_write:
        _show(terminal, f"{title}", done, "")
    written = sum(item.state == "written" for item in done)
    _say_failed(failed, written)
    terminal.say(f"{written} written." if written else "Nothing was to be written.")


def _ask(count: int) -> None:
    from windlass.errors import NotConfirmed

    from . import _terminal

    if not _terminal.can_ask():
        raise NotConfirmed("Nobody is there to agree to the plan.", "Add --yes to carry it out.")
    if not _terminal.ask(f"Write {count}? "):
        raise NotConfirmed("Nothing was written.")


def _say_failed(failed: Sequence[str], written: int) -> None:
    """Raise when some could not be copied: the two places differ, in part or as before."""
    from windlass.errors import MixedState, OperationFailed

    if not failed:
        return
    kind = MixedState if written else OperationFailed
    raise kind(
        f"Not copied: {', '.join(failed)}; {written} written.",
        "The table says why; run it again once the cause is gone: what is the same is left alone.",
    )


def _show(terminal: Terminal, title: str, items: Sequence[Item], note: str) -> None:
    rows = [
        (item.name, item.state, str(item.target or "-"), item.version or "-", item.reason or "-")
        for item in items
    ]
    terminal.table(title, ("name", "state", "target", "version", "why"), rows)
    if note:
        terminal.say(f"note: {note}")


def _data(items: Sequence[Item], note: str, *, ok: bool) -> dict[str, object]:
    rows = [
        {
            "name": item.name,
            "source": str(item.source or ""),
            "target": str(item.target or ""),
            "state": item.state,
            "version": item.version,
            "reason": item.reason,
        }
        for item in items
    ]
    return {"ok": ok, "note": note, "secrets": rows}
