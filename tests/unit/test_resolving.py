from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.providers import registry
from windlass.secrets.providers.base import (
    Client,
    Context,
    Failure,
    Provider,
    ProviderError,
    Resolved,
    setting,
)
from windlass.secrets.references import Address, Reference, parse
from windlass.secrets.resolving import Resolution, Resolver
from windlass.shell import Sensitive, Word

Fetch = Callable[[Sequence[str]], Mapping[str, Resolved]]


class Answering(Client):
    """A client that answers with a function and remembers what it was asked."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self.asked: list[tuple[str, ...]] = []
        self.closed = 0

    @property
    def provider_name(self) -> str:
        return "a test"

    def fetch(self, targets: Sequence[str]) -> Mapping[str, Resolved]:
        self.asked.append(tuple(targets))
        return self._fetch(targets)

    def close(self) -> None:
        self.closed += 1


Add = Callable[..., Answering]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a provider for this test."""
    added: dict[str, Provider] = {}
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda name: added.get(name) or find(name))

    def make(
        name: str,
        fetch: Fetch = lambda targets: {target: Sensitive(f"value of {target}") for target in targets},
        connect: Callable[[Context], object] = lambda context: None,
        *,
        is_remote: bool = False,
    ) -> Answering:
        client = Answering(fetch)

        def connected(context: Context) -> Client:
            connect(context)
            return client

        added[name] = Provider(name, "", "", lambda target: "", connected, is_remote=is_remote)
        return client

    return make


def reference(text: str) -> Reference:
    found = parse(text)
    assert found is not None
    return found


def resolve(text: str, root: Path = Path("/"), **variables: Word | Reference) -> Resolution:
    with Resolver(root, {"HERE": "here"}, variables=variables) as resolver:
        return resolver.resolve([reference(text)])[reference(text)]


def test_each_target_is_asked_for_once_and_each_provider_once(add: Add) -> None:
    client = add("vault", lambda targets: {"a": Sensitive("1")})
    first, second = reference("${vault:a}"), reference("${vault:b}")
    with Resolver(Path(), {}) as resolver:
        found = resolver.resolve([first, second, first])
        again = resolver.resolve([second])
    assert client.asked == [("a", "b")]
    assert client.closed == 1
    assert found[first] == Resolution(Sensitive("1"), Address("vault", "a"))
    assert found[second].value == again[second].value == Failure("the provider gave no answer")


def test_providers_are_asked_at_the_same_time(add: Add) -> None:
    meeting = threading.Barrier(3, timeout=30)

    def fetch(targets: Sequence[str]) -> Mapping[str, Resolved]:
        meeting.wait()
        return {target: Sensitive("x") for target in targets}

    for name in ("one", "two", "three"):
        add(name, fetch)
    wanted = [reference("${one:a}"), reference("${two:a}"), reference("${three:a}")]
    with Resolver(Path(), {}) as resolver:
        assert all(isinstance(each.value, Sensitive) for each in resolver.resolve(wanted).values())


def test_the_first_choice_that_gives_a_value_is_taken(add: Add) -> None:
    add("down", lambda targets: {target: Failure("it is down") for target in targets})
    found = resolve("${down:a} ?? ${env:NOT_THERE} ?? ${env:HERE} ?? ${down:b}")
    assert found.value == Sensitive("here")
    assert found.source == Address("env", "HERE")
    assert found.note.startswith("taken from env:HERE, since down:a: it is down; env:NOT_THERE: the variable")


def test_a_first_choice_that_answers_needs_no_note(add: Add) -> None:
    down = add("down", lambda targets: {})
    found = resolve("${env:HERE} ?? ${down:a}")
    assert (found.note, found.passed, down.asked) == ("", (), [])


def test_when_every_choice_fails_each_is_told(add: Add) -> None:
    add("down", lambda targets: {target: Failure("it is down", "start it") for target in targets})
    found = resolve("${down:a} ?? ${env:NOT_THERE}")
    assert isinstance(found.value, Failure)
    assert str(found.value) == (
        "down: it is down; then env: the variable NOT_THERE is not set where Windlass was started; start it"
    )
    assert not found.value.missing


