"""Copies secrets from one place to another: first a plan, made by comparing, then the writes it names.

Nothing is ever deleted: what only the target has is told and left alone. What is written are the very values
the plan was made from, and each is read back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, Literal

from windlass.errors import ConfigurationError, WindlassError
from windlass.secrets.comparing import Digests
from windlass.secrets.providers.base import Client, Failure, ProviderError, Resolved, Version
from windlass.secrets.published import refuse_published
from windlass.secrets.references import Address, InvalidReference, Reference, parse
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive

State = Literal["create", "change", "same", "only in target", "failed", "written"]
TO_WRITE: Final = frozenset({"create", "change"})


@dataclass(frozen=True)
class Item:
    """One secret of a copy.

    Args:
        name: its name.
        source: where it is read; None for one that only the target has.
        target: where it is to be; None where the target cannot keep it.
        state: what would become of it, or became of it.
        reason: why it failed, or a remark; never a value.
        version: the version that was written, where the provider has versions.
    """

    name: str
    source: Address | None
    target: Address | None
    state: State
    reason: str = ""
    version: str = ""


@dataclass(frozen=True)
class Plan:
    """What a copy would do.

    Args:
        items: one for each secret, sorted by name.
        values: the values to write, by target; no part of what is shown.
        note: what else a person should know.
    """

    items: tuple[Item, ...]
    values: Mapping[Address, Sensitive]
    note: str = ""

    @property
    def to_write(self) -> tuple[Item, ...]:
        """The items that would be written."""
        return tuple(item for item in self.items if item.state in TO_WRITE)

    @property
    def failed(self) -> tuple[Item, ...]:
        """The items that cannot be copied."""
        return tuple(item for item in self.items if item.state == "failed")


def plan_scope(resolver: Resolver, source: Address, target: Address, only: Sequence[str] = ()) -> Plan:
    """Find out what copying everything under one scope to another would do; writes nothing.

    Args:
        resolver: reaches the providers.
        source: the scope to copy from.
        target: the scope to copy to.
        only: patterns such as `DB_*`; with any, other names are left out on both sides.

    Raises:
        ProviderError: the source cannot be listed, or a provider cannot be reached.
        ConfigurationError: the source is empty, or the target cannot be written to, or git would take it in.
    """
    if source == target:
        raise ConfigurationError(f"{source} is both source and target.")
    client = writable(resolver, target.provider)
    members = _chosen(resolver.client(source.provider).members(source.target), only)
    if not members:
        what = " ".join(only)
        raise ConfigurationError(
            f"There is nothing to copy in {source}" + (f" that fits {what}." if what else ".")
        )
    there, note = _listed(client, target)
    pairs = {
        name: (Address(source.provider, each), _place(client, target, name, there))
        for name, each in members.items()
    }
    plan = _plan(resolver, pairs)
    extra = [
        Item(name, None, Address(target.provider, each), "only in target", "left alone")
        for name, each in _chosen(there, only).items()
        if name not in members
    ]
    items = sorted((*plan.items, *extra), key=lambda item: item.name)
    return Plan(tuple(items), plan.values, note)


def plan_one(resolver: Resolver, source: Address, target: Address) -> Plan:
    """Find out what copying one secret would do; writes nothing.

    Raises:
        ProviderError: a provider cannot be reached.
        ConfigurationError: the target cannot be written to, is the source, or git would take it in.
    """
    if source == target:
        raise ConfigurationError(f"{source} is both source and target.")
    writable(resolver, target.provider)
    return _plan(resolver, {str(source): (source, target)})


def writable(resolver: Resolver, provider: str) -> Client:
    """Return the client of a provider that can be written to.

    Raises:
        NotSupported: it cannot.
        ProviderError: it cannot be reached.
    """
    client = resolver.client(provider)
    if type(client).write is Client.write:
        client.write({})  # raises, in the provider's own words
    return client


def carry_out(resolver: Resolver, plan: Plan) -> tuple[Item, ...]:
    """Write what the plan says and read it back.

    Returns:
        The plan's items, with what became of each; one that fails keeps no other from being written.
    """
    targets = [item.target for item in plan.to_write if item.target is not None]
    written: dict[Address, Version | Failure] = {}
    for provider in dict.fromkeys(target.provider for target in targets):
        mine = {each.target: plan.values[each] for each in targets if each.provider == provider}
        answers = _written(resolver, provider, mine)
        for name in mine:
            answer = answers.get(name, Failure("the provider gave no answer"))
            written[Address(provider, name)] = answer
    resolver.forget(targets)
    found = resolver.resolve([Reference((target,)) for target in targets])
    digests = Digests()

    def outcome(item: Item) -> Item:
        if item.target is None or item.state not in TO_WRITE:
            return item
        answer = written[item.target]
        if isinstance(answer, Failure):
            return replace(item, state="failed", reason=str(answer))
        value = found[Reference((item.target,))].value
        if isinstance(value, Failure):
            reason = f"written, but cannot be read back: {value}"
            return replace(item, state="failed", reason=reason, version=answer.id)
        if not digests.same(value, plan.values[item.target]):
            reason = "written, but another value is read back; somebody else may be writing it"
            return replace(item, state="failed", reason=reason, version=answer.id)
        return replace(item, state="written", version=answer.id)

    return tuple(outcome(item) for item in plan.items)


def _written(
    resolver: Resolver, provider: str, values: Mapping[str, Sensitive]
) -> Mapping[str, Version | Failure]:
    try:
        return resolver.client(provider).write(values)
    except WindlassError as error:
        return dict.fromkeys(values, Failure(error.message.rstrip("."), error.hint))
    except Exception as error:  # noqa: BLE001 - an SDK's; its message may hold a secret
        return dict.fromkeys(values, Failure(f"the provider failed with {type(error).__name__}"))


def _chosen(members: Mapping[str, str], only: Sequence[str]) -> dict[str, str]:
    return {
        name: target
        for name, target in members.items()
        if not only or any(fnmatchcase(name, pattern) for pattern in only)
    }


def _listed(client: Client, target: Address) -> tuple[Mapping[str, str], str]:
    """Return what is in the target now, and why that is not known."""
    try:
        return client.members(target.target), ""
    except ProviderError as error:
        # It may only not be there yet; each secret is still asked for by itself.
        return {}, f"What else {target} holds is not known: {error.message}"


def _place(client: Client, scope: Address, name: str, there: Mapping[str, str]) -> Address | Failure:
    """Return where a name belongs: where it is already, or where the provider keeps new ones."""
    if name in there:
        return Address(scope.provider, there[name])
    try:
        return Address(scope.provider, client.member(scope.target, name))
    except WindlassError as error:
        return Failure(error.message.rstrip("."), error.hint)


def _plan(resolver: Resolver, pairs: Mapping[str, tuple[Address, Address | Failure]]) -> Plan:
    places = [target for _, target in pairs.values() if isinstance(target, Address)]
    shared = {target for target, count in Counter(places).items() if count > 1}
    asked = {*places, *(source for source, _ in pairs.values())}
    found = resolver.resolve([Reference((each,)) for each in asked])
    values = {each: found[Reference((each,))].value for each in asked}
    digests = Digests()
    items, to_write = [], {}
    for name, (source, target) in sorted(pairs.items()):
        if isinstance(target, Failure):
            items.append(Item(name, source, None, "failed", str(target)))
            continue
        state, reason = _state(values[source], values[target], digests)
        if _is_reference(source, values[source]):
            state, reason = "failed", IS_REFERENCE
        if target in shared:
            state, reason = "failed", f"another secret would be kept as {target} too"
        items.append(Item(name, source, target, state, reason))
        value = values[source]
        if state in TO_WRITE and isinstance(value, Sensitive):
            refuse_published(resolver.context.root, target, name)
            to_write[target] = value
    return Plan(tuple(items), to_write)


def _state(source: Resolved, target: Resolved, digests: Digests) -> tuple[State, str]:
    if isinstance(source, Failure):
        return "failed", str(source)
    if isinstance(target, Sensitive):
        return ("same", "") if digests.same(source, target) else ("change", "")
    if target.missing or target.reason == EMPTY:
        return "create", ""
    # Overwriting what cannot be read could destroy what nobody meant to.
    return "failed", f"what the target holds cannot be read: {target}"


def _is_reference(source: Address, value: Resolved) -> bool:
    """Whether what a file says is where a secret is kept, and not the secret.

    Other providers give what is kept as it is; a file of envs/ says either.
    """
    if source.provider != _OF_REFERENCES or not isinstance(value, Sensitive):
        return False
    try:
        return parse(value.reveal().strip()) is not None
    except InvalidReference:
        return True


# The provider whose files are those of envs/, too.
_OF_REFERENCES: Final = "dotenv"
IS_REFERENCE: Final = "the source holds a reference, not a value: copy from where the reference says"
EMPTY: Final = "the value is empty"
