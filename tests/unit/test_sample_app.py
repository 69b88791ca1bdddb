"""The sample application's pure parts: no network, no database."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "docker" / "sample"
sys.path.insert(0, str(SAMPLE))

from app import jobs, migrations, probe, rows, settings, validation  # noqa: E402
from app.application import Application  # noqa: E402
from app.errors import HttpError, SettingsError, UnavailableError  # noqa: E402
from app.jobs import Worker  # noqa: E402
from app.lifecycle import Stop  # noqa: E402
from app.metrics import Metrics  # noqa: E402
from app.routing import Request, Response  # noqa: E402
from app.server import Server  # noqa: E402

SECRET = 's3cr$t"é'


class Orders:
    """Orders in memory; `down` makes the database go away."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.down = False
        self.schema: dict[str, str] = {item.name: item.checksum for item in migrations.discover()}

    def ping(self) -> None:
        if self.down:
            raise UnavailableError("the database does not answer")

    def applied(self) -> Mapping[str, str]:
        return self.schema

    def add_order(self, order: validation.NewOrder) -> dict[str, Any]:
        self.ping()
        self.rows.append({"id": len(self.rows) + 1, "item": order.item, "quantity": order.quantity})
        return self.rows[-1]

    def find_order(self, number: int) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["id"] == number), None)

    def last_orders(self, limit: int) -> list[dict[str, Any]]:
        return self.rows[::-1][:limit]


class Counter:
    """Redis in memory."""

    def __init__(self) -> None:
        self.value = 0
        self.pushed: list[int] = []
        self.down = False

    def ping(self) -> None:
        if self.down:
            raise UnavailableError("redis does not answer")

    def increment(self) -> int:
        self.value += 1
        return self.value

    def count(self) -> int:
        return self.value

    def push(self, number: int) -> None:
        self.ping()
        self.pushed.append(number)


class Bench:
    """An application with its stores at hand."""

    def __init__(self, **environ: str) -> None:
        self.orders, self.counter = Orders(), Counter()
        loaded = settings.load(
            {"APP_SECRET": SECRET, "APP_VERSION": "1.2.3", "GREETING": "Grüß $dich", **environ}
        )
        self.application = Application(
            loaded, self.orders, self.counter, migrations.discover(), {b"RAW": b"\xff\n'\"$x"}
        )

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        path, _, query = target.partition("?")
        names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        return self.application.handle(Request(method, path, query, names, body))

    def get(self, target: str, **headers: str) -> tuple[int, Any]:
        response = self.ask("GET", target, b"", **headers)
        return response.status, json.loads(response.body)


def on_the_wire(secret: str) -> str:
    """A header value as the HTTP server hands it over: UTF-8 bytes read as Latin-1."""
    return secret.encode().decode("latin-1")


def test_index_and_version() -> None:
    bench = Bench()
    assert bench.get("/") == (200, {"greeting": "Grüß $dich", "version": "1.2.3"})
    assert bench.get("/version") == (200, {"version": "1.2.3"})


@pytest.mark.parametrize("path", ["/nothing", "/orders/", "/orders/1/2", "", "/health/", "//orders"])
def test_unknown_paths_are_404(path: str) -> None:
    assert Bench().get(path)[0] == 404


def test_wrong_method_is_405_and_names_the_right_ones() -> None:
    response = Bench().ask("DELETE", "/orders")
    assert response.status == 405
    assert response.headers == (("Allow", "GET, POST"),)


def test_order_is_stored_queued_counted_and_found() -> None:
    bench = Bench()
    response = bench.ask("POST", "/orders", b'{"item": "tea \\u2603", "quantity": 2}')
    assert response.status == 201
    assert response.headers == (("Location", "/orders/1"),)
    assert json.loads(response.body) == {"id": 1, "item": "tea ☃", "quantity": 2}
    assert bench.counter.pushed == [1]
    assert bench.get("/orders/1")[1]["item"] == "tea ☃"
    assert bench.get("/orders")[1] == {"orders": bench.orders.rows}
    assert "app_orders_total 1\n" in bench.application.metrics.render()


