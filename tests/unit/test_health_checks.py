import contextlib
import datetime
import ipaddress
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port
from windlass.environment.environment import Environment, Variable
from windlass.environment.model import Check, Settings
from windlass.errors import CommandFailed, ConfigurationError, HostUnreachable
from windlass.health.checks import CheckResult, Snapshot, command_script, run_checks, take_snapshot
from windlass.health.containers import ContainerState
from windlass.health.polling import Expectation, NotHealthy
from windlass.health.report import Report, ServiceState, check_all, inferred, service_states, wait_all
from windlass.health.web import BODY_LIMIT, field
from windlass.hosts.base import Completed
from windlass.hosts.local import LocalHost
from windlass.shell import Script, Sensitive

SECRET = 'tok-7f3a9c!$ "quoted" é'
HERE = LocalHost("here")


def environment(
    checks: dict[str, dict[str, Any]], hosts: tuple[str, ...] = ("here",), **variables: str
) -> Environment:
    settings = Settings.model_validate(
        {
            "app": "shop",
            "hosts": {name: {"transport": "local"} for name in hosts},
            "health": {"checks": checks},
            "deploy": {"poll_interval": 0.05, "healthy_polls": 1},
        }
    )
    values = {
        name: Variable(name, Sensitive(value) if name.isupper() else value, "envs/test.env:1")
        for name, value in variables.items()
    }
    return Environment("test", Path(), settings, values)


def run(check: dict[str, Any], **variables: str) -> CheckResult:
    (result,) = run_checks([HERE], environment({"probe": {"timeout": 60.0} | check}, **variables))
    return result


# --- servers --------------------------------------------------------------------------------------


class Server:
    """A server whose connections a function handles; `seen` holds what each one said first."""

    def __init__(
        self, handle: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
    ) -> None:
        self.seen: list[bytes] = []
        self._handle = handle
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(90)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if self._context is None:
            self._handle_one(connection)
            return
        with self._context.wrap_socket(connection, server_side=True) as wrapped:
            self._handle_one(wrapped)

    def _handle_one(self, connection: socket.socket) -> None:
        said = b""
        while b"\r\n\r\n" not in said and (chunk := connection.recv(65536)):
            said += chunk
        length = re.search(rb"content-length: (\d+)", said.lower())
        wanted = said.find(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
        while len(said) < wanted and (chunk := connection.recv(65536)):
            said += chunk
        self.seen.append(said)
        self._handle(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(120)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(
        handle: Callable[[socket.socket], None] | bytes, context: ssl.SSLContext | None = None
    ) -> Server:
        answer = (lambda connection: connection.sendall(handle)) if isinstance(handle, bytes) else handle
        servers.append(Server(answer, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer(
    body: bytes | str | dict[str, Any] | list[Any] = b"", status: str = "200 OK", headers: str = ""
) -> bytes:
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


def http(server: Server, path: str = "/health", scheme: str = "http", **options: Any) -> dict[str, Any]:
    return {"kind": "http", "url": f"{scheme}://127.0.0.1:{server.port}{path}"} | options


# --- HTTP -----------------------------------------------------------------------------------------


def test_what_is_sent(serve):
    server = serve(answer())
    result = run(
        http(
            server, "/a,b/ü?x=1&y=ä", method="POST", headers={"X-One": "1", "Host": "shop.test"}, body="größe"
        )
    )
    assert (result.ok, result.detail) == (True, "status 200")
    assert (result.name, result.host, result.service) == ("probe", "here", None)
    assert 0 < result.seconds < 60
    head, _, body = server.seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a,b/%C3%BC?x=1&y=%C3%A4 HTTP/1.1"
    assert {"X-One: 1", "Host: shop.test", "Connection: close", "User-Agent: windlass"} <= set(lines)
    assert sum(line.lower().startswith("host:") for line in lines) == 1
    assert body.decode() == "größe"


def test_a_percent_sign_and_an_empty_path_stay_as_they_are(serve):
    server = serve(answer())
    run(http(server, ""))
    run(http(server, "/a%2Fb?c=%20"))
    assert [said.split(b"\r\n")[0] for said in server.seen] == [
        b"GET / HTTP/1.1",
        b"GET /a%2Fb?c=%20 HTTP/1.1",
    ]


@pytest.mark.parametrize(
    ("status", "wanted", "ok", "detail"),
    [
        ("200 OK", [200], True, "status 200"),
        ("204 No Content", [200, 204], True, "status 204"),
        ("503 Service Unavailable", [200], False, "status 503, not 200"),
        ("503 Service Unavailable", [200, 204], False, "status 503, not 200 or 204"),
        ("301 Moved\r\nLocation: http://example.invalid/", [301], True, "status 301"),
        ("301 Moved\r\nLocation: http://example.invalid/", [200], False, "status 301, not 200"),
        ("401 Unauthorized", [401], True, "status 401"),
    ],
)
def test_status(serve, status, wanted, ok, detail):
    result = run(http(serve(answer(status=status)), status=wanted))
    assert (result.ok, result.detail) == (ok, detail)


HEALTH = {
    "status": "ok",
    "count": 3,
    "ratio": 1.0,
    "ready": True,
    "db": {"up": "yes"},
    "a": [{"b": "x"}],
    "n": None,
}


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"status": "ok", "count": 3, "ratio": 1, "ready": True, "db.up": "yes", "a.0.b": "x"}, "status 200"),
        ({"status": "up"}, 'status is "ok", not "up"'),
        ({"count": 4}, "count is 3, not 4"),
        ({"count": "3"}, 'count is 3, not "3"'),
        ({"ready": 1}, "ready is true, not 1"),
        ({"ratio": True}, "ratio is 1.0, not true"),
        ({"n": "x"}, 'n is null, not "x"'),
        ({"db": "x"}, 'db is an object, not "x"'),
        ({"a": "x"}, 'a is a list, not "x"'),
        ({"a.1.b": "x"}, "the answer has no field a.1.b"),
        ({"db.down": "x"}, "the answer has no field db.down"),
        ({"status.x": "x"}, "the answer has no field status.x"),
    ],
)
def test_json_fields(serve, fields, detail):
    result = run(http(serve(answer(HEALTH)), json_fields=fields))
    assert (result.ok, result.detail) == (detail == "status 200", detail)


