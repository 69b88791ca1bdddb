"""The variables of an environment, from its dotenv files.

`envs/schema.env` with the defaults, then `envs/base.env`, `envs/<name>.env` and `envs/<name>.local.env`;
later ones win. They are dotenv files in python-dotenv's grammar without interpolation: `$` means nothing.
A value that is a reference (`${env:NAME}`, `${aws:shop/db#password}`) stands for a secret kept elsewhere. The
variables of the operator's own process override nothing: what a release runs with is what the files say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from windlass.environment import schema
from windlass.environment.environment import Variable
from windlass.environment.loading import names as environments_of
from windlass.environment.model import VariablesSettings
from windlass.environment.problems import Problem
from windlass.environment.schema import SCHEMA_FILE, Comment, Place, Schema
from windlass.secrets.dotenv_text import bindings
from windlass.secrets.providers.base import Failure
from windlass.secrets.references import InvalidReference, Reference, has_inside, parse
from windlass.secrets.resolving import Cache, Resolution, Resolver
from windlass.secrets.settings import SecretsSettings
from windlass.secrets.shapes import may_be_token, name_is_secret, value_is_secret
from windlass.secrets.writers import entry_fault
from windlass.shell import Sensitive

# Values that tell nothing; taken for secrets they would blot out every `true` of the output.
_TELLS_NOTHING: Final = frozenset({"", "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"})


@dataclass(frozen=True)
class Variables:
    """What the dotenv files of an environment say.

    Args:
        values: the variables by name, in the order they are first set.
        problems: what is wrong in the files; with any, `values` is incomplete.
        names: every name that is set, also those whose value is wrong.
        complete: whether every line could be read, so that `names` holds all of them.
        notes: what a person should know of values that are there.
        warnings: what speaks against the files and keeps nobody from using them.
        declared: every name that the schema declares, also those that no file sets.
        doubtful: those of the warnings that are of values with a reference inside a text.
    """

    values: Mapping[str, Variable]
    problems: tuple[Problem, ...]
    names: frozenset[str]
    complete: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
    declared: frozenset[str] = frozenset()
    doubtful: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A line `KEY=value` of a file, with what is wrong with it; `value` is raw and may be a secret."""

    name: str
    value: str
    file: str
    line: int
    reference: Reference | None = None
    problem: Problem | None = None
    comments: tuple[Comment, ...] = ()

    @property
    def place(self) -> Place:
        """Where it stands, for the schema."""
        return Place(self.name, self.file, self.line, self.comments, not self.value.strip())

    @property
    def origin(self) -> str:
        """Where it stands: `envs/prod.env:12`."""
        return f"{self.file}:{self.line}"


def file_names(name: str) -> tuple[str, ...]:
    """Return the dotenv files of an environment, relative to the repository, weakest first."""
    return (SCHEMA_FILE, "envs/base.env", f"envs/{name}.env", f"envs/{name}.local.env")


@dataclass(frozen=True)
class Declared:
    """What the dotenv files of an environment say, before any secret is fetched.

    Args:
        entries: the line that counts for each name, in the order they are first set.
        problems: what is wrong in the files.
        complete: whether every line could be read.
        schema: what the comments say of the variables.
    """

    entries: Mapping[str, Entry]
    problems: tuple[Problem, ...]
    complete: bool
    schema: Schema = field(default_factory=Schema)