def test_order_is_kept_when_the_queue_is_away() -> None:
    bench = Bench()
    bench.counter.down = True
    assert bench.ask("POST", "/orders", b'{"item": "tea", "quantity": 1}').status == 201
    assert len(bench.orders.rows) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        b'{"item": "tea"}',
        b'{"quantity": 1}',
        b'{"item": "", "quantity": 1}',
        b'{"item": "  ", "quantity": 1}',
        b'{"item": 5, "quantity": 1}',
        b'{"item": "a\\u0000b", "quantity": 1}',
        b'{"item": "\\ud800", "quantity": 1}',
        b'{"item": "tea", "quantity": 0}',
        b'{"item": "tea", "quantity": 1.5}',
        b'{"item": "tea", "quantity": true}',
        b'{"item": "tea", "quantity": "1"}',
        b'{"item": "tea", "quantity": 99999999999}',
        b'{"item": "tea", "quantity": ' + b"9" * 5000 + b"}",
        b'{"item": "tea", "quantity": 1, "price": 3}',
        b'{"item": "' + b"x" * 201 + b'", "quantity": 1}',
    ],
)
def test_bad_orders_are_400(body: bytes) -> None:
    bench = Bench()
    response = bench.ask("POST", "/orders", body)
    assert response.status == 400
    assert set(json.loads(response.body)) == {"error"}
    assert not bench.orders.rows


@pytest.mark.parametrize(
    ("text", "status"),
    [("x", 400), ("-1", 400), ("1.0", 400), ("٣", 400), ("0", 404), ("9" * 19, 404), ("9" * 99, 404)],
)
def test_bad_order_ids(text: str, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        validation.order_id(text)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 1.0), ("seconds=0", 0.0), ("a=1&seconds=2.5", 2.5), ("seconds=10", 10)]
)
def test_sleep_seconds(query: str, seconds: float) -> None:
    assert validation.sleep_seconds(query) == seconds


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "10.1", "x", ""])
def test_bad_sleep_seconds(text: str) -> None:
    assert Bench().get(f"/slow?seconds={text}")[0] == 400


def test_counter() -> None:
    bench = Bench()
    assert bench.get("/counter") == (200, {"counter": 0})
    assert json.loads(bench.ask("POST", "/counter").body) == {"counter": 1}
    assert bench.get("/counter") == (200, {"counter": 1})


def test_health_names_what_is_down() -> None:
    bench = Bench()
    good = {"status": "ok", "database": "ok", "redis": "ok", "version": "1.2.3"}
    assert bench.get("/health") == (200, good)
    bench.counter.down = True
    assert bench.get("/health") == (503, {**good, "status": "failing", "redis": "down"})
    assert bench.get("/health/live")[0] == 200


def test_failing_database_is_503() -> None:
    bench = Bench()
    bench.orders.down = True
    assert bench.ask("POST", "/orders", b'{"item": "tea", "quantity": 1}').status == 503
    status, document = bench.get("/health/ready")
    assert (status, document["database"], document["pending_migrations"]) == (503, "down", [])


def test_ready_waits_for_migrations() -> None:
    bench = Bench()
    assert bench.get("/health/ready")[0] == 200
    del bench.orders.schema["0002_order_details"]
    status, document = bench.get("/health/ready")
    assert (status, document["pending_migrations"]) == (503, ["0002_order_details"])
    assert bench.get("/health")[0] == 200


def test_fail_health_fails_for_ever() -> None:
    bench = Bench(FAIL_HEALTH="1")
    for _ in range(3):
        assert bench.get("/health")[0] == 503
        assert bench.get("/health/ready")[0] == 503
    assert bench.get("/health/live")[0] == 200


def test_secret_health() -> None:
    bench = Bench()
    assert bench.get("/health/secret")[0] == 403
    assert bench.get("/health/secret", X_Health_Secret="wrong")[0] == 403
    assert bench.get("/health/secret", X_App_Secret=on_the_wire(SECRET))[0] == 403
    assert bench.get("/health/secret", X_Health_Secret=on_the_wire(SECRET))[0] == 200


def test_env_endpoint_returns_raw_bytes_to_who_knows_the_secret() -> None:
    bench = Bench(ENABLE_ENV_ENDPOINT="1")
    secret = on_the_wire(SECRET)
    assert bench.ask("GET", "/env/RAW").status == 403
    assert bench.ask("GET", "/env/RAW", X_App_Secret="wrong").status == 403
    response = bench.ask("GET", "/env/RAW", X_App_Secret=secret)
    assert (response.status, response.body) == (200, b"\xff\n'\"$x")
    assert response.content_type == "application/octet-stream"
    assert bench.ask("GET", "/env/MISSING", X_App_Secret=secret).status == 404
    assert bench.ask("GET", "/env/A%20B", X_App_Secret=secret).status == 400


