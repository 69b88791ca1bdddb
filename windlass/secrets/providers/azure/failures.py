"""What the Azure SDK raises, as one sentence and what to do about it.

No text of a server is repeated, as servers quote what they were sent, secrets too: only codes that are known
here, numbers, and the id of the login.

Only `azure.connect` may lead here: this module imports the SDK.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
)

from windlass.secrets.providers.azure.names import Document, label
from windlass.secrets.providers.azure.sessions import Overlong
from windlass.secrets.providers.base import Failure

# Azure's built-in roles that allow what a call does.
_ROLES: Final = {"get": "Key Vault Secrets User", "list": "Key Vault Secrets User"}
_WRITER: Final = "Key Vault Secrets Officer"
_NUMBER: Final = re.compile(r"AADSTS(\d{4,8})")
_LOGIN_ID: Final = re.compile(r"\boid=([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\b")
_TRIED: Final = re.compile(r"^\t(\w{1,60})Credential: ", re.MULTILINE)
_NOT_RESOLVED: Final = ("NameResolutionError", "gaierror")
_LOGIN_FIXES: Final = {
    7000215: (
        "the client's secret is wrong",
        "give the secret's value, not its id",
    ),
    7000222: ("the client's secret has expired", "make a new one: az ad app credential reset --append"),
    700016: ("the tenant has no application of this client id", "check client_id and tenant_id"),
    90002: ("there is no such tenant", "check tenant_id and cloud"),
    900023: ("there is no such tenant", "check tenant_id and cloud"),
    50034: ("the tenant has no such user", "run az login --tenant with the vault's tenant"),
    50076: ("the tenant wants a second factor", "run az login --tenant with the vault's tenant"),
    700082: ("the login of the Azure CLI has expired", "run az login"),
}
_SHARED_FIX: Final = (
    "run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, "
    "or choose another login in [secrets.azure]"
)
_FIXES: Final = {
    "default": _SHARED_FIX,
    "managed-identity": "run it on a machine with this identity, check client_id, or choose another login",
    "client-secret": "check all client settings of [secrets.azure]",  # pragma: allowlist secret
}


class Reach(Enum):
    """What an error says something about."""

    SECRET = auto()
    VAULT = auto()
    LOGIN = auto()


@dataclass(frozen=True)
class Trouble:
    """Why a call failed, and what else fails for the same reason."""

    failure: Failure
    reach: Reach = Reach.SECRET


@dataclass(frozen=True)
class Call:
    """What was asked.

    Args:
        document: of which secret; its name is empty where the call is about the vault.
        action: the permission it needs: `get`, `list` or `set`.
        login: how the login is made, a word of `[secrets.azure] login`.
    """

    document: Document
    action: str = "get"
    login: str = "default"

    @property
    def vault(self) -> str:
        """The vault's name."""
        return self.document.label


def explain(error: Exception, call: Call) -> Trouble:
    """Return what an exception of a call means."""
    match error:
        case Overlong():
            reason = f"the vault {call.vault} asks to wait {error.seconds:.0f} s, which is too long"
            trouble = Trouble(Failure(reason, "try again later"), Reach.VAULT)
        case ClientAuthenticationError():
            trouble = _login(error, call)
        case DecodeError():
            trouble = _garbage(call)
        case HttpResponseError():
            trouble = _answer(error, call)
        case AzureError():
            trouble = _connection(error, call)
        case ValueError() if "challenge" in str(error).lower():
            trouble = _challenge(call)
        case _:
            trouble = _garbage(call)
    return trouble


def _garbage(call: Call) -> Trouble:
    reason = f"what answers at {call.document.vault} does not speak Key Vault"
    return Trouble(Failure(reason, "check the vault's address and the proxy before it, if any"))


def _challenge(call: Call) -> Trouble:
    reason = f"what answers at {call.document.vault} asks for a login that is not for vaults of this domain"
    fix = "check the address; verify_challenge = false in [secrets.azure] is for an emulator"
    return Trouble(Failure(reason, fix), Reach.VAULT)


def _login(error: ClientAuthenticationError, call: Call) -> Trouble:
    if error.status_code == 401 and error.response and _is_of(error, call.document.vault):
        reason = f"the vault {call.vault} does not accept the login"
        fix = "log in to the tenant that the vault is in: az keyvault show shows its tenantId"
        return Trouble(Failure(reason, fix), Reach.VAULT)
    fix = _FIXES[call.login]
    if number := _NUMBER.search(str(error)):
        what, fix = _LOGIN_FIXES.get(int(number[1]), ("Entra ID refuses it", fix))
        return Trouble(Failure(f"the login to Azure failed: {what} (AADSTS{number[1]})", fix), Reach.LOGIN)
    if tried := _TRIED.findall(str(error)):
        reason = f"there is no login to Azure; tried: {', '.join(tried)}"
    elif call.login == "managed-identity":
        reason = "there is no login to Azure: this machine has no such managed identity"
    else:
        reason = "the login to Azure failed"
    return Trouble(Failure(reason, fix), Reach.LOGIN)


def _is_of(error: HttpResponseError, vault: str) -> bool:
    request = getattr(error.response, "request", None)
    return str(getattr(request, "url", "")).startswith(f"{vault}/")


