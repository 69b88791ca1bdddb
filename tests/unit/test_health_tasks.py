"""What `health.*` prints and how it ends, on hosts whose containers are given."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from invoke import Context
from invoke.exceptions import Exit

from tasks import _terminal, health
from tests.unit.test_health_checks import StackHost, container, environment
from windlass.environment.environment import Environment
from windlass.secrets.redaction import Redactor

CORE_FLAGS = {
    "dry",
    "echo",
    "hide",
    "list",
    "help",
    "config",
    "debug",
    "pty",
    "warn_only",
    "timeout",
    "version",
}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StackHost]]:
    """The hosts the tasks meet; nothing says which release they run."""
    hosts: list[StackHost] = []

    @contextmanager
    def connected(environment: Environment, redactor: Redactor) -> Iterator[list[StackHost]]:
        yield hosts

    def opened(name: str | None) -> Environment:
        assert name in {None, "test"}
        return environment({})

    monkeypatch.setattr(_terminal, "connected", connected)
    monkeypatch.setattr(_terminal, "project_redactor", lambda *_: Redactor(()))
    monkeypatch.setattr(_terminal, "open_environment", opened)
    monkeypatch.setattr(health, "_released", lambda _: lambda host: None)
    return hosts


def run(task: Any, **options: Any) -> int:
    try:
        task(Context(), **options)
    except Exit as stop:
        return int(stop.code)
    return 0


def test_a_healthy_stack(stack, capsys):
    stack.append(StackHost(container("web", health="healthy")))
    assert run(health.check, env="test") == 0
    said = capsys.readouterr()
    assert "test: services" in said.out
    assert "healthy" in said.out
    assert said.err == ""


def test_an_unhealthy_stack_is_named_and_ends_with_1(stack):
    stack.append(StackHost(container("web", health="unhealthy")))
    with pytest.raises(Exit) as caught:
        health.check(Context())
    assert caught.value.code == 1
    assert str(caught.value.message) == "error: service web on here is not healthy: shop-web-1 is unhealthy"


def test_json_is_the_only_thing_on_stdout(stack, capsys):
    stack.append(StackHost(container("web", health="unhealthy")))
    assert run(health.check, json=True) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["environment"], data["healthy"]) == ("test", False)
    assert [each["service"] for each in data["services"]] == ["web"]


def test_an_unknown_service_is_a_matter_of_configuration(stack):
    stack.append(StackHost(container("web", health="healthy")))
    assert run(health.check, service="wev") == 10


@pytest.mark.parametrize("seconds", ["soon", "-5", "5x", ""])
def test_a_wait_that_is_no_duration(stack, seconds):
    with pytest.raises(Exit) as caught:
        health.wait(Context(), seconds=seconds)
    assert caught.value.code == 10
    assert f"--seconds {seconds}: " in str(caught.value.message)


def test_waiting_hands_over_what_was_asked(stack, monkeypatch, capsys):
    seen: list[tuple[Any, ...]] = []

    def wait_all(hosts: Any, environment: Environment, seconds: float, service: str | None, **_: Any) -> Any:
        from windlass.health.report import Report

        seen.append((environment.name, seconds, service))
        return Report((), ())

    monkeypatch.setattr("windlass.health.report.wait_all", wait_all)
    assert run(health.wait, seconds="2m", service="web") == 0
    assert run(health.wait) == 0
    assert seen == [("test", 120.0, "web"), ("test", 60.0, None)]
    assert "Everything is healthy." in capsys.readouterr().out


def test_what_each_host_should_run_is_its_current_release(monkeypatch):
    from windlass.health.polling import Expectation
    from windlass.release import facts
    from windlass.release.ledger import Meta

    meta = Meta("r1", "shop", "test", "1", "", {}, {}, {"web": 2, "migrate": 1}, ("migrate",), "me@here", "0")
    found = {"value": facts.Facts("here", current="r1", releases={"r1": meta})}
    monkeypatch.setattr(facts, "look", lambda *_, **__: found["value"])
    expected = health._released(environment({}))
    assert expected(StackHost()) == {"web": Expectation(2), "migrate": Expectation(1, one_shot=True)}
    found["value"] = facts.Facts("here")
    assert expected(StackHost()) is None


def test_options_have_defaults_and_shadow_no_core_flag():
    for task in health.namespace.tasks.values():
        arguments = task.get_arguments()
        assert not list(task.positional)
        for argument in arguments:
            assert argument.help, argument.name
            assert not CORE_FLAGS & set(argument.names)