def test_env_endpoint_is_off_by_default() -> None:
    assert Bench().ask("GET", "/env/RAW", X_App_Secret=on_the_wire(SECRET)).status == 404


def test_metrics_text() -> None:
    metrics = Metrics('1.0 "x"\\')
    metrics.request("GET", "/health", 200, 0.25)
    metrics.request("GET", "/health", 200, 0.5)
    metrics.request("POST", "/orders", 201, 0.25)
    metrics.order()
    lines = metrics.render().splitlines()
    assert 'app_info{version="1.0 \\"x\\"\\\\"} 1' in lines
    assert 'app_http_requests_total{method="GET",route="/health",status="200"} 2' in lines
    assert 'app_http_requests_total{method="POST",route="/orders",status="201"} 1' in lines
    assert "app_http_request_seconds_sum 1.000000" in lines
    assert "app_http_request_seconds_count 3" in lines
    assert "app_orders_total 1" in lines
    assert metrics.render().endswith("\n")


def test_metrics_count_patterns_not_paths() -> None:
    bench = Bench()
    for path in ("/orders/1", "/orders/2", "/a", "/b"):
        bench.ask("GET", path)
    text = bench.ask("GET", "/metrics").body.decode()
    assert 'app_http_requests_total{method="GET",route="/orders/<id>",status="404"} 2' in text
    assert 'app_http_requests_total{method="GET",route="unmatched",status="404"} 2' in text


def test_settings_tell_every_problem_and_no_value() -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load(
            {"LOG_LEVEL": "loud", "HTTP_PORT": "0", "FAIL_HEALTH": "yes", "START_DELAY_SECONDS": "nan"}
        )
    text = str(caught.value)
    for name in ("APP_SECRET", "LOG_LEVEL", "HTTP_PORT", "FAIL_HEALTH", "START_DELAY_SECONDS"):
        assert name in text
    assert "loud" not in text


def test_settings_do_not_show_the_secret() -> None:
    assert SECRET not in repr(settings.load({"APP_SECRET": SECRET}))


def write(directory: Path, **files: str) -> None:
    for name, sql in files.items():
        (directory / f"{name.removeprefix('m')}.sql").write_text(sql)


def test_migrations_are_ordered_by_number(tmp_path: Path) -> None:
    write(tmp_path, m0010_c="3", m0002_b="2", m0001_a="1")
    assert [item.name for item in migrations.discover(tmp_path)] == ["0001_a", "0002_b", "0010_c"]


@pytest.mark.parametrize("name", ["1_a", "0001-a", "0001_A", "init"])
def test_badly_named_migration_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.sql").write_text("")
    with pytest.raises(migrations.MigrationError, match="is named like"):
        migrations.discover(tmp_path)


def test_doubled_number_is_refused(tmp_path: Path) -> None:
    write(tmp_path, m0001_a="", m0001_b="")
    with pytest.raises(migrations.MigrationError, match="0001 is already taken"):
        migrations.discover(tmp_path)


def test_pending_skips_applied_and_accepts_unknown(tmp_path: Path) -> None:
    write(tmp_path, m0001_a="1", m0002_b="2")
    first, second = migrations.discover(tmp_path)
    applied = {first.name: first.checksum, "0003_from_a_newer_release": "x"}
    assert migrations.pending((first, second), applied) == (second,)


def test_changed_migration_is_refused(tmp_path: Path) -> None:
    write(tmp_path, m0001_a="1")
    with pytest.raises(migrations.MigrationError, match="changed after it was applied"):
        migrations.pending(migrations.discover(tmp_path), {"0001_a": "another checksum"})


def test_the_sample_has_migrations() -> None:
    assert [item.name for item in migrations.discover()] == ["0001_orders", "0002_order_details"]


def test_seed_rows_are_the_same_every_time_and_fit_the_table() -> None:
    text = "".join(rows.blocks(1, 5000))
    assert text == "".join(map(rows.line, range(1, 5001)))
    lines = text.splitlines()
    assert len(lines) == 5000
    assert "\\" not in text
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        assert len(fields) == len(rows.COLUMNS.split(", "))
        assert int(fields[0]) == number
        assert fields[1] and int(fields[2]) >= 1
        assert fields[5] < fields[6]
    assert len({line.split("\t")[3] for line in lines}) == 256


