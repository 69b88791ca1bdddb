"""The TOML files of an environment: reading and merging them, and finding a key's place in their text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from windlass.environment.problems import Problem

Table = dict[str, Any]
KeyPath = tuple[str | int, ...]

_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_HEADER: Final = re.compile(r"\s*\[+([^\[\]]+)\]+\s*(?:#.*)?$")
_ASSIGNMENT: Final = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_.\s-])+?)\s*=""")
_KEY_PART: Final = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_MULTI_LINE_QUOTES: Final = ('"""', "'''")


class Nothing:
    """Stands for a key that is not there; TOML has no such value."""


NOTHING: Final = Nothing()


@dataclass(frozen=True)
class TomlFile:
    """One TOML file of an environment.

    Args:
        file: its path, relative to the repository.
        text: its text; empty when it is not there or cannot be read.
        data: what it says; empty likewise.
        problem: why it cannot be read; None when it can, or is not there.
    """

    file: str
    text: str
    data: Table
    problem: Problem | None = None


def read(root: Path, file: str) -> TomlFile:
    """Read a TOML file; one that is not there is empty.

    Args:
        root: the repository.
        file: the path, relative to it.
    """

    def unreadable(what: str, line: int | None = None, column: int | None = None) -> TomlFile:
        return TomlFile(file, "", {}, Problem(file, "", what, line=line, column=column))

    try:
        data = (root / file).read_bytes()
    except FileNotFoundError:
        return TomlFile(file, "", {})
    except OSError as error:
        return unreadable(f"cannot be read: {error.strerror}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return unreadable("is not UTF-8 text", data.count(b"\n", 0, error.start) + 1)
    try:
        return TomlFile(file, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        return unreadable(*_syntax(str(error), text))


def _syntax(message: str, text: str) -> tuple[str, int, int | None]:
    """Return what the TOML parser says, and the line and column it says it of."""
    place = _SYNTAX_PLACE.search(message)
    # The parser's sentences name characters and keys, never a value.
    what = f"is not valid TOML: {_SYNTAX_PLACE.sub('', message)}"
    if place is None or place[1] is None:
        return what, text.count("\n") + 1, None
    return what, int(place[1]), int(place[2])


def merge(base: Table, over: Table) -> Table:
    """Return `over` merged onto `base`: tables merge, everything else replaces.

    A table that changes its `kind` replaces too: the keys of one kind mean nothing to another.
    """
    merged = dict(base)
    for key, value in over.items():
        before = base.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and same_kind(before, value):
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def same_kind(one: Table, other: Table) -> bool:
    """Whether two tables are of one kind; a table that names none is of any."""
    return "kind" not in one or "kind" not in other or one["kind"] == other["kind"]


def value_at(data: Any, path: Iterable[str | int]) -> Any:
    """Return what stands at a path, or `NOTHING`."""
    for part in path:
        within = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not within and not (isinstance(data, dict) and part in data):
            return NOTHING
        data = data[part]
    return data


def table_default(data: Table) -> bool:
    """Whether a file says that its environment is the default one."""
    return data.get("default") is True


def table_at(data: object, *path: str) -> Table:
    """Return the table at a path; an empty one when there is none."""
    found = value_at(data, path)
    return found if isinstance(found, dict) else {}


def owner(files: tuple[TomlFile, ...], path: KeyPath) -> TomlFile:
    """Return the file that decides what stands at a path: the last one that has it, or has most of it."""
    for size in range(len(path), 0, -1):
        for each in reversed(files):
            if value_at(each.data, path[:size]) is not NOTHING:
                return each
    return files[-1]


def line_of(text: str, path: KeyPath) -> int | None:
    """Return the line, from 1, in which a key or the nearest table around it is set.

    The parser gives no places, so this searches the text; None when nothing is found.
    """
    wanted = tuple(part for part in path if isinstance(part, str))
    best, best_size = None, 0
    for number, found in _keys(text):
        if len(found) > best_size and wanted[: len(found)] == found:
            best, best_size = number, len(found)
    return best


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each line that sets a key or opens a table, with the path it does that for."""
    table: tuple[str, ...] = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _HEADER.match(line):
            table = _parts(header[1])
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            yield number, table + _parts(assignment[1])
        inside = next((quotes for quotes in _MULTI_LINE_QUOTES if line.count(quotes) % 2), "")


def _parts(key: str) -> tuple[str, ...]:
    return tuple(next(filter(None, match.groups()), "") for match in _KEY_PART.finditer(key))
