"""The login to Azure and the connections to its vaults, with waiting bounded everywhere.

Only `azure.connect` may lead here: this module imports the SDK.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import certifi
import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import (
    ClientSecretCredential,
    DefaultAzureCredential,
    ManagedIdentityCredential,
)
from azure.keyvault.secrets import SecretClient
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from windlass.secrets.providers.azure.names import AUTHORITIES, vault_address
from windlass.secrets.providers.base import PARALLEL, Context, ProviderError, setting
from windlass.secrets.settings import AzureSettings

_RETRIES: Final = 5


@dataclass(frozen=True)
class Limits:
    """How long anything may take.

    Args:
        connect: seconds until a connection stands.
        read: seconds until the next bytes of an answer come.
        total: seconds for one secret with all its retries.
        wait: most seconds a server's `Retry-After` is waited for.
        backoff: seconds before the second retry of a server that names none; each next one waits twice that.
    """

    connect: float = 5.0
    read: float = 15.0
    total: float = 60.0
    wait: float = 30.0
    backoff: float = 0.5


class Overlong(Exception):
    """A server asks for a longer wait than is allowed.

    Args:
        seconds: how long it asks for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait {seconds:.0f} s")
        self.seconds = seconds


class Session:
    """One login, and a connection to each vault that is asked.

    Args:
        context: the environment's settings; relative paths start at its root.
        limits: how long anything may take.

    Raises:
        ProviderError: a setting is missing or wrong, or the client's secret cannot be had.
    """

    def __init__(self, context: Context, limits: Limits | None = None) -> None:
        self.settings = context.settings.azure
        self._limits = limits or Limits()
        _silence()
        if self.settings.vault:
            vault_address(self.settings.vault, self.settings)
        self._http = _http_session(_trusted(context))
        try:
            self._credential = _credential(context, self._pipeline())
        except BaseException:
            self._http.close()
            raise
        self._vaults: dict[str, SecretClient] = {}
        self._opening = threading.Lock()

    def vault(self, address: str) -> SecretClient:
        """Return the connection to a vault."""
        with self._opening:
            if address not in self._vaults:
                self._vaults[address] = SecretClient(
                    address,
                    self._credential,
                    verify_challenge_resource=self.settings.verify_challenge,
                    **self._pipeline(),
                )
            return self._vaults[address]

    def close(self) -> None:
        """Give all connections back."""
        for vault in self._vaults.values():
            vault.close()
        self._credential.close()
        self._http.close()

    def _pipeline(self) -> dict[str, Any]:
        limits = self._limits
        return {
            "transport": _Transport(self._http, limits),
            "retry_total": _RETRIES,
            "retry_status": _RETRIES,
            "retry_connect": 1,
            "retry_read": 1,
            "retry_backoff_factor": limits.backoff,
            "retry_backoff_max": limits.wait,
            "timeout": limits.total,
        }


class _Transport(RequestsTransport):  # type: ignore[misc]
    """Sends requests over one session that all pipelines share, and does not sleep for ever."""

    def __init__(self, session: requests.Session, limits: Limits) -> None:
        super().__init__(
            session=session,
            session_owner=False,
            connection_timeout=limits.connect,
            read_timeout=limits.read,
        )
        self._wait = limits.wait

    def sleep(self, duration: float) -> None:
        """Wait as a server asks to.

        Raises:
            Overlong: it asks for more than is allowed.
        """
        if duration > self._wait:
            raise Overlong(duration)
        super().sleep(duration)


class _Adapter(HTTPAdapter):
    """Keeps a connection for each request that runs at the same time, and trusts more certificates."""

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        # Retrying is the SDK's.
        super().__init__(
            pool_maxsize=PARALLEL, max_retries=Retry(total=False, redirect=False, raise_on_status=False)
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._trusted)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._trusted)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        # Which certificates are trusted the context knows; another path would be read for each connection.
        return super().send(request, *args, **{**kwargs, "verify": True})

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        del url, verify, cert
        conn.cert_reqs = ssl.CERT_REQUIRED


def _http_session(trusted: ssl.SSLContext) -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):  # managed identities are asked over plain HTTP
        session.mount(scheme, _Adapter(trusted))
    return session


def _trusted(context: Context) -> ssl.SSLContext:
    """Trust the certificates of the system, of the SDK's own bundle or its variables, and of the settings."""
    trusted = ssl.create_default_context()
    named = (context.process.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    _trust(trusted, context.root, next(filter(None, named), certifi.where()), "")
    if ca_file := context.settings.azure.ca_file:
        _trust(trusted, context.root, ca_file, "[secrets.azure] ca_file, ")
    return trusted


def _trust(trusted: ssl.SSLContext, root: Path, path: str, what: str) -> None:
    try:
        file = root / Path(path).expanduser()
        trusted.load_verify_locations(None if file.is_dir() else file, file if file.is_dir() else None)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "not readable"
        raise ProviderError(f"The certificates of {what}{path}, cannot be read: {reason}.") from None


def _credential(context: Context, pipeline: dict[str, Any]) -> Any:
    settings = context.settings.azure
    if settings.login == "managed-identity":
        return ManagedIdentityCredential(client_id=settings.client_id, **pipeline)
    options = {**pipeline, **_authority(settings)}
    if settings.login == "client-secret":
        return _client_secret(context, options)
    if settings.client_id:
        options["managed_identity_client_id"] = settings.client_id
    return DefaultAzureCredential(**options)


def _client_secret(context: Context, options: dict[str, Any]) -> Any:
    settings = context.settings.azure
    if not settings.tenant_id or not settings.client_id:
        missing = [name for name in ("tenant_id", "client_id") if not getattr(settings, name)]
        raise ProviderError(f"The login client-secret needs {' and '.join(missing)} in [secrets.azure].")
    secret = setting(context, settings.client_secret)
    try:
        return ClientSecretCredential(settings.tenant_id, settings.client_id, secret.reveal(), **options)
    except ValueError:
        raise ProviderError("[secrets.azure] tenant_id or the client's secret is not valid.") from None


def _authority(settings: AzureSettings) -> dict[str, Any]:
    """Return where to log in; the public cloud's is the SDK's own, or that of `AZURE_AUTHORITY_HOST`."""
    where: dict[str, Any] = {} if settings.cloud == "public" else {"authority": AUTHORITIES[settings.cloud]}
    if not settings.verify_challenge:
        where["disable_instance_discovery"] = True  # no public list knows the login of an emulator
    return where


def _silence() -> None:
    """Keep the SDK's logs from stderr, where Python puts warnings that nobody handles.

    They quote whole answers of the login, and what is wrong is said anyway. Handlers that an application
    sets still get them.
    """
    for name in ("azure", "msal"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())
