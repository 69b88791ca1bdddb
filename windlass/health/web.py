"""HTTP checks: one request over a socket that reaches the host's own network, within one time limit."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from windlass.environment.model import HttpCheck
from windlass.hosts.base import Host

BODY_LIMIT: Final = 1024 * 1024
"""Longest body that is read for JSON fields, in bytes."""

_PORTS: Final = {"http": 80, "https": 443}
_SAFE_IN_TARGET: Final = "/?%:@!$&'()*+,;=~-._[]"
_ABSENT: Final = object()


class CheckFailed(Exception):
    """A check found something wrong; the text says what, and is not redacted yet."""


@dataclass(frozen=True)
class _Target:
    scheme: str
    address: str
    port: int
    path: str

    @property
    def place(self) -> str:
        return f"{self.address}:{self.port}"


class TimeLimit:
    """A limit for everything done over a socket, however slowly the other side drips.

    The time limit of a socket itself is for each read alone.

    Args:
        seconds: the limit, counted from now.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._end = time.monotonic() + seconds
        self._twin: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: none are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            self.passed = True
            raise TimeoutError
        return left

    def guard(self, sock: socket.socket) -> None:
        """End the connection of this socket when the time is over; it may be wrapped for TLS later."""
        left = self.left()
        sock.settimeout(left)
        # A second handle on the connection: TLS takes the first one away, and is not thread-safe.
        self._twin = sock.dup()
        self._timer = threading.Timer(left, self._cut, (self._twin,))
        self._timer.daemon = True
        self._timer.start()

    def _cut(self, twin: socket.socket) -> None:
        self.passed = True
        with contextlib.suppress(OSError):  # it ended by itself
            twin.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._twin is not None:
            self._twin.close()


def request(host: Host, check: HttpCheck, secret_headers: Mapping[str, str]) -> str:
    """Make the request of a check and look at the answer.

    Args:
        host: from where.
        check: what to ask and what to expect.
        secret_headers: header to secret value.

    Returns:
        What was found, when it is as expected.

    Raises:
        CheckFailed: it is not, or there was no answer.
    """
    target = _target(check.url)
    with TimeLimit(check.timeout) as limit:
        try:
            return _exchange(host, check, target, secret_headers, limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # No cause: errors of the HTTP library quote headers and answers.
            raise CheckFailed(_sentence(error, target, check.timeout, passed=limit.passed)) from None


def _exchange(
    host: Host, check: HttpCheck, target: _Target, secret_headers: Mapping[str, str], limit: TimeLimit
) -> str:
    with host.dial(target.address, target.port, limit.left()) as sock:
        limit.guard(sock)
        with _wrapped(sock, check, target) as stream:
            connection = _connection(target, stream)
            _send(connection, check, target, secret_headers)
            with connection.getresponse() as answer:
                return _judged(answer, check, limit)


def _judged(answer: http.client.HTTPResponse, check: HttpCheck, limit: TimeLimit) -> str:
    if answer.status not in check.status:
        wanted = " or ".join(map(str, check.status))
        raise CheckFailed(f"status {answer.status}, not {wanted}")
    if check.json_fields:
        body = _body(answer)
        limit.left()  # a body that ends with the connection looks whole when the time limit cut it
        _expect_fields(body, check.json_fields)
    return f"status {answer.status}"


def _target(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "").encode("idna").decode()
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise CheckFailed("the url of the check is not valid") from None
    if not address:
        raise CheckFailed("the url of the check names no host")
    if parts.username is not None:
        raise CheckFailed("a login in the url is not sent; use secret_headers with Authorization")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(parts.scheme, address, port, quote(path, safe=_SAFE_IN_TARGET))


def _wrapped(sock: socket.socket, check: HttpCheck, target: _Target) -> socket.socket:
    if target.scheme == "http":
        return sock
    context = ssl.create_default_context()
    if not check.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=target.address)


def _connection(target: _Target, stream: socket.socket) -> http.client.HTTPConnection:
    # The class for https knows its default port, which the Host header then leaves out.
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.address, target.port)
    connection.sock = stream
    connection.auto_open = 0
    return connection


def _send(
    connection: http.client.HTTPConnection,
    check: HttpCheck,
    target: _Target,
    secret_headers: Mapping[str, str],
) -> None:
    body = check.body.encode() if check.body is not None else None
    headers = {"User-Agent": "windlass", "Connection": "close"}
    given = {name.lower() for name in (*check.headers, *secret_headers)}
    headers = {name: value for name, value in headers.items() if name.lower() not in given}
    try:
        connection.request(check.method, target.path, body, {**headers, **check.headers, **secret_headers})
    except ValueError:
        raise CheckFailed("a header of the check, or its value, is not allowed in HTTP") from None


def _body(answer: http.client.HTTPResponse) -> bytes:
    body = answer.read(BODY_LIMIT + 1)
    if len(body) > BODY_LIMIT:
        raise CheckFailed(f"the answer is longer than {BODY_LIMIT // 1024} KiB")
    if answer.length:  # what Content-Length still promises; a read with a limit does not say so itself
        raise http.client.IncompleteRead(b"", answer.length)
    return body


def _expect_fields(body: bytes, fields: Mapping[str, str | int | float | bool]) -> None:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise CheckFailed("the answer is no JSON") from None
    for path, wanted in fields.items():
        found = field(data, path)
        if found is _ABSENT:
            raise CheckFailed(f"the answer has no field {path}")
        if not _same(found, wanted):
            raise CheckFailed(f"{path} is {_short(found)}, not {json.dumps(wanted, ensure_ascii=False)}")


def field(data: Any, path: str) -> Any:
    """Return what stands at `a.b.c` of parsed JSON; a number is an index where a list stands."""
    for step in path.split("."):
        if isinstance(data, dict) and step in data:
            data = data[step]
        elif isinstance(data, list) and step.isascii() and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        else:
            return _ABSENT
    return data


def _same(found: Any, wanted: str | float | bool) -> bool:
    # In Python True is 1; in JSON it is not.
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def _short(found: Any) -> str:
    if isinstance(found, dict | list):
        return "an object" if isinstance(found, dict) else "a list"
    return json.dumps(found, ensure_ascii=False)


def _sentence(error: Exception, target: _Target, timeout: float, *, passed: bool) -> str:
    if passed or isinstance(error, TimeoutError):
        return f"no complete answer from {target.place} within {timeout:g} s"
    if isinstance(error, http.client.RemoteDisconnected):
        return f"{target.place} closed the connection without an answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {target.place} is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{target.place} does not speak TLS: {error.reason or 'the handshake failed'}"
    if isinstance(error, OSError):
        return connection_sentence(error, target.place)
    return f"the answer of {target.place} is not HTTP"


def connection_sentence(error: OSError, place: str) -> str:
    """Return what a failed connection to `address:port` means."""
    if isinstance(error, TimeoutError):
        return f"{place} does not answer"
    if isinstance(error, ConnectionRefusedError):
        return f"{place} refuses the connection"
    if isinstance(error, ConnectionError):
        return f"{place} broke the connection off"
    if isinstance(error, socket.gaierror):
        return f"the name in {place} is not known"
    return f"no connection to {place}: {error.strerror or type(error).__name__}"
