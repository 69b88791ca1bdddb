from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.providers.base import Failure
from windlass.secrets.targets import Target, field_of, parse_target, target_fault, with_fields
from windlass.shell import Sensitive

TEXT = st.text(min_size=1).filter(lambda text: text == text.strip() and max(text) < "\ud800")


@given(TEXT, st.just("") | TEXT, st.dictionaries(st.sampled_from(["stage", "version"]), TEXT))
def test_what_is_written_is_read_back(path: str, field: str, options: dict[str, str]) -> None:
    target = Target(path, field, options)
    assert target_fault(str(target), ("stage", "version")) == ""
    assert parse_target(str(target)) == target
    assert not set(str(target)) & set("{}\r\n\0")


def test_a_target_as_people_write_it() -> None:
    text = "arn:aws:secretsmanager:eu-west-1:123:secret:shop/prod-AbCdEf#db.password?stage=AWSPREVIOUS"
    found = parse_target(text)
    assert (found.field, found.options) == ("db.password", {"stage": "AWSPREVIOUS"})
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "name is missing"),
        ("#a", "name is missing"),
        ("?stage=x", "name is missing"),
        ("a#", "after `#`"),
        ("a#?stage=x", "after `#`"),
        ("a#b#c", "second `#`"),
        ("a?", "key=value"),
        ("a?stage", "key=value"),
        ("a?stage=", "key=value"),
        ("a?=x", "key=value"),
        ("a?stage=x&stage=y", "twice"),
        ("a?stag=x", "`stag` is no option; known: stage"),
        ("100%", "%25"),
        (" a", "spaces"),
    ],
)
def test_what_is_no_target(text: str, fault: str) -> None:
    assert fault in target_fault(text, ("stage",))


def test_a_provider_without_fields_says_so() -> None:
    assert "%23" in target_fault("a#b", fields=False)
    assert target_fault("a%23b", fields=False) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (5432, "5432"), (True, "true"), ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'), ("", "")],
)
def test_a_field_is_given_as_text(value: object, text: str) -> None:
    assert field_of(json.dumps({"key": value}), "key") == Sensitive(text)


def test_the_key_as_it_is_comes_before_a_path() -> None:
    document = json.dumps({"a.b": "whole", "a": {"b": "path", "c": "deep"}})
    assert field_of(document, "a.b") == Sensitive("whole")
    assert field_of(document, "a.c") == Sensitive("deep")


@pytest.mark.parametrize(
    "document", ["hidden", '"hidden"', "[1]", '{"other": "hidden"}', '{"key": null}', ""]
)
def test_a_field_that_is_not_there_is_told_without_a_value(document: str) -> None:
    found = field_of(document, "key")
    assert isinstance(found, Failure)
    assert "hidden" not in str(found)


def test_fields_are_set_and_the_others_stay() -> None:
    assert json.loads(with_fields('{"a": 1, "b": {"c": 2}}', {"a": "x", "d": "y"})) == {
        "a": "x",
        "b": {"c": 2},
        "d": "y",
    }
    assert json.loads(with_fields("", {"a": "x"})) == {"a": "x"}
    for document in ("hidden", "[1]"):
        with pytest.raises(ValueError, match="JSON") as caught:
            with_fields(document, {"a": "x"})
        assert "hidden" not in str(caught.value)
        assert caught.value.__cause__ is None
