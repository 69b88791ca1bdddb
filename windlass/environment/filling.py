"""Makes the key material an environment needs and does not have yet, and writes it where it is to be kept.

A variable whose reference names a file or a dotenv file gets its value there; one that no file sets gets it
in `envs/<name>.local.env`. A value that is there is replaced only when that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windlass.environment.keeping import Keeping
from windlass.environment.problems import nearest
from windlass.environment.schema import Declaration
from windlass.environment.strength import weakness
from windlass.environment.value_types import TYPES
from windlass.environment.variables import Entry
from windlass.errors import ConfigurationError
from windlass.secrets.generating import generate, kind_fault
from windlass.secrets.providers.base import Failure
from windlass.secrets.published import refuse_published
from windlass.secrets.references import Address, Reference
from windlass.secrets.targets import Target, parse_target
from windlass.secrets.writers import entry_fault
from windlass.shell import Sensitive

# The providers whose places are on this machine: to the others, `secrets.set` and `secrets.rotate` write.
_HERE: Final = ("file", "dotenv")
# Those that nothing can be written to.
_READ_ONLY: Final = ("env", "variable", "command")


@dataclass(frozen=True)
class Filling:
    """One value to make.

    Args:
        name: the variable.
        kind: what is made, such as `base64:32`.
        address: where it is written.
        replaces: there is a value, and it is replaced.
    """

    name: str
    kind: str
    address: Address
    replaces: bool = False


@dataclass(frozen=True)
class Left:
    """A variable that is left as it is, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Fillings:
    """What is to be made and what is left alone."""

    made: tuple[Filling, ...]
    left: tuple[Left, ...]


def plan(keeping: Keeping, names: Sequence[str] = (), *, kind: str = "", overwrite: bool = False) -> Fillings:
    """Decide what is made and where it goes; nothing is written.

    Args:
        keeping: the environment.
        names: the variables; empty: those that are required and whose type says how they are made.
        kind: what to make, for variables whose type does not say it.
        overwrite: replace values that are there.

    Raises:
        ConfigurationError: it is not clear what to make, or where it would go is not kept out of git.
    """
    if keeping.found.problems:
        listed = "\n".join(f"  {each}" for each in keeping.found.problems)
        raise ConfigurationError(f"The files of {keeping.environment.name} have problems:\n{listed}")
    if kind and (fault := kind_fault(kind)):
        raise ConfigurationError(f"--kind {kind}: {fault}.")
    if kind and not names:
        raise ConfigurationError("Which variable is meant?", "Name it with --name.")
    for name in names:
        if entry_fault(name, ""):
            raise ConfigurationError(f"{name!r} is no name of a variable.")
    made: list[Filling] = []
    left: list[Left] = []
    for name in names or _required(keeping):
        decided = _decide(keeping, name, kind, overwrite=overwrite)
        made += [decided] if isinstance(decided, Filling) else []
        left += [decided] if isinstance(decided, Left) else []
    _refuse_shared(keeping.environment.root, made)
    for filling in made:
        refuse_published(keeping.environment.root, filling.address, filling.name)
    return Fillings(tuple(made), tuple(left))


def fill(keeping: Keeping, fillings: Sequence[Filling]) -> tuple[dict[str, Sensitive], dict[str, str]]:
    """Make the values and write them.

    Returns:
        The values that were written, and why the others were not, both by the variable's name.

    Raises:
        ConfigurationError: a value of its kind would break the schema; nothing was written.
    """
    values = {each: _made(keeping, each) for each in fillings}
    done: dict[str, Sensitive] = {}
    failed: dict[str, str] = {}
    for provider in _HERE:
        own = {each: value for each, value in values.items() if each.address.provider == provider}
        if not own:
            continue
        written = keeping.resolver.client(provider).write(
            {each.address.target: value for each, value in own.items()}
        )
        keeping.resolver.forget(each.address for each in own)
        for each, value in own.items():
            answer = written[each.address.target]
            if isinstance(answer, Failure):
                failed[each.name] = str(answer)
            else:
                done[each.name] = value
    return done, failed


def _required(keeping: Keeping) -> tuple[str, ...]:
    declarations = keeping.found.schema.declarations
    return tuple(
        name
        for name, each in declarations.items()
        if each.is_required(keeping.environment.name) and each.type and each.type.kind
    )


