"""The endpoints, as functions from a request to an answer."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from app import migrations, validation
from app.errors import HttpError, UnavailableError
from app.metrics import Metrics
from app.routing import UNMATCHED, Request, Response, Route, Router, error_response, json_response
from app.settings import Settings

log = logging.getLogger("app.api")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Orders(Protocol):
    """What the API needs of the database."""

    def ping(self) -> None: ...
    def applied(self) -> Mapping[str, str]: ...
    def add_order(self, order: validation.NewOrder) -> dict[str, Any]: ...
    def find_order(self, number: int) -> dict[str, Any] | None: ...
    def last_orders(self, limit: int) -> list[dict[str, Any]]: ...


class Counter(Protocol):
    """What the API needs of Redis."""

    def ping(self) -> None: ...
    def increment(self) -> int: ...
    def count(self) -> int: ...
    def push(self, number: int) -> None: ...


def _answers(ping: Callable[[], None]) -> bool:
    try:
        ping()
    except UnavailableError as error:
        log.warning("%s", error)
        return False
    return True


class Application:
    """Answers requests; knows nothing of sockets."""

    def __init__(
        self,
        settings: Settings,
        orders: Orders,
        counter: Counter,
        known: tuple[migrations.Migration, ...],
        environb: Mapping[bytes, bytes],
    ) -> None:
        """Wire the endpoints to what they use."""
        self._settings = settings
        self._orders = orders
        self._counter = counter
        self._known = known
        self._environb = environb
        self.metrics = Metrics(settings.version)
        self._router = Router(
            [
                Route("GET", "/", self._index),
                Route("GET", "/health", self._health),
                Route("GET", "/health/ready", self._ready),
                Route("GET", "/health/live", self._live),
                Route("GET", "/health/secret", self._secret_health),
                Route("GET", "/version", self._version),
                Route("GET", "/metrics", self._metrics),
                Route("GET", "/orders", self._list_orders),
                Route("POST", "/orders", self._add_order),
                Route("GET", "/orders/<id>", self._show_order),
                Route("GET", "/counter", self._show_counter),
                Route("POST", "/counter", self._increment_counter),
                Route("GET", "/slow", self._slow),
                Route("GET", "/env/<name>", self._env),
            ]
        )

    def handle(self, request: Request) -> Response:
        """Answer a request, whatever happens, and count it."""
        started = time.perf_counter()
        pattern = UNMATCHED
        try:
            route, segment = self._router.find(request.method, request.path)
            pattern = route.pattern
            response = route.handler(request, segment)
        except HttpError as error:
            response = error_response(error)
        except UnavailableError as error:
            log.warning("%s %s: %s", request.method, pattern, error)
            response = error_response(HttpError(503, str(error)))
        except Exception:
            log.exception("%s %s failed", request.method, pattern)
            response = error_response(HttpError(500, "internal error"))
        seconds = time.perf_counter() - started
        self.metrics.request(request.method, pattern, response.status, seconds)
        self._log_access(request.method, pattern, response.status, seconds)
        return response

    def _log_access(self, method: str, pattern: str, status: int, seconds: float) -> None:
        # Probes come every two seconds: a good one is not news.
        quiet = status < HTTPStatus.BAD_REQUEST and (pattern.startswith("/health") or pattern == "/metrics")
        level = logging.DEBUG if quiet else logging.INFO
        log.log(level, "%s %s %d %.1f ms", method, pattern, status, seconds * 1000)

    def _index(self, _request: Request, _segment: str) -> Response:
        return json_response(200, {"greeting": self._settings.greeting, "version": self._settings.version})

    def _checked(self) -> tuple[bool, dict[str, str]]:
        database, redis = _answers(self._orders.ping), _answers(self._counter.ping)
        good = database and redis and not self._settings.fail_health
        document = {
            "status": "ok" if good else "failing",
            "database": "ok" if database else "down",
            "redis": "ok" if redis else "down",
            "version": self._settings.version,
        }
        if self._settings.fail_health:
            document["reason"] = "FAIL_HEALTH is set"
        return good, document

    def _health(self, _request: Request, _segment: str) -> Response:
        good, document = self._checked()
        return json_response(200 if good else 503, document)

    def _ready(self, _request: Request, _segment: str) -> Response:
        """Healthy, and the schema has everything this version was written for."""
        good, document = self._checked()
        missing: list[str] = []
        if document["database"] == "ok":
            try:
                missing = [
                    migration.name for migration in migrations.pending(self._known, self._orders.applied())
                ]
            except migrations.MigrationError as error:
                raise UnavailableError(str(error)) from error
        if missing:
            document["status"] = "failing"
        return json_response(
            200 if good and not missing else 503, {**document, "pending_migrations": missing}
        )

    def _live(self, _request: Request, _segment: str) -> Response:
        """The process answers; dependencies are not its business."""
        return json_response(200, {"status": "ok", "version": self._settings.version})

    def _secret_health(self, request: Request, segment: str) -> Response:
        self._demand_secret(request, "x-health-secret")
        return self._health(request, segment)

    def _version(self, _request: Request, _segment: str) -> Response:
        return json_response(200, {"version": self._settings.version})

    def _metrics(self, _request: Request, _segment: str) -> Response:
        return Response(200, self.metrics.render().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _list_orders(self, _request: Request, _segment: str) -> Response:
        return json_response(200, {"orders": self._orders.last_orders(20)})

    def _add_order(self, request: Request, _segment: str) -> Response:
        order = self._orders.add_order(validation.new_order(request.body))
        self.metrics.order()
        try:
            self._counter.push(order["id"])
        except UnavailableError as error:
            # The row is the truth and the queue only a hint: the worker looks for forgotten rows.
            log.warning("order %d is not queued: %s", order["id"], error)
        return json_response(201, order, (("Location", f"/orders/{order['id']}"),))

    def _show_order(self, _request: Request, segment: str) -> Response:
        order = self._orders.find_order(validation.order_id(segment))
        if order is None:
            raise HttpError(404, "no such order")
        return json_response(200, order)

    def _show_counter(self, _request: Request, _segment: str) -> Response:
        return json_response(200, {"counter": self._counter.count()})

    def _increment_counter(self, _request: Request, _segment: str) -> Response:
        return json_response(200, {"counter": self._counter.increment()})

    def _slow(self, request: Request, _segment: str) -> Response:
        seconds = validation.sleep_seconds(request.query)
        time.sleep(seconds)
        return json_response(200, {"slept": seconds, "version": self._settings.version})

    def _env(self, request: Request, segment: str) -> Response:
        """Return the raw bytes of one environment variable.

        This exists so that tests can prove that values (quotes, `$`, newlines, any unicode) arrive in the
        container byte for byte. It is off unless ENABLE_ENV_ENDPOINT=1, and then still asks for the secret.
        """
        if not self._settings.env_endpoint:
            raise HttpError(404, "not found")
        self._demand_secret(request, "x-app-secret")
        if not _VARIABLE.fullmatch(segment):
            raise HttpError(400, "not a name of a variable")
        value = self._environb.get(segment.encode())
        if value is None:
            raise HttpError(404, "no such variable")
        return Response(200, value, "application/octet-stream")

    def _demand_secret(self, request: Request, header: str) -> None:
        # Header values arrive decoded as Latin-1, so this gives the bytes that were sent.
        given = request.headers.get(header, "").encode("latin-1", "replace")
        if not self._settings.secret or not hmac.compare_digest(given, self._settings.secret):
            raise HttpError(403, "forbidden")
