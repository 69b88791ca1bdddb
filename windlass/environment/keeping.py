"""Where the variables of an environment are kept, and what reads and writes them there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from windlass.environment.environment import Environment
from windlass.environment.inspection import without_variables
from windlass.environment.problems import nearest
from windlass.environment.variables import Declared, Entry, declared, is_secret, resolver_of
from windlass.errors import ConfigurationError
from windlass.secrets.cache import clear
from windlass.secrets.providers import registry, variable
from windlass.secrets.providers.base import Resolved
from windlass.secrets.references import Address, InvalidReference, Reference, parse_address
from windlass.secrets.resolving import Resolver
from windlass.secrets.targets import Target, parse_target
from windlass.secrets.writers import entry_fault
from windlass.shell import Sensitive

_NOW: Final = "Leave --stage and --version out for the value it has now."
# An option of each form that a provider with versions may take.
_VERSIONS: Final = ("stage=previous", "version=previous", "version=1", f"version={'0' * 32}")


class Keeping:
    """The places of one environment's variables; a context manager that gives connections back.

    Nothing of it comes from a cache: who writes secrets, or asks whether they can be had, needs the truth.

    Args:
        environment: the environment, without its variables.
        process: the variables `${env:NAME}` refers to; None for those of this process.

    Raises:
        InvalidEnvironment: its TOML files have problems.
    """

    def __init__(self, environment: Environment, process: Mapping[str, str] | None = None) -> None:
        self.environment = environment
        self.found: Declared = declared(environment.root, environment.name)
        given = os.environ if process is None else process
        self.resolver: Resolver = resolver_of(
            environment.root, self.found, given, environment.settings.secrets
        )

    @classmethod
    def of(cls, root: Path, name: str) -> Keeping:
        """Open those of an environment by its name; no secret is fetched.

        Raises:
            InvalidEnvironment: its TOML files have problems.
        """
        return cls(without_variables(root, name))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Leave nothing in this machine's cache of what is written inside, however it ends."""
        try:
            yield
        finally:
            clear(self.environment.settings.secrets.cache, self.environment.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resolver.close()

    @property
    def secret_entries(self) -> dict[str, Entry]:
        """The lines of secret variables: references, and what is secret by name or content."""
        rules = self.environment.settings.variables
        return {
            name: entry
            for name, entry in self.found.entries.items()
            if entry.problem is None
            and (entry.reference or is_secret(name, entry.value, rules, self.found.schema.sensitive(name)))
        }

    def entry(self, name: str) -> Entry:
        """Return the line that sets a variable.

        Raises:
            ConfigurationError: there is none, or it is wrong.
        """
        if not name:
            raise ConfigurationError("Which variable is meant?", "Name it with --name.")
        entry = self.found.entries.get(name)
        if entry is None:
            close = nearest(name, self.found.entries)
            raise ConfigurationError(
                f"No file of {self.environment.name} in envs/ sets {name}."
                + (f" Did you mean {close}?" if close else "")
            )
        if entry.problem is not None:
            raise ConfigurationError(f"{entry.origin}: {entry.problem.what}.")
        return entry

    def reference(self, name: str) -> Reference:
        """Return the reference a variable is.

        Raises:
            ConfigurationError: it is none: its value stands in the file.
        """
        entry = self.entry(name)
        if entry.reference is None:
            raise ConfigurationError(
                f"The value of {name} stands in {entry.origin} itself, so there is no place to write it to.",
                f"Put a reference there, such as {name}=${{file:~/.{self.environment.settings.app}/{name}}}, "
                f"and run `inv secrets.set --name {name}`.",
            )
        return entry.reference

    def address(self, name: str, to: str = "") -> Address:
        """Return where a variable's value is written: its first choice, or the one asked for.

        Args:
            name: the variable.
            to: one of its choices, as `provider` or `provider:target`; empty: the first.

        Raises:
            ConfigurationError: the variable is no reference, or that is none of its choices.
        """
        reference = self.reference(name)
        fits = [
            each for each in reference.choices if not to or to in {each.provider, str(each), f"${{{each}}}"}
        ]
        if len(fits) != 1 and to:
            choices = ", ".join(map(str, reference.choices))
            raise ConfigurationError(
                f"{to} names {'none' if not fits else 'several'} of the choices of {name}.",
                f"They are: {choices}.",
            )
        address = fits[0]
        if address.provider == variable.NAME:
            raise ConfigurationError(
                f"{name} is the value of {address.target}.", f"Name that one: --name {address.target}."
            )
        return address

    def version_of(self, name: str, stage: str = "", version: str = "") -> Address:
        """Return the address of another version of a variable's value, as `at_version` does.

        Raises:
            ConfigurationError: where it is kept there are no versions, or none like this.
        """
        entry = self.entry(name)
        if entry.reference is None:
            raise ConfigurationError(
                f"The value of {name} stands in {entry.file} itself, which keeps no versions.", _NOW
            )
        return at_version(self.address(name), stage, version)

    def value(self, name: str) -> Resolved:
        """Return a variable's value, or why it cannot be had."""
        entry = self.entry(name)
        if entry.reference is None:
            return Sensitive(entry.value)
        return self.resolver.resolve([entry.reference])[entry.reference].value

    def values(self, names: Mapping[str, Entry]) -> dict[str, Resolved]:
        """Return the values of many variables, each provider asked once."""
        references = {name: entry.reference for name, entry in names.items()}
        found = self.resolver.resolve(each for each in references.values() if each is not None)
        return {
            name: Sensitive(names[name].value) if each is None else found[each].value
            for name, each in references.items()
        }


def at_version(address: Address, stage: str = "", version: str = "") -> Address:
    """Return the address of another version of a secret.

    Args:
        address: the secret.
        stage: a stage such as `AWSPREVIOUS` or `previous`.
        version: a version's id.

    Raises:
        ConfigurationError: the provider has no such thing.
    """
    if not stage and not version:
        return address
    if not _has_versions(address.provider):
        raise ConfigurationError(f"{address.provider} keeps no versions, so {address} has none.", _NOW)
    target = parse_target(address.target)
    provider = registry.find(address.provider)
    # Providers without stages have versions, and `previous` may be one of those.
    wishes = [{"version": version}] if version else [{"stage": stage}, {"version": stage}]
    if stage and version:
        wishes = [{"stage": stage, "version": version}]
    faults = []
    for wish in wishes:
        text = str(Target(target.path, target.field, {**target.options, **wish}))
        fault = provider.fault(text) if provider is not None else "no such provider"
        if not fault and text != address.target:
            return Address(address.provider, text)
        faults.append(fault or "this is the version it names already")
    raise ConfigurationError(f"{address}: {faults[-1]}.")


def _has_versions(provider: str) -> bool:
    """Whether a provider reads versions; to the others `?` is a letter like any other."""
    found = registry.find(provider)
    if found is None or not found.fault("name?none-such-option=x"):
        return False
    return not all(found.fault(f"name?{each}") for each in _VERSIONS)


def address_of(text: str, option: str, *, as_scope: bool = False) -> Address:
    """Read an address that was typed for an option.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return parse_address(text, as_scope=as_scope)
    except InvalidReference as error:
        near = f" Did you mean {error.nearest}?" if error.nearest else ""
        raise ConfigurationError(
            f"{option} {text}: {error.message}.{near}" if text else f"{option} is missing.",
            f"Write it like {error.allowed}." if error.allowed else "",
        ) from None


def require_value(name: str, value: Sensitive) -> None:
    """Refuse what no variable can hold.

    Raises:
        ConfigurationError: it is empty, or no value of a variable; nothing of it is in the words.
    """
    if not value.reveal().strip():
        raise ConfigurationError(f"The value for {name} is empty; nothing was changed.")
    if fault := entry_fault(name, value.reveal()):
        raise ConfigurationError(f"The value for {name} cannot be used: {fault}.")
