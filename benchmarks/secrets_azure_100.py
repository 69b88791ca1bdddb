"""100 secrets of an Azure Key Vault 30 ms away, against the plain SDK one by one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets._shared import HttpChallengeCache

from benchmarks.report import Result, meets
from tests.keyvault import CLIENT, CLIENT_SECRET, TENANT, KeyVault
from windlass.secrets.providers.base import Failure
from windlass.secrets.references import parse
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import AzureSettings, SecretsSettings

SECRETS = 100
LATENCY = 0.03
ROUNDS = 7
GOAL = "<=0.2"


@contextmanager
def login_at(address: str) -> Iterator[None]:
    """Have the SDK log in at another address."""
    before = os.environ.get("AZURE_AUTHORITY_HOST")
    os.environ["AZURE_AUTHORITY_HOST"] = address
    try:
        yield
    finally:
        os.environ.pop("AZURE_AUTHORITY_HOST")
        if before is not None:
            os.environ["AZURE_AUTHORITY_HOST"] = before


def ours(keyvault: KeyVault, names: list[str]) -> Mapping[str, str]:
    """Get all by Windlass's provider: connect, log in, read, close."""
    azure = AzureSettings(
        vault=keyvault.address,
        login="client-secret",
        tenant_id=TENANT,
        client_id=CLIENT,
        ca_file=str(keyvault.ca_file),
        verify_challenge=False,
    )
    references = {name: parse(f"${{azure:{name}}}") for name in names}
    with Resolver(Path(), {"AZURE_CLIENT_SECRET": CLIENT_SECRET}, SecretsSettings(azure=azure)) as resolver:
        found = resolver.resolve(each for each in references.values() if each)
    values = {}
    for name, reference in references.items():
        assert reference
        value = found[reference].value
        assert not isinstance(value, Failure), value
        values[name] = value.reveal()
    return values


def one_by_one(keyvault: KeyVault, names: list[str]) -> Mapping[str, str]:
    """Get all as a program does that has the SDK alone."""
    trust: dict[str, Any] = {"connection_verify": str(keyvault.ca_file)}
    credential = ClientSecretCredential(
        TENANT, CLIENT, CLIENT_SECRET, disable_instance_discovery=True, **trust
    )
    with (
        credential,
        SecretClient(keyvault.address, credential, verify_challenge_resource=False, **trust) as client,
    ):
        return {name: client.get_secret(name).value or "" for name in names}


def seconds(work: Callable[[], Mapping[str, str]], expected: Mapping[str, str]) -> float:
    """Return how long it takes to get the right values."""
    HttpChallengeCache.clear()  # each run is the first of a process
    began = time.monotonic()
    found = work()
    taken = time.monotonic() - began
    assert found == expected
    return taken


def run() -> Result:
    """Measure both in turn, so that what slows the machine slows both; imports are no part of either."""
    names = [f"secret-{number}" for number in range(SECRETS)]
    with KeyVault(LATENCY) as keyvault, login_at(keyvault.address):
        values = {name: keyvault.put(name, f"value of {name}").value for name in names}
        # The first pair imports the SDK.
        ours(keyvault, names[:1])
        one_by_one(keyvault, names[:1])
        pairs = [
            (
                seconds(lambda: ours(keyvault, names), values),
                seconds(lambda: one_by_one(keyvault, names), values),
            )
            for _ in range(ROUNDS)
        ]
    value, baseline = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    return Result("secrets-azure-100", value, "s", baseline, ratio, GOAL, meets(GOAL, ratio))
