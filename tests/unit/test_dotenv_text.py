from __future__ import annotations

import io

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.dotenv_text import bindings, broken_line, values, with_value

TEXT = """\
# the shop

A=1
export B = 'two' # said of B
C="three
lines"  # said of C
D=  # nothing yet
E=5 # said of E

# the end
"""
ANY_VALUE = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))


def test_each_entry_is_told_with_the_line_it_begins_in() -> None:
    found = {binding.key: line for line, binding in bindings(TEXT) if binding.key}
    assert found == {"A": 3, "B": 4, "C": 5, "D": 7, "E": 8}


def test_values_are_as_they_stand_and_nothing_is_expanded() -> None:
    assert values("\ufeffA='${HOME}'\r\nB=a\\nb\nC=\"a\\nb\"\n") == {
        "A": "${HOME}",
        "B": "a\\nb",
        "C": "a\nb",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TEXT, None),
        ("", None),
        ("A=1\n\n'B=2\nC=3\n", 3),
        ('A=1\nB="open\nC=3\n', 2),
        ("A=1\nword\n", 2),
        ("A='x' y\n", 1),
    ],
)
def test_a_broken_line_is_found(text: str, line: int | None) -> None:
    assert broken_line(text) == line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("A", 'A="new"\n'),
        ("B", 'export B = "new" # said of B\n'),
        ("C", 'C="new"  # said of C\n'),
        ("D", 'D=  "new" # nothing yet\n'),
        ("E", 'E="new" # said of E\n'),
        ("F", '# the end\nF="new"\n'),
    ],
)
def test_a_value_is_set_in_its_place_and_comments_stay(name: str, line: str) -> None:
    changed = with_value(TEXT, name, "new")
    assert line in changed
    assert values(changed) == {**values(TEXT), name: "new"}
    assert [each for each in changed.split("\n") if each.startswith("#")] == ["# the shop", "# the end"]


def test_other_lines_stay_byte_for_byte() -> None:
    text = "A=1\r\n\tB='x'\r\nC=3"
    assert with_value(text, "B", "y") == 'A=1\r\n\tB="y"\r\nC=3'
    assert with_value(text, "C", "4") == "A=1\r\n\tB='x'\r\nC=\"4\""
    assert with_value(text, "D", "4") == "A=1\r\n\tB='x'\r\nC=3\nD=\"4\"\n"


@given(before=ANY_VALUE, value=ANY_VALUE)
def test_python_dotenv_reads_back_what_was_set(before: str, value: str) -> None:
    text = with_value(with_value(TEXT, "C", before), "C", value)
    found = dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False)
    assert found == {**values(TEXT), "C": value}


def test_a_text_that_would_read_otherwise_afterwards_is_refused() -> None:
    with pytest.raises(ValueError, match="without changing others") as told:
        with_value("A=1\nA=2\n'broken\n", "A", "hidden")
    assert "hidden" not in str(told.value)
