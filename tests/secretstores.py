"""Providers kept in memory, for tests of what is done with secrets: with versions and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from windlass.secrets.providers import registry
from windlass.secrets.providers.base import (
    Client,
    Context,
    Failure,
    Provider,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.shell import Sensitive

Hook = Callable[[str], None]


class Memory(Client):
    """Keeps secrets in memory, one version each; targets are `scope/NAME`.

    Args:
        name: the provider's name.
        hook: called with what is about to happen, such as `write a`, and with `written a` after it.
    """

    def __init__(self, name: str, hook: Hook = lambda what: None) -> None:
        self.name = name
        self.hook = hook
        self.kept: dict[str, list[str]] = {}
        self.refused: set[str] = set()
        self.writes: list[str] = []

    @property
    def provider_name(self) -> str:
        return f"the store {self.name}"

    def now(self, target: str) -> str:
        return self.kept[target][-1]

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        return {target: self._get(target) for target in targets}

    def _get(self, target: str) -> Resolved:
        if target in self.refused:
            return Failure(f"{target} is closed", "ask for it")
        if not self.kept.get(target):
            return Failure(f"there is no {target}", missing=True)
        return Sensitive(self.now(target))

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        return {target: self._put(target, value) for target, value in values.items()}

    def _put(self, target: str, value: Sensitive) -> Written:
        if target in self.refused:
            return Failure(f"{target} is closed", "ask for it")
        self.hook(f"write {target}")
        self.kept[target] = [value.reveal()]
        self.writes.append(target)
        self.hook(f"written {target}")
        return Version("", stages=("current",))

    def members(self, scope: str) -> dict[str, str]:
        found = {each.rpartition("/")[2]: each for each in self.kept if each.startswith(f"{scope}/")}
        if scope in self.refused:
            raise ProviderError(f"{scope} cannot be listed.")
        return found

    def member(self, scope: str, name: str) -> str:
        if name.startswith("NO_"):
            raise ProviderError(f"{scope} cannot keep {name}.")
        return f"{scope}/{name}"


class Versioned(Memory):
    """Keeps every version; `?stage=previous` and `?version=<number>` read others."""

    def __init__(self, name: str, hook: Hook = lambda what: None) -> None:
        super().__init__(name, hook)
        self.order: dict[str, list[int]] = {}

    def now(self, target: str) -> str:
        return self.kept[target][self.order[target][-1]]

    def _get(self, target: str) -> Resolved:
        name, _, option = target.partition("?")
        if name in self.refused or not self.kept.get(name):
            return super()._get(name)
        if option == "stage=previous":
            order = self.order[name]
            return Sensitive(self.kept[name][order[-2]]) if len(order) > 1 else Failure("none", missing=True)
        if option:
            return Sensitive(self.kept[name][int(option.removeprefix("version=")) - 1])
        return Sensitive(self.now(name))

    def _put(self, target: str, value: Sensitive) -> Written:
        if target in self.refused:
            return Failure(f"{target} is closed", "ask for it")
        self.hook(f"write {target}")
        values = self.kept.setdefault(target, [])
        values.append(value.reveal())
        self._make_current(target, len(values) - 1)
        self.writes.append(target)
        self.hook(f"written {target}")
        return Version(str(len(values)), stages=("current",))

    def _make_current(self, target: str, index: int) -> None:
        order = self.order.setdefault(target, [])
        self.order[target] = [*order[-1:], index]

    def versions(self, target: str) -> tuple[Version, ...]:
        if not self.kept.get(target):
            raise ProviderError(f"There is no {target}.")
        stages = dict(zip(reversed(self.order[target]), ("current", "previous"), strict=False))
        return tuple(
            Version(str(index + 1), stages=(stages[index],) if index in stages else ())
            for index in reversed(range(len(self.kept[target])))
        )

    def restore(self, target: str, version: str) -> Version:
        self.hook(f"write {target}")
        self._make_current(target, int(version) - 1)
        self.hook(f"written {target}")
        return Version(version, stages=("current",))


def install(monkeypatch: pytest.MonkeyPatch, *clients: Client) -> None:
    """Make clients the providers of their names, for this test."""
    added = {client.name: _provider(client) for client in clients if isinstance(client, Memory)}
    find, names = registry.find, registry.names
    monkeypatch.setattr(registry, "find", lambda name: added.get(name) or find(name))
    monkeypatch.setattr(registry, "names", lambda: (*names(), *added))


def _provider(client: Memory) -> Provider:
    def connect(context: Context) -> Client:
        del context
        return client

    return Provider(client.name, f"${{{client.name}:shop/KEY}}", "a test's", lambda target: "", connect)
