from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.comparing import Difference, Digests, compare
from windlass.secrets.providers.base import Failure, Resolved
from windlass.shell import Sensitive

SECRET = "hunter2-and-more"  # pragma: allowlist secret


def test_every_name_of_both_sides_is_compared() -> None:
    a: dict[str, Resolved] = {
        "SAME": Sensitive(SECRET),
        "OTHER": Sensitive(SECRET),
        "ONLY_A": Sensitive("x"),
        "DOWN": Failure("it is down", "start it"),
        "BOTH_DOWN": Failure("it is down"),
    }
    b: dict[str, Resolved] = {
        "SAME": Sensitive(SECRET),
        "OTHER": Sensitive(f"{SECRET} "),
        "ONLY_B": Sensitive("x"),
        "DOWN": Sensitive("x"),
        "BOTH_DOWN": Failure("no login"),
    }
    assert compare(a, b) == (
        Difference("BOTH_DOWN", "unknown", "a: it is down; b: no login"),
        Difference("DOWN", "unknown", "a: it is down; start it"),
        Difference("ONLY_A", "only in a"),
        Difference("ONLY_B", "only in b"),
        Difference("OTHER", "differs"),
        Difference("SAME", "same"),
    )
    assert SECRET not in repr(compare(a, b))


@given(st.text(), st.text())
def test_digests_are_the_same_for_the_same_value_only(one: str, other: str) -> None:
    digests = Digests()
    assert digests.same(Sensitive(one), Sensitive(other)) == (one == other)
    assert len(digests.of(Sensitive(one))) == 64


def test_a_digest_tells_nothing_without_its_key() -> None:
    value = Sensitive(SECRET)
    assert Digests().of(value) != Digests().of(value)
    assert Digests(b"k" * 32).of(value) == Digests(b"k" * 32).of(value)


@pytest.mark.parametrize("value", ["\udc80 lone", "\0", "é\r\n"])
def test_any_text_has_a_digest(value: str) -> None:
    digests = Digests()
    assert digests.same(Sensitive(value), Sensitive(value))
    assert not digests.same(Sensitive(value), Sensitive(value + " "))


def test_a_reason_names_its_side_as_the_columns_do() -> None:
    found = compare({"A": Failure("gone")}, {"A": Failure("shut")}, names=("staging", "prod"))
    assert found[0].reason == "staging: gone; prod: shut"
