"""Writes `.env.example` from the schema and the files of `envs/` that git keeps; no secret is in it.

The text depends on those files alone, so that CI can compare it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from windlass.environment import inspection, variables
from windlass.environment.decorators import description_of
from windlass.environment.loading import names
from windlass.environment.model import VariablesSettings
from windlass.environment.schema import BASE_FILE, SCHEMA_FILE, Declaration
from windlass.environment.variables import Entry, is_secret
from windlass.errors import ConfigurationError
from windlass.secrets.redaction import Redactor
from windlass.secrets.writers import dotenv_quote

NAME: Final = ".env.example"
# The first line, by which the file is known as one that may be written again.
MARK: Final = "# Written by `inv env.example` from the files in envs/; change those."
# What stands without quotes in a shell, in Compose and in python-dotenv.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


def text(root: Path) -> str:
    """Return the file.

    Raises:
        ConfigurationError: a file of envs/ cannot be read; the error names every problem.
    """
    work = _Work(root)
    blocks = [work.block(name) for name in work.names()]
    return "\n".join([MARK, "", *(line for block in blocks for line in (*block, ""))]).rstrip("\n") + "\n"


def is_own(path: Path) -> bool:
    """Whether a file may be written again: it is not there, or was written by `env.example`."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\r\n") == MARK
    except FileNotFoundError:
        return True


class _Work:
    """The files of all environments while the example is made of them."""

    def __init__(self, root: Path) -> None:
        environments = names(root)
        files = (SCHEMA_FILE, BASE_FILE, *(f"envs/{each}.env" for each in environments))
        self._entries: dict[str, list[Entry]] = {}
        problems = []
        for file in files:
            found, faults = variables.entries_of(root, file)
            problems += faults
            for entry in found:
                self._entries.setdefault(entry.name, []).append(entry)
        schema, faults = variables.schema_of(root)
        if problems or faults:
            listed = "\n".join(f"  {each}" for each in (*problems, *faults))
            raise ConfigurationError(f"The files in envs/ have problems:\n{listed}")
        self._declared: Mapping[str, Declaration] = schema.declarations
        self._rules = [inspection.rules_of(root, each) for each in environments] or [VariablesSettings()]
        self._redactor = Redactor(
            entry.value
            for found in self._entries.values()
            for entry in found
            if entry.reference is None and self._is_secret(entry.name, entry.value)
        )

    def names(self) -> list[str]:
        """Return the variables: the declared ones in their order, then the others in theirs."""
        gone = {name for name, each in self._declared.items() if each.deprecated is not None}
        return [name for name in {**self._declared, **self._entries} if name not in gone]

    def block(self, name: str) -> Iterator[str]:
        """Yield the lines of a variable."""
        declaration = self._declared.get(name)
        description = declaration.description if declaration else self._comment(name)
        for line in description.splitlines():
            yield f"# {self._redactor.redact(line)}".rstrip()
        about = " ".join(self._about(name, declaration))
        if about:
            yield f"# {about}"
        value = self._value(name, declaration)
        yield f"{name}={value if _PLAIN.fullmatch(value) else dotenv_quote(value)}"

    def _comment(self, name: str) -> str:
        """Return the comment above a variable in `envs/base.env`."""
        found = [each for each in self._entries[name] if each.file == BASE_FILE]
        return "\n".join(description_of(line.text) for each in found for line in each.comments)

    def _about(self, name: str, declaration: Declaration | None) -> Iterator[str]:
        if declaration is None:
            yield from ("Secret.",) if self._any_secret(name) else ()
            return
        if declaration.always:
            yield "Required."
        elif declaration.environments:
            yield f"Required in {' and '.join(sorted(declaration.environments))}."
        if declaration.type:
            yield f"Type: {declaration.type}."
        if self._any_secret(name):
            yield "Secret."

    def _value(self, name: str, declaration: Declaration | None) -> str:
        """Return what is shown: the example, or a default that is no secret, or nothing."""
        example = declaration.example if declaration else ""
        if example:
            # A value in use is no example, whoever wrote it down as one.
            return example if self._redactor.redact(example) == example else ""
        if self._any_secret(name):
            return ""
        shown = [
            each.value
            for each in self._entries.get(name, ())
            if each.file in {SCHEMA_FILE, BASE_FILE} and each.value
        ]
        value = shown[-1] if shown else ""
        return value if self._redactor.redact(value) == value else ""

    def _any_secret(self, name: str) -> bool:
        """Whether a variable is secret in some environment."""
        found = self._entries.get(name, ())
        return any(
            each.reference is not None or self._is_secret(name, each.value) for each in found
        ) or self._is_secret(name, "x")

    def _is_secret(self, name: str, value: str) -> bool:
        declaration = self._declared.get(name)
        marked = declaration.sensitive if declaration else None
        return any(is_secret(name, value, rules, marked) for rules in self._rules)
