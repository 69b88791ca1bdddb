from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.writers.shell import shell_file

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
values = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(names, values))
def test_what_is_written_is_read_back(variables: dict[str, str]) -> None:
    words = shlex.split(shell_file(variables).decode())
    assert words[::2] == ["export"] * len(variables)
    assert dict(word.split("=", 1) for word in words[1::2]) == variables


@pytest.mark.parametrize("value", ["hidden\0", "hidden\ud800", "hidden" * 30000])
def test_what_no_process_can_be_given_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="'KEY'") as caught:
        shell_file({"KEY": value})
    assert "hidden" not in str(caught.value)
