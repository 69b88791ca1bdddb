"""Rotates one secret in steps that can be interrupted anywhere and then finished or undone by anybody.

The order is what keeps keys from being lost: the old value is at its second place before the first is
written, both are read back before anything uses them, and everything that runs has both before the first
thing is re-encrypted. A new value that reached the store is never replaced by another new one.

The record (`Rotation`) holds no value, only digests and the provider's version ids. Each step first writes
down what it is about to do and then looks what is true, so that doing it twice does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from windlass.errors import ConfigurationError, OperationFailed
from windlass.secrets.comparing import Digests
from windlass.secrets.providers.base import Client, Failure, NotSupported, Version
from windlass.secrets.references import Address, Reference
from windlass.secrets.resolving import Resolver
from windlass.secrets.targets import Target, parse_target
from windlass.shell import Sensitive

SCHEMA: Final = 1
Step = Literal["begun", "kept", "written", "verified", "deployed", "re-encrypted", "ended"]
STEPS: Final[tuple[Step, ...]] = (
    "begun",
    "kept",
    "written",
    "verified",
    "deployed",
    "re-encrypted",
    "ended",
)
# After an undo of what has no versions, the value that was undone stays here, beside its place.
SPARE: Final = "_UNDONE"
# The options of a target that choose among the versions of one secret.
SELECTORS: Final = frozenset({"stage", "version"})


@dataclass(frozen=True)
class Rotation:
    """A rotation as it is written down, without any value.

    Args:
        variable: the variable.
        environment: the environment.
        place: the address that is rotated.
        previous: the address that gives the application the value before; empty: there is none.
        apart: `previous` is a place of its own that is written, and not another stage of `place`.
        old: digest of the value before.
        old_version: the provider's id of its version; empty where it has none.
        attempts: digests of new values, each written down before it was written to the store.
        new_version: the id of the new version.
        given: the new value was given and is not made.
        step: the last step that is done.
        undoing: it is being undone.
        outcome: `rotated`, `undone`, or empty while it is not over.
        who: who began it.
        started: UTC time.
        by: who went on with it last.
        at: UTC time of the last step.
        lacking: by variable, the release that ran when its value was last replaced: it and those made before
            it run with an earlier value.
    """

    variable: str
    environment: str
    place: str
    previous: str
    apart: bool
    old: str
    old_version: str
    who: str
    started: str
    given: bool = False
    attempts: tuple[str, ...] = ()
    new_version: str = ""
    step: Step = "begun"
    undoing: bool = False
    outcome: Literal["", "rotated", "undone"] = ""
    by: str = ""
    at: str = ""
    lacking: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done."""
        return self.outcome != ""

    def reached(self, step: Step) -> bool:
        """Whether a step is done."""
        return STEPS.index(self.step) >= STEPS.index(step)

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Rotation:
        """Read what `to_json` wrote.

        Raises:
            OperationFailed: it is damaged, or of a newer Windlass.
        """
        try:
            data = json.loads(text)
            known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
            lacking = {str(name): str(release) for name, release in dict(data.get("lacking", {})).items()}
            rotation = cls(**known | {"attempts": tuple(data["attempts"]), "lacking": lacking})
        except (AttributeError, ValueError, KeyError, TypeError):
            rotation = None
        if rotation is None or rotation.schema != SCHEMA or rotation.step not in STEPS:
            raise OperationFailed(
                "The record of a rotation cannot be read: it is damaged, or of a newer Windlass.",
                "Nothing is changed while it is there: see rotation.json in the application's folder.",
            )
        return rotation


Deployed = Literal["done", "nothing runs", "not wanted"]


class Desk(Protocol):
    """What a rotation needs of the world beside the store."""

    def note(self, rotation: Rotation) -> None:
        """Write the record down, whole or not at all; what is not written down does not begin."""

    def deploy(self) -> Deployed:
        """Give everything that runs the values the store has now, unless that is not wanted.

        Raises:
            WindlassError: it did not end well.
        """

    @property
    def live(self) -> str:
        """The id of the release that runs; empty when none does. Ids sort by the time they were made."""

    @property
    def reencrypts(self) -> bool:
        """Whether there is a re-encryption to run."""

    def reencrypt(self) -> None:
        """Run the re-encryption in what is live, which has both values.

        Raises:
            WindlassError: it failed.
        """


