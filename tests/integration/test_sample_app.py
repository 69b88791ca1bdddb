"""The sample stack, built and run with Docker Compose: every endpoint, migrations, faults, graceful stop."""

import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docker" / "sample"
IMAGES = ("BASE_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")
# What shells, dotenv files and Compose are known to damage; `$$` is Compose's own spelling of `$` in a file
# only, so a value from the environment must arrive as it is.
AWKWARD = (
    'it\'s "quoted" $HOME ${NOT} $$ \\n back\\slash `id`\nsecond line\t# no comment '
    "\u00e9 \u2603 \U0001f680 = "
)
MIGRATION_LOCK = 7_305_815_001  # app.migrate.LOCK
QUEUE = "orders:new"  # app.cache.QUEUE
MIGRATE = ("python3", "-m", "app.migrate")


def images() -> dict[str, str]:
    """The images to build from and run, asked of scripts/base-images where the environment does not say."""
    if all(os.environ.get(name) for name in IMAGES):
        return {name: os.environ[name] for name in IMAGES}
    done = subprocess.run([ROOT / "scripts" / "base-images"], check=True, stdout=subprocess.PIPE, text=True)
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value for name, value in pairs if name in IMAGES}


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stack:
    """One running copy of the sample under its own project name and port."""

    def __init__(self) -> None:
        self.project = f"wlsample-{secrets.token_hex(4)}"
        self.secret = f"s3cr$t-{secrets.token_hex(8)}-\u00e9"
        self.port = free_port()
        self.environ = {
            **os.environ,
            **images(),
            "POSTGRES_PASSWORD": f"p'w\"$x\\ {secrets.token_hex(8)}",
            "APP_SECRET": self.secret,
            "APP_VERSION": "1.2.3",
            "GREETING": AWKWARD,
            "API_PORT": str(self.port),
            "ENABLE_ENV_ENDPOINT": "1",
        }

    def compose(
        self, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            check=False,
            cwd=SAMPLE,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A one-off container of the API's image, beside the running ones."""
        return self.compose("run", "--rm", "--no-deps", "-T", "api", *command, check=False, **environ)

    def sql(self, statement: str, check: bool = True) -> str:
        command = ("exec", "-T", "db", "psql", "-U", "app", "-d", "app", "-Atc", statement)
        return self.compose(*command, check=check).stdout

    def wait_sql(self, statement: str, wanted: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.sql(statement).strip() != wanted:
            assert time.monotonic() < deadline, statement
            time.sleep(0.1)

    def wait_taken(self, seconds: float = 120) -> None:
        """Wait until the worker has taken the last order."""
        deadline = time.monotonic() + seconds
        while self.compose("exec", "-T", "redis", "redis-cli", "llen", QUEUE).stdout.strip() != "0":
            assert time.monotonic() < deadline, "nobody takes the order"
            time.sleep(0.1)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def state(self, service: str) -> dict[str, Any]:
        command = ["docker", "inspect", "--format", "{{json .State}}", self.container(service)]
        state: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return state

    def wait_health(self, service: str, wanted: str, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        found = ""
        while time.monotonic() < deadline:
            found = self.state(service).get("Health", {}).get("Status", "none")
            if found == wanted:
                return
            time.sleep(0.3)
        raise AssertionError(f"{service} is {found}, not {wanted}: {self.compose('logs', service).stdout}")

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            names = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
            connection.request(method, path, body and body.encode(), names)
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def order(self, item: str, quantity: int = 1) -> int:
        answer = self.ask("POST", "/orders", json.dumps({"item": item, "quantity": quantity}))
        assert answer.status == 201, answer
        number: int = answer.json["id"]
        return number

    def wait_processed(self, number: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.get(f"/orders/{number}").json["processed_at"] is None:
            assert time.monotonic() < deadline, f"order {number} is not processed"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stack, built, migrated by two runs at once, and healthy; gone with its volumes afterwards."""
    probe = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    if probe.returncode or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
        pytest.skip("needs a running Docker Engine and Docker Compose v2")
    stack = Stack()
    try:
        stack.compose("up", "--detach", "--build", "--quiet-pull")
        for service in ("db", "redis", "api", "worker"):
            stack.wait_health(service, "healthy")
        migrate_from_nothing(stack)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--rmi", "local", "--remove-orphans", "--timeout", "5")


def migrate_from_nothing(stack: Stack) -> None:
    """What only a new database can show; the tests after it want the schema."""
    ready = stack.get("/health/ready")
    assert (ready.status, ready.json["pending_migrations"]) == (503, ["0001_orders", "0002_order_details"])
    assert stack.get("/health").status == 200
    missing = stack.get("/orders")
    assert (missing.status, missing.json) == (503, {"error": "the database is not migrated"})

    failed = stack.run(*MIGRATE, FAIL_MIGRATION="1")
    assert failed.returncode == 1
    assert "0001_orders rolled back" in failed.stderr
    status = stack.run(*MIGRATE, "--status")
    assert status.stdout.split("\n")[:2] == ["pending 0001_orders", "pending 0002_order_details"]

    runs = migrate_twice_at_once(stack)
    assert [run.returncode for run in runs] == [0, 0], runs
    output = "".join(run.stdout for run in runs)
    assert output.count("waiting for another migration run") == 2
    assert output.count("applied 0001_orders in") == output.count("applied 0002_order_details in") == 1
    assert stack.get("/health/ready").status == 200


def migrate_twice_at_once(stack: Stack) -> list[subprocess.CompletedProcess[str]]:
    """Two runs that both found the lock taken, so that they surely meet when it is given back."""
    runs: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: runs.append(stack.run(*MIGRATE))) for _ in range(2)]
    hold = f"SELECT pg_advisory_lock({MIGRATION_LOCK}); SELECT pg_sleep(300)"
    holder = threading.Thread(target=lambda: stack.sql(hold, check=False))
    holder.start()
    stack.wait_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", "1")
    for thread in threads:
        thread.start()
    stack.wait_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", "2")
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    for thread in (*threads, holder):
        thread.join()
    return runs


def test_migrations_again_do_nothing(stack: Stack) -> None:
    assert "0 applied, schema is at 0002_order_details" in stack.run(*MIGRATE).stdout
    assert stack.run(*MIGRATE, "--status").stdout.split() == [
        "applied",
        "0001_orders",
        "applied",
        "0002_order_details",
    ]
    assert stack.run(*MIGRATE, "--list").stdout.split() == ["0001_orders", "0002_order_details"]
    assert stack.run(*MIGRATE, FAIL_MIGRATION="1").returncode == 1


def test_migration_gives_up_on_a_database_that_is_not_there(stack: Stack) -> None:
    command = ("sh", "-c", "PGHOST=127.0.0.1 exec python3 -m app.migrate --wait 1")
    done = stack.run(*command)
    assert done.returncode == 1
    assert "waiting for the database" in done.stdout
    assert done.stderr.count("Traceback") == 0


def test_health_endpoints(stack: Stack) -> None:
    health = stack.get("/health")
    assert health.status == 200
    assert health.json == {"status": "ok", "database": "ok", "redis": "ok", "version": "1.2.3"}
    assert stack.get("/health/ready").status == stack.get("/health/live").status == 200
    assert stack.get("/health/secret").status == 403
    assert stack.get("/health/secret", X_Health_Secret="no").status == 403
    assert stack.get("/health/secret", X_Health_Secret=stack.secret).json == health.json


def test_version_is_baked_into_the_image(stack: Stack) -> None:
    assert stack.get("/version").json == {"version": "1.2.3"}
    assert stack.get("/").json == {"greeting": AWKWARD, "version": "1.2.3"}


def test_order_lands_in_postgresql_and_is_processed(stack: Stack) -> None:
    number = stack.order("Th\u00e9 \u2603 'x'; --", 3)
    found = stack.get(f"/orders/{number}")
    assert (found.json["item"], found.json["quantity"]) == ("Th\u00e9 \u2603 'x'; --", 3)
    assert stack.get("/orders").json["orders"][0]["id"] == number
    stack.wait_processed(number)
    sql = "SELECT item FROM orders WHERE processed_at IS NOT NULL ORDER BY id DESC LIMIT 1"
    assert stack.sql(sql) == "Th\u00e9 \u2603 'x'; --\n"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/orders", "no json", 400),
        ("POST", "/orders", '{"item": "", "quantity": 1}', 400),
        ("POST", "/orders", '{"item": "a\\u0000", "quantity": 1}', 400),
        ("GET", "/orders/x", None, 400),
        ("GET", "/orders/999999999", None, 404),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/orders", None, 405),
        ("GET", "/slow?seconds=11", None, 400),
    ],
)
def test_bad_input(stack: Stack, method: str, path: str, body: str | None, status: int) -> None:
    answer = stack.ask(method, path, body)
    assert answer.status == status
    assert set(answer.json) == {"error"}


def test_counter(stack: Stack) -> None:
    before = stack.get("/counter").json["counter"]
    assert stack.ask("POST", "/counter").json["counter"] == before + 1
    assert stack.get("/counter").json["counter"] == before + 1


def test_metrics(stack: Stack) -> None:
    stack.order("counted")
    answer = stack.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if line[:1] != "#")
    assert int(lines["app_orders_total"]) >= 1
    assert int(lines['app_http_requests_total{method="POST",route="/orders",status="201"}']) >= 1
    assert float(lines["app_http_request_seconds_sum"]) > 0


@pytest.mark.parametrize("name", ["GREETING", "PGPASSWORD", "APP_SECRET"])
def test_values_arrive_byte_for_byte(stack: Stack, name: str) -> None:
    expected = {"PGPASSWORD": "POSTGRES_PASSWORD"}.get(name, name)
    assert stack.get(f"/env/{name}").status == 403
    answer = stack.get(f"/env/{name}", X_App_Secret=stack.secret)
    assert answer.body == stack.environ[expected].encode()


def test_seed_adds_what_is_missing(stack: Stack) -> None:
    first = stack.run("python3", "-m", "app.seed", "--rows", "3000")
    assert "seeded 3000 rows" in first.stdout, first
    assert "seeded 500 rows" in stack.run("python3", "-m", "app.seed", "--rows", "3500").stdout
    assert "seeded 0 rows" in stack.run("python3", "-m", "app.seed", "--rows", "3500").stdout
    sql = "SELECT count(*), min(seed_number), max(seed_number) FROM orders WHERE seed_number IS NOT NULL"
    assert stack.sql(sql).strip() == "3500|1|3500"


def test_image_runs_as_a_fixed_user_without_build_tools(stack: Stack) -> None:
    script = "id -u; command -v cc gcc make pip pip3; ls /var/lib/apt/lists; ls app/__pycache__ | wc -l"
    output = stack.run("sh", "-c", script).stdout.split()
    assert output[0] == "10001"
    assert len(output) == 2
    assert int(output[1]) > 0


def test_only_the_api_publishes_a_port(stack: Stack) -> None:
    document = json.loads(stack.compose("config", "--format", "json").stdout)
    published = {
        name: service["ports"] for name, service in document["services"].items() if "ports" in service
    }
    assert list(published) == ["api"]
    assert [port["host_ip"] for port in published["api"]] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "APP_SECRET"])
def test_required_variables(stack: Stack, name: str) -> None:
    done = stack.compose("config", "--quiet", check=False, **{name: ""})
    assert done.returncode != 0
    assert name in done.stderr


def test_dependency_down_is_503_and_heals(stack: Stack) -> None:
    stack.compose("stop", "redis")
    try:
        health = stack.get("/health")
        assert (health.status, health.json["redis"], health.json["database"]) == (503, "down", "ok")
        assert stack.get("/counter").status == 503
        assert stack.get("/health/live").status == 200
    finally:
        stack.compose("start", "redis")
    stack.wait_health("redis", "healthy")
    stack.wait_health("api", "healthy")
    stack.compose("restart", "db")
    stack.wait_health("db", "healthy")
    # Pooled connections died with the old server; no request may notice.
    assert stack.get("/health").status == 200
    stack.wait_processed(stack.order("after the restart"))


def test_stop_finishes_the_request_in_flight(stack: Stack) -> None:
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(stack.get("/slow?seconds=6")))
    client.start()
    time.sleep(2)
    started = time.monotonic()
    stack.compose("stop", "api")
    seconds = time.monotonic() - started
    client.join()
    try:
        assert [answer.status for answer in answers] == [200]
        assert answers[0].headers["Connection"] == "close"
        assert stack.state("api")["ExitCode"] == 0
        assert seconds < 14  # the application itself waits 15 s for requests that do not end
    finally:
        stack.compose("start", "api")
    stack.wait_health("api", "healthy")


def test_worker_finishes_its_job_before_it_stops(stack: Stack) -> None:
    stack.compose("up", "--detach", "--no-deps", "worker", JOB_SECONDS="3")
    try:
        stack.wait_health("worker", "healthy")
        number = stack.order("slow job")
        stack.wait_taken()
        stack.compose("stop", "worker")
        assert stack.state("worker")["ExitCode"] == 0
        assert stack.get(f"/orders/{number}").json["processed_at"] is not None
    finally:
        stack.compose("up", "--detach", "--no-deps", "worker")
    stack.wait_health("worker", "healthy")


def test_fail_start_exits_with_1(stack: Stack) -> None:
    assert stack.run(FAIL_START="1").returncode == 1


def test_wrong_settings_exit_with_2_and_one_sentence(stack: Stack) -> None:
    done = stack.run(LOG_LEVEL="loud")
    assert done.returncode == 2
    assert "LOG_LEVEL must be one of" in done.stderr


def test_fail_health_and_ignored_sigterm(stack: Stack) -> None:
    """One replaced API shows both: it never gets healthy, and only SIGKILL ends it."""
    up = ("up", "--detach", "--no-deps", "api")
    stack.compose(*up, FAIL_HEALTH="1", IGNORE_SIGTERM="1", START_DELAY_SECONDS="1")
    try:
        stack.wait_health("api", "unhealthy")
        assert stack.get("/health").json["reason"] == "FAIL_HEALTH is set"
        assert stack.get("/health/live").status == 200
        stack.compose("stop", "--timeout", "2", "api")
        assert stack.state("api")["ExitCode"] == 137
    finally:
        stack.compose(*up)
    stack.wait_health("api", "healthy")
