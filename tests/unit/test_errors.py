"""Every error is a sentence with an exit code of its own kind."""

import inspect
import re

import pytest

from windlass import errors
from windlass.errors import EXIT_CODES, CommandFailed, WindlassError

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, WindlassError) and each is not WindlassError
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exit_code_is_documented(kind: type[WindlassError]) -> None:
    assert kind.exit_code in EXIT_CODES
    assert kind.exit_code != 0


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_documented(kind: type[WindlassError]) -> None:
    assert kind.__doc__


def test_every_documented_code_of_an_error_has_one() -> None:
    own = {kind.exit_code for kind in CLASSES}
    # 70 and 130 are given by the boundary of the tasks, to what is no WindlassError.
    assert set(EXIT_CODES) - {0, 70, 130} == own


def test_exit_codes_are_ones_a_shell_can_give() -> None:
    assert all(0 <= code <= 255 for code in EXIT_CODES)
    assert all(re.fullmatch(r"[A-Z`].*\.", text) for text in EXIT_CODES.values())


def test_the_hint_stands_under_the_sentence() -> None:
    assert str(WindlassError("It failed.")) == "It failed."
    assert str(WindlassError("It failed.", "Try again.")) == "It failed.\n  Try again."


def test_a_failed_command_says_what_it_said() -> None:
    error = CommandFailed("server1: migrate", 3, "  no such table\n")
    assert str(error) == "server1: migrate failed with exit code 3: no such table"
    assert (error.code, error.exit_code, error.output) == (3, 1, "  no such table\n")
    assert str(CommandFailed("server1: migrate", -9)) == "server1: migrate failed with exit code -9"
