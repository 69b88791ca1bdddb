from __future__ import annotations

import io

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.writers.dotenv import dotenv_file

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
values = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(names, values))
def test_what_is_written_is_read_back(variables: dict[str, str]) -> None:
    stream = io.StringIO(dotenv_file(variables).decode(), newline="")
    assert dotenv_values(stream=stream, interpolate=False) == variables


def test_a_reader_that_expands_is_not_given_what_it_would_expand() -> None:
    with pytest.raises(ConfigurationError, match="'KEY'") as caught:
        dotenv_file({"KEY": "hidden${HOME}"}, expands=True)
    assert "hidden" not in str(caught.value)
    assert "Compose" in caught.value.hint
    stream = io.StringIO(dotenv_file({"KEY": "$HOME $ {"}, expands=True).decode(), newline="")
    assert dotenv_values(stream=stream, interpolate=True) == {"KEY": "$HOME $ {"}


@pytest.mark.parametrize("value", ["hidden\0", "hidden\ud800", "hidden" * 30000])
def test_what_no_process_can_be_given_is_refused_and_not_shown(value: str) -> None:
    for expands in (True, False):
        with pytest.raises(ConfigurationError, match="'KEY'") as caught:
            dotenv_file({"KEY": value}, expands=expands)
        assert "hidden" not in str(caught.value)
