from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.providers import registry
from windlass.secrets.references import Address, InvalidReference, Reference, has_inside, parse, parse_address


@pytest.mark.parametrize(
    "text",
    ["", "plain", "$HOME", "${NAME}", "${}", "${1:x}", "x${env:A}", " ${env:A}", "$${env:A}", "${ env:A}"],
)
def test_plain_text_is_no_reference(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pre-${env:X}", True),
        (" ${aws:shop/db#password}", True),
        ("$${env:A}", True),
        ("postgres://u:${file:key}@db", True),
        ("a\n${vault:shop}", True),
        ("pre-${env:", True),
        ("pre-${nowhere:X}", False),
        ("pre-${NAME:-x}", False),
        ("pre-${env}", False),
        ("${env:X}", False),
        ("", False),
    ],
)
def test_a_reference_inside_a_text_is_seen(text: str, expected: bool) -> None:
    assert has_inside(text) is expected


@given(st.text())
def test_text_is_a_reference_an_error_or_plain(text: str) -> None:
    assert parse(f"x{text}") is None


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_documented_form_of_each_provider_is_valid(name: str) -> None:
    provider = registry.built_in(name)
    reference = parse(provider.form)
    assert reference is not None
    assert [choice.provider for choice in reference.choices] == [provider.name] == [name]
    assert str(reference) == provider.form


def test_several_references_are_choices_in_order() -> None:
    reference = parse("${env:A} ?? ${file:b c} ?? ${variable:C}")
    assert reference == Reference((Address("env", "A"), Address("file", "b c"), Address("variable", "C")))
    assert str(reference) == "${env:A} ?? ${file:b c} ?? ${variable:C}"


@pytest.mark.parametrize(
    "text",
    [
        "${env:A} ??",
        "${env:A} ?? ",
        "${env:A} ?? plain",
        "${env:A}??${env:B}",
        "${env:A} ??  ${env:B}",
        "${env:A} ?? ${",
    ],
)
def test_after_a_choice_comes_another_reference(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)


@pytest.mark.parametrize("text", ["env:A", "${env:A}"])
def test_an_address_is_typed_with_or_without_braces(text: str) -> None:
    assert parse_address(text) == Address("env", "A")


@pytest.mark.parametrize(
    "text", ["", "A", "env", "env:", "env:1", "nobody:A", "${env:A", "env:A}", "env:A\n"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_address(text)


def test_a_scope_is_judged_by_its_provider_only() -> None:
    assert parse_address("env:", as_scope=True) == Address("env", "")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("${evn:A}", "env"), ("${ENV:A}", "env"), ("${HOME:-/root}", ""), ("${fil:a}", "file")],
)
def test_an_unknown_provider_is_an_error(text: str, nearest: str) -> None:
    with pytest.raises(InvalidReference, match="no known provider") as caught:
        parse(text)
    assert caught.value.nearest == nearest
    assert "env, file" in caught.value.allowed


@pytest.mark.parametrize(
    "text",
    [
        "${env:A",
        "${env:A} ",
        "${env:A}x",
        "${env:}",
        "${env:A}${env:B}",
        "${env:A}\n",
        "${file:a}b}",
        "${env:{A}}",
    ],
)
def test_a_reference_is_the_whole_value(text: str) -> None:
    with pytest.raises(InvalidReference, match="whole value"):
        parse(text)


@pytest.mark.parametrize("text", ["${env:1A}", "${env:A-B}", "${env: A}", "${file: a}"])
def test_a_target_its_provider_does_not_know_is_an_error(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)