class Store:
    """The secrets of a rotation in their providers, always read afresh.

    Args:
        resolver: reaches the providers.
        learn: told every value that is read or written, for redaction.
    """

    def __init__(self, resolver: Resolver, learn: Callable[[Sensitive], None]) -> None:
        self._resolver = resolver
        self._learn = learn

    def read(self, address: Address) -> Sensitive | Failure:
        """Return what an address holds now."""
        self._resolver.forget([address])
        reference = Reference((address,))
        value = self._resolver.resolve([reference])[reference].value
        if isinstance(value, Sensitive):
            self._learn(value)
        return value

    def write(self, address: Address, value: Sensitive) -> Version:
        """Write a value and return its version.

        Raises:
            OperationFailed: it could not be written.
        """
        self._learn(value)
        answer = self._client(address).write({address.target: value}).get(address.target)
        self._resolver.forget([address])
        if not isinstance(answer, Version):
            raise OperationFailed(f"{address} could not be written: {answer or 'no answer'}.")
        return answer

    def current_version(self, address: Address) -> str | None:
        """Return the id of the current version; None where the provider has no versions."""
        try:
            found = self._client(address).versions(address.target)
        except NotSupported:
            return None
        marked = [version.id for version in found if "current" in version.stages]
        return (marked or [version.id for version in found] or [""])[0]

    def require_version(self, address: Address, version: str) -> None:
        """Raise when a version is gone."""
        if version not in {each.id for each in self._client(address).versions(address.target)}:
            raise OperationFailed(f"{address} no longer has its version {version}.", "Go on with --finish.")

    def restore(self, address: Address, version: str) -> None:
        """Make a version the current one again."""
        self._client(address).restore(address.target, version)
        self._resolver.forget([address])

    def require_writable(self, address: Address) -> None:
        """Raise when a provider cannot be written to at all."""
        client = self._client(address)
        if type(client).write is Client.write:
            client.write({})  # raises, in the provider's own words

    def is_changed_with(self, one: Address, other: Address) -> bool:
        """Whether a write to one of two addresses changes what the other holds, whatever they are called.

        Raises:
            ConfigurationError: it is not known.
        """
        first, mine = _parts(self._client(one).canonical(one.target))
        second, yours = _parts(self._client(other).canonical(other.target))
        # A whole document holds all its fields, and a field those that are written `field.inner`.
        return first == second and (mine[: len(yours)] == yours or yours[: len(mine)] == mine)

    def _client(self, address: Address) -> Client:
        return self._resolver.client(address.provider)


def _parts(canonical: str) -> tuple[str, list[str]]:
    """Return the document and the way to the field in it; the whole document has none."""
    document, _, name = canonical.partition("#")
    return document, name.split(".") if name else []


def begin(
    store: Store,
    digests: Digests,
    *,
    variable: str,
    environment: str,
    place: Address,
    previous: Address | None,
    who: str,
    given: Sensitive | None = None,
    reencrypts: bool = False,
    last: Rotation | None = None,
    live: str = "",
) -> Rotation:
    """Return the record of a rotation that is about to begin; changes nothing.

    Args:
        store: where the secret is.
        digests: what makes the record's digests; the same key for the whole rotation.
        variable: the variable.
        environment: its environment.
        place: where its value is kept.
        previous: where the application finds the value before; None: it does not need it.
        who: who begins it.
        given: the new value; None: one is made.
        reencrypts: a re-encryption will run, which must read with the old value and write with the new.
        last: the record of the last rotation; None: there is none.
        live: the id of the release that runs; empty: none does.

    Raises:
        ConfigurationError: the old value could not be kept, or the new one is the old one.
        OperationFailed: the old value cannot be had, or what runs does not even have the last one.
    """
    lacking = _still_lacking(last, environment, live)
    if variable in lacking:
        raise OperationFailed(
            f"{live}, which runs, was made before {variable} was rotated last, and uses the value before: "
            "another rotation would no longer keep that one.",
            f"First give it the value of now with `inv deploy.{environment}`.",
        )
    if reencrypts and previous is None:
        raise ConfigurationError(
            f"The re-encryption of {variable} needs the value before as well.",
            f"Name the variable that holds it as `previous` in [secrets.rotation.{variable}].",
        )
    store.require_writable(place)
    old = _required(store, place)
    version = store.current_version(place)
    apart = previous is not None and (version is None or not same_secret(place, previous))
    if previous is not None and apart:
        store.require_writable(previous)
        _require_apart(store, place, previous)
    if previous is not None and not apart and parse_target(place.target).field:
        raise ConfigurationError(
            f"{previous} is a version of a whole document: when any field is written, it is another one.",
            f"Keep the value before in a field of its own, and name it in [secrets.rotation.{variable}].",
        )
    if version is None and not apart:
        raise ConfigurationError(
            f"{place} keeps no versions, so that the value before would be lost.",
            f"Name a variable for it, in a place of its own, as `previous` in [secrets.rotation.{variable}].",
        )
    if given is not None and digests.same(given, old):
        raise ConfigurationError(f"The value given is the one {variable} has already.")
    return Rotation(
        variable=variable,
        environment=environment,
        place=str(place),
        previous="" if previous is None else str(previous),
        apart=apart,
        old=digests.of(old),
        old_version=version or "",
        who=who,
        started=_now(),
        given=given is not None,
        lacking=lacking,
    )


