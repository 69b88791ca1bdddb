"""Tries the login to each provider of secrets that an environment refers to, with one secret of each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from windlass.doctor.findings import Finding
from windlass.environment.keeping import Keeping
from windlass.secrets.providers import registry, variable
from windlass.secrets.providers.base import Failure
from windlass.secrets.references import Address, Reference

# A person waits as long for a deploy that asks for secrets first.
SLOW_SECONDS: Final = 5.0


def examine(keeping: Keeping) -> tuple[Finding, ...]:
    """Try each provider that a variable of the environment is kept by; nothing comes from a cache."""
    return tuple(_tried(keeping, *each) for each in _first_of_each(keeping).values())


def _first_of_each(keeping: Keeping) -> Mapping[str, tuple[str, Address]]:
    """Return a variable and its address for each provider."""
    found: dict[str, tuple[str, Address]] = {}
    for name, entry in keeping.found.entries.items():
        for address in entry.reference.choices if entry.reference else ():
            if address.provider != variable.NAME:
                found.setdefault(address.provider, (name, address))
    return found


def _tried(keeping: Keeping, name: str, address: Address) -> Finding:
    begun = time.monotonic()
    reference = Reference((address,))
    value = keeping.resolver.resolve([reference])[reference].value
    seconds = time.monotonic() - begun
    provider = registry.find(address.provider)
    if isinstance(value, Failure) and value.missing and provider is not None and provider.is_remote:
        # Only who is logged in is told that there is no such secret.
        found = f"it answers; {name} from {address}: {value.reason}, which `env.check` is for"
        return Finding(address.provider, "login", "ok", found)
    if isinstance(value, Failure):
        found = f"{name} from {address}: {value.reason}"
        fix = (
            value.fix or f"Mend what is said, then run `inv secrets.check --env {keeping.environment.name}`."
        )
        return Finding(address.provider, "login", "failed", found, fix)
    found = f"{name} in {seconds:.1f} s"
    if seconds > SLOW_SECONDS and provider is not None and provider.is_remote:
        fix = "Look at the network, or let a laptop keep secrets for a while with [secrets.cache]."
        return Finding(address.provider, "login", "warning", found, fix)
    return Finding(address.provider, "login", "ok", found)
