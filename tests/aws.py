"""AWS as the SDK sees it: moto's server, behind a proxy that is slow or fails as it is told."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

REGION = "eu-west-1"
# moto's own account; keys of a role are of the role's account.
ACCOUNT = "123456789012"
_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "none"}
_MOTO = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until who started it ends
"""
FaultKind = Literal["error", "garbage", "hang", "cut"]


@dataclass
class Fault:
    """What goes wrong with a request.

    Args:
        action: the operation, such as `GetSecretValue`; empty: all.
        kind: an `error` of AWS, `garbage`, a `hang` until the proxy ends, or a connection that is `cut`.
        code: the error's code.
        status: its HTTP status.
        message: its message.
        body: the garbage.
        times: how often; None: always.
        after: the request reaches AWS all the same, and only its answer is lost.
    """

    action: str = ""
    kind: FaultKind = "error"
    code: str = "AccessDeniedException"
    status: int = 400
    message: str = "no"
    body: bytes = b""
    times: int | None = None
    after: bool = False


@dataclass
class AwsServer:
    """A server of AWS and how to reach it.

    Args:
        endpoint: the address of the proxy.
        direct: the address of moto itself.
        calls: how often each operation was asked for.
        latency: what the proxy adds to each request, in seconds.
        faults: what goes wrong; the first that fits.
        requests: what was asked for, the operation and the body.
        gate: what each request waits for before it is answered, to see how many come at once.
    """

    endpoint: str
    direct: str
    calls: Counter[str] = field(default_factory=Counter)
    latency: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    gate: threading.Barrier | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a process that is to use this server and nothing of the machine."""
        return {
            **_KEYS,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        }

    def sdk(self, service: str = "secretsmanager", region: str = REGION, **keys: str) -> Any:
        """Return a plain client of the SDK, past the proxy, to arrange and to look."""
        return self._client(self.direct, service, region, keys)

    def through(self) -> Any:
        """Return a plain client of the SDK that goes through the proxy."""
        return self._client(self.endpoint, "secretsmanager", REGION, {})

    def _client(self, endpoint: str, service: str, region: str, keys: dict[str, str]) -> Any:
        from boto3.session import Session  # type: ignore[import-untyped]  # has no type hints

        own = {name.lower(): value for name, value in _KEYS.items()}
        return Session(**(keys or own)).client(service, region_name=region, endpoint_url=endpoint)

    def reset(self) -> None:
        """Forget all secrets, calls and faults."""
        self.faults.clear()
        self.latency = 0.0
        self.gate = None
        connection = _connect(self.direct)
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 200
        connection.close()
        self.calls.clear()
        self.requests.clear()

    def put(self, **secrets: str) -> None:
        """Make secrets; `__` in a name is `/`."""
        client = self.sdk()
        for name, value in secrets.items():
            client.create_secret(Name=name.replace("__", "/"), SecretString=value)

    def value(self, name: str, stage: str = "AWSCURRENT") -> str:
        """Return what a secret holds."""
        return str(self.sdk().get_secret_value(SecretId=name, VersionStage=stage)["SecretString"])

    def versions(self, name: str) -> dict[str, list[str]]:
        """Return the stages of a secret's versions."""
        return dict(self.sdk().describe_secret(SecretId=name)["VersionIdsToStages"])

    def take(self, action: str) -> Fault | None:
        """Return what goes wrong with a request now."""
        with self.lock:
            for fault in self.faults:
                if fault.action in {"", action} and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None


def _connect(address: str) -> HTTPConnection:
    return HTTPConnection(str(urlsplit(address).hostname), urlsplit(address).port, timeout=60)


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one piece: in two, the second waits for the other side's late acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _ProxyServer

    def setup(self) -> None:
        super().setup()
        self._behind = _connect(self.server.aws.direct)

    def finish(self) -> None:
        self._behind.close()
        super().finish()

    def do_POST(self) -> None:
        aws = self.server.aws
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        query = re.search(rb"(?:^|&)Action=(\w+)", body)
        action = target or (query[1].decode() if query else "")
        with aws.lock:
            aws.calls[action] += 1
            aws.requests.append((action, body))
        if aws.gate is not None:
            with suppress(threading.BrokenBarrierError):
                aws.gate.wait()
        if aws.latency:
            time.sleep(aws.latency)
        fault = aws.take(action)
        if fault is None or fault.after:
            answer = self._forward(body)
        if fault is None:
            self._answer(*answer)
        else:
            self._fail(fault)

    def _forward(self, body: bytes) -> tuple[int, str, bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        self._behind.request("POST", self.path, body, headers)
        answer = self._behind.getresponse()
        return answer.status, answer.headers.get("Content-Type", "application/x-amz-json-1.1"), answer.read()

    def _fail(self, fault: Fault) -> None:
        if fault.kind == "hang":
            self.server.aws.ending.wait()
        if fault.kind in {"hang", "cut"}:
            self.close_connection = True
        elif fault.kind == "garbage":
            self._answer(fault.status if fault.status != 400 else 200, "text/html", fault.body)
        elif "X-Amz-Target" in self.headers:
            text = f'{{"__type": "{fault.code}", "Message": "{fault.message}"}}'
            self._answer(fault.status, "application/x-amz-json-1.1", text.encode())
        else:
            error = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
            text = f"<ErrorResponse>{error}</ErrorResponse>"
            self._answer(fault.status, "text/xml", text.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # a client that gave up waiting
            super().handle_one_request()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        pass


class _ProxyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    aws: AwsServer


@contextmanager
def aws_server() -> Iterator[AwsServer]:
    """Run AWS on this machine; it ends with the block, or with this process."""
    # Nothing of the tests' folder: `tests/aws.py` is no module of moto's.
    argv = [sys.executable, "-I", "-c", _MOTO]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path("/"),
    ) as moto:
        assert moto.stdin is not None and moto.stdout is not None
        try:
            port = int(moto.stdout.readline())
            proxy = _ProxyServer(("127.0.0.1", 0), _Proxy)
            proxy.aws = AwsServer(f"http://127.0.0.1:{proxy.server_port}", f"http://127.0.0.1:{port}")
            serving = threading.Thread(target=proxy.serve_forever, daemon=True)
            serving.start()
            try:
                yield proxy.aws
            finally:
                proxy.aws.ending.set()
                proxy.shutdown()
                proxy.server_close()
        finally:
            moto.stdin.close()
            moto.terminate()
