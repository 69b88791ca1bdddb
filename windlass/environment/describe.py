"""Reads the types of the environment model: what a place in the files may hold, in words.

Error messages and the reference both take their words from here.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from windlass.fields import Allowed, Section

_LIMITS: dict[type, tuple[str, str]] = {
    Ge: ("ge", "at least"),
    Gt: ("gt", "more than"),
    Le: ("le", "at most"),
    Lt: ("lt", "less than"),
}
_SCALARS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without `Annotated` and `| None`, and the metadata it carried."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        found, metadata = bare(inner)
        flat = [item for extra in extras for item in _metadata(extra)]
        return found, (*metadata, *flat)
    if get_origin(annotation) in {Union, types.UnionType}:
        members = [each for each in get_args(annotation) if each is not types.NoneType]
        if len(members) == 1:
            return bare(members[0])
    return annotation, ()


def _metadata(extra: Any) -> Iterable[Any]:
    return extra.metadata if isinstance(extra, FieldInfo) else (extra,)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types a union is of; a type that is no union is its only member."""
    plain = bare(annotation)[0]
    return get_args(plain) if get_origin(plain) in {Union, types.UnionType} else (plain,)


def is_section(annotation: Any) -> bool:
    """Whether a type is a table of the model."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def field_type(field: FieldInfo) -> Any:
    """Return a field's type with its metadata, as one annotation."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def allowed(annotation: Any) -> str:
    """Return in words what a type allows, for an error message."""
    plain, metadata = bare(annotation)
    if described := _described(metadata):
        # The words say what the type itself allows; a field may be narrower.
        return described.words + _bounds([limit for limit in metadata if type(limit) is Gt])
    origin = get_origin(plain)
    if origin is Literal:
        return any_of([literal(value) for value in get_args(plain)])
    if origin is list:
        filled = ", not empty" if any(isinstance(item, MinLen) for item in metadata) else ""
        return f"list{filled}, each item: {allowed(get_args(plain)[0])}"
    if origin is dict:
        return _allowed_table(plain)
    if origin in {Union, types.UnionType}:
        return (
            "table" if is_section(members(plain)[0]) else any_of([allowed(each) for each in members(plain)])
        )
    return "table" if is_section(plain) else _SCALARS[plain] + _bounds(metadata)


def short(annotation: Any) -> str:
    """Return in a word or two what a type is, for the reference."""
    plain, metadata = bare(annotation)
    if described := _described(metadata):
        return described.short
    origin = get_origin(plain)
    if origin is Literal:
        return any_of([f"`{literal(value)}`" for value in get_args(plain)])
    if origin is list:
        return f"list of {short(get_args(plain)[0])}"
    if origin is dict and not is_section(members(get_args(plain)[1])[0]):
        return f"table of {short(get_args(plain)[1])}"
    if origin in {Union, types.UnionType} and not is_section(members(plain)[0]):
        return any_of([short(each) for each in members(plain)])
    return allowed(annotation)


def _described(metadata: Sequence[object]) -> Allowed | None:
    return next((item for item in metadata if isinstance(item, Allowed)), None)


def _allowed_table(plain: Any) -> str:
    of = members(get_args(plain)[1])[0]
    return (
        "table of tables, by name" if is_section(of) else f"table, each value: {allowed(get_args(plain)[1])}"
    )


def _bounds(metadata: Sequence[object]) -> str:
    """Return the limits of a number: `, 1 to 65535`, `, at least 1`."""
    limits = {type(item): getattr(item, _LIMITS[type(item)][0]) for item in metadata if type(item) in _LIMITS}
    if limits.keys() == {Ge, Le}:
        return f", {limits[Ge]} to {limits[Le]}"
    return "".join(f", {_LIMITS[kind][1]} {limit}" for kind, limit in limits.items())


def any_of(words: Sequence[str]) -> str:
    """Return a list of alternatives as people write it: `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def literal(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{bare_key(key)} = {literal(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def bare_key(key: str) -> str:
    """Return a key as TOML writes it, in quotes where it needs them."""
    plain = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if plain else json.dumps(key, ensure_ascii=False)


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as a dotted key: `hosts.web.port`, `stack.files[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{bare_key(part)}"
    return text.removeprefix(".")
