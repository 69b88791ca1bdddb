"""The schema of variables: what the comments in `envs/schema.env` and `envs/base.env` say of each.

A variable that stands in `envs/schema.env` is declared. Its value there is the default, which every other
file of `envs/` replaces; without one it has none. The comments right above it are its description and its
decorators (`windlass.environment.decorators`). No sentence of a check holds a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from windlass.environment import decorators
from windlass.environment.decorators import Decorator, DecoratorFault
from windlass.environment.environment import Variable
from windlass.environment.problems import Problem, nearest
from windlass.environment.strength import is_placeholder, weakness
from windlass.environment.value_types import ValueType, read_type
from windlass.shell import reveal

SCHEMA_FILE: Final = "envs/schema.env"
BASE_FILE: Final = "envs/base.env"
# The files whose comments are read; in the others a decorator would be one for a single environment.
FILES: Final = (SCHEMA_FILE, BASE_FILE)
# The redactor does not search for shorter values: they are parts of ordinary words.
_LEAST_MASKED: Final = 4


@dataclass(frozen=True)
class Comment:
    """A line of comment, with its `#`, and the line it is in, from 1."""

    text: str
    line: int


@dataclass(frozen=True)
class Place:
    """Where an entry stands.

    Args:
        name: the variable's name.
        file: the file, relative to the repository.
        line: its line, from 1.
        comments: the lines of comment right above it.
        is_empty: whether it holds no value.
    """

    name: str
    file: str
    line: int
    comments: tuple[Comment, ...] = ()
    is_empty: bool = False


@dataclass(frozen=True)
class Declaration:
    """What the schema says of one variable.

    Args:
        name: the variable's name.
        file: where it is declared, relative to the repository.
        line: the line of its entry.
        description: the comments above it that are no decorators; lines with `\\n` between.
        always: it is required in every environment.
        environments: those it is required in.
        sensitive: whether its value is secret; None: its name and its value say so.
        type: what the value must be; None: any text.
        example: a value to show; empty: none.
        min_bits: the least strength of a secret in bits; None: the usual rules; 0: none.
        deprecated: what to use instead, or an empty text; None: it is not deprecated.
    """

    name: str
    file: str
    line: int
    description: str = ""
    always: bool = False
    environments: frozenset[str] = frozenset()
    sensitive: bool | None = None
    type: ValueType | None = None
    example: str = ""
    min_bits: int | None = None
    deprecated: str | None = None

    def is_required(self, environment: str) -> bool:
        """Whether the variable must have a value in an environment."""
        return self.always or environment in self.environments


@dataclass(frozen=True)
class Schema:
    """The variables that are declared.

    Args:
        declarations: by name, in the order of the files.
        is_whole: there is an `envs/schema.env`, so that a variable without a declaration is a mistake.
    """

    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    is_whole: bool = False

    def sensitive(self, name: str) -> bool | None:
        """Return whether a variable is said to be secret or public; None when nothing is said."""
        declaration = self.declarations.get(name)
        return declaration.sensitive if declaration else None

    def type_of(self, name: str) -> str:
        """Return a variable's type as it is written; empty when it has none."""
        declaration = self.declarations.get(name)
        return str(declaration.type) if declaration and declaration.type else ""


