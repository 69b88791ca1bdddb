"""The health gate, the checks and the report against real containers."""

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from windlass.environment.environment import Environment, Variable
from windlass.environment.model import Settings
from windlass.events import Emit, Event, StepChanged, ignore
from windlass.health.checks import take_snapshot
from windlass.health.polling import Expectation, NotHealthy, wait_until_healthy
from windlass.health.report import check_all, wait_all
from windlass.hosts.local import LocalHost
from windlass.secrets.redaction import Redactor
from windlass.shell import Command, Sensitive

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("BASE_IMAGE", "REDIS_IMAGE")
PASSWORD = "pw-4ac9'1e$x"

COMPOSE = """
services:
  good:
    image: ${REDIS_IMAGE}
    ports: ["127.0.0.1:${PORT}:6379"]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, timeout: 5s, retries: 30}
  plain:
    image: ${BASE_IMAGE}
    command: [sleep, infinity]
    init: true
    deploy: {replicas: 2}
  once:
    image: ${BASE_IMAGE}
    command: ["true"]
  late:
    profiles: [late]
    image: ${BASE_IMAGE}
    init: true
    command: [sleep, infinity]
    healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 1s, timeout: 5s, retries: 1}
  never:
    profiles: [never]
    image: ${BASE_IMAGE}
    init: true
    environment: {PASSWORD: "${PASSWORD}"}
    command: [bash, -c, 'echo "database says: $$PASSWORD is wrong"; exec sleep infinity']
    healthcheck:
      test: [CMD-SHELL, 'echo "probe with $$PASSWORD"; exit 1']
      interval: 1s
      timeout: 5s
      retries: 1
  loop:
    profiles: [loop]
    image: ${BASE_IMAGE}
    restart: always
    command: [bash, -c, "echo cannot start: no database; exit 3"]
  brief:
    profiles: [brief]
    image: ${BASE_IMAGE}
    command: [bash, -c, "echo nothing to do"]
"""

BASE = {"good": Expectation(), "plain": Expectation(2), "once": Expectation(one_shot=True)}


def images() -> dict[str, str]:
    """The images to run, asked of scripts/base-images where the environment does not say."""
    if all(os.environ.get(name) for name in IMAGES):
        return {name: os.environ[name] for name in IMAGES}
    done = subprocess.run([ROOT / "scripts" / "base-images"], check=True, stdout=subprocess.PIPE, text=True)
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value for name, value in pairs if name in IMAGES}


@dataclass(frozen=True)
class Project:
    name: str
    folder: Path
    port: int
    environ: dict[str, str]
    host: LocalHost

    def compose(self, *words: str) -> None:
        subprocess.run(
            ["docker", "compose", "-p", self.name, *words],
            cwd=self.folder,
            env=os.environ | self.environ,
            check=True,
            capture_output=True,
            timeout=180,
        )

    def wait(
        self,
        expected: dict[str, Expectation],
        timeout: float = 120.0,
        hear: Emit = ignore,
        interval: float = 0.5,
    ) -> list[StepChanged]:
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            hear(event)

        wait_until_healthy(self.host, self.name, expected, timeout, interval=interval, polls=3, emit=emit)
        return [event for event in events if isinstance(event, StepChanged)]

    def environment(self, **checks: dict[str, Any]) -> Environment:
        settings = Settings.model_validate(
            {
                "app": self.name,
                "hosts": {"here": {"transport": "local"}},
                "deploy": {"poll_interval": 0.5},
                "health": {"checks": checks},
            }
        )
        secret = {"PASSWORD": Variable("PASSWORD", Sensitive(PASSWORD), "envs/test.env:1")}
        return Environment("test", self.folder, settings, secret)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("health")
    (folder / "compose.yaml").write_text(COMPOSE)
    port = free_port()
    environ = images() | {"PORT": str(port), "PASSWORD": PASSWORD}
    host = LocalHost("here", Redactor([PASSWORD]).redact)
    made = Project(f"wlhealth-{secrets.token_hex(4)}", folder, port, environ, host)
    try:
        made.compose("up", "-d", "--quiet-pull")
        yield made
    finally:
        made.compose("--profile", "*", "down", "--volumes", "--timeout", "0")


@pytest.fixture
def started(project: Project) -> Iterator[Callable[[str], Project]]:
    """Start a service of a profile for one test."""
    services: list[str] = []

    def start(service: str) -> Project:
        services.append(service)
        project.compose("--profile", service, "up", "-d", "--no-deps", service)
        return project

    yield start
    for service in services:
        project.compose("--profile", service, "rm", "--stop", "--force", service)


def test_healthy_services_replicas_and_a_one_shot(project):
    events = project.wait(BASE)
    assert {event.step: event.state for event in events} == {f"service {service}": "done" for service in BASE}
    (once,) = (each for each in take_snapshot(project.host, project.name).states if each.service == "once")
    assert (once.status, once.exit_code, once.health, once.restart_policy) == ("exited", 0, "", "no")
    assert once.started_at is not None
    assert abs(once.started_at - time.time()) < 600