def test_an_empty_value_is_a_failure_and_the_next_choice_is_taken(add: Add) -> None:
    add("empty", lambda targets: {target: Sensitive(" \n") for target in targets})
    assert resolve("${empty:a}").value == Failure("the value is empty")
    assert resolve("${empty:a} ?? ${env:HERE}").value == Sensitive("here")


def test_a_provider_that_raises_fails_its_own_references_only_and_tells_no_message(add: Add) -> None:
    def broken(targets: Sequence[str]) -> Mapping[str, Resolved]:
        raise ValueError("hidden-secret")

    def wrong(targets: Sequence[str]) -> Mapping[str, Resolved]:
        raise ConfigurationError("It has no region.", "Set one.")

    add("broken", broken)
    add("wrong", wrong)
    add("fine")
    texts = ("${broken:a}", "${wrong:a}", "${fine:a}")
    with Resolver(Path(), {}) as resolver:
        found = resolver.resolve(map(reference, texts))
    values = [found[reference(text)].value for text in texts]
    assert values == [
        Failure("the provider failed with ValueError"),
        Failure("It has no region", "Set one."),
        Sensitive("value of a"),
    ]


def test_a_connection_that_fails_is_tried_once(add: Add) -> None:
    tries = []

    def refuse(context: Context) -> None:
        tries.append(1)
        raise ProviderError("No login.", "Log in.")

    add("closed", connect=refuse)
    with Resolver(Path(), {}) as resolver:
        assert resolver.lookup("${closed:a}") == Failure("No login", "Log in.")
        assert resolver.lookup("${closed:b}") == Failure("No login", "Log in.")
        with pytest.raises(ProviderError, match="No login"):
            resolver.client("closed")
    assert tries == [1]


def test_another_variable_is_followed() -> None:
    assert resolve("${variable:A}", A=reference("${variable:B}"), B="plain").value == Sensitive("plain")
    assert resolve("${variable:A}", A=reference("${env:HERE}")).value == Sensitive("here")
    assert resolve("${variable:A}").value == Failure("no file of envs/ sets the variable A", missing=True)


def test_variables_in_a_circle_are_refused() -> None:
    found = resolve("${variable:A}", A=reference("${variable:B}"), B=reference("${variable:A}")).value
    assert found == Failure("the variable A needs the variable B needs the variable A")


def test_a_provider_takes_its_login_from_another(add: Add) -> None:
    logins = []
    add("first")
    add("second", connect=lambda context: logins.append(setting(context, "${variable:TOKEN}")))
    with Resolver(Path(), {}, variables={"TOKEN": reference("${first:token}")}) as resolver:
        assert resolver.lookup("${second:a}") == Sensitive("value of a")
    assert logins == [Sensitive("value of token")]


def test_providers_that_need_each_other_are_refused(add: Add) -> None:
    add("first", connect=lambda context: setting(context, "${second:a}"))
    add("second", connect=lambda context: setting(context, "${first:a}"))
    with Resolver(Path(), {}) as resolver:
        found = resolver.resolve([reference("${first:a}"), reference("${second:b}")])
    for each in found.values():
        assert isinstance(each.value, Failure)
        assert "needs the provider" in each.value.reason


def test_what_was_written_is_asked_for_again(add: Add) -> None:
    client = add("vault")
    with Resolver(Path(), {}) as resolver:
        resolver.lookup("${vault:a}")
        resolver.forget([Address("vault", "a")])
        resolver.lookup("${vault:a}")
    assert client.asked == [("a",), ("a",)]


class Kept(dict[str, Sensitive]):
    """A cache in memory."""

    def put(self, values: Mapping[str, Sensitive]) -> None:
        self.update(values)


def test_only_what_came_over_a_network_is_cached_and_no_failure(add: Add) -> None:
    def fetch(targets: Sequence[str]) -> Mapping[str, Resolved]:
        return {target: Sensitive(target) if target != "bad" else Failure("no") for target in targets}

    far = add("far", fetch, is_remote=True)
    near = add("near")
    cache = Kept()
    for _ in range(2):
        with Resolver(Path(), {}, cache=cache) as resolver:
            resolver.resolve(map(reference, ("${far:a}", "${far:bad}", "${near:a}")))
    assert far.asked == [("a", "bad"), ("bad",)]
    assert near.asked == [("a",), ("a",)]
    assert list(cache.values()) == [Sensitive("a")]