def test_a_number_is_a_key_where_an_object_stands():
    assert field({"a": {"0": "x"}}, "a.0") == "x"
    assert field([["x"]], "0.0") == "x"


@pytest.mark.parametrize(
    "body", ["<html>", "", "{", "[" * 100_000, b"\xff\xfe\x00", '{"a": ' + "9" * 6000 + "}"]
)
def test_wrong_json(serve, body):
    result = run(http(serve(answer(body)), json_fields={"a": 1}))
    assert (result.ok, result.detail) == (False, "the answer is no JSON")


def test_a_huge_body_is_not_read(serve):
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(4096):
            connection.sendall(b"x" * 65536)
            sent += 65536

    server = serve(endless)
    result = run(http(server, json_fields={"a": 1}))
    assert (result.ok, result.detail) == (False, "the answer is longer than 1024 KiB")
    assert run(http(server)).ok  # whose body does not matter
    assert sent < BODY_LIMIT + 32 * 1024 * 1024


def chunked(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.sendall(b'7\r\n{"a": 1\r\n1\r\n}\r\n0\r\n\r\n')


def test_a_chunked_body(serve):
    assert run(http(serve(chunked), json_fields={"a": 1})).ok


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not HTTP"),
        (b"\x00\xff\x80garbage", "is not HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 70000 + b"\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", "is not HTTP"),
    ],
)
def test_garbage(serve, said, detail):
    result = run(http(serve(said), json_fields={"a": 1}))
    assert not result.ok
    assert detail in result.detail
    assert "garbage" not in result.detail


def dripping(after: bytes) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        connection.sendall(after)
        for _ in range(2000):
            connection.sendall(b" ")
            time.sleep(0.05)

    return handle


