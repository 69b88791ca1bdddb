"""Secrets in HashiCorp Vault and OpenBao, their KV secrets engine, versions 1 and 2."""

from __future__ import annotations

from typing import Final

from windlass.secrets.providers.base import Client, Context, Provider
from windlass.secrets.providers.vault.targets import fault


def _connect(context: Context) -> Client:
    from windlass.secrets.providers.vault.calls import Calls
    from windlass.secrets.providers.vault.client import VaultClient
    from windlass.secrets.providers.vault.login import login_of

    return VaultClient(Calls(login_of(context)), context.settings.vault)


PROVIDER: Final = Provider(
    "vault",
    "${vault:path#field}",
    "A field of a document of HashiCorp Vault's or OpenBao's KV engine; without `#field`, the whole as JSON. "
    "Options: `?version=3` or `previous`, `mount=`, `namespace=`.",
    fault,
    _connect,
    "vault",
    is_remote=True,
)
