"""Finds providers by name: the built-in ones, then those other packages bring."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from windlass.secrets.providers.base import Provider, ProviderError

GROUP: Final = "windlass.secret_providers"
# By name, the module that holds it under `PROVIDER`; in the order of the documentation.
BUILT_IN: Final = {
    "env": "process",
    "file": "file",
    "dotenv": "dotenv_file",
    "command": "command",
    "variable": "variable",
    "aws": "aws",
    "azure": "azure",
    "vault": "vault",
    "postgres": "postgres",
}


@cache
def built_in(name: str) -> Provider:
    """Return a built-in provider."""
    provider: Provider = import_module(f"windlass.secrets.providers.{BUILT_IN[name]}").PROVIDER
    return provider


def find(name: str) -> Provider | None:
    """Return the provider of this name, or None when nothing brings one.

    Raises:
        ProviderError: a package says it brings it, and it cannot be loaded.
    """
    return built_in(name) if name in BUILT_IN else _plugin(name)


@cache
def _plugin(name: str) -> Provider | None:
    for point in entry_points(group=GROUP, name=name):
        try:
            provider = point.load()
        except Exception as error:  # noqa: BLE001 - another package's code: whatever it raises, say whose it is
            raise ProviderError(
                f"The provider {name} cannot be loaded from {point.value}: {type(error).__name__}."
            ) from None
        if not isinstance(provider, Provider) or provider.name != name:
            raise ProviderError(f"{point.value} is no provider of the name {name}.")
        return provider
    return None


def names() -> tuple[str, ...]:
    """Return the names of all providers there are: the built-in ones, then the others, sorted."""
    others = {point.name for point in entry_points(group=GROUP)} - set(BUILT_IN)
    return (*BUILT_IN, *sorted(others))