@pytest.mark.parametrize(
    "slow",
    [
        lambda connection: connection.recv(1),
        dripping(b"HTTP/1.1 200"),
        dripping(b"HTTP/1.1 200 OK\r\nX: "),
        dripping(b"HTTP/1.1 200 OK\r\n\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
    ],
    ids=["silent", "status", "header", "body", "sized body"],
)
def test_the_time_limit_holds_for_the_whole_answer(serve, slow):
    began = time.monotonic()
    server = serve(slow)
    result = run(http(server, timeout=0.4, json_fields={"a": 1}))
    assert time.monotonic() - began < 40
    assert (result.ok, result.detail) == (
        False,
        f"no complete answer from 127.0.0.1:{server.port} within 0.4 s",
    )


def test_a_slow_tls_handshake_is_limited(serve):
    server = serve(b"")  # speaks no TLS: it waits for a whole HTTP head first
    began = time.monotonic()
    result = run(http(server, scheme="https", timeout=0.4))
    assert time.monotonic() - began < 40
    assert "no complete answer" in result.detail


def test_nobody_listens():
    port = free_port()
    result = run({"kind": "http", "url": f"http://127.0.0.1:{port}/"})
    assert (result.ok, result.detail) == (False, f"127.0.0.1:{port} refuses the connection")


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        (
            "http://me:pw-secret@127.0.0.1/",
            "a login in the url is not sent; use secret_headers with Authorization",
        ),
        ("http://127.0.0.1:99999/", "the url of the check is not valid"),
        ("http:///health", "the url of the check names no host"),
        ("http://[::1/", "the url of the check is not valid"),
    ],
)
def test_urls_that_cannot_be_asked(url, detail):
    assert run({"kind": "http", "url": url}) == CheckResult(
        "probe", None, "here", False, detail, pytest.approx(0, abs=60)
    )


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_header_is_sent_byte_for_byte_and_shown_nowhere(serve):
    token = "tok-7f3a9c!$ \"quoted\" 'x'"
    server = serve(answer({"you_sent": token}))
    result = run(
        http(server, secret_headers={"Authorization": "TOKEN"}, json_fields={"you_sent": "x"}), TOKEN=token
    )
    assert f"Authorization: {token}\r\n".encode() in server.seen[0]
    assert not result.ok
    assert result.detail == 'you_sent is "[REDACTED]", not "x"'
    assert "7f3a9c" not in repr(result)


def test_a_variable_counts_as_secret_once_it_is_a_secret_header(serve):
    server = serve(answer({"echo": "not-marked-secret"}))
    result = run(
        http(server, secret_headers={"X-Key": "plain"}, json_fields={"echo": "x"}), plain="not-marked-secret"
    )
    assert "not-marked-secret" not in result.detail


@pytest.mark.parametrize(
    "value", ["line1-secret\nline2-secret", "line1-secret\r\nX-Evil: 1", "schlüssel→secret"]
)
def test_a_secret_that_no_header_can_hold_is_not_quoted(serve, value):
    server = serve(answer())
    result = run(http(server, secret_headers={"X-Key": "KEY"}), KEY=value)
    assert (result.ok, result.detail) == (
        False,
        "a header of the check, or its value, is not allowed in HTTP",
    )
    assert not any(b"Evil" in said for said in server.seen)


def test_a_secret_that_is_cut_by_the_length_limit_is_masked_first(serve):
    secret = "S" * 64 + "-end"
    server = serve(answer({"x": "." * 270 + secret}))
    result = run(http(server, secret_headers={"X-Key": "KEY"}, json_fields={"x": 1}), KEY=secret)
    assert "SSSS" not in result.detail
    assert len(result.detail) <= 300


def test_a_variable_that_is_not_set():
    result = run({"kind": "http", "url": "http://127.0.0.1/", "secret_headers": {"X-Key": "KEY"}})
    assert (result.ok, result.detail) == (False, "the variable KEY of a secret header is not set")