def _still_lacking(last: Rotation | None, environment: str, live: str) -> dict[str, str]:
    """Return of which rotations the release that runs knows nothing, as far as the last record can tell."""
    if last is None or last.environment != environment or not live:
        return {}
    return {name: release for name, release in last.lacking.items() if release and live <= release}


def _require_apart(store: Store, place: Address, previous: Address) -> None:
    """Refuse two addresses of one place: the new value would replace the only copy of the one before."""
    if store.is_changed_with(place, previous):
        raise ConfigurationError(
            f"{previous} and {place} are one place, or one is in the other: the value before would be lost.",
            "Name a variable with a place of its own as `previous`.",
        )
    if store.is_changed_with(_spare(place), previous):
        raise ConfigurationError(
            f"{previous} is where an undone value is put, beside {place}: the value before would be lost.",
            f"Name a variable with another place as `previous`: one whose name is not that with {SPARE}.",
        )


def _spare(place: Address) -> Address:
    """Return the place beside a place that keeps a value that was undone."""
    name, mark, options = place.target.partition("?")
    return Address(place.provider, name + SPARE + mark + options)


def same_secret(place: Address, previous: Address) -> bool:
    """Whether an address is another stage or version of the same secret, which no one has to write."""
    return place != previous and place.provider == previous.provider and _bare(place) == _bare(previous)


def _bare(address: Address) -> Target:
    """Return a target without what selects a stage or a version."""
    target = parse_target(address.target)
    kept = {name: value for name, value in target.options.items() if name not in SELECTORS}
    return Target(target.path, target.field, kept)


