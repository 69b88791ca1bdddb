"""HTTP/1.1 with keep-alive, one thread per connection, and an end that loses no request."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from app.errors import HttpError
from app.routing import Request, Response

if TYPE_CHECKING:
    from app.application import Application

log = logging.getLogger("app.server")

LARGEST_BODY = 64 * 1024
# A connection in use a moment ago may bring a request right now; it gets this long before it is closed.
IDLE_GRACE_SECONDS = 0.5


class Connections:
    """The open connections, and since when each has had nothing to do (None while it answers a request)."""

    def __init__(self) -> None:
        """Start with none."""
        self._changed = threading.Condition()
        self._idle_since: dict[socket.socket, float | None] = {}

    def opened(self, connection: socket.socket) -> None:
        """Add a connection; it has not asked for anything yet."""
        self.idle(connection)

    def busy(self, connection: socket.socket) -> None:
        """Note that a request is being read or answered."""
        with self._changed:
            self._idle_since[connection] = None

    def idle(self, connection: socket.socket) -> None:
        """Note that the connection waits for its next request."""
        with self._changed:
            self._idle_since[connection] = time.monotonic()

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._changed:
            self._idle_since.pop(connection, None)
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Let busy connections finish and close idle ones; True when none is left in time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._idle_since and time.monotonic() < deadline:
                self._close_idle(time.monotonic() - IDLE_GRACE_SECONDS)
                self._changed.wait(0.1)
            return not self._idle_since

    def _close_idle(self, before: float) -> None:
        for connection, since in self._idle_since.items():
            if since is not None and since <= before:
                try:
                    # Reading only: the thread that waits for a request sees an end and closes properly.
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    continue


class Server(ThreadingHTTPServer):
    """Serves an application until told to stop."""

    daemon_threads = True
    # Our own count of connections has a deadline, which joining threads has not.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        """Bind and listen."""
        self.application = application
        self.connections = Connections()
        self.draining = False
        self._backlog = False
        super().__init__(address, RequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection before its thread starts, so that a drain cannot miss it."""
        self.connections.opened(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what broke a connection; a client that went away is no fault of ours."""
        error = sys.exc_info()[1]
        gone = isinstance(error, ConnectionError | TimeoutError)
        log.log(logging.DEBUG if gone else logging.ERROR, "connection failed", exc_info=not gone)

    def handle_timeout(self) -> None:
        """Note that no client waits any more (only asked while stopping)."""
        self._backlog = False

    def stop(self, seconds: float) -> bool:
        """Stop accepting, answer everyone who is connected; True when all got their answer in time."""
        self.draining = True
        self.shutdown()
        # Clients whose connection the kernel already accepted would otherwise be reset.
        self._backlog, self.timeout = True, 0
        while self._backlog:
            self.handle_request()
        self.server_close()
        return self.connections.drain(seconds)


class RequestHandler(BaseHTTPRequestHandler):
    """Turns bytes into requests and answers into bytes."""

    protocol_version = "HTTP/1.1"
    # For a request line without a version; the usual HTTP/0.9 would get an answer without status and headers.
    default_request_version = "HTTP/1.0"
    # Longer than a proxy keeps its idle connections, so that the proxy is the one to close them.
    timeout = 75
    # Head and body are two writes; the second must not wait for the first to be acknowledged.
    disable_nagle_algorithm = True

    @property
    def _owner(self) -> Server:
        return cast(Server, self.server)

    def parse_request(self) -> bool:
        """Note that the connection is busy as soon as a request begins."""
        self._owner.connections.busy(self.connection)
        return super().parse_request()

    def handle_one_request(self) -> None:
        """Serve one request, then wait for the next."""
        super().handle_one_request()
        self._owner.connections.idle(self.connection)

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer()

    # Known to no route, so that they get the application's own 404 or 405.
    do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer()

    def _answer(self) -> None:
        try:
            body = self._read_body()
        except HttpError as error:
            # What follows on this connection is the rest of a body we did not read.
            self.close_connection = True
            self.send_error(error.status, error.message)
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self._owner.application.handle(Request(self.command, path, query, headers, body)))

    def _read_body(self) -> bytes:
        if "transfer-encoding" in self.headers:
            raise HttpError(400, "send the body with a Content-Length")
        lengths = self.headers.get_all("content-length", ["0"])
        length = lengths[0].strip()
        if len(lengths) > 1 or not (length.isascii() and length.isdigit()):
            raise HttpError(400, "the Content-Length is not a number")
        if len(length) > len(str(LARGEST_BODY)) or int(length) > LARGEST_BODY:
            raise HttpError(413, f"the body is larger than {LARGEST_BODY} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise HttpError(400, "the body is shorter than its Content-Length")
        return body

    def _send(self, response: Response) -> None:
        if self._owner.draining:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer a request that is not HTTP, in JSON like everything else, and hang up."""
        self.close_connection = True
        text = message or HTTPStatus(code).phrase
        # A request line that is no request leaves it at None.
        self.command = self.command or ""
        self._send(Response(code, json.dumps({"error": text}).encode() + b"\n"))

    def version_string(self) -> str:
        """Name the server without the versions of its parts."""
        return "windlass-sample"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet: the application logs each request with its route and time."""