def test_seed_rows_go_on_where_they_stopped() -> None:
    assert "".join(rows.blocks(1, 3000)) == "".join(rows.blocks(1, 1234)) + "".join(rows.blocks(1235, 3000))
    assert not list(rows.blocks(10, 9))


def test_worker_probe(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    assert probe.worker(heartbeat, 0) == "no heartbeat yet"
    heartbeat.touch()
    beat = heartbeat.stat().st_mtime
    assert probe.worker(heartbeat, beat + 1) is None
    assert probe.worker(heartbeat, beat + 100) == "last heartbeat 100 s ago"


class Jobs:
    """The worker's database and queue in memory; it asks for a stop when the queue is empty."""

    def __init__(self, stop: Stop, queued: list[int], forgotten: list[int]) -> None:
        self.stop, self.queued, self.forgotten = stop, queued, forgotten
        self.done: list[int] = []
        self.failures = 0

    def ping(self) -> None:
        self.stop.set()

    def take(self, seconds: int) -> int | None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("redis does not answer")
        return self.queued.pop(0) if self.queued else None

    def mark_processed(self, number: int) -> bool:
        self.done.append(number)
        return True

    def overdue_orders(self, seconds: float, limit: int) -> list[int]:
        return self.forgotten


@pytest.fixture
def stop() -> Iterator[Stop]:
    stop = Stop()
    yield stop
    stop.close()


def test_worker_takes_orders_in_turn_and_beats(stop: Stop, tmp_path: Path) -> None:
    work = Jobs(stop, [3, 1, 2], [])
    Worker(work, work, stop, tmp_path / "beat").run()
    assert work.done == [3, 1, 2]
    assert (tmp_path / "beat").exists()


def test_worker_sweeps_up_orders_that_were_lost(
    stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SWEEP_SECONDS", 0.0)
    work = Jobs(stop, [1], [7, 8])
    Worker(work, work, stop, tmp_path / "beat").step()
    assert work.done == [1, 7, 8]


def test_worker_outlives_a_dependency_that_is_away(
    stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RETRY_SECONDS", 0.0)
    work = Jobs(stop, [1], [])
    work.failures = 2
    Worker(work, work, stop, tmp_path / "beat").run()
    assert work.done == [1]


def test_stop_wakes_who_waits() -> None:
    stop = Stop()
    assert stop.wait(0) is False
    threading.Timer(0.05, stop.set).start()
    assert stop.wait(60) is True
    assert stop.is_set()
    stop.close()


@pytest.fixture
def served() -> Iterator[tuple[Server, Callable[[], HTTPConnection]]]:
    """The application behind its real server on a free loopback port."""
    server = Server(("127.0.0.1", 0), Bench().application)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    opened: list[HTTPConnection] = []

    def connect() -> HTTPConnection:
        opened.append(HTTPConnection("127.0.0.1", server.server_port, timeout=60))
        return opened[-1]

    yield server, connect
    if not server.draining:
        server.stop(0)
    thread.join()
    for connection in opened:
        connection.close()


def test_server_keeps_connections_and_answers_in_json(
    served: tuple[Server, Callable[[], HTTPConnection]],
) -> None:
    connection = served[1]()
    for method, path, status in (("GET", "/version", 200), ("PUT", "/orders", 405), ("HEAD", "/health", 200)):
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        assert bool(body) == (method != "HEAD")
        assert response.getheader("Connection") is None


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"POST /orders HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /orders HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /orders HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /orders HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_server_refuses_what_is_not_http(
    served: tuple[Server, Callable[[], HTTPConnection]], raw: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", served[0].server_port), timeout=60) as connection:
        connection.sendall(raw)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert "error" in json.loads(body)


def test_stop_finishes_requests_and_closes_idle_connections(
    served: tuple[Server, Callable[[], HTTPConnection]],
) -> None:
    server, connect = served
    idle, busy = connect(), connect()
    idle.request("GET", "/version")
    idle.getresponse().read()
    busy.request("GET", "/slow?seconds=1")
    answers: list[int] = []

    def read() -> None:
        response = busy.getresponse()
        response.read()
        answers.append(response.status)

    reader = threading.Thread(target=read)
    reader.start()
    assert server.stop(60) is True
    reader.join()
    assert answers == [200]
    assert idle.sock is not None
    assert idle.sock.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.server_port), timeout=60)
