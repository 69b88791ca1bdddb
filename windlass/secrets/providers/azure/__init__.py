"""Secrets in Azure Key Vault."""

from __future__ import annotations

from typing import Final

from windlass.secrets.providers.azure.names import target_problem
from windlass.secrets.providers.base import Client, Context, Provider, import_sdk

EXTRA: Final = "azure"


def _connect(context: Context) -> Client:
    for module in ("azure.identity", "azure.keyvault.secrets"):
        import_sdk(module, EXTRA)
    from windlass.secrets.providers.azure.client import AzureClient
    from windlass.secrets.providers.azure.sessions import Session

    return AzureClient(Session(context), context.settings.azure)


PROVIDER: Final = Provider(
    "azure",
    "${azure:shop-vault/db-password}",
    "The secret `db-password` of the Azure Key Vault `shop-vault`, its field with `#field` where it is JSON, "
    "an earlier version with `?version=…` or `?version=previous`. The vault may be left out with `vault` in "
    "`[secrets.azure]`; see [Azure](../providers/azure.md).",
    target_problem,
    _connect,
    extra=EXTRA,
    is_remote=True,
)
