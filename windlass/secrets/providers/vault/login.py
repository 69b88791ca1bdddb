"""Logs in to a Vault server, and says why it cannot be asked at all."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from windlass.secrets.providers.base import Context, Failure, ProviderError, import_sdk, setting
from windlass.secrets.settings import VaultSettings

EXTRA: Final = "vault"
# Seconds to connect, and to wait for each answer.
TIMEOUT: Final = (5.0, 20.0)
_HEADER: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Login:
    """How a server is reached and what is shown to it.

    Args:
        address: the server's address.
        verify: the file with the certificates to trust, or True for the system's.
        engine: the version of the KV engines.
        namespace: the namespace of the login; empty: the outermost.
        token: the token; it is never told.
        token_from: where it comes from, for people.
    """

    address: str
    verify: str | bool
    engine: int
    namespace: str
    token: str
    token_from: str

    def __repr__(self) -> str:
        return f"Login({self.shown})"

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def new_client(hvac: Any, login: Login, namespace: str) -> Any:
    """Return a client that follows nobody to another address: the token would go there too."""
    return hvac.Client(
        url=login.address,
        token=login.token,
        namespace=namespace or None,
        verify=login.verify,
        timeout=TIMEOUT,
        allow_redirects=False,
    )


def told_by(error: Any) -> str:
    """Return what the server says of a refusal; to judge it by, never to show it."""
    return " ".join(map(str, error.errors or [])) if isinstance(error.errors, (list, type(None))) else ""


def unreachable(requests: Any, error: Exception, login: Login) -> Failure:
    """Return why a server cannot be asked at all."""
    shown = login.shown
    if certificate := next(_certificate_errors(error), None):
        return Failure(
            f"the certificate of {shown} is not trusted: {certificate.verify_message}",
            "name the file of its authority in [secrets.vault] ca_file",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return Failure(f"{shown} speaks no TLS as it should", "check the scheme and port of its address")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return Failure(f"{shown} did not answer within {TIMEOUT[1]:g} s", "look whether it is well")
    if isinstance(error, (requests.exceptions.Timeout, requests.exceptions.ConnectionError)):
        return Failure(f"{shown} cannot be reached", "check its address, the network, and whether it runs")
    return Failure(f"{shown} cannot be asked: {type(error).__name__}", "check [secrets.vault]")


def _certificate_errors(error: BaseException | None) -> Iterator[ssl.SSLCertVerificationError]:
    """Yield what TLS said, from within the exceptions of urllib3 and requests."""
    if isinstance(error, ssl.SSLCertVerificationError):
        yield error
    elif isinstance(error, BaseException):
        inner = (*error.args, getattr(error, "reason", None))
        for each in inner:
            if isinstance(each, BaseException) and each is not error:
                yield from _certificate_errors(each)


def login_of(context: Context) -> Login:
    """Return how to reach the server, logged in.

    Raises:
        ProviderError: it cannot be reached, or refuses the login.
    """
    settings = context.settings.vault
    address = settings.address or context.process.get("VAULT_ADDR", "")
    if not address.startswith(("https://", "http://")):
        raise ProviderError(
            "The address of Vault is not known."
            if not address
            else "VAULT_ADDR does not begin with https:// or http://.",
            "Set [secrets.vault] address, or the variable VAULT_ADDR.",
        )
    namespace = (settings.namespace or context.process.get("VAULT_NAMESPACE", "")).strip("/")
    origin = _origin(settings.token, "token")
    login = Login(address.rstrip("/"), _verify(context), settings.version, namespace, "", origin)
    if settings.login == "token":
        return replace(login, token=_header(context, settings.token))
    return _approle(context, settings, login)


def _verify(context: Context) -> str | bool:
    file = context.settings.vault.ca_file or context.process.get("VAULT_CACERT", "")
    if not file:
        return True
    path = context.root / Path(file).expanduser()
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        reason = (
            error.strerror if error.strerror and not isinstance(error, ssl.SSLError) else "no certificates"
        )
        raise ProviderError(
            f"The certificates in {file} cannot be read: {reason}.", "Correct [secrets.vault] ca_file."
        ) from None
    return str(path)


def _origin(text: str, key: str) -> str:
    """Return where a setting's secret comes from: the text itself is shown only if it is a reference."""
    return text if text.startswith("${") else f"[secrets.vault] {key}"


def _header(context: Context, text: str) -> str:
    value = setting(context, text).reveal()
    if _HEADER.fullmatch(value) is None:
        raise ProviderError(f"{_origin(text, 'token')} is no token of Vault: it holds blanks or other signs.")
    return value


def _approle(context: Context, settings: VaultSettings, login: Login) -> Login:
    role, secret = setting(context, settings.role_id), setting(context, settings.secret_id)
    hvac, requests = import_sdk("hvac", EXTRA), import_sdk("requests", EXTRA)
    client = new_client(hvac, login, login.namespace)
    try:
        answer = client.auth.approle.login(
            role.reveal(), secret.reveal(), use_token=False, mount_point=settings.login_mount
        )
        token = answer["auth"]["client_token"]
    except hvac.exceptions.VaultError as error:
        raise _login_refusal(hvac, error, settings, login) from None
    except requests.RequestException as error:
        failure = unreachable(requests, error, login)
        raise ProviderError(f"{failure.reason[:1].upper()}{failure.reason[1:]}.", failure.fix) from None
    except (TypeError, KeyError, ValueError):
        raise ProviderError(f"What {login.shown} answers to a login is none of Vault.") from None
    finally:
        client.adapter.close()
    if not isinstance(token, str) or _HEADER.fullmatch(token) is None:
        raise ProviderError(f"What {login.shown} answers to a login is none of Vault.")
    return replace(login, token=token, token_from=f"the AppRole login at {settings.login_mount}")


def _login_refusal(hvac: Any, error: Any, settings: VaultSettings, login: Login) -> ProviderError:
    sdk, told = hvac.exceptions, told_by(error)
    if isinstance(error, sdk.VaultDown) and "sealed" in told:
        return ProviderError(f"{login.shown} is sealed.", "Unseal it: `vault operator unseal`.")
    if isinstance(error, sdk.InvalidPath) or "no handler for route" in told:
        return ProviderError(
            f"AppRole is not mounted at {settings.login_mount}.", "Correct [secrets.vault] login_mount."
        )
    if isinstance(error, (sdk.InvalidRequest, sdk.Forbidden, sdk.Unauthorized)):
        return ProviderError(
            f"{login.shown} refuses the AppRole login.",
            f"Check {_origin(settings.role_id, 'role_id')} and {_origin(settings.secret_id, 'secret_id')}: "
            "a secret id expires and may be used up.",
        )
    return ProviderError(f"The AppRole login at {login.shown} failed with {type(error).__name__}.")
