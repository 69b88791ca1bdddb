from __future__ import annotations

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.writers.swarm import MAX_BYTES, swarm_secret

KEY = b"a key of the test"


def test_the_target_stays_and_the_name_follows_the_value() -> None:
    first, second = swarm_secret("db-password", "hidden1", KEY), swarm_secret("db-password", "hidden2", KEY)
    assert first.target == second.target == "db-password"
    assert first.name != second.name
    assert first.name.startswith("db-password_")


def test_the_value_is_in_no_argument_and_not_shown() -> None:
    made = swarm_secret("token", "hidden\nkey", KEY)
    command = made.create("app=shop")
    assert command.words == (
        *("docker", "secret", "create", "--label", "windlass.secret=token", "--label", "app=shop"),
        *(made.name, "-"),
    )
    assert made.data.reveal() == "hidden\nkey"
    assert "hidden" not in repr(made)


@pytest.mark.parametrize("name", ["", "_a", "a_", "a b", "a/b", "é", "a" * 56])
def test_a_name_that_swarm_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="its name is letters"):
        swarm_secret(name, "x", KEY)


@pytest.mark.parametrize(
    ("value", "instead"),
    [("", "variable"), ("hidden" * 90000, "Kubernetes"), ("hidden\udfff", "")],
)
def test_a_value_that_swarm_does_not_take_is_refused_and_not_shown(value: str, instead: str) -> None:
    with pytest.raises(ConfigurationError, match="'token'") as caught:
        swarm_secret("token", value, KEY)
    assert "hidden" not in str(caught.value)
    assert instead in caught.value.hint
    assert bool(instead) == bool(caught.value.hint)


def test_the_longest_value_is_one_byte_less_than_500_kilobytes() -> None:
    assert len(swarm_secret("token", "x" * (MAX_BYTES - 1), KEY).data.reveal()) == MAX_BYTES - 1
    with pytest.raises(ConfigurationError, match="512000 bytes"):
        swarm_secret("token", "é" * (MAX_BYTES // 2), KEY)