def _decide(keeping: Keeping, name: str, kind: str, *, overwrite: bool) -> Filling | Left:
    declarations = keeping.found.schema.declarations
    entry = keeping.found.entries.get(name)
    if entry is None and name not in declarations and not kind:
        close = nearest(name, {*declarations, *keeping.found.entries})
        raise ConfigurationError(
            f"No file of envs/ declares {name}." + (f" Did you mean {close}?" if close else ""),
            "Say with --kind what to make, such as --kind password:32.",
        )
    kind = kind or _kind_of(declarations.get(name), name)
    address = _address(keeping, name, entry)
    if isinstance(address, Left):
        return address
    has = _has_value(keeping, entry)
    if has and not overwrite:
        return Left(name, f"{has}; --overwrite replaces it")
    return Filling(name, kind, address, bool(has))


def _kind_of(declaration: Declaration | None, name: str) -> str:
    if declaration is not None and declaration.type is not None and declaration.type.kind:
        return declaration.type.kind
    makers = ", ".join(each.name for each in TYPES if each.makes({}))
    raise ConfigurationError(
        f"The type of {name} does not say what to make.",
        f"Give --kind, such as --kind password:32, or one of these types in the schema: {makers}.",
    )


def _address(keeping: Keeping, name: str, entry: Entry | None) -> Address | Left:
    """Return where a value goes, or why it goes nowhere."""
    if entry is None or entry.reference is None:
        return Address("dotenv", f"envs/{keeping.environment.name}.local.env#{name}")
    for choice in entry.reference.choices:
        if choice.provider in _HERE:
            return choice
    return Left(name, _elsewhere(name, entry.reference))


def _elsewhere(name: str, reference: Reference) -> str:
    """Say where a value is set that is kept nowhere on this machine."""
    first = reference.choices[0]
    for choice in reference.choices:
        if choice.provider not in _READ_ONLY:
            to = "" if choice is first else f" --to {choice.provider}"
            return f"it is kept in {choice}: `inv secrets.set --name {name}{to}` writes there"
    match first.provider:
        case "env":
            return f"it is the variable {first.target} of whoever starts Windlass: set it there"
        case "variable":
            return f"it is the value of {first.target}: `inv env.generate --name {first.target}` makes that"
        case _:
            return f"it is what {first} prints: set it where that command has it from"


def _has_value(keeping: Keeping, entry: Entry | None) -> str:
    """Return where a variable has a value already; empty when it has none."""
    if entry is None:
        return ""
    if entry.reference is None:
        return f"it has a value in {entry.origin}" if entry.value.strip() else ""
    resolution = keeping.resolver.resolve([entry.reference])[entry.reference]
    if not isinstance(resolution.value, Failure):
        return f"it has a value in {resolution.source}"
    # Whether there is a value is not known: it is taken for one, or it might be lost.
    return "" if resolution.value.missing else f"{resolution.value}"


def _refuse_shared(root: Path, made: Sequence[Filling]) -> None:
    """Refuse several variables at one place: of the values made, one alone would be anywhere."""
    places: dict[tuple[Path, str], list[Filling]] = {}
    for filling in made:
        places.setdefault(_place(root, filling.address), []).append(filling)
    for shared in places.values():
        if len(shared) > 1:
            names = " and ".join(each.name for each in shared)
            raise ConfigurationError(
                f"{names} are kept at one place, {shared[0].address}; nothing was written.",
                "Give each a place of its own in envs/, or name one of them with --name.",
            )


def _place(root: Path, address: Address) -> tuple[Path, str]:
    """Return the file of an address, by one name whatever it is called, and the key in it."""
    target = parse_target(address.target) if address.provider == "dotenv" else Target(address.target)
    try:
        return (root / Path(target.path).expanduser()).resolve(), target.field
    except RuntimeError:  # no such home, which who writes there says
        return Path(target.path), target.field


def _made(keeping: Keeping, filling: Filling) -> Sensitive:
    value = generate(filling.kind)
    declaration = keeping.found.schema.declarations.get(filling.name)
    if declaration is None:
        return value
    fault, decoded = "", None
    if declaration.type is not None:
        fault = declaration.type.fault(value.reveal())
        decoded = declaration.type.decoded(value.reveal())
    fault = fault or weakness(value.reveal(), decoded=decoded, min_bits=declaration.min_bits)
    if fault:
        raise ConfigurationError(
            f"A {filling.kind} for {filling.name} {fault}; nothing was written.",
            f"{declaration.file}:{declaration.line} says what it must be; --kind makes another.",
        )
    return value