def test_no_error_of_the_library_keeps_the_secret(serve):
    from windlass.environment.model import HttpCheck
    from windlass.health.web import CheckFailed, request

    server = serve(answer())
    check = HttpCheck.model_validate(http(server, timeout=2.0))
    with pytest.raises(CheckFailed) as caught:
        request(HERE, check, {"X-Key": "bad-secret\n"})
    error: BaseException | None = caught.value
    while error is not None:
        assert "bad-secret" not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


def test_a_self_signed_certificate_is_refused(serve, certificate):
    server = serve(answer(), certificate[0])
    result = run(http(server, scheme="https", secret_headers={"X-Key": "KEY"}), KEY="never-sent")
    assert not result.ok
    assert "certificate of 127.0.0.1" in result.detail
    assert "self-signed" in result.detail or "self signed" in result.detail
    assert server.seen == []


def test_a_certificate_is_not_looked_at_when_asked_so(serve, certificate):
    server = serve(answer({"a": 1}), certificate[0])
    assert run(http(server, scheme="https", verify_tls=False, json_fields={"a": 1})).ok
    assert server.seen[0].startswith(b"GET /health HTTP/1.1\r\n")


def test_a_trusted_certificate_passes_for_its_own_name_only(serve, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    server = serve(answer(), certificate[0])
    assert run(http(server, scheme="https")).ok
    other = run({"kind": "http", "url": f"https://localhost:{server.port}/"})
    assert not other.ok
    assert "not valid" in other.detail


def test_tls_to_a_server_that_speaks_none(serve):
    server = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def plain_server(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    del server
    listener = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            plain_server(connection)

    thread = threading.Thread(target=once, daemon=True)
    thread.start()
    result = run({"kind": "http", "url": f"https://127.0.0.1:{listener.getsockname()[1]}/"})
    thread.join(60)
    listener.close()
    assert not result.ok
    assert "does not speak TLS" in result.detail


# --- TCP ------------------------------------------------------------------------------------------


def test_tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = run({"kind": "tcp", "port": port})
        assert (result.ok, result.detail) == (True, f"127.0.0.1:{port} accepts connections")
    result = run({"kind": "tcp", "port": port})
    assert (result.ok, result.detail) == (False, f"127.0.0.1:{port} refuses the connection")
    result = run({"kind": "tcp", "address": "no-such-name.invalid", "port": 1})
    assert (result.ok, result.detail) == (False, "the name in no-such-name.invalid:1 is not known")


# --- hosts that fail ------------------------------------------------------------------------------


class DownHost:
    """A host without a link."""

    def __init__(self, name: str = "down") -> None:
        self.name = name
        self.asked = 0

    def run(self, script: Script, **_: Any) -> Completed:
        self.asked += 1
        raise HostUnreachable(f"{self.name} cannot be reached: no route")

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        self.asked += 1
        raise HostUnreachable(f"{self.name} cannot be reached: no route")


ALL_KINDS: dict[str, dict[str, Any]] = {
    "web": {"kind": "http", "url": "http://127.0.0.1:1/", "service": "web"},
    "port": {"kind": "tcp", "port": 1},
    "inside": {"kind": "command", "command": ["true"], "service": "web"},
}


def test_a_host_that_is_down_is_a_failed_result():
    results = run_checks([DownHost()], environment(ALL_KINDS))  # type: ignore[list-item]
    assert [(each.name, each.ok, each.detail) for each in results] == [
        (name, False, "down cannot be reached: no route") for name in ALL_KINDS
    ]


def test_a_report_with_a_host_that_is_down_asks_it_once():
    host = DownHost()
    report = check_all([host], environment(ALL_KINDS))  # type: ignore[list-item]
    assert host.asked == 1
    assert not report.healthy
    assert report.sentence == "down cannot be reached: no route (and 3 more)"
    assert report.services == ()


def test_hosts_are_asked_in_parallel(serve):
    barrier = threading.Barrier(4)

    class Meeting(LocalHost):
        def dial(self, address: str, port: int, timeout: float) -> socket.socket:
            barrier.wait(60)
            return super().dial(address, port, timeout)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        hosts = [Meeting(f"h{number}") for number in range(4)]
        checks = {"port": {"kind": "tcp", "port": listener.getsockname()[1]}}
        results = run_checks(hosts, environment(checks))
    assert [(each.host, each.ok) for each in results] == [(f"h{number}", True) for number in range(4)]


def test_which_checks_run():
    checks = {
        "a": {"kind": "tcp", "port": 1, "service": "web", "smoke": True},
        "b": {"kind": "tcp", "port": 1, "service": "api"},
        "c": {"kind": "tcp", "port": 1},
    }
    where = environment(checks)
    assert [each.name for each in run_checks([HERE], where)] == ["a", "b", "c"]
    assert [each.name for each in run_checks([HERE], where, service="api")] == ["b"]
    assert [each.name for each in run_checks([HERE], where, smoke=True)] == ["a"]
    assert run_checks([], where) == ()
    assert run_checks([HERE], environment({})) == ()


# --- commands -------------------------------------------------------------------------------------


def check_of(**options: Any) -> Check:
    return environment(
        {"x": {"kind": "command", "service": "web", "command": ["true"]} | options}
    ).settings.health.checks["x"]


def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a stand-in docker on PATH that says what `body` says: the answers are what is tested here."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


TWO_REPLICAS = "if [ $1 = ps ]; then echo a1; echo b2; exit; fi\nshift 2; id=$1; shift\n"


@pytest.mark.parametrize(
    ("docker", "options", "detail"),
    [
        (TWO_REPLICAS + "exit 0", {}, "the command ended with code 0"),
        (TWO_REPLICAS + "echo $id; [ $id = a1 ]", {}, "the command ended with code 1: b2"),
        (TWO_REPLICAS + "echo out; echo why >&2; exit 3", {}, "the command ended with code 3: why"),
        (TWO_REPLICAS + "exit 3", {}, "the command ended with code 3"),
        (TWO_REPLICAS + "echo PONG", {"expect": "PONG"}, "the command ended with code 0"),
        (
            TWO_REPLICAS + "echo; echo answer of $id",
            {"expect": "a1"},
            "the output has no 'a1', its last line is: answer of b2",
        ),
        (TWO_REPLICAS + "sleep 100", {"timeout": 0.5}, "the command did not end within 0.5 s"),
        (TWO_REPLICAS + "exit 124", {}, "the command ended with code 124"),
        (TWO_REPLICAS + "exit 125", {}, "the command ended with code 125"),
        ("exit 0", {}, "web has no running container"),
        ("echo 'Cannot connect' >&2; exit 1", {}, "the command ended with code 1: Cannot connect"),
    ],
)
def test_command_checks(tmp_path, monkeypatch, docker, options, detail):
    fake_docker(tmp_path, monkeypatch, docker)
    began = time.monotonic()
    result = run({"kind": "command", "service": "web", "command": ["probe"]} | options)
    assert (result.ok, result.detail) == (detail.endswith("code 0"), detail)
    assert time.monotonic() - began < 60


def test_words_of_a_command_arrive_as_they_are(tmp_path, monkeypatch):
    words = ["printf", "a b", "$HOME", "'\"`", "ü\n;", "*", ""]
    log = tmp_path / "log"
    fake_docker(
        tmp_path, monkeypatch, f'[ $1 = ps ] && echo a1 && exit\nshift 3; printf "%s\\0" "$@" > {log}\ncat'
    )
    assert run({"kind": "command", "service": "web", "command": words}).ok
    assert log.read_bytes().decode().split("\0")[:-1] == words


def test_what_a_command_says_is_redacted(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch, TWO_REPLICAS + f"printf '%s\\n' 'password is {SECRET}' >&2; exit 1")
    result = run({"kind": "command", "service": "web", "command": ["x"]}, PASSWORD=SECRET)
    assert result.detail == "the command ended with code 1: password is [REDACTED]"


def test_a_command_needs_a_service():
    result = run({"kind": "command", "command": ["true"]})
    assert (result.ok, result.detail) == (False, "the check names no service to run its command in")


def test_the_script_is_valid_bash():
    script = command_script(check_of(command=["a", "it's"]), "shop")  # type: ignore[arg-type]
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-n"],
        input=script.text(),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- the report -----------------------------------------------------------------------------------

NOW = 1_800_000_000.0


def container(service: str, number: int = 1, **changes: Any) -> ContainerState:
    name = f"shop-{service}-{number}"
    return ContainerState(id=name, name=name, service=service, **({"started_at": NOW - 60} | changes))


def judged(expected: dict[str, Expectation] | None, *states: ContainerState) -> list[tuple[Any, ...]]:
    found = service_states(Snapshot("here", states, NOW), expected)
    return [(each.service, each.healthy, each.expected, each.detail) for each in found]


def test_services_by_the_release():
    expected = {"web": Expectation(2), "migrate": Expectation(one_shot=True), "worker": Expectation()}
    assert judged(
        expected,
        container("web", health="healthy"),
        container("web", 2, health="unhealthy"),
        container("migrate", status="exited"),
        container("extra", status="exited", exit_code=2),
    ) == [
        ("extra", 0, None, "shop-extra-1 exited with code 2"),
        ("migrate", 1, 1, ""),
        ("web", 1, 2, "shop-web-2 is unhealthy"),
        ("worker", 0, 1, "it has no container"),
    ]


def test_services_without_a_release():
    assert judged(
        None,
        container("web"),
        container("web", 2),
        container("migrate", status="exited"),
        container("worker", status="exited", restart_policy="always"),
        container("loop", status="restarting", exit_code=3),
    ) == [
        ("loop", 0, None, "shop-loop-1 is being restarted after exit code 3"),
        ("migrate", 1, None, ""),
        ("web", 2, None, ""),
        ("worker", 0, None, "shop-worker-1 exited with code 0"),
    ]
    assert inferred([container("web"), container("web", 2)]) == {"web": Expectation(2)}


class StackHost:
    """A host whose containers are given."""

    def __init__(self, *states: ContainerState, name: str = "here", error: Exception | None = None) -> None:
        self.name = name
        self.states = states
        self.error = error

    def run(self, script: Script, **_: Any) -> Completed:
        if self.error is not None:
            raise self.error
        lines = "".join(json.dumps(raw(state)) + "\n" for state in self.states)
        return Completed(self.name, 0, f"{lines}== {NOW:.0f}\n".encode(), b"")


def raw(state: ContainerState) -> dict[str, Any]:
    moment = datetime.datetime.fromtimestamp(state.started_at or 0, datetime.UTC)
    fields = {name: getattr(state, name) for name in ContainerState.__dataclass_fields__}
    return fields | {"started_at": moment.isoformat().replace("+00:00", "Z")}


def report(*hosts: StackHost, checks: dict[str, Any] | None = None, **options: Any) -> Report:
    return check_all(hosts, environment(checks or {}), **options)  # type: ignore[arg-type]


def test_all_well():
    found = report(StackHost(container("web", health="healthy")))
    assert found.healthy
    assert found.sentence == "Everything is healthy."
    assert found.services == (ServiceState("here", "web", 1, None),)
    data = json.loads(json.dumps(found.as_data()))
    assert data == {
        "healthy": True,
        "services": [
            {"host": "here", "service": "web", "healthy": 1, "expected": None, "detail": "", "ok": True}
        ],
        "checks": [],
    }


def test_something_is_named_in_one_sentence():
    host = StackHost(container("web", health="unhealthy"), container("api", status="dead", exit_code=1))
    found = report(host, StackHost(container("web", health="healthy"), name="other"))
    assert not found.healthy
    assert (
        found.sentence
        == "service api on here is not healthy: shop-api-1 is dead with exit code 1 (and 1 more)"
    )


def test_a_failed_check_makes_it_unhealthy():
    port = free_port()
    checks = {"port": {"kind": "tcp", "port": port, "service": "db"}}

    class Both(StackHost):
        dial = LocalHost.dial

    found = report(Both(container("web", health="healthy")), checks=checks)
    assert found.sentence == f"check port from here failed: 127.0.0.1:{port} refuses the connection"
    assert report(Both(container("web", health="healthy")), checks=checks, service="web").healthy
    only = report(Both(container("web", health="healthy")), checks=checks, service="db")
    assert (only.services, [check.name for check in only.checks]) == ((), ["port"])


def test_nothing_runs():
    assert report(StackHost()).sentence == "here: nothing of shop runs"
    found = report(StackHost(), expected=lambda host: {"web": Expectation()})
    assert found.sentence == "service web on here is not healthy: it has no container"


def test_a_docker_that_is_down_leaves_the_checks():
    class Both(StackHost):
        dial = LocalHost.dial

    with socket.create_server(("127.0.0.1", 0)) as listener:
        checks = {"port": {"kind": "tcp", "port": listener.getsockname()[1]}}
        host = Both(error=CommandFailed("here: look at the containers", 1, "Cannot connect"))
        found = report(host, checks=checks)
    assert found.sentence == "here: look at the containers failed with exit code 1: Cannot connect"
    assert [(check.name, check.ok) for check in found.checks] == [("host", False), ("port", True)]


def test_what_is_expected_may_be_unreadable():
    def broken(host: object) -> None:
        raise CommandFailed("here: look at the host", 3)

    found = report(StackHost(container("web", health="healthy")), expected=broken)
    assert found.sentence == "here: look at the host failed with exit code 3"


def test_a_service_nobody_knows():
    host = StackHost(container("web", health="healthy"))
    with pytest.raises(ConfigurationError) as caught:
        report(host, service="wev")
    assert (caught.value.message, caught.value.hint) == ("There is no service wev.", "Did you mean web?")
    with pytest.raises(ConfigurationError, match=r"Services: web\."):
        report(host, service="something")
    assert not report(host, StackHost(name="gone", error=HostUnreachable("gone")), service="wev").healthy


def test_a_snapshot_says_why_there_is_none():
    gone = take_snapshot(StackHost(error=HostUnreachable("no route")), "shop")  # type: ignore[arg-type]
    assert (gone.error, gone.unreachable, gone.states) == ("no route", True, ())
    broken = take_snapshot(StackHost(error=CommandFailed("x", 1)), "shop")  # type: ignore[arg-type]
    assert (broken.error, broken.unreachable) == ("x failed with exit code 1", False)


# --- waiting for an environment -------------------------------------------------------------------


def test_waiting_tries_the_checks_until_they_pass(monkeypatch):
    monkeypatch.setattr("windlass.health.report._RECHECK_SECONDS", 0.05)
    waited: list[tuple[str, dict[str, Expectation]]] = []
    monkeypatch.setattr(
        "windlass.health.report.wait_until_healthy",
        lambda host, project, expected, *_, **__: waited.append((host.name, dict(expected))),
    )
    tries = 0

    class Late(StackHost):
        def dial(self, address: str, port: int, timeout: float) -> socket.socket:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise ConnectionRefusedError
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours

    where = environment({"port": {"kind": "tcp", "port": 1}})
    host = Late(container("web", health="healthy"))
    assert wait_all([host], where, 120).healthy  # type: ignore[list-item]
    assert tries == 3
    assert waited == [("here", {"web": Expectation()})]


def test_waiting_ends_at_its_limit(monkeypatch):
    monkeypatch.setattr("windlass.health.report._RECHECK_SECONDS", 0.05)
    monkeypatch.setattr("windlass.health.report.wait_until_healthy", lambda *_, **__: None)
    host = StackHost(container("web", health="unhealthy"))
    with pytest.raises(NotHealthy) as caught:
        wait_all([host], environment({}), 0.3)  # type: ignore[list-item]
    assert str(caught.value) == (
        "not healthy after 0.3 s: service web on here is not healthy: shop-web-1 is unhealthy"
    )
