"""Checks the merged files of an environment and says in which file each fault is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from windlass.environment.describe import (
    allowed,
    any_of,
    bare,
    dotted,
    field_type,
    is_section,
    literal,
    members,
)
from windlass.environment.files import (
    NOTHING,
    KeyPath,
    Table,
    TomlFile,
    line_of,
    owner,
    same_kind,
    table_at,
    value_at,
)
from windlass.environment.model import BackupSettings, Settings, VariablesSettings
from windlass.environment.problems import Problem, nearest
from windlass.secrets.generating import kind_fault
from windlass.secrets.references import InvalidReference, parse
from windlass.secrets.settings import SecretsSettings
from windlass.secrets.shapes import name_is_secret, value_is_secret
from windlass.shell import MASK

_SHOWN_LENGTH = 60
# What Pydantic puts after a table's key when the key itself is at fault.
_KEY_MARK = "[key]"


def settings_of(files: tuple[TomlFile, ...], merged: Table) -> tuple[Settings | None, list[Problem]]:
    """Validate the merged files.

    Args:
        files: the files, weakest first.
        merged: what they say together.

    Returns:
        The settings, or None; and the problems of the files' syntax and of every key in them.
    """
    problems = [each.problem for each in files if each.problem is not None]
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        checked = _Checked(files, merged)
        # What is missing may stand in the file that cannot be read.
        return None, problems + list(checked.problems(error, with_missing=not problems))
    if shown := list(_plugin_problems(files, merged)):
        # Settings are shown: there must be none that hold a secret.
        return None, problems + shown
    return settings, problems


def variable_rules(merged: Table) -> VariablesSettings:
    """Return the `[variables]` table; the default when it is not valid, which `settings_of` reports."""
    try:
        return VariablesSettings.model_validate(merged.get("variables", {}))
    except ValidationError:
        return VariablesSettings()


def secrets_settings(merged: Table) -> SecretsSettings:
    """Return the `[secrets]` table; the default when it is not valid, which `settings_of` reports."""
    try:
        return SecretsSettings.model_validate(merged.get("secrets", {}))
    except ValidationError:
        return SecretsSettings()


def store_problems(files: tuple[TomlFile, ...], merged: Table) -> Iterator[Problem]:
    """Yield a problem when `backup.store` is no key of `backup.stores`."""
    default = BackupSettings()
    backup = table_at(merged, "backup")
    stores = backup.get("stores", default.stores)
    store = backup.get("store", default.store)
    if isinstance(store, str) and isinstance(stores, dict) and store not in stores:
        path = ("backup", "store")
        what = (
            "is no key of backup.stores" if "store" in backup else "is missing, and there is no store `local`"
        )
        found = literal(store) if "store" in backup else ""
        options = any_of([literal(each) for each in stores]) if stores else "a store of backup.stores"
        yield _problem(files, path, what, found=found, allowed=options, close=nearest(store, stores))


def header_problems(
    files: tuple[TomlFile, ...], merged: Table, variables: AbstractSet[str]
) -> Iterator[Problem]:
    """Yield a problem for each secret header of a health check whose variable is in no file."""
    for name in table_at(merged, "health", "checks"):
        headers = table_at(merged, "health", "checks", name, "secret_headers")
        for header, variable in headers.items():
            if isinstance(variable, str) and variable not in variables:
                path = ("health", "checks", name, "secret_headers", header)
                close = nearest(variable, variables)
                what = "names a variable that no file of envs/ sets"
                yield _problem(files, path, what, found=literal(variable), close=close)


def rotation_problems(
    files: tuple[TomlFile, ...], merged: Table, variables: AbstractSet[str], all_variables: AbstractSet[str]
) -> Iterator[Problem]:
    """Yield what is wrong in `[secrets.rotation]`.

    Args:
        files: base.toml and the environment's own file.
        merged: what they say together.
        variables: the names that the environment's files set or declare.
        all_variables: those of every environment; base.toml may speak of them.
    """

    def unknown(path: KeyPath, name: str) -> Iterator[Problem]:
        known = all_variables if owner(files, path) is files[0] else variables
        if name not in known:
            what = "names a variable that no file of envs/ sets or declares"
            yield _problem(files, path, what, found=literal(name), close=nearest(name, known))

    for name in table_at(merged, "secrets", "rotation"):
        path = ("secrets", "rotation", name)
        rotation = table_at(merged, *path)
        previous, kind = rotation.get("previous"), rotation.get("generate")
        yield from unknown(path, name)
        if previous == name:
            what = "is the variable itself, which holds the new value"
            yield _problem(files, (*path, "previous"), what, found=literal(name), allowed="another variable")
        elif isinstance(previous, str):
            yield from unknown((*path, "previous"), previous)
        if isinstance(kind, str) and kind and (fault := kind_fault(kind)):
            yield _problem(files, (*path, "generate"), f"is not usable: {fault}")


def _plugin_problems(files: tuple[TomlFile, ...], merged: Table) -> Iterator[Problem]:
    """Yield a problem for each setting of a plugin that holds a secret instead of naming its place."""
    for plugin, settings in table_at(merged, "secrets", "plugins").items():
        for name, value in settings.items():
            if (name_is_secret(name) or value_is_secret(value)) and not _is_reference(value):
                path = ("secrets", "plugins", plugin, name)
                what = "is a secret, which is kept elsewhere"
                words = "reference to where it is kept, such as `${env:NAME}`"
                yield _problem(files, path, what, found=MASK, allowed=words)


def _is_reference(value: str) -> bool:
    try:
        return parse(value) is not None
    except InvalidReference:
        return False


def locate(location: Sequence[str | int]) -> tuple[KeyPath, Any]:
    """Return the keys that lead to an error of the model, and the type at its end.

    Pydantic's location also holds the tag of a union's member and the types of a union of scalars,
    which are no keys. For an unknown key the type is that of the table it is in; for a key of the
    wrong form it is that of the key.
    """
    path: list[str | int] = []
    annotation: Any = Settings
    key_type: Any = str
    for part in location:
        plain = bare(annotation)[0]
        if part == _KEY_MARK:
            return tuple(path), key_type
        if is_section(plain):
            path.append(part)
            if part not in plain.model_fields:
                return tuple(path), plain
            annotation = field_type(plain.model_fields[part])
        elif get_origin(plain) in {dict, list}:
            path.append(part)
            key_type, annotation = get_args(plain)[0], get_args(plain)[-1]
        elif not is_section(members(plain)[0]):
            break
        else:
            annotation = next(each for each in members(plain) if part in _kinds_of(each))
    return tuple(path), annotation


def _kinds_of(section: Any) -> tuple[Any, ...]:
    return get_args(section.model_fields["kind"].annotation)


class _Checked:
    """The files of an environment while the model's errors are put in the user's words."""

    def __init__(self, files: tuple[TomlFile, ...], merged: Table) -> None:
        self.files = files
        self.merged = merged

    def problems(self, error: ValidationError, *, with_missing: bool) -> Iterator[Problem]:
        """Yield a problem for each key at fault, once."""
        done: set[tuple[KeyPath, bool]] = set()
        for details in error.errors(include_url=False):
            path, annotation = locate(details["loc"])
            fault = (path, details["loc"][-1] == _KEY_MARK)
            missing = details["type"] in {"missing", "union_tag_not_found"}
            if fault not in done and (with_missing or not missing):
                done.add(fault)
                yield from self._problem(details, path, annotation)

    def _problem(self, details: ErrorDetails, path: KeyPath, annotation: Any) -> Iterator[Problem]:
        match details["type"]:
            case "extra_forbidden":
                yield from self._unknown_key(path, annotation)
            case "missing":
                yield _problem(self.files, path, "is missing", allowed=allowed(annotation))
            case "union_tag_not_found":
                yield _problem(self.files, (*path, "kind"), "is missing", allowed=_kinds(annotation))
            case "union_tag_invalid":
                yield self._wrong_value((*path, "kind"), _kinds(annotation))
            case _ if details["loc"][-1] == _KEY_MARK:
                yield _problem(self.files, path, "is no valid name", allowed=allowed(annotation))
            case _:
                yield self._wrong_value(path, allowed(annotation))

    def _unknown_key(self, path: KeyPath, section: Any) -> Iterator[Problem]:
        """Yield one problem for each file that has the key."""
        fields = sorted(section.model_fields)
        table = value_at(self.merged, path[:-1])
        for each in self.files:
            # A table of another kind was replaced, and the key may be right there.
            if value_at(each.data, path) is not NOTHING and same_kind(value_at(each.data, path[:-1]), table):
                close = nearest(str(path[-1]), fields)
                yield _problem((each,), path, "is no known key", allowed=", ".join(fields), close=close)

    def _wrong_value(self, path: KeyPath, words: str) -> Problem:
        value = value_at(self.merged, path)
        close = nearest(value, re.findall(r'"([^"]+)"', words)) if isinstance(value, str) else ""
        what = "has a wrong value"
        return _problem(self.files, path, what, found=_shown(path, value), allowed=words, close=close)


def _kinds(annotation: Any) -> str:
    return any_of([literal(kind) for each in members(annotation) for kind in _kinds_of(each)])


def _problem(
    files: tuple[TomlFile, ...],
    path: KeyPath,
    what: str,
    *,
    found: str = "",
    allowed: str = "",
    close: str = "",
) -> Problem:
    file = owner(files, path)
    line = line_of(file.text, path)
    return Problem(file.file, dotted(path), what, line=line, found=found, allowed=allowed, nearest=close)


def _shown(path: KeyPath, value: object) -> str:
    """Return a value for an error message: short, and masked when it may be a secret."""
    if isinstance(value, dict):
        return "a table"
    text = literal(value)
    if value_is_secret(text) or any(name_is_secret(str(part)) for part in path):
        return MASK
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"