def test_a_service_that_is_unhealthy_at_first_is_waited_for(started):
    # One failed probe makes it unhealthy, where `docker compose up --wait` gives up.
    project = started("late")

    def mend(event: Event) -> None:
        if isinstance(event, StepChanged) and event.detail.endswith(" is unhealthy"):
            project.compose("--profile", "late", "exec", "-T", "late", "touch", "/tmp/ready")

    events = project.wait({"late": Expectation()}, hear=mend)
    details = [event.detail.split(" is ")[-1] for event in events]
    assert "unhealthy" in details
    assert details[-1] == "healthy"


def test_a_service_that_never_gets_healthy_fails_at_the_limit_with_its_redacted_last_words(started):
    began = time.monotonic()
    project = started("never")
    with pytest.raises(NotHealthy) as caught:
        project.wait(BASE | {"never": Expectation()}, timeout=8)
    assert 8 <= time.monotonic() - began < 90
    first, *rest = str(caught.value).split("\n")
    assert first == (f"here: service never is not healthy after 8 s: {project.name}-never-1 is unhealthy")
    assert rest == [
        "    | health check: probe with [REDACTED]",
        "    | database says: [REDACTED] is wrong",
    ]


def test_a_crash_loop_fails_at_once(started):
    project = started("loop")
    began = time.monotonic()
    with pytest.raises(NotHealthy) as caught:
        # Often, since the exit code is there only between two runs.
        project.wait({"loop": Expectation()}, timeout=120, interval=0.1)
    assert time.monotonic() - began < 110
    assert f"{project.name}-loop-1 was restarted" in caught.value.message
    assert "its last exit code is 3" in caught.value.message
    assert "    | cannot start: no database" in caught.value.message


def test_a_service_that_ends_with_0_failed_unless_it_is_a_one_shot(started):
    project = started("brief")
    with pytest.raises(NotHealthy) as caught:
        project.wait({"brief": Expectation()}, timeout=120)
    assert caught.value.message == (
        f"here: service brief failed: {project.name}-brief-1 exited with code 0\n    | nothing to do"
    )
    project.wait({"brief": Expectation(one_shot=True)})


def test_a_missing_replica_and_a_missing_service(project):
    with pytest.raises(
        NotHealthy, match=r"service plain is not healthy after 6 s.*: it has 2 of 3 containers"
    ):
        project.wait({"plain": Expectation(3)}, timeout=6)
    with pytest.raises(NotHealthy, match="service other is not healthy after 6 s: it has no container"):
        project.wait({"other": Expectation()}, timeout=6)


def test_containers_of_compose_run_are_no_replicas(project):
    name = f"{project.name}-oneoff"
    project.compose("run", "-d", "--name", name, "plain", "false")
    try:
        project.wait({"plain": Expectation(2)})
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def test_the_loop_on_the_host_ends_with_the_wait(project):
    project.wait(BASE)
    script = Command.of("pgrep", "-f", f"label=com.docker.compose.project={project.name} ")
    # What was killed may be there for a moment more; by itself the loop would go on for minutes.
    end = time.monotonic() + 60
    while subprocess.run(script.words, capture_output=True, check=False, timeout=60).stdout:
        assert time.monotonic() < end, "the loop goes on"
        time.sleep(0.1)


CHECKS: dict[str, dict[str, Any]] = {
    "ping": {
        "kind": "command",
        "service": "good",
        "command": ["redis-cli", "ping"],
        "expect": "PONG",
        "timeout": 60,
    },
    "words": {
        "kind": "command",
        "service": "plain",
        "command": ["printf", "%s", "a  b'\"$HOME`*"],
        "expect": "a  b'\"$HOME`*",
        "timeout": 60,
    },
}


def test_a_report_of_a_healthy_stack(project):
    checks = CHECKS | {"port": {"kind": "tcp", "port": project.port, "service": "good", "timeout": 60}}
    project.wait(BASE)
    report = check_all([project.host], project.environment(**checks), expected=lambda _: BASE)
    assert report.healthy, report.sentence
    assert [(each.service, each.healthy, each.expected) for each in report.services] == [
        ("good", 1, 1),
        ("once", 1, 1),
        ("plain", 2, 2),
    ]
    assert wait_all([project.host], project.environment(**checks), 60, "good").healthy


def test_a_report_of_an_unhealthy_stack(started):
    project = started("never")
    checks: dict[str, dict[str, Any]] = {
        "wrong": {
            "kind": "command",
            "service": "good",
            "command": ["redis-cli", "ping"],
            "expect": "PANG",
            "timeout": 60,
        },
        "leak": {
            "kind": "command",
            "service": "never",
            "command": ["bash", "-c", 'echo "$PASSWORD"; exit 4'],
            "timeout": 60,
        },
        "slow": {"kind": "command", "service": "good", "command": ["sleep", "60"], "timeout": 1},
        "done": {"kind": "command", "service": "once", "command": ["true"], "timeout": 60},
    }
    report = check_all([project.host], project.environment(**checks))
    assert {check.name: check.detail for check in report.checks if not check.ok} == {
        "wrong": "the output has no 'PANG', its last line is: PONG",
        "leak": "the command ended with code 4: [REDACTED]",
        "slow": "the command did not end within 1 s",
        "done": "once has no running container",
    }
    assert any(fault.startswith("service never on here is not healthy: ") for fault in report.faults)
    assert PASSWORD not in repr(report)
