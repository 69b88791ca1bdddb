"""A server that speaks the part of HashiCorp Vault's HTTP API that the KV engine and the logins need.

It stands in for a real one because no Vault or OpenBao binary can be had from the registries this project
uses. It serves KV version 1 and 2 (data, metadata, lists, check-and-set, versions, soft delete and destroy),
tokens, AppRole and namespaces, with the error shapes of Vault 1.15, and lets a test make it sealed, slow,
throttled, silent, redirecting or nonsensical.
"""

from __future__ import annotations

import json
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN: Final = "hvs.root-of-the-stand-in"
ROLE_ID: Final = "role-of-the-shop"
SECRET_ID: Final = "secret-id-of-the-shop"
_WAIT: Final = 60.0


@dataclass
class Fault:
    """What goes wrong for the requests that match.

    Args:
        match: a pattern for `GET secret/data/shop`.
        status: the answer's status; 0: none is given until the test ends; -1: the link is cut.
        body: its body, an object of JSON or bytes as they are.
        headers: more headers.
        times: how often; -1: always.
    """

    match: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = -1


@dataclass
class Entry:
    """A version of a document; `data` is None once it is destroyed."""

    data: dict[str, Any] | None
    created: str
    deleted: str = ""


class VaultServer:
    """A running server; use it as a context manager.

    Args:
        latency: seconds every answer takes.
        tls: it serves HTTPS with a certificate of its own, `ca_file`.
    """

    def __init__(self, latency: float = 0.0, *, tls: bool = False) -> None:
        self.latency = latency
        self.tls = tls
        self.sealed = False
        # By namespace and mount, the engine's version; the documents by namespace, mount and path.
        self.mounts = {("", "secret"): 2, ("", "kv"): 1, ("team", "secret"): 2}
        self.documents: dict[tuple[str, str, str], list[Entry]] = {}
        # By token: patterns of what it may not do, such as `read secret/data/.*`.
        self.tokens: dict[str, list[str]] = {TOKEN: []}
        self.approles = {("approle", ROLE_ID): SECRET_ID}
        self.calls: list[str] = []
        self.most_at_once = 0
        self.lock = threading.RLock()
        # Called with each request before it is answered.
        self.hook = lambda call: None
        self._faults: list[Fault] = []
        self._at_once = 0
        self._ended = threading.Event()

    def __enter__(self) -> VaultServer:
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        handler = type("Handler", (_Handler,), {"vault": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._context = _certificate(self.ca_file) if self.tls else None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def put(self, path: str, data: dict[str, Any], mount: str = "secret", namespace: str = "") -> None:
        """Write a version of a document."""
        with self.lock:
            kept = self.documents.setdefault((namespace, mount, path), [])
            kept.append(Entry(dict(data), f"2026-03-01T12:00:{len(kept):02}.123456789Z"))
            if self.mounts[namespace, mount] == 1:
                del kept[:-1]

    def now(self, path: str, mount: str = "secret", namespace: str = "") -> dict[str, Any] | None:
        """Return what a document holds."""
        return self.documents[namespace, mount, path][-1].data

    def delete(self, path: str, *, destroy: bool = False) -> None:
        """Delete the newest version."""
        entry = self.documents["", "secret", path][-1]
        entry.deleted = "2026-03-02T12:00:00.5Z"
        entry.data = None if destroy else entry.data

    def asked(self, pattern: str) -> list[str]:
        """Return the requests that match."""
        return [call for call in self.calls if re.search(pattern, call)]

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Let things go wrong."""
        self._faults = list(faults)
        try:
            yield
        finally:
            self._faults = []

    def fault_for(self, call: str) -> Fault | None:
        """Return what goes wrong for a request, and count it."""
        with self.lock:
            for fault in self._faults:
                if fault.times and re.search(fault.match, call):
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count how many requests are answered at the same time."""
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self.lock:
                self._at_once -= 1

    def wait_for_the_end(self) -> None:
        """Say nothing until the test ends."""
        self._ended.wait(_WAIT)

    def secure(self, connection: Any) -> Any:
        """Return a connection within TLS where that is spoken."""
        return self._context.wrap_socket(connection, server_side=True) if self._context else connection


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # More than come at once: whom the system turns away tries again after a second, and then after more.
    request_queue_size = 128


class _Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, *errors: str, **more: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = {"errors": list(errors), **more}


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    vault: VaultServer
    protocol_version = "HTTP/1.1"
    # One write per answer: two would wait for the other side's delayed acknowledgement.
    wbufsize = -1

    def setup(self) -> None:
        with suppress(ssl.SSLError, OSError):
            self.request = self.vault.secure(self.request)
        super().setup()

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, OSError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        with suppress(ssl.SSLError, OSError, ValueError):
            super().finish()
        with suppress(OSError):
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: what is asked for is in `calls`."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.query = {key: each[-1] for key, each in parse_qs(parts.query).items()}
        self.namespace = self.headers.get("X-Vault-Namespace", "").strip("/")
        method = "LIST" if self.query.get("list") else self.command
        path = unquote(parts.path.removeprefix("/v1/"))
        version = f"?version={self.query['version']}" if "version" in self.query else ""
        call = f"{method} {path}{version}"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.vault.lock:
            self.vault.calls.append(call)
        with self.vault.counted():
            self.vault.hook(call)
            time.sleep(self.vault.latency)
            self._answer(call, method, path, json.loads(body or b"{}"))

    do_POST = do_PUT = do_LIST = do_DELETE = do_GET  # noqa: N815

    def _answer(self, call: str, method: str, path: str, body: dict[str, Any]) -> None:
        if fault := self.vault.fault_for(call):
            if fault.status == 0:
                self.vault.wait_for_the_end()
            if fault.status <= 0:
                self.close_connection = True
                self.request.shutdown(2)
                return
            self._send(fault.status, fault.body, fault.headers)
            return
        try:
            with self.vault.lock:
                status, answer = self._found(method, path, body)
        except _Refusal as refusal:
            status, answer = refusal.status, refusal.body
        self._send(status, answer, {})

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _found(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.vault.sealed:
            raise _Refusal(503, "Vault is sealed")
        if match := re.fullmatch(r"auth/(.+)/login", path):
            return 200, self._login(match[1], body)
        denied = self._denied()
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": 3600}}
        if match := re.fullmatch(r"sys/internal/ui/mounts/(.+)", path):
            return 200, {"data": {"type": "kv", "options": {"version": str(self._engine(match[1]))}}}
        capability = {"GET": "read", "LIST": "list"}.get(method, "update")
        if any(re.fullmatch(pattern, f"{capability} {path}") for pattern in denied):
            raise _Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        mount, _, rest = path.partition("/")
        if self._engine(mount) == 1:
            return self._first(method, mount, rest, body)
        return self._second(method, mount, rest, body)

    def _denied(self) -> list[str]:
        token = self.headers.get("X-Vault-Token")
        if not token:
            raise _Refusal(400, "missing client token")
        if token not in self.vault.tokens:
            raise _Refusal(403, "permission denied")
        return self.vault.tokens[token]

    def _login(self, mount: str, body: dict[str, Any]) -> Any:
        if mount not in {each for each, _ in self.vault.approles}:
            raise _Refusal(404, f'no handler for route "auth/{mount}/login". route entry not found.')
        if self.vault.approles.get((mount, body.get("role_id", ""))) != body.get("secret_id"):
            raise _Refusal(400, "invalid role or secret ID")
        token = f"hvs.by-approle-{len(self.vault.tokens)}"
        self.vault.tokens[token] = []
        return {"auth": {"client_token": token, "lease_duration": 1200}}

    def _engine(self, mount: str) -> int:
        if (self.namespace, mount) not in self.vault.mounts:
            raise _Refusal(404, f'no handler for route "{mount}/". route entry not found.')
        return self.vault.mounts[self.namespace, mount]

    def _kept(self, mount: str, path: str) -> list[Entry]:
        found = self.vault.documents.get((self.namespace, mount, path))
        if not found:
            raise _Refusal(404)
        return found

    def _names(self, mount: str, folder: str) -> Any:
        before = f"{folder.strip('/')}/".lstrip("/")
        paths = [
            path for space, where, path in self.vault.documents if (space, where) == (self.namespace, mount)
        ]
        rests = {path.removeprefix(before) for path in paths if path.startswith(before)}
        if not rests:
            raise _Refusal(404)
        return {"data": {"keys": sorted({re.sub(r"/.*", "/", rest) for rest in rests})}}

    def _first(self, method: str, mount: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if method == "LIST":
            return 200, self._names(mount, path)
        if method == "GET":
            return 200, {"data": self._kept(mount, path)[-1].data}
        self.vault.put(path, body, mount, self.namespace)
        return 204, None

    def _second(self, method: str, mount: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        kind, _, rest = path.partition("/")
        if kind == "metadata":
            return 200, self._names(mount, rest) if method == "LIST" else self._metadata(mount, rest)
        if kind != "data":
            warning = (
                "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API."
            )
            raise _Refusal(404, warnings=[warning])
        return 200, self._read(mount, rest) if method == "GET" else self._write(mount, rest, body)

    def _metadata(self, mount: str, path: str) -> Any:
        kept = self._kept(mount, path)
        versions = {str(number): self._about(number, entry) for number, entry in enumerate(kept, 1)}
        for each in versions.values():
            del each["version"]
        return {"data": {"current_version": len(kept), "versions": versions}}

    def _about(self, number: int, entry: Entry) -> dict[str, Any]:
        is_destroyed = entry.data is None
        times = {"created_time": entry.created, "deletion_time": entry.deleted}
        return {**times, "destroyed": is_destroyed, "version": number}

    def _read(self, mount: str, path: str) -> Any:
        kept = self._kept(mount, path)
        number = int(self.query.get("version", 0)) or len(kept)
        if number > len(kept):
            raise _Refusal(404)
        entry = kept[number - 1]
        metadata = self._about(number, entry)
        if entry.deleted or entry.data is None:
            answer = _Refusal(404)
            answer.body = {"data": {"data": None, "metadata": metadata}}
            raise answer
        return {"data": {"data": entry.data, "metadata": metadata}}

    def _write(self, mount: str, path: str, body: dict[str, Any]) -> Any:
        current = len(self.vault.documents.get((self.namespace, mount, path), []))
        cas = body.get("options", {}).get("cas")
        if cas is not None and cas != current:
            raise _Refusal(400, "check-and-set parameter did not match the current version")
        self.vault.put(path, body["data"], mount, self.namespace)
        return {"data": self._about(current + 1, self._kept(mount, path)[-1])}


def _certificate(ca_file: Path) -> ssl.SSLContext:
    """Make a certificate that signs itself."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Vault stand-in")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(certificate.public_bytes(pem))
    private = ca_file.with_name("key.pem")
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, private)
    return context
