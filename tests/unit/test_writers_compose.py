from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.writers.compose import compose_env_file, compose_text

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
PLAIN = {"n": "\n", "r": "\r"}
values = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def read_as_compose(content: str) -> dict[str, str]:
    """The double-quote grammar of compose-go, as far as the writer uses it."""
    assert "\r" not in content
    found = {}
    for line in content.split("\n")[:-1]:
        match = re.fullmatch(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\$]|\\["\\$nr])*)"', line)
        assert match is not None
        found[match[1]] = re.sub(r"\\(.)", lambda each: PLAIN.get(each[1], each[1]), match[2])
    return found


@given(st.dictionaries(names, values))
def test_what_is_written_is_read_back(variables: dict[str, str]) -> None:
    content = compose_env_file(variables)
    assert read_as_compose(content.decode()) == variables


def test_the_order_is_kept() -> None:
    assert compose_env_file({"B": "1", "A": "2"}) == b'B="1"\nA="2"\n'


def test_every_special_character_is_escaped() -> None:
    assert compose_env_file({"A": '$x \\ "q"\r\n\t\'#é'}) == 'A="\\$x \\\\ \\"q\\"\\r\\n\t\'#é"\n'.encode()


def test_nothing_is_an_empty_file() -> None:
    assert compose_env_file({}) == b""


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A.B", "A B", "A\n", "É", "A="])
def test_a_name_that_a_shell_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name is letters"):
        compose_env_file({name: "x"})


@pytest.mark.parametrize("value", ["hidden\0", "hidden\ud800", "hidden" * 30000])
def test_a_value_that_no_process_takes_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_env_file({"A": value})
    assert "hidden" not in str(caught.value)
    assert "'A'" in str(caught.value)


def test_a_dollar_of_a_compose_file_is_doubled() -> None:
    assert compose_text("a$b${c}$$") == "a$$b$${c}$$$$"