@dataclass(frozen=True)
class Findings:
    """What a check of values against the schema found."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def read(
    entries: Iterable[Place], environments: Collection[str], *, is_whole: bool
) -> tuple[Schema, list[Problem]]:
    """Read the declarations.

    Args:
        entries: the entries of `FILES` with the comments above them.
        environments: the names that `@required(…)` may hold.
        is_whole: there is an `envs/schema.env`.
    """
    declarations: dict[str, Declaration] = {}
    problems: list[Problem] = []
    for entry in entries:
        if entry.file != SCHEMA_FILE and not any(decorators.is_meant(each.text) for each in entry.comments):
            continue
        before = declarations.get(entry.name)
        if before is not None:
            if before.file != entry.file:
                what = f"has decorators here and is declared in {before.file}:{before.line}"
                problems.append(Problem(entry.file, entry.name, what, line=entry.line, allowed="one of them"))
            continue
        declarations[entry.name], faults = _declaration(entry, environments)
        problems += faults
    return Schema(declarations, is_whole), problems


def misplaced(file: str, comments: Iterable[Comment]) -> Iterator[Problem]:
    """Yield a problem for each line of decorators that belongs to no variable, or to a file without them."""
    for comment in comments:
        if file in FILES and decorators.is_meant(comment.text):
            what = "decorators that belong to no variable"
            yield Problem(file, "", what, line=comment.line, allowed="the lines right above KEY=value")
        elif file not in FILES and decorators.names_known(comment.text):
            what = "a decorator that counts for nothing in this file"
            yield Problem(file, "", what, line=comment.line, allowed=f"it stands in {' or '.join(FILES)}")


def _declaration(entry: Place, environments: Collection[str]) -> tuple[Declaration, list[Problem]]:
    declaration = Declaration(entry.name, entry.file, entry.line, _description(entry.comments))
    problems: list[Problem] = []
    seen: dict[str, Decorator] = {}
    for comment in entry.comments:
        if not decorators.is_meant(comment.text):
            continue
        try:
            for decorator in decorators.parse(comment.text):
                _refuse_contradiction(seen, decorator)
                declaration = _with(declaration, decorator, environments)
        except DecoratorFault as fault:
            problems.append(_problem(entry, comment, fault))
            # What it would have said is not known: until it can be read, the value is not shown.
            declaration = replace(declaration, sensitive=True)
    return declaration, problems or list(_example_problems(declaration))


def _description(comments: Sequence[Comment]) -> str:
    lines = (decorators.description_of(each.text) for each in comments if not decorators.is_meant(each.text))
    return "\n".join(lines).strip("\n")


_OPPOSITES: Final = {
    "required": "optional",
    "optional": "required",
    "sensitive": "public",
    "public": "sensitive",
}


def _refuse_contradiction(seen: dict[str, Decorator], decorator: Decorator) -> None:
    name = decorator.form.name
    if name in seen:
        raise DecoratorFault(f"`@{name}` stands twice", decorator.column)
    if _OPPOSITES.get(name, "") in seen:
        raise DecoratorFault(f"`@{name}` contradicts `@{_OPPOSITES[name]}`", decorator.column)
    seen[name] = decorator


def _with(declaration: Declaration, decorator: Decorator, environments: Collection[str]) -> Declaration:
    """Return a declaration with what one decorator says."""
    return replace(declaration, **_said(decorator, environments))


def _said(decorator: Decorator, environments: Collection[str]) -> dict[str, Any]:
    """Return the fields of a declaration that a decorator sets."""
    match decorator.form.name:
        case "required":
            _refuse_unknown(decorator, environments)
            return {"always": not decorator.names, "environments": frozenset(decorator.names)}
        case "optional":
            return {"always": False}
        case "sensitive" | "public" as name:
            return {"sensitive": name == "sensitive"}
        case "type" if decorator.call:
            return {"type": read_type(decorator.call)}
        case "min_entropy":
            return {"min_bits": int(decorator.text)}
        case name:
            return {name: decorator.text}


def _refuse_unknown(decorator: Decorator, environments: Collection[str]) -> None:
    for name in decorator.names:
        if name not in environments:
            raise DecoratorFault(
                f"there is no environment `{name}`",
                decorator.column,
                ", ".join(sorted(environments)),
                nearest(name, environments),
            )


def _problem(entry: Place, comment: Comment, fault: DecoratorFault) -> Problem:
    column = comment.text.find("@") + fault.column + 1
    return Problem(
        entry.file,
        entry.name,
        fault.what,
        line=comment.line,
        column=column,
        allowed=fault.allowed,
        nearest=fault.nearest,
    )


def _example_problems(declaration: Declaration) -> Iterator[Problem]:
    if declaration.example and declaration.type and (fault := declaration.type.fault(declaration.example)):
        what = f"its example {fault}"
        yield Problem(
            declaration.file, declaration.name, what, line=declaration.line, allowed=str(declaration.type)
        )


def check(
    schema: Schema,
    entries: Mapping[str, Place],
    values: Mapping[str, Variable],
    *,
    environment: str,
    protected: bool,
) -> Findings:
    """Check the values of an environment.

    Args:
        schema: what is declared.
        entries: the entry that counts for each name.
        values: the values that could be had, by name.
        environment: the environment's name.
        protected: placeholders and weak keys are problems then, else warnings.
    """
    problems = list(_missing(schema, entries, environment))
    guesses: list[Problem] = []
    warnings = list(_undeclared(schema, entries)) + list(_deprecated(schema, entries))
    for name, variable in values.items():
        text, entry = reveal(variable.value), entries[name]
        if not text.strip():
            continue
        declaration = schema.declarations.get(name)
        fault = _type_problem(declaration, entry, text)
        if fault is not None:
            problems.append(fault)
        guess = _guessable(declaration, entry, text, secret=variable.secret)
        if guess is not None and (fault is None or guess.what.startswith(_STAND_IN)):
            guesses.append(guess)
        if declaration and declaration.sensitive and len(text) < _LEAST_MASKED:
            what = (
                f"is shorter than {_LEAST_MASKED} characters, so it cannot be masked in what programs print"
            )
            warnings.append(_at(entry, what))
    return (
        Findings((*problems, *guesses), tuple(warnings))
        if protected
        else Findings(tuple(problems), (*warnings, *guesses))
    )


_STAND_IN: Final = "is a placeholder"


def _at(entry: Place, what: str, allowed: str = "", close: str = "") -> Problem:
    return Problem(entry.file, entry.name, what, line=entry.line, allowed=allowed, nearest=close)


def _missing(schema: Schema, entries: Mapping[str, Place], environment: str) -> Iterator[Problem]:
    for name, declaration in schema.declarations.items():
        if not declaration.is_required(environment):
            continue
        type_words = str(declaration.type or "")
        if name not in entries:
            what = f"is required in {environment} and no file of envs/ sets it"
            yield Problem(declaration.file, name, what, line=declaration.line, allowed=type_words)
        elif entries[name].is_empty:
            what = f"is required in {environment} and is empty"
            yield _at(entries[name], what, type_words)


def _undeclared(schema: Schema, entries: Mapping[str, Place]) -> Iterator[Problem]:
    if not schema.is_whole:
        return
    for name, entry in entries.items():
        if name not in schema.declarations:
            yield _at(entry, f"is not declared in {SCHEMA_FILE}", close=nearest(name, schema.declarations))


def _deprecated(schema: Schema, entries: Mapping[str, Place]) -> Iterator[Problem]:
    for name, declaration in schema.declarations.items():
        if declaration.deprecated is None or name not in entries:
            continue
        instead = f": {declaration.deprecated}" if declaration.deprecated else ""
        yield _at(entries[name], f"is deprecated{instead}")


def _type_problem(declaration: Declaration | None, entry: Place, text: str) -> Problem | None:
    if declaration is None or declaration.type is None:
        return None
    fault = declaration.type.fault(text)
    return _at(entry, fault, str(declaration.type)) if fault else None


def _guessable(declaration: Declaration | None, entry: Place, text: str, *, secret: bool) -> Problem | None:
    """Return why a value must not protect anything; None when nothing is known against it."""
    form = declaration.type.form if declaration and declaration.type else None
    min_bits = declaration.min_bits if declaration else None
    # The values of an enumeration are meant; so is what the schema itself says is not to be checked.
    if form and form.name in {"enum", "json", "pem"}:
        return None
    if min_bits != 0 and is_placeholder(text, secret=secret):
        remedy = ": `inv env.generate` makes keys and passwords" if secret else ""
        return _at(entry, f"{_STAND_IN} and no value{remedy}")
    if not secret or declaration is None:
        return None
    if min_bits is None and not (form and form.strong):
        return None
    decoded = declaration.type.decoded(text) if declaration.type else None
    fault = weakness(text, decoded=decoded, min_bits=min_bits)
    return (
        _at(entry, f"{fault}: it can be guessed", "`inv env.generate` makes a strong one") if fault else None
    )