class Rotator:
    """Carries a rotation out, from wherever it is.

    Args:
        rotation: its record.
        store: where the secret is.
        desk: the rest of the world.
        digests: what made the record's digests.
        make: makes a new value, or returns the one given.
        who: who carries it out.
    """

    def __init__(
        self,
        rotation: Rotation,
        store: Store,
        desk: Desk,
        digests: Digests,
        make: Callable[[], Sensitive],
        who: str,
    ) -> None:
        self.rotation = rotation
        self._store = store
        self._desk = desk
        self._digests = digests
        self._make = make
        self._who = who
        self._place = _address(rotation.place)
        self._previous = _address(rotation.previous) if rotation.previous else None

    def store(self) -> None:
        """Go on until the new value and the old one are both stored and read back.

        Raises:
            WindlassError: a step failed; the record says how far it came.
        """
        if self.rotation.undoing and self._is_put_back():
            raise OperationFailed("Its undoing has begun and must be ended.", "Run it with --undo.")
        self._note(undoing=False)
        if not self.rotation.reached("kept"):
            self._keep()
            self._note(step="kept")
        if not self.rotation.reached("written"):
            self._write()
        if not self.rotation.reached("verified"):
            self._verify_both()
            self._note(step="verified")

    def spread(self) -> bool:
        """Give the new value to what runs, and re-encrypt.

        Returns:
            Whether the rotation is over; not where a re-encryption waits for a deploy.

        Raises:
            WindlassError: a step failed; the record says how far it came.
        """
        if not self.rotation.reached("deployed"):
            if self._desk.reencrypts:
                # What would run without the value before could not read what is encrypted with it.
                self._verify_both()
            came_of_it = self._desk.deploy()
            if came_of_it != "done":
                return self._needs_nothing_more(came_of_it)
            self._note(step="deployed")
        if self._desk.reencrypts and not self.rotation.reached("re-encrypted"):
            # Whoever goes on may come much later: what is re-encrypted with must still be there.
            self._verify_both()
            self._desk.reencrypt()
            self._note(step="re-encrypted")
        return True

    def end(self) -> None:
        """Write down that it is over; the digests go."""
        self._note(step="ended", outcome="rotated", old="", attempts=())

    def take_back(self) -> None:
        """Make the old value the current one again, and keep the new one where something may need it.

        Raises:
            WindlassError: it could not be done; it can be tried again.
        """
        self.require_way_back()
        self._note(undoing=True)
        if self.kind_of_current() == "new":
            self._put_old_back()
        self._swap_previous()
        if self.kind_of_current() != "old":
            raise OperationFailed(f"{self._place} was put back, but another value is read.", _LOOK)

    def require_way_back(self) -> None:
        """Raise when the old value cannot be made the current one; changes nothing.

        Raises:
            WindlassError: somebody wrote another value, or the old one is gone.
        """
        kind = self.kind_of_current()
        if kind == "foreign":
            raise self._foreign()
        if kind == "old" or (not self._restorable() and self._kind_of_previous() == "old"):
            return
        if self.rotation.old_version:
            self._store.require_version(self._place, self.rotation.old_version)
        else:
            where = f"at {self._previous}" if self._previous else "anywhere that is known"
            raise OperationFailed(f"The value before is no longer {where}.", "Go on with --finish.")

    def spread_back(self) -> bool:
        """Give the old value to what runs, and re-encrypt with it what may have been with the new one.

        Returns:
            Whether the undoing is over; not where a re-encryption waits for a deploy.
        """
        came_of_it = self._desk.deploy()
        if came_of_it != "done":
            return self._needs_nothing_more(came_of_it)
        if self._desk.reencrypts and self.rotation.attempts:
            self._desk.reencrypt()
        return True

    def _needs_nothing_more(self, came_of_it: Deployed) -> bool:
        return came_of_it == "nothing runs" or not self._desk.reencrypts

    def end_undone(self) -> None:
        """Write down that it is undone; the digests go."""
        lacking = {
            name: each for name, each in self.rotation.lacking.items() if name != self.rotation.variable
        }
        self._note(step="ended", outcome="undone", old="", attempts=(), lacking=lacking)

    def kind_of_current(self) -> Literal["old", "new", "foreign"]:
        """Say which value the place holds.

        Raises:
            OperationFailed: it cannot be read.
        """
        return self._kind(_required(self._store, self._place))

    def spare(self) -> Address | None:
        """Return where an undone value is kept beside its place; None where the provider keeps versions."""
        if not self.rotation.apart or self._restorable():
            return None
        return _spare(self._place)

    # --- steps

    def _keep(self) -> None:
        """Put the old value at its second place, and see it there."""
        if not self.rotation.apart or self._previous is None:
            return
        old = _required(self._store, self._place)
        if self._kind(old) != "old":
            raise self._foreign()
        # Once more: a link may have been made since it began.
        _require_apart(self._store, self._place, self._previous)
        if self._kind(self._store.read(self._previous)) != "old":
            self._store.write(self._previous, old)
        if self._kind(self._store.read(self._previous)) != "old":
            raise OperationFailed(f"{self._previous} was written, but another value is read back.", _LOOK)

    def _write(self) -> None:
        """Write a new value, unless one is there from a run before."""
        kind = self.kind_of_current()
        if kind == "foreign":
            raise self._foreign()
        version = ""
        if kind == "old":
            if self.rotation.apart and self._previous is not None:
                _require_apart(self._store, self._place, self._previous)
            value = self._make()
            if self._kind(value) == "old":
                raise ConfigurationError(f"The value given is the one {self.rotation.variable} has already.")
            # First, so that it is known again should nothing more be heard of this run.
            self._note(
                attempts=tuple(dict.fromkeys((*self.rotation.attempts, self._digests.of(value)))),
                lacking={**self.rotation.lacking, self.rotation.variable: self._desk.live},
            )
            version = self._store.write(self._place, value).id
        self._note(step="written", new_version=version or self._store.current_version(self._place) or "")

    def _verify_both(self) -> None:
        """See that both values can be had."""
        if self.kind_of_current() != "new":
            raise self._foreign()
        if self._previous is not None:
            found = self._store.read(self._previous)
            if isinstance(found, Failure):
                raise OperationFailed(f"The value before cannot be read at {self._previous}: {found}.", _LOOK)
            if self._kind(found) != "old":
                raise OperationFailed(
                    f"{self._previous} does not hold the value before.",
                    f"Write it there again, from a version or a copy that has it ({_HISTORY}), and go on.",
                )

    def _put_old_back(self) -> None:
        """Make the old value current; at no instant is the old or the new one in no place at all."""
        new = _required(self._store, self._place)
        if self._restorable():
            if self.rotation.apart and self._previous is not None:
                self._store.write(self._previous, new)
            self._store.restore(self._place, self.rotation.old_version)
            return
        kept = self._store.read(self._previous) if self._previous is not None else Failure("no such place")
        if not isinstance(kept, Sensitive) or self._kind(kept) != "old":
            self._store.restore(self._place, self.rotation.old_version)
            return
        if (spare := self.spare()) is not None:
            self._store.write(spare, new)
            if self._kind(self._store.read(spare)) != "new":
                raise OperationFailed(f"{spare} was written, but another value is read back.", _LOOK)
        self._store.write(self._place, kept)

    def _swap_previous(self) -> None:
        """Let the application find the new value as the previous one: it may have used it."""
        if not self.rotation.apart or self._previous is None or not self.rotation.attempts:
            return
        if self._kind(self._store.read(self._previous)) == "new":
            return
        if (spare := self.spare()) is not None:
            new = self._store.read(spare)
            if isinstance(new, Sensitive) and self._kind(new) == "new":
                self._store.write(self._previous, new)

    def _restorable(self) -> bool:
        """Whether the whole secret goes back to a version; that of one field would take others along."""
        return bool(self.rotation.old_version) and "#" not in self._place.target

    # --- looking

    def _is_put_back(self) -> bool:
        """Whether an undoing came so far that it changed one of the two places, or it cannot be told."""
        return self.kind_of_current() != "new" or (self.rotation.apart and self._kind_of_previous() == "new")

    def _kind_of_previous(self) -> Literal["old", "new", "foreign"]:
        return "foreign" if self._previous is None else self._kind(self._store.read(self._previous))

    def seen(self) -> tuple[str, ...]:
        """Return what both places hold, read just now, as sentences without values."""
        lines = []
        for address in (self._place, self._previous):
            if address is None:
                continue
            value = self._store.read(address)
            if isinstance(value, Failure):
                lines.append(f"{address} cannot be read: {value.reason}.")
            else:
                lines.append(f"{address} holds {_WORDS[self._kind(value)]}.")
        return tuple(lines)

    def _kind(self, value: Sensitive | Failure) -> Literal["old", "new", "foreign"]:
        if isinstance(value, Failure):
            return "foreign"
        digest = self._digests.of(value)
        if digest in self.rotation.attempts:
            return "new"
        return "old" if digest == self.rotation.old else "foreign"

    def _foreign(self) -> OperationFailed:
        return OperationFailed(
            f"{self._place} holds neither the value before nor the one of this rotation: "
            "somebody wrote another one.",
            f"See `inv secrets.history --name {self.rotation.variable}`, write the right one with "
            "`inv secrets.set`, and run this again.",
        )

    def _note(self, **changes: object) -> None:
        changed = replace(self.rotation, **changes, by=self._who, at=_now())  # type: ignore[arg-type]
        self._desk.note(changed)
        self.rotation = changed


_LOOK: Final = "See what is kept there, and which versions there are, before it is run again."
_HISTORY: Final = "`inv secrets.history` lists versions"
_WORDS: Final = {
    "old": "the value before",
    "new": "the new value",
    "foreign": "a value that is neither the one before nor the new one",
}


def describe(rotator: Rotator) -> tuple[str, ...]:
    """Return what is true of an interrupted rotation, as sentences without values."""
    rotation = rotator.rotation
    doing = "undoing" if rotation.undoing else "rotation"
    return (
        f"The {doing} of {rotation.variable}, begun by {rotation.who} at {rotation.started}, "
        f"was interrupted after the step `{rotation.step}` ({rotation.by or rotation.who}, "
        f"{rotation.at or rotation.started}).",
        *rotator.seen(),
    )


def _required(store: Store, address: Address) -> Sensitive:
    value = store.read(address)
    if isinstance(value, Failure):
        raise OperationFailed(f"{address} cannot be read: {value.reason}.", value.fix)
    return value


def _address(text: str) -> Address:
    provider, _, target = text.partition(":")
    return Address(provider, target)


def _now() -> str:
    return datetime.now(UTC).isoformat("T", "seconds")
