from __future__ import annotations

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.writers.entries import MAX_ENTRY_BYTES, entry_fault, require


def test_the_limit_is_that_of_the_system() -> None:
    assert entry_fault("KEY", "x" * (MAX_ENTRY_BYTES - 4)) == ""
    assert "131072" in entry_fault("KEY", "x" * (MAX_ENTRY_BYTES - 3))
    assert entry_fault("KEY", "é" * (MAX_ENTRY_BYTES // 2)) != ""


@pytest.mark.parametrize("value", ["hidden\0", "hidden" * 30000])
def test_a_refusal_names_the_variable_and_what_could_hold_it_and_never_the_value(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        require({"GOOD": "x", "TOKEN": value}, entry_fault)
    assert "'TOKEN'" in caught.value.message
    assert "secret that is mounted" in caught.value.hint
    assert "hidden" not in str(caught.value) + repr(caught.value) + caught.value.hint


def test_what_nothing_can_hold_has_no_advice() -> None:
    with pytest.raises(ConfigurationError, match="not valid Unicode") as caught:
        require({"TOKEN": "hidden\udc80"}, entry_fault)
    assert caught.value.hint == ""