def codes(error: HttpResponseError) -> tuple[str, str]:
    """Return the code and the inner code of an answer of the vault; empty where it has none."""
    found = error.error
    inner = getattr(found, "innererror", None)
    code = getattr(found, "code", None)
    return str(code or ""), str(inner.get("code") or "") if isinstance(inner, dict) else ""


def _answer(error: HttpResponseError, call: Call) -> Trouble:
    code, inner = codes(error)
    if code == "SecretNotFound":
        return Trouble(missing(call.document))
    if inner in {"ForbiddenByFirewall", "ForbiddenByConnection"}:
        reason = f"the firewall of the vault {call.vault} lets no request from this machine in"
        fix = f"allow its address: az keyvault network-rule add --name {call.vault} --ip-address <address>"
        return Trouble(Failure(reason, f"{fix}, or use the vault's private network"), Reach.VAULT)
    if failure := _state(inner, call.document):
        return Trouble(failure)
    if error.status_code == 403:
        return Trouble(_forbidden(error, call))
    return _status(error, call)


def _state(inner: str, document: Document) -> Failure | None:
    """Return what an inner code says of the state a secret is in; None when it says nothing of it."""
    which = f"secret {document.name} of the vault {document.label}"
    where = f"--vault-name {document.label} --name {document.name}"
    match inner:
        case "SecretDisabled":
            fix = f"enable it: az keyvault secret set-attributes {where} --enabled true"
            return Failure(f"the {which} is disabled", fix)
        case "ObjectIsDeletedButRecoverable":
            reason = f"a deleted {which} can still be recovered, so its name is taken"
            return Failure(reason, f"run az keyvault secret recover {where}, then try again")
        case "ObjectIsBeingDeleted" | "ObjectIsBeingRecovered":
            return Failure(f"the {which} is being deleted or recovered", "try again in a minute")
    return None


def _forbidden(error: HttpResponseError, call: Call) -> Failure:
    found = _LOGIN_ID.search(str(error))
    who = f"the login {found[1]}" if found else "the login"
    what = f"{call.action} the secret {call.document.name}" if call.document.name else "list the secrets"
    role = _ROLES.get(call.action, _WRITER)
    return Failure(
        f"{who} may not {what} of the vault {call.vault}",
        f"give it the role {role!r} on the vault, or the access policy's secret permission {call.action}; "
        "a new role takes some minutes",
    )


def _status(error: HttpResponseError, call: Call) -> Trouble:
    status = error.status_code
    if status == 429:
        return Trouble(
            Failure(f"the vault {call.vault} gets too many requests", "try again later"), Reach.VAULT
        )
    if status is not None and status >= 500:
        reason = f"the vault {call.vault} is out of order: it answers with status {status}"
        return Trouble(Failure(reason, "try again later"), Reach.VAULT)
    if status == 404:
        return _garbage(call)
    return Trouble(Failure(f"the vault {call.vault} refuses the request with status {status}"))


def _connection(error: AzureError, call: Call) -> Trouble:
    chain = _chain(error)
    names = {type(each).__name__ for each in chain}
    text = " ".join(map(str, chain))
    host = call.document.vault.removeprefix("https://")
    if names & set(_NOT_RESOLVED) or any(name in text for name in _NOT_RESOLVED):
        known = host.partition(":")[0] in text
        what = (
            f"there is no vault {call.vault}: DNS knows no {host}" if known else "DNS knows no login of Azure"
        )
        fix = "check the vault's name, cloud in [secrets.azure], and the network's DNS"
    elif "ProxyError" in names:
        what, fix = f"the proxy gives no way to {host}", "check the vault's name, and HTTPS_PROXY"
    elif names & {"SSLError", "SSLCertVerificationError"}:
        what = f"the certificate of {host}, or of the login, is not trusted"
        fix = "set ca_file in [secrets.azure] where a proxy or an emulator has its own"
    else:
        what, fix = f"the vault {call.vault} at {host} does not answer", "check the network, then try again"
    return Trouble(Failure(what, fix), Reach.VAULT)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    left = [error]
    while left:
        each = left.pop()
        if each is None or each in found:
            continue
        found.append(each)
        left += [each.__cause__, each.__context__, getattr(each, "inner_exception", None)]
        left += [arg for arg in (*each.args, getattr(each, "reason", None)) if isinstance(arg, BaseException)]
    return found


def missing(document: Document, nearest: str = "", deleted: str = "") -> Failure:
    """Return that there is no such secret.

    Args:
        document: the secret.
        nearest: the nearest name there is; empty: none.
        deleted: until when a deleted one can be recovered; empty: there is no deleted one.
    """
    name, vault = document.name, label(document.vault)
    if deleted:
        reason = f"the secret {name} of the vault {vault} was deleted; it can be recovered until {deleted}"
        fix = f"run az keyvault secret recover --vault-name {vault} --name {name}"
        return Failure(reason, fix, missing=True)
    if document.version:
        return Failure(
            f"there is no version {document.version} of the secret {name} in the vault {vault}", missing=True
        )
    fix = f"did you mean {nearest}?" if nearest else "check the name, or store it with secrets.set"
    return Failure(f"the vault {vault} has no secret {name}", fix, missing=True)
