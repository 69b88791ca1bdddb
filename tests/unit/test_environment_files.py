from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.environment.files import NOTHING, TomlFile, line_of, merge, owner, read, table_at, value_at

tables = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3)),
    max_leaves=8,
)

TEXT = '''\
app = "x"
note = """
[not.a.table]
key = 1
"""
[hosts.web] # one
port = 22
"quoted key" = 1
[health.checks."a b"]
kind = "http"
headers = { X = "1" }
images.registry = "r"
[[list]]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("app",), 1),
        (("hosts", "web"), 6),
        (("hosts", "web", "port"), 7),
        (("hosts", "web", "missing"), 6),
        (("hosts", "web", "quoted key"), 8),
        (("health", "checks", "a b", "kind"), 10),
        (("health", "checks", "a b", "headers", "X"), 11),
        (("health", "checks", "a b", "images", "registry"), 12),
        (("list", 0), 13),
        (("not", "a", "table"), None),
        (("nowhere",), None),
    ],
)
def test_a_keys_line_is_found_in_the_text(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"kind": "x", "p": 1}}, {"a": {"kind": "y"}}, {"a": {"kind": "y"}}),
        ({"a": {"kind": "x", "p": 1}}, {"a": {"kind": "x"}}, {"a": {"kind": "x", "p": 1}}),
        ({"a": {"kind": "x", "p": 1}}, {"a": {"p": 2}}, {"a": {"kind": "x", "p": 2}}),
        ({"a": {"p": 1}}, {"a": {"kind": "y"}}, {"a": {"p": 1, "kind": "y"}}),
    ],
)
def test_merging(base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, over) == merged


@given(tables, tables)
def test_merging_keeps_every_value_of_the_override(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr((base, over))
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert merge({}, over) == over
    assert merge(base, {}) == base
    assert set(merged) == set(base) | set(over)
    assert repr((base, over)) == before


def test_values_and_tables_by_path() -> None:
    data = {"a": {"b": [1, {"c": 2}]}}
    assert value_at(data, ("a", "b", 1, "c")) == 2
    assert value_at(data, ()) is data
    for path in (("a", "x"), ("a", "b", 2), ("a", "b", "c"), ("a", "b", 0, "c")):
        assert value_at(data, path) is NOTHING
    assert table_at(data, "a") == data["a"]
    assert table_at(data, "a", "b") == {}


def test_the_owner_is_the_last_file_that_has_the_key() -> None:
    base, over = TomlFile("base", "", {"a": {"x": 1, "y": 1}}), TomlFile("over", "", {"a": {"x": 2}, "b": {}})
    files = (base, over)
    assert owner(files, ("a", "x")) is over
    assert owner(files, ("a", "y")) is base
    assert owner(files, ("a", "missing")) is over
    assert owner(files, ("missing",)) is over
    assert owner((over, base), ("b", "missing")) is over


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"a = 1\nb = \n", "envs/x.toml:2:5"),
        (b"a = [\n1,\n", "envs/x.toml:3"),
        (b"a = 1\na = 2\n", "envs/x.toml:2:6"),
        (b"a = 1\n# \xff\n", "envs/x.toml:2"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, place: str) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "x.toml").write_bytes(content)
    found = read(tmp_path, "envs/x.toml")
    assert found.problem is not None
    assert found.problem.place == place
    assert found.data == {}


def test_a_folder_in_place_of_a_file_is_a_problem_and_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.toml").mkdir()
    problem = read(tmp_path, "x.toml").problem
    assert problem is not None
    assert "directory" in problem.what
    assert read(tmp_path, "y.toml") == TomlFile("y.toml", "", {})
