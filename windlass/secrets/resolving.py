"""Gets what references stand for: each secret once, each provider for all of its own at a time.

References with several choices are asked in rounds: the first choice of all, then the second of those that
failed. Providers are asked at the same time, and one that fails never hides what another gives.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from windlass.errors import WindlassError
from windlass.secrets.providers import registry, variable
from windlass.secrets.providers.base import Client, Context, Failure, Provider, ProviderError, Resolved
from windlass.secrets.references import Address, InvalidReference, Reference, parse
from windlass.secrets.settings import SecretsSettings
from windlass.shell import Sensitive, Word

_PROVIDERS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Resolution:
    """What came of a reference.

    Args:
        value: the secret, never empty; or why no choice gave one.
        source: the address that gave it; None when none did.
        passed: the choices before it that failed, and why.
    """

    value: Resolved
    source: Address | None = None
    passed: tuple[tuple[Address, Failure], ...] = ()

    @property
    def note(self) -> str:
        """What a person should know of a value that is there: a first choice that failed."""
        if self.source is None or not self.passed:
            return ""
        why = "; ".join(f"{address}: {failure.reason}" for address, failure in self.passed)
        return f"taken from {self.source}, since {why}"


class Cache(Protocol):
    """Keeps fetched secrets for a while."""

    def get(self, key: str) -> Sensitive | None:
        """Return the secret that was kept under a key, unless it is too old."""

    def put(self, values: Mapping[str, Sensitive]) -> None:
        """Keep secrets by their keys."""


@dataclass
class _Stack(threading.local):
    """What this thread is in the middle of, to find a circle."""

    names: list[str] = field(default_factory=list)


class Resolver:
    """Resolves the references of one environment; what it fetched it does not fetch again.

    Args:
        root: the repository.
        process: the variables of the operator's own process.
        settings: the environment's `[secrets]` table.
        variables: what the environment's other variables are, for `${variable:NAME}`.
        cache: keeps what remote providers gave beyond this run; None: nothing does.
    """

    def __init__(
        self,
        root: Path,
        process: Mapping[str, str],
        settings: SecretsSettings | None = None,
        variables: Mapping[str, Reference | Word] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.context = Context(root, process, settings or SecretsSettings(), self.lookup)
        self._variables = variables or {}
        self._cache = cache
        self._known: dict[Address, Resolved] = {}
        self._clients: dict[str, Client | Failure] = {}
        # Connecting may need a secret of another provider, in the same thread.
        self._connecting = threading.RLock()
        self._asking: dict[str, threading.RLock] = {}
        self._stack = _Stack()

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections to providers back."""
        for client in self._clients.values():
            if isinstance(client, Client):
                client.close()
        self._clients.clear()

    def resolve(self, references: Iterable[Reference]) -> dict[Reference, Resolution]:
        """Get what the references stand for; none raises for another."""
        left = dict.fromkeys(references)
        done: dict[Reference, Resolution] = {}
        passed: dict[Reference, list[tuple[Address, Failure]]] = {each: [] for each in left}
        turn = 0
        while left:
            choices = {reference: reference.choices[turn] for reference in left}
            self._ask(choices.values())
            for reference, choice in choices.items():
                value = self._known[choice]
                if isinstance(value, Sensitive):
                    done[reference] = Resolution(value, choice, tuple(passed[reference]))
                else:
                    passed[reference].append((choice, value))
            turn += 1
            for reference in left:
                if reference not in done and turn == len(reference.choices):
                    done[reference] = _failed(passed[reference])
            left = {each: None for each in left if each not in done}
        return done

    def lookup(self, text: str) -> Resolved:
        """Return the secret a text refers to, or the text itself."""
        try:
            reference = parse(text)
        except InvalidReference as error:
            return Failure(error.message, error.allowed)
        return Sensitive(text) if reference is None else self.resolve([reference])[reference].value

    def client(self, name: str) -> Client:
        """Return the connection to a provider.

        Raises:
            ProviderError: there is no such provider, or it cannot be reached.
        """
        provider = registry.find(name)
        if provider is None:
            raise ProviderError(f"There is no provider {name}.", f"There are: {', '.join(registry.names())}.")
        client = self._client(provider)
        if isinstance(client, Failure):
            raise ProviderError(f"{client.reason}.", client.fix)
        return client

    def forget(self, addresses: Iterable[Address]) -> None:
        """Ask for these again next time: they were written."""
        for address in addresses:
            self._known.pop(address, None)

    def _ask(self, addresses: Iterable[Address]) -> None:
        wanted: dict[str, list[str]] = {}
        for address in dict.fromkeys(addresses):
            if address not in self._known:
                wanted.setdefault(address.provider, []).append(address.target)
        if len(wanted) <= 1 or self._stack.names:
            for name, targets in wanted.items():
                self._ask_one(name, targets)
            return
        with ThreadPoolExecutor(min(len(wanted), _PROVIDERS_AT_ONCE)) as pool:
            list(pool.map(lambda pair: self._ask_one(*pair), wanted.items()))

    def _ask_one(self, name: str, targets: Sequence[str]) -> None:
        provider = registry.find(name)
        assert provider is not None  # noqa: S101 - the reference was parsed
        if name == variable.NAME:
            found: Mapping[str, Resolved] = {target: self._variable(target) for target in targets}
        else:
            found = self._fetch(provider, targets)
        for target in targets:
            answer = found.get(target, Failure("the provider gave no answer"))
            self._known[Address(name, target)] = _filled(answer)

    def _variable(self, name: str) -> Resolved:
        if name not in self._variables:
            return Failure(f"no file of envs/ sets the variable {name}", missing=True)
        value = self._variables[name]
        if not isinstance(value, Reference):
            return value if isinstance(value, Sensitive) else Sensitive(value)
        try:
            with self._within(f"the variable {name}"):
                return self.resolve([value])[value].value
        except _Circle as circle:
            return Failure(str(circle))

    def _fetch(self, provider: Provider, targets: Sequence[str]) -> Mapping[str, Resolved]:
        cached = self._from_cache(provider, targets)
        missing = [target for target in targets if target not in cached]
        if not missing:
            return cached
        found = self._from_provider(provider, missing)
        if self._cache is not None and provider.is_remote:
            fresh = {target: value for target, value in found.items() if isinstance(value, Sensitive)}
            self._cache.put({self._key(provider, target): value for target, value in fresh.items()})
        return {**found, **cached}

    def _from_cache(self, provider: Provider, targets: Sequence[str]) -> dict[str, Resolved]:
        if self._cache is None or not provider.is_remote:
            return {}
        found = ((target, self._cache.get(self._key(provider, target))) for target in targets)
        return {target: value for target, value in found if value is not None}

    def _key(self, provider: Provider, target: str) -> str:
        """Return what the cache keeps a secret under: with other settings it may be another secret."""
        own = getattr(self.context.settings, provider.name, None)
        plugin = sorted(self.context.settings.plugins.get(provider.name, {}).items())
        return f"{provider.name}:{target} {own.model_dump_json() if own else plugin}"

    def _from_provider(self, provider: Provider, targets: Sequence[str]) -> Mapping[str, Resolved]:
        try:
            client = self._client(provider)
            if isinstance(client, Failure):
                return dict.fromkeys(targets, client)
            with self._asking.setdefault(provider.name, threading.RLock()):
                return client.fetch(targets)
        except WindlassError as error:
            return dict.fromkeys(targets, Failure(error.message.rstrip("."), error.hint))
        except Exception as error:  # noqa: BLE001 - an SDK's; its message may hold a secret
            return dict.fromkeys(targets, Failure(f"the provider failed with {type(error).__name__}"))

    def _client(self, provider: Provider) -> Client | Failure:
        """Return the connection, or why there is none; it is tried once."""
        with self._connecting:
            if provider.name not in self._clients:
                try:
                    with self._within(f"the provider {provider.name}"):
                        self._clients[provider.name] = provider.connect(self.context)
                except WindlassError as error:
                    self._clients[provider.name] = Failure(error.message.rstrip("."), error.hint)
            return self._clients[provider.name]

    @contextmanager
    def _within(self, name: str) -> Iterator[None]:
        if name in self._stack.names:
            raise _Circle(" needs ".join((*self._stack.names[self._stack.names.index(name) :], name)))
        self._stack.names.append(name)
        try:
            yield
        finally:
            self._stack.names.pop()


class _Circle(WindlassError):
    """Something needs itself to be had."""


def _failed(passed: Sequence[tuple[Address, Failure]]) -> Resolution:
    if len(passed) == 1:
        return Resolution(passed[0][1], passed=tuple(passed))
    reason = "; then ".join(f"{address.provider}: {failure.reason}" for address, failure in passed)
    fix = "; ".join(dict.fromkeys(failure.fix for _, failure in passed if failure.fix))
    missing = all(failure.missing for _, failure in passed)
    return Resolution(Failure(reason, fix, missing), passed=tuple(passed))


def _filled(result: Resolved) -> Resolved:
    """Turn an empty value into a failure: an empty secret is a mistake, and an expensive one."""
    if isinstance(result, Sensitive) and not result.reveal().strip():
        return Failure("the value is empty")
    return result
