"""A server that speaks Azure Key Vault and the part of Entra ID that the real SDK needs to log in.

It stands in for the service because no Key Vault emulator can be had from the registries this project uses.
It serves HTTPS with a certificate made on the spot, the secrets operations of api-version 7.4 and newer with
their error shapes, and lets a test make it slow, throttled, refusing, silent or nonsensical.

- `address` is reached directly; that vault is called `local`.
- `proxy` is an HTTP proxy that answers for the real names (`shop-vault.vault.azure.net`,
  `login.microsoftonline.com` and those of the other clouds) itself, so that nothing else needs to be
  different; a name it does not know is one that no DNS knows. It also serves the token endpoints of managed
  identities, which are plain HTTP.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TENANT: Final = "11111111-2222-3333-4444-555555555555"
CLIENT: Final = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CLIENT_SECRET: Final = "the-secret-of-the-application"
IDENTITY: Final = "99999999-8888-7777-6666-555555555555"
OBJECT: Final = "0b1ec700-0000-4000-8000-000000000001"
IDENTITY_HEADER: Final = "header-of-the-app-service"
LOCAL: Final = "local"
# By cloud: the domain of its vaults and its login.
CLOUDS: Final = {
    "vault.azure.net": "login.microsoftonline.com",
    "vault.usgovcloudapi.net": "login.microsoftonline.us",
    "vault.azure.cn": "login.chinacloudapi.cn",
}
PAGE: Final = 25
MOST_BYTES: Final = 25_600
_WAIT: Final = 60.0
_VERSION: Final = re.compile(r"[0-9a-f]{32}")
_INNER: Final = {
    "ForbiddenByRbac": "Caller is not authorized to perform action on resource.\r\n"
    f"Caller: appid={CLIENT};oid={OBJECT};iss=https://sts.windows.net/{TENANT}/\r\n",
    "AccessDenied": f"The user, group or application 'appid={CLIENT};oid={OBJECT}' does not have permission.",
    "ForbiddenByFirewall": "Client address is not authorized and caller is not a trusted service.\r\n"
    "Client address: 203.0.113.7\r\n",
    "SecretDisabled": "Operation get is not allowed on a disabled secret.",
}


@dataclass
class Version:
    """One version of a secret."""

    id: str
    value: str
    created: int
    enabled: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    expires: int | None = None


@dataclass
class Secret:
    """A secret with its versions, oldest first."""

    name: str
    versions: list[Version] = field(default_factory=list)
    managed: bool = False


@dataclass
class Vault:
    """A vault; names are kept in small letters, as case means nothing."""

    secrets: dict[str, Secret] = field(default_factory=dict)
    deleted: dict[str, Secret] = field(default_factory=dict)


@dataclass
class Fault:
    """What the server does in place of its duty.

    Args:
        match: a pattern of the calls it concerns: `GET shop-vault /secrets/name`.
        status: what it answers; 0: it hangs up.
        code: the error's code.
        inner: the error's inner code; the message is the service's for it.
        message: another message.
        headers: headers of the answer.
        body: an answer in place of an error.
        hang: it never answers.
        times: how often; below 0: always.
    """

    match: str = ""
    status: int = 0
    code: str = ""
    inner: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hang: bool = False
    times: int = -1


def forbidden(inner: str, match: str = "") -> Fault:
    """Return a refusal as the service words it."""
    return Fault(match, 403, "Forbidden", inner)


def throttled(after: float, times: int = -1, match: str = " /secrets") -> Fault:
    """Return an answer of a vault that is asked too much."""
    return Fault(match, 429, "Throttled", "", "Too many requests.", {"Retry-After": str(after)}, times=times)


class KeyVault:
    """The server, while it is entered.

    Args:
        latency: seconds that each answer takes.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.vaults: dict[str, Vault] = {}
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.client_secret = CLIENT_SECRET
        self.resource = ""
        self.peak = 0
        self.tokens: dict[str, str] = {}
        self.closing = threading.Event()
        # Seconds; one passes with each version, so that their order is known.
        self.clock = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())
        self.ticks = 1
        self._changed = threading.Condition(threading.RLock())
        self._in_flight = 0
        self._together: tuple[str, int] | None = None
        self._waiting = 0
        self._servers: list[_Server] = []

    def __enter__(self) -> KeyVault:
        self.folder = Path(tempfile.mkdtemp(prefix="keyvault-"))
        self.ca_file = self.folder / "ca.pem"
        self.tls = _certificate(self.folder)
        self.vaults = {LOCAL: Vault()}
        for tls in (True, False):
            server = _Server(("127.0.0.1", 0), _handler(self, tls))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        with self._changed:
            self._changed.notify_all()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        shutil.rmtree(self.folder)

    @property
    def address(self) -> str:
        """Where the vault `local` is."""
        return f"https://127.0.0.1:{self._servers[0].server_port}"

    @property
    def proxy(self) -> str:
        """The proxy, and where the token endpoints of managed identities are."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def put(self, name: str, value: str, vault: str = LOCAL, **more: Any) -> Version:
        """Give a secret a new version, without any call."""
        with self._changed:
            kept = self.vaults.setdefault(vault, Vault()).secrets
            secret = kept.setdefault(name.lower(), Secret(name))
            self.clock += self.ticks
            secret.versions.append(Version(secrets.token_hex(16), value, self.clock, **more))
            return secret.versions[-1]

    def values(self, name: str, vault: str = LOCAL) -> list[str]:
        """Return the values of a secret's versions, oldest first."""
        return [each.value for each in self.vaults[vault].secrets[name.lower()].versions]

    def delete(self, name: str, vault: str = LOCAL) -> None:
        """Delete a secret, which can be recovered."""
        kept = self.vaults[vault]
        kept.deleted[name.lower()] = kept.secrets.pop(name.lower())

    def asked(self, pattern: str) -> list[str]:
        """Return the calls that a pattern finds."""
        with self._changed:
            return [call for call in self.calls if re.search(pattern, call)]

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Do this in place of the duty, for a while."""
        self.faults[:0] = faults
        try:
            yield
        finally:
            for fault in faults:
                self.faults.remove(fault)

    @contextmanager
    def together(self, count: int, match: str) -> Iterator[None]:
        """Answer calls that match only once so many of them wait at the same time."""
        self._together, self._waiting = (match, count), 0
        try:
            yield
        finally:
            self._together = None

    @contextmanager
    def handling(self, call: str) -> Iterator[Fault | None]:
        """Note a call, wait as long as it takes, and give what to do in place of answering."""
        with self._changed:
            self.calls.append(call)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
            self._wait_for_others(call)
            fault = next((each for each in self.faults if each.times and re.search(each.match, call)), None)
            if fault is not None:
                fault.times -= 1
        try:
            if self.latency:
                time.sleep(self.latency)
            if fault is not None and fault.hang:
                self.closing.wait(_WAIT)
        finally:
            # Before it is answered: who has an answer may be asking again already.
            with self._changed:
                self._in_flight -= 1
        yield fault

    def _wait_for_others(self, call: str) -> None:
        if self._together is None or not re.search(self._together[0], call):
            return
        count = self._together[1]
        self._waiting += 1
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._waiting >= count or self.closing.is_set(), _WAIT)

    def new_token(self, resource: str) -> str:
        """Return a token for a resource."""
        token = secrets.token_urlsafe(24)
        with self._changed:
            self.tokens[token] = resource
        return token

    @property
    def lock(self) -> threading.Condition:
        """Held while vaults change."""
        return self._changed


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what tests are about."""