def declared(root: Path, name: str) -> Declared:
    """Read and merge the dotenv files of an environment; a file that is not there is empty."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    loose: list[Problem] = []
    for file in file_names(name):
        text, fault = _read(root, file)
        if fault is not None:
            problems.append(fault)
        found, faults, comments = _entries(file, text)
        entries += found
        problems += faults
        described = () if file in schema.FILES else (each for entry in found for each in entry.comments)
        loose += schema.misplaced(file, (*comments, *described))
    complete = not problems
    problems += [*loose, *(entry.problem for entry in entries if entry.problem is not None)]
    problems += _duplicates(entries)
    declarations, faults = _schema_of(root, entries)
    # Only the last value of a name counts: what it replaces need not be reachable. An entry of the schema
    # without a value only declares.
    merged = {entry.name: entry for entry in entries if entry.file != SCHEMA_FILE or entry.value}
    return Declared(merged, (*problems, *faults), complete, declarations)


def entries_of(root: Path, file: str) -> tuple[list[Entry], list[Problem]]:
    """Return the entries of one dotenv file and what is wrong in it.

    Args:
        root: the repository.
        file: the file, relative to it; one that is not there is empty.
    """
    text, fault = _read(root, file)
    found, problems, _ = _entries(file, text)
    problems += [each.problem for each in found if each.problem is not None]
    return found, [*([fault] if fault else []), *problems]


def names_of_all(root: Path) -> frozenset[str]:
    """Return every name that a dotenv file of any environment holds."""
    files = dict.fromkeys(file for name in environments_of(root) for file in file_names(name))
    return frozenset(entry.name for file in files for entry in entries_of(root, file)[0])


def schema_of(root: Path) -> tuple[Schema, list[Problem]]:
    """Return what the comments of the files say of the variables, and what is wrong with the comments."""
    found = [entry for file in schema.FILES for entry in entries_of(root, file)[0]]
    return _schema_of(root, found)


def _schema_of(root: Path, entries: Iterable[Entry]) -> tuple[Schema, list[Problem]]:
    places = (entry.place for entry in entries if entry.file in schema.FILES and _shown(entry.name))
    is_whole = (root / SCHEMA_FILE).is_file()
    return schema.read(places, environments_of(root), is_whole=is_whole)


def resolver_of(
    root: Path,
    found: Declared,
    process: Mapping[str, str],
    settings: SecretsSettings,
    cache: Cache | None = None,
) -> Resolver:
    """Return what resolves the references of an environment."""
    values = {
        name: entry.reference or entry.value for name, entry in found.entries.items() if entry.problem is None
    }
    return Resolver(root, process, settings, values, cache)


def load(
    root: Path,
    name: str,
    rules: VariablesSettings,
    process: Mapping[str, str],
    settings: SecretsSettings | None = None,
    cache: Cache | None = None,
    *,
    protected: bool = False,
) -> Variables:
    """Read, merge and resolve the variables of an environment.

    Args:
        root: the repository.
        name: the environment's name.
        rules: which names are secret and which are not.
        process: the variables `${env:NAME}` refers to.
        settings: how the providers are reached.
        cache: keeps fetched secrets for a while; None: nothing does.
        protected: what the schema says against a value that can be guessed is a problem, not a warning.
    """
    found = declared(root, name)
    with resolver_of(root, found, process, settings or SecretsSettings(), cache) as resolver:
        values, faults, notes = _resolved(found, rules, resolver)
    places = {each: entry.place for each, entry in found.entries.items()}
    checked = schema.check(found.schema, places, values, environment=name, protected=protected)
    problems = (*found.problems, *faults, *checked.problems)
    names = frozenset(found.entries), frozenset(found.schema.declarations)
    doubtful = tuple(_doubtful(found.entries.values()))
    warnings = (*checked.warnings, *doubtful)
    return Variables(values, problems, names[0], found.complete, notes, warnings, names[1], doubtful)


def _doubtful(entries: Iterable[Entry]) -> Iterator[Problem]:
    """Yield a warning for each plain value that has a reference inside: it would be deployed as it is."""
    what = "looks like a reference inside a text, which is taken as it is"
    allowed = "the reference alone; keep the whole value where it is kept"
    for entry in entries:
        if entry.reference is None and entry.problem is None and has_inside(entry.value):
            yield Problem(entry.file, entry.name, what, line=entry.line, allowed=allowed)


def is_secret(name: str, value: str, rules: VariablesSettings, marked: bool | None = None) -> bool:
    """Whether a variable's value must never be shown.

    It is when `rules.secret` names it, when the value itself says so (a URL with a password, a private
    key, a token), or when the name or the value's shape says so and `rules.public` does not name it.

    Args:
        name: the variable's name.
        value: its value.
        rules: the environment's `[variables]` table.
        marked: what the schema says: secret, public, or None for nothing.
    """
    if marked or _matches(name, rules.secret) or value_is_secret(value):
        return True
    if marked is False or _matches(name, rules.public) or value.lower() in _TELLS_NOTHING:
        return False
    return name_is_secret(name) or may_be_token(value)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _read(root: Path, file: str) -> tuple[str, Problem | None]:
    """Return a file's text with its line ends as they are, or what keeps it from being read."""
    try:
        data = (root / file).read_bytes()
    except FileNotFoundError:
        return "", None
    except OSError as error:
        return "", Problem(file, "", f"cannot be read: {error.strerror}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", Problem(file, "", "is not UTF-8 text", line=data.count(b"\n", 0, error.start) + 1)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return "", Problem(file, "", "holds a NUL byte, which no variable can hold", line=line)
    return text, None


def _entries(file: str, text: str) -> tuple[list[Entry], list[Problem], list[Comment]]:
    """Return the entries of a file, the lines that are none, and the comments that belong to no entry."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    loose: list[Comment] = []
    above: list[Comment] = []
    for line, binding in bindings(text):
        string = binding.original.string
        if _BLANK_LINE.match(string):
            loose, above = loose + above, []
        if binding.error:
            problems.append(
                Problem(file, "", "the line cannot be read", line=line, allowed="KEY=value, quotes closed")
            )
        elif binding.key is not None and binding.value is None:
            # The word is not shown: it may be a line of a secret that lost its quotes.
            problems.append(Problem(file, "", "a word without `=`", line=line, allowed="KEY=value"))
        elif binding.key is not None:
            entry = _entry(file, line, binding.key, binding.value or "")
            entries.append(replace(entry, comments=tuple(above)))
        elif string.strip():
            above.append(Comment(string.strip(), line))
            continue
        above = above if binding.key is None and not binding.error else []
    return entries, problems, loose + above


# Before the entry that a parser takes them as a part of.
_BLANK_LINE: Final = re.compile(r"[^\S\r\n]*[\r\n]")


def _shown(key: str) -> str:
    """Return a key that is a valid name; another one may be a part of a secret."""
    return key if entry_fault(key, "") == "" else ""


def _entry(file: str, line: int, name: str, value: str) -> Entry:
    def with_problem(what: str, allowed: str = "", nearest: str = "") -> Entry:
        problem = Problem(file, _shown(name), what, line=line, allowed=allowed, nearest=nearest)
        return Entry(name, value, file, line, problem=problem)

    if fault := entry_fault(name, value):
        return with_problem(fault)
    try:
        return Entry(name, value, file, line, reference=parse(value))
    except InvalidReference as error:
        return with_problem(error.message, error.allowed, error.nearest)


def _duplicates(entries: Iterable[Entry]) -> list[Problem]:
    """Return the names that one file sets twice: the first value would be dropped in silence."""
    first: dict[tuple[str, str], Entry] = {}
    problems = []
    for entry in entries:
        before = first.setdefault((entry.file, entry.name), entry)
        if before is not entry:
            what = f"set twice in this file, first in line {before.line}"
            problems.append(Problem(entry.file, _shown(entry.name), what, line=entry.line))
    return problems


def _resolved(
    declared: Declared, rules: VariablesSettings, resolver: Resolver
) -> tuple[dict[str, Variable], list[Problem], tuple[str, ...]]:
    right = [entry for entry in declared.entries.values() if entry.problem is None]
    found = resolver.resolve(entry.reference for entry in right if entry.reference)
    values: dict[str, Variable] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for entry in right:
        if entry.reference is None:
            values[entry.name] = Variable(entry.name, _plain(entry, rules, declared.schema), entry.origin)
            continue
        resolution = found[entry.reference]
        fault = _fault(entry.name, resolution)
        if fault or isinstance(resolution.value, Failure):
            what = f"{entry.reference}: {fault}"
            problems.append(Problem(entry.file, entry.name, what, line=entry.line))
            continue
        values[entry.name] = Variable(
            entry.name, resolution.value, entry.origin, entry.reference, resolution.source
        )
        if resolution.note:
            notes.append(f"{entry.name} ({entry.origin}) is {resolution.note}")
    return values, problems, tuple(notes)


def _plain(entry: Entry, rules: VariablesSettings, described: Schema) -> str | Sensitive:
    secret = is_secret(entry.name, entry.value, rules, described.sensitive(entry.name))
    return Sensitive(entry.value) if secret else entry.value


def _fault(name: str, resolution: Resolution) -> str:
    if isinstance(resolution.value, Failure):
        return str(resolution.value)
    return entry_fault(name, resolution.value.reveal())
