"""The target of a reference, for providers that keep documents with fields and versions.

Grammar: `path[#field][?key=value[&key=value…]]`. Each part is percent-decoded (RFC 3986, section 2.1), so
that a name may hold `#`, `?`, `&`, `%` and braces. Whether a key is known says the provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any
from urllib.parse import quote, unquote

from windlass.secrets.providers.base import Failure, Resolved
from windlass.shell import Sensitive

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Target:
    """Where a secret is inside its provider.

    Args:
        path: the document's name.
        field: the field of a document that is JSON; empty: the whole document.
        options: what else was said, such as `{"stage": "AWSPREVIOUS"}`.
    """

    path: str
    field: str = ""
    options: Mapping[str, str] = default(default_factory=dict)

    def __str__(self) -> str:
        text = quote(self.path, safe="/:@+=,~!$'()*;[] ")
        if self.field:
            text += "#" + quote(self.field, safe="/:@+=,~!$'()*;[] ")
        if self.options:
            pairs = (f"{key}={quote(value, safe='/:@+,~')}" for key, value in self.options.items())
            text += "?" + "&".join(pairs)
        return text


def target_fault(text: str, options: Collection[str] = (), *, fields: bool = True) -> str:
    """Return what is wrong with a target, in words; empty when nothing is.

    Args:
        text: the target.
        options: the keys the provider knows.
        fields: whether the provider knows fields.
    """
    if text != text.strip():
        return "the target has spaces around it"
    if _BAD_ESCAPE.search(text):
        return "a `%` stands before two hexadecimal digits only; `%25` is the sign itself"
    before, question, query = text.partition("?")
    return _path_fault(before, fields=fields) or (_options_fault(query, options) if question else "")


def _path_fault(before: str, *, fields: bool) -> str:
    path, mark, name = before.partition("#")
    if not path:
        return "the name is missing"
    if mark and not fields:
        return "it has no fields, so `#` must be written `%23`"
    if mark and not name:
        return "the name of the field is missing after `#`"
    if "#" in name:
        return "there is a second `#`; inside a name it is written `%23`"
    return ""


def _options_fault(query: str, options: Collection[str]) -> str:
    known = f"known: {', '.join(sorted(options))}" if options else "none is known here"
    seen = set()
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            return "after `?` come options as `key=value`, with `&` between them"
        if key not in options:
            return f"`{key}` is no option; {known}"
        if key in seen:
            return f"the option `{key}` is given twice"
        seen.add(key)
    return ""


def parse_target(text: str) -> Target:
    """Read a target that `target_fault` found nothing wrong with."""
    before, _, query = text.partition("?")
    path, _, name = before.partition("#")
    pairs = (part.split("=", 1) for part in query.split("&") if part)
    return Target(unquote(path), unquote(name), {key: unquote(value) for key, value in pairs})


def field_of(document: str, name: str) -> Resolved:
    """Return a field of a JSON document as text.

    The field is the key as it is, else a path of keys with dots between. Texts are given as they are, numbers
    and truth values as JSON writes them, tables and lists as compact JSON.
    """
    try:
        data = json.loads(document)
    except ValueError:  # its message would hold a part of the document
        return Failure(f"it is not JSON, so it has no field {name}", "leave `#…` out to get it whole")
    found = _lookup(data, name)
    if found is _MISSING:
        names = ", ".join(sorted(map(str, data))) if isinstance(data, dict) else ""
        hint = f"its fields are: {names}" if names else "it is no JSON table"
        return Failure(f"it has no field {name}", hint, missing=True)
    if found is None:
        return Failure(f"its field {name} is null", missing=True)
    if isinstance(found, str):
        return Sensitive(found)
    return Sensitive(json.dumps(found, ensure_ascii=False, separators=(",", ":")))


_MISSING: Any = object()


def _lookup(data: Any, name: str) -> Any:
    if isinstance(data, dict) and name in data:
        return data[name]
    for key in name.split("."):
        if not isinstance(data, dict) or key not in data:
            return _MISSING
        data = data[key]
    return data


def with_fields(document: str, fields: Mapping[str, str]) -> str:
    """Return a JSON document with these texts as fields of its outermost table, the others as they were.

    Raises:
        ValueError: the document is no JSON table; the message holds nothing of it.
    """
    try:
        data = json.loads(document) if document.strip() else {}
    except ValueError:
        raise ValueError("it is not JSON, so no field can be set") from None
    if not isinstance(data, dict):
        raise ValueError("it is no JSON table, so no field can be set")  # noqa: TRY004 - of the document
    return json.dumps({**data, **fields}, ensure_ascii=False)
