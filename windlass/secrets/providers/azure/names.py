"""Names of Azure Key Vault: targets of references, addresses of vaults, and variables kept under their names.

The names of secrets are letters, digits and `-`, and case means nothing in them (Key Vault's documentation of
objects and identifiers). The names of variables hold `_` and never `-`, so one stands for the other:
`DATABASE_URL` is kept as `database-url`. The exact name is kept in the tag `env-name`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import ProviderError
from windlass.secrets.providers.process import NAME as VARIABLE
from windlass.secrets.settings import AzureSettings
from windlass.secrets.targets import parse_target, target_fault

# The domain of each cloud's vaults, and where its logins are made (azure.identity.AzureAuthorityHosts).
DOMAINS: Final = {
    "public": "vault.azure.net",
    "us-government": "vault.usgovcloudapi.net",
    "china": "vault.azure.cn",
}
AUTHORITIES: Final = {
    "public": "login.microsoftonline.com",
    "us-government": "login.microsoftonline.us",
    "china": "login.chinacloudapi.cn",
}
TAG: Final = "env-name"
PREVIOUS: Final = "previous"
_SECRET: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
_VAULT: Final = re.compile(r"(?=.{3,24}\Z)[A-Za-z](?:-?[0-9A-Za-z])+")
_VERSION: Final = re.compile(rf"[0-9a-f]{{32}}|{PREVIOUS}")


@dataclass(frozen=True)
class Document:
    """A secret of a vault, which may be a JSON document with fields, in one version.

    Args:
        vault: the vault's address, without a final `/`.
        name: the secret's name in small letters.
        version: its version, `previous`, or empty for the current one.
    """

    vault: str
    name: str
    version: str = ""

    @property
    def label(self) -> str:
        """The vault's name, as people and the Azure CLI say it."""
        return label(self.vault)


@dataclass(frozen=True)
class Place:
    """Where a target leads: a document, and a field of it or empty for the whole."""

    document: Document
    field: str = ""


def label(vault: str) -> str:
    """Return the name of a vault from its address; a host that is no name of a vault whole."""
    host = urlsplit(vault).hostname or vault
    return host.partition(".")[0] if host.endswith(tuple(DOMAINS.values())) else host


def target_problem(text: str) -> str:
    """Return what is wrong with a target, in words; empty when nothing is."""
    if fault := target_fault(text, ("version",)):
        return fault
    target = parse_target(text)
    *vault, name = target.path.split("/")
    if len(vault) > 1:
        return "it is `vault/name`, with one `/`"
    if vault and _VAULT.fullmatch(vault[0]) is None:
        return f"{vault[0]!r} is no name of a vault: 3 to 24 letters, digits and single `-`, a letter first"
    if _SECRET.fullmatch(name) is None:
        like = folded(name)
        hint = f"; {name} is kept as {like}" if _SECRET.fullmatch(like) else ""
        return f"{name!r} is no name of a secret: 1 to 127 letters, digits and `-`{hint}"
    if "version" in target.options and _VERSION.fullmatch(target.options["version"]) is None:
        return "`version` is the 32 hexadecimal digits of a version, or `previous`"
    return ""


def locate(text: str, settings: AzureSettings) -> Place:
    """Return where a target leads that `target_problem` found nothing wrong with.

    Raises:
        ProviderError: it names no vault, and the settings do not either.
    """
    target = parse_target(text)
    vault, _, name = target.path.rpartition("/")
    address = vault_address(vault, settings)
    return Place(Document(address, name.lower(), target.options.get("version", "")), target.field)


def vault_address(vault: str, settings: AzureSettings) -> str:
    """Return the address of a vault: of its name, of its whole address, or, when empty, of the settings' one.

    Raises:
        ProviderError: there is none, or it is no name and no address of a vault.
    """
    if not (vault := vault or settings.vault or ""):
        raise ProviderError(
            "The reference names no vault.",
            "Write ${azure:vault/name}, or set vault in [secrets.azure].",
        )
    if _VAULT.fullmatch(vault):
        return f"https://{vault.lower()}.{DOMAINS[settings.cloud]}"
    if _is_address(vault):
        return vault.rstrip("/")
    raise ProviderError(
        f"{vault!r} is no vault.", "It is a name such as shop-vault, or an address such as https://…"
    )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_good = parts.port != 0
    except ValueError:
        return False
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username or "")
    return parts.scheme == "https" and bool(parts.hostname) and port_is_good and not any(rest)


def folded(variable: str) -> str:
    """Return the name a variable is kept under."""
    return variable.replace("_", "-").lower()


def secret_name(variable: str) -> str:
    """Return the name a variable is kept under.

    Raises:
        ConfigurationError: it is no name of a variable, or too long for a secret's name.
    """
    if VARIABLE.fullmatch(variable) is None:
        raise ConfigurationError(f"{variable!r} is no name of a variable.")
    if _SECRET.fullmatch(name := folded(variable)) is None:
        raise ConfigurationError(f"{variable} is too long for Azure Key Vault, whose names have 127 letters.")
    return name


def variable_name(secret: str, tags: Mapping[str, str]) -> str:
    """Return the variable a secret is kept for; empty when its name is none of a variable.

    The tag counts only where it is the secret's own name in another case: so no two secrets have one
    variable.
    """
    exact = tags.get(TAG, "")
    name = exact if folded(exact) == secret.lower() else secret.replace("-", "_").upper()
    return name if VARIABLE.fullmatch(name) else ""
