"""Secrets mask themselves, and what is quoted arrives in a real shell word for word."""

import copy
import json
import pickle
import subprocess
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.shell import MASK, Command, Script, Sensitive, assign, quote, reveal

SECRET = "hunter2-hunter2"
# A shell word can hold anything but NUL; surrogates cannot be written as UTF-8.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        lambda value: f"{value}",
        lambda value: f"{value!r:>40}",
        lambda value: "%s" % value,  # noqa: UP031 - this form too
        lambda value: str([value]),
        lambda value: str({"key": (value,)}),
        lambda value: json.dumps(value, default=str),
        lambda value: str(Script.of("use it", assign("password", value))),
        lambda value: repr(Script.of("use it", assign("password", value))),
        lambda value: repr(ValueError(value)),
    ],
)
def test_a_secret_shows_only_a_mask(show: object) -> None:
    shown = show(Sensitive(SECRET))  # type: ignore[operator]
    assert MASK in shown
    assert SECRET not in shown


def test_a_secret_in_an_exception_stays_out_of_its_traceback() -> None:
    error = RuntimeError("the value was", Sensitive(SECRET))
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    for value in (Sensitive(SECRET), Script.of("use it", Sensitive(SECRET))):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value, protocol)
    with pytest.raises(TypeError):
        copy.copy(Sensitive(SECRET))


def test_a_secret_has_no_attributes_that_show_it() -> None:
    with pytest.raises(TypeError):
        vars(Sensitive(SECRET))
    with pytest.raises(AttributeError):
        Sensitive(SECRET).other = 1  # type: ignore[attr-defined]


def test_secrets_compare_by_value_and_never_equal_their_text() -> None:
    assert Sensitive(SECRET) == Sensitive(SECRET)
    assert Sensitive(SECRET) != SECRET
    assert len({Sensitive(SECRET), Sensitive(SECRET), SECRET}) == 2
    assert not Sensitive("")
    assert reveal(Sensitive(SECRET)) == reveal(SECRET) == SECRET


def bash(text: str, *args: str) -> bytes:
    return subprocess.run(["bash", *args], input=text.encode(), capture_output=True, check=True).stdout


@settings(deadline=None)  # a process each: how long it takes says nothing
@given(st.lists(words, min_size=1, max_size=5))
def test_a_quoted_command_is_read_back_word_for_word(parts: list[str]) -> None:
    line = Command.of("printf", "%s\\0", *parts).quoted()
    assert bash(f"{line}\n").split(b"\0")[:-1] == [part.encode() for part in parts]


@settings(deadline=None)  # a process each: how long it takes says nothing
@given(words, words)
def test_an_assigned_value_is_exact_secret_or_not(one: str, two: str) -> None:
    script = Script.of(
        "assign", assign("one", one), assign("two", Sensitive(two)), 'printf "%s\\0" "$one" "$two"'
    )
    assert bash(script.text()).split(b"\0")[:2] == [one.encode(), two.encode()]


@settings(deadline=None)  # a process each: how long it takes says nothing
@given(words)
def test_quote_is_one_word(word: str) -> None:
    assert bash(f"printf '%s\\0' {quote(word)}\n") == word.encode() + b"\0"


def test_a_masked_script_shows_the_rest() -> None:
    script = Script.of("log in", "umask 077", assign("password", Sensitive(SECRET)), "login")
    assert str(script) == f"umask 077\n{MASK}\nlogin\n"
    assert script.text() == f"umask 077\npassword={SECRET}\nlogin\n"


def test_words_of_a_command_are_text() -> None:
    assert Command.of("sleep", 5).words == ("sleep", "5")
    assert str(Command.of("echo", "a b")) == "echo 'a b'"
