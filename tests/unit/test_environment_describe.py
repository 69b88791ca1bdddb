from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from windlass.environment.describe import allowed, any_of, bare, dotted, field_type, literal, short
from windlass.environment.model import (
    Check,
    DeploySettings,
    HostSettings,
    HttpCheck,
    Name,
    Port,
    Seconds,
    Settings,
    TcpCheck,
)


@pytest.mark.parametrize(
    ("annotation", "full", "word"),
    [
        (str, "text", "text"),
        (bool, "true or false", "true or false"),
        (int | None, "whole number", "whole number"),
        (Port, "whole number, 1 to 65535", "whole number, 1 to 65535"),
        (Port | None, "whole number, 1 to 65535", "whole number, 1 to 65535"),
        (Annotated[int, Field(ge=2)], "whole number, at least 2", "whole number, at least 2"),
        (
            Annotated[float, Field(gt=0, lt=1)],
            "number, more than 0, less than 1",
            "number, more than 0, less than 1",
        ),
        (Literal["a", "b", "c"], '"a", "b" or "c"', '`"a"`, `"b"` or `"c"`'),
        (Seconds, 'duration: seconds, or a text such as "30s", "10m", "2h"', "duration"),
        (list[int], "list, each item: whole number", "list of whole number"),
        (dict[Name, int], "table, each value: whole number", "table of whole number"),
        (dict[Name, HostSettings], "table of tables, by name", "table of tables, by name"),
        (dict[Name, Check], "table of tables, by name", "table of tables, by name"),
        (Check, "table", "table"),
        (HostSettings | None, "table", "table"),
        (str | int, "text or whole number", "text or whole number"),
    ],
)
def test_types_in_words(annotation: Any, full: str, word: str) -> None:
    assert allowed(annotation) == full
    assert short(annotation) == word


def test_a_field_narrower_than_its_type_says_so() -> None:
    interval = field_type(DeploySettings.model_fields["poll_interval"])
    assert allowed(interval).endswith(", more than 0")


def test_a_list_that_must_not_be_empty_says_so() -> None:
    assert allowed(field_type(HttpCheck.model_fields["status"])).startswith("list, not empty")


def test_bare_takes_off_what_is_around_a_type() -> None:
    assert bare(Annotated[int, Field(ge=1)] | None)[0] is int
    assert bare(field_type(TcpCheck.model_fields["port"]))[0] is int
    assert bare(field_type(Settings.model_fields["app"]))[0] is str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ('a"\n', '"a\\"\\n"'),
        (True, "true"),
        (600.0, "600"),
        (0.5, "0.5"),
        ([1, "a"], '[1, "a"]'),
        ({}, "{}"),
        ({"a": {"b c": 1}}, '{ a = { "b c" = 1 } }'),
        (float("inf"), "inf"),
    ],
)
def test_values_as_toml_writes_them(value: object, text: str) -> None:
    assert literal(value) == text


def test_dotted_keys_and_alternatives() -> None:
    assert dotted(("hosts", "a b", "x-y_1", 0, "z")) == 'hosts."a b".x-y_1[0].z'
    assert [any_of(list("abc"[:size])) for size in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