class _Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = "", inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, Any] = {"code": code, "message": message or _INNER.get(inner, "")}
        if inner:
            error["innererror"] = {"code": inner}
        self.body: dict[str, Any] = {"error": error}


class _LoginRefusal(_Refusal):
    """A refusal of Entra ID, whose shape is another."""

    def __init__(self, error: str, number: int, message: str) -> None:
        super().__init__(401 if error == "invalid_client" else 400, error)
        self.body = {
            "error": error,
            "error_description": f"AADSTS{number}: {message} Trace ID: 1 Timestamp: 2026-03-01 12:00:00Z",
            "error_codes": [number],
        }


def _handler(keyvault: KeyVault, tls: bool) -> type[_Handler]:
    class Bound(_Handler):
        pass

    Bound.keyvault, Bound.tls = keyvault, tls
    return Bound


class _Handler(BaseHTTPRequestHandler):
    keyvault: KeyVault
    tls: bool
    protocol_version = "HTTP/1.1"
    # Headers and body in one write: two would wait for each other's acknowledgement, 40 ms a call.
    wbufsize = -1
    timeout = _WAIT

    def setup(self) -> None:
        self.host = ""
        if self.tls:  # here, in the request's own thread: a slow client must not keep others waiting
            self.request = self.keyvault.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:  # the client has hung up
            pass
        finally:
            # The server closes the socket it accepted, which TLS has taken the place of.
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def do_CONNECT(self) -> None:
        self.host = self.path.partition(":")[0]
        if not self._is_known(self.host):
            self._send(502, b"")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self.rfile.close()
        self.wfile.close()
        self.connection = self.keyvault.tls.wrap_socket(self.request, server_side=True)
        self.request = self.connection
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", -1)
        self.close_connection = False

    def _is_known(self, host: str) -> bool:
        name, _, domain = host.partition(".")
        return host in CLOUDS.values() or (domain in CLOUDS and name in self.keyvault.vaults)

    def _vault_name(self) -> str:
        name, _, domain = self.host.partition(".")
        return name if domain in CLOUDS else LOCAL

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815
    do_PATCH = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        is_vault = path.startswith(("/secrets", "/deletedsecrets"))
        place = self._vault_name() if is_vault else (self.host or "login")
        with self.keyvault.handling(f"{self.command} {place} {path.rstrip('/')}") as fault:
            if fault is not None:
                self._fail(fault)
                return
            try:
                if is_vault:
                    self._authorize()
                    self._json(*self._vault(path, body))
                else:
                    self._json(200, self._login(path, body))
            except _Refusal as refusal:
                self._refuse(refusal)

    def _fail(self, fault: Fault) -> None:
        if fault.hang or not fault.status:
            self.close_connection = True
            return
        if fault.body is not None:
            self._send(fault.status, fault.body, fault.headers)
        else:
            self._refuse(_Refusal(fault.status, fault.code, fault.message, fault.inner), fault.headers)

    def _refuse(self, refusal: _Refusal, headers: Mapping[str, str] | None = None) -> None:
        if refusal.status == 401 and not isinstance(refusal, _LoginRefusal):
            headers = {"WWW-Authenticate": self._challenge()}
        self._json(refusal.status, refusal.body, headers)

    def _json(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        content = b"" if status == 204 else json.dumps(data).encode()
        self._send(status, content, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    # --- login

    def _domain(self) -> str:
        domain = self.host.partition(".")[2]
        return domain if domain in CLOUDS else "vault.azure.net"

    def _resource(self) -> str:
        return self.keyvault.resource or f"https://{self._domain()}"

    def _challenge(self) -> str:
        login = f"https://{CLOUDS[self._domain()]}" if self.host else self.keyvault.address
        return f'Bearer authorization="{login}/{TENANT}", resource="{self._resource()}"'

    def _authorize(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.keyvault.tokens.get(token) != self._resource():
            raise _Refusal(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")

    def _login(self, path: str, body: bytes) -> Any:
        if path.endswith("/.well-known/openid-configuration"):
            base = f"https://{self.host}" if self.host else self.keyvault.address
            return {
                "token_endpoint": f"{base}/{TENANT}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/{TENANT}/oauth2/v2.0/authorize",
                "issuer": f"{base}/{TENANT}/v2.0",
            }
        if path.endswith("/discovery/instance"):
            return {"tenant_discovery_endpoint": "", "metadata": []}
        if path.endswith("/oauth2/v2.0/token"):
            return self._token(parse_qs(body.decode()))
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        imds = path == "/metadata/identity/oauth2/token" and self.headers.get("Metadata") == "true"
        service = path == "/msi/token" and self.headers.get("X-IDENTITY-HEADER") == IDENTITY_HEADER
        if (imds or service) and not self.tls:
            return self._identity_token(query)
        raise _Refusal(404, "NotFound", "There is nothing here.")

    def _token(self, form: Mapping[str, list[str]]) -> Any:
        if form["client_id"] != [CLIENT]:
            raise _LoginRefusal("unauthorized_client", 700016, "Application was not found in the directory.")
        if form.get("client_secret") != [self.keyvault.client_secret]:
            raise _LoginRefusal(
                "invalid_client", 7000215, f"Invalid client secret provided. {form['client_secret'][0]}"
            )
        resource = form["scope"][0].partition("/.default")[0]
        return {"token_type": "Bearer", "expires_in": 3599, "access_token": self.keyvault.new_token(resource)}

    def _identity_token(self, query: Mapping[str, str]) -> Any:
        if query.get("client_id", IDENTITY) != IDENTITY:
            raise _LoginRefusal("invalid_request", 0, "Identity not found")
        resource = query["resource"]
        token = self.keyvault.new_token(resource)
        expires = int(time.time()) + 86400
        return {
            "access_token": token,
            "expires_in": "86400",
            "expires_on": str(expires),
            "resource": resource,
            "token_type": "Bearer",
        }

    # --- the vault

    def _vault(self, path: str, body: bytes) -> tuple[int, Any]:
        _, kind, *names = path.rstrip("/").split("/")
        with self.keyvault.lock:
            vault = self.keyvault.vaults[self._vault_name()]
            if kind == "deletedsecrets":
                return 200, self._deleted(vault, names)
            return 200, self._secret(vault, names, body)

    def _secret(self, vault: Vault, names: list[str], body: bytes) -> Any:
        match self.command, names:
            case "GET", []:
                return self._page(
                    list(vault.secrets.values()), lambda each: self._item(each, each.versions[-1])
                )
            case "GET", [name, "versions"]:
                secret = self._found(vault, name)
                # The service gives no order.
                versions = sorted(secret.versions, key=lambda each: each.id)
                return self._page(versions, lambda each: self._item(secret, each, each.id))
            case "GET", [name, *version]:
                return self._bundle(*self._readable(vault, name, version))
            case "PUT", [name]:
                return self._set(vault, name, json.loads(body))
            case "DELETE", [name]:
                secret = self._found(vault, name)
                vault.deleted[name.lower()] = vault.secrets.pop(name.lower())
                return self._deleted_bundle(secret)
        raise _Refusal(405, "MethodNotAllowed")

    def _found(self, vault: Vault, name: str) -> Secret:
        try:
            return vault.secrets[name.lower()]
        except KeyError:
            message = f"A secret with (name/id) {name} was not found in this key vault."
            raise _Refusal(404, "SecretNotFound", message) from None

    def _readable(self, vault: Vault, name: str, version: list[str]) -> tuple[Secret, Version]:
        secret = self._found(vault, name)
        wanted = version[0] if version else secret.versions[-1].id
        found = next((each for each in secret.versions if each.id == wanted), None)
        if found is None:
            message = f"A secret with (name/id) {name}/{wanted} was not found in this key vault."
            raise _Refusal(404, "SecretNotFound", message)
        if not found.enabled:
            raise _Refusal(403, "Forbidden", "", "SecretDisabled")
        return secret, found

    def _set(self, vault: Vault, name: str, data: Mapping[str, Any]) -> Any:
        if re.fullmatch("[0-9a-zA-Z-]{1,127}", name) is None or len(data["value"].encode()) > MOST_BYTES:
            raise _Refusal(400, "BadParameter", "Property has an invalid value.")
        if name.lower() in vault.deleted:
            message = f"Secret {name} is currently in a deleted but recoverable state."
            raise _Refusal(409, "Conflict", message, "ObjectIsDeletedButRecoverable")
        more = {"tags": dict(data.get("tags") or {}), "content_type": data.get("contentType")}
        version = self.keyvault.put(name, data["value"], self._vault_name(), **more)
        return self._bundle(self._found(vault, name), version)

    def _deleted(self, vault: Vault, names: list[str]) -> Any:
        if not names:
            return self._page(list(vault.deleted.values()), self._deleted_bundle)
        secret = vault.deleted.get(names[0].lower())
        if secret is None:
            raise _Refusal(404, "SecretNotFound", "Deleted secret not found.")
        if self.command == "POST":
            vault.secrets[names[0].lower()] = vault.deleted.pop(names[0].lower())
            return self._item(secret, secret.versions[-1])
        return self._deleted_bundle(secret)

    def _page(self, entries: list[Any], shown: Callable[[Any], Any]) -> Any:
        query = parse_qs(urlsplit(self.path).query)
        start = int(query.get("$skiptoken", ["0"])[0])
        size = min(int(query.get("maxresults", [str(PAGE)])[0]), PAGE)
        more = start + size < len(entries)
        path, version = urlsplit(self.path).path, query["api-version"][0]
        link = f"{self._base()}{path}?api-version={version}&$skiptoken={start + size}&maxresults={size}"
        return {
            "value": [shown(each) for each in entries[start : start + size]],
            "nextLink": link if more else None,
        }

    def _base(self) -> str:
        return f"https://{self.headers['Host']}"

    def _item(self, secret: Secret, version: Version, id_: str = "") -> dict[str, Any]:
        path = f"{self._base()}/secrets/{secret.name}" + (f"/{id_}" if id_ else "")
        attributes = {"enabled": version.enabled, "created": version.created, "updated": version.created}
        if version.expires:
            attributes["exp"] = version.expires
        item: dict[str, Any] = {"id": path, "attributes": attributes, "tags": version.tags}
        if version.content_type:
            item["contentType"] = version.content_type
        return item | ({"managed": True} if secret.managed else {})

    def _bundle(self, secret: Secret, version: Version) -> dict[str, Any]:
        return {"value": version.value} | self._item(secret, version, version.id)

    def _deleted_bundle(self, secret: Secret) -> dict[str, Any]:
        times = {"deletedDate": self.keyvault.clock, "scheduledPurgeDate": self.keyvault.clock + 90 * 86400}
        recovery = {"recoveryId": f"{self._base()}/deletedsecrets/{secret.name}"}
        return self._item(secret, secret.versions[-1]) | times | recovery


def _certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for every name this server goes by; the authority is `ca.pem`."""
    now = datetime.now(UTC)
    domains = [f"*.{domain}" for domain in CLOUDS]
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in ("localhost", *domains, *CLOUDS.values())]
    names.append(x509.IPAddress(ip_address("127.0.0.1")))
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Key Vault stand-in")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])

    def signed(name: x509.Name, public: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(identifier, critical=False)
        )
        if not is_authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(authority, hashes.SHA256())

    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(
        signed(issuer, authority.public_key(), is_authority=True).public_bytes(pem)
    )
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(
        private + signed(subject, key.public_key(), is_authority=False).public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
