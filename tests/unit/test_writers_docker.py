from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.writers.docker import MAX_LINE_BYTES, docker_env_file, docker_run_variables
from windlass.shell import Sensitive

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
values = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(names, values))
def test_every_variable_takes_exactly_one_way(variables: dict[str, str]) -> None:
    found = docker_run_variables(variables)
    lines = found.file.reveal().split("\n")[:-1]
    in_file = dict(line.split("=", 1) for line in lines)
    by_name = {name: value.reveal() for name, value in found.process.items()}
    assert in_file | by_name == variables
    assert not in_file.keys() & by_name.keys()
    assert found.options == tuple(word for name in by_name for word in ("-e", name))
    assert all("\r" not in value for value in in_file.values())


def test_no_value_is_in_the_options_or_shown() -> None:
    found = docker_run_variables({"KEY": "hidden\nkey", "TOKEN": "hidden"})
    assert "hidden" not in repr(found) + str(found.options)
    assert found.process == {"KEY": Sensitive("hidden\nkey")}


@pytest.mark.parametrize("value", ["hidden\nkey", "hidden\rkey", "hidden" * 12000])
def test_the_file_refuses_what_it_cannot_hold_and_says_what_can(value: str) -> None:
    with pytest.raises(ConfigurationError, match="'KEY'") as caught:
        docker_env_file({"KEY": value})
    assert "-e NAME" in caught.value.hint
    assert "hidden" not in str(caught.value) + caught.value.hint


def test_the_longest_line_is_that_of_docker() -> None:
    assert len(docker_env_file({"K": "x" * (MAX_LINE_BYTES - 2)})) == MAX_LINE_BYTES + 1
    with pytest.raises(ConfigurationError, match="65536 bytes"):
        docker_env_file({"K": "x" * (MAX_LINE_BYTES - 1)})


@pytest.mark.parametrize("value", ["hidden\0", "hidden\ud800", "hidden" * 30000])
def test_neither_way_takes_what_no_process_can_be_given(value: str) -> None:
    for write in (docker_env_file, docker_run_variables):
        with pytest.raises(ConfigurationError, match="'KEY'") as caught:
            write({"KEY": value})
        assert "hidden" not in str(caught.value)
        assert "-e NAME" not in caught.value.hint
