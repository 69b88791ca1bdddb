"""The types of keys of the environment files, and the table they stand in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h|d)?")
_UNIT_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Turn `90`, `"90s"`, `"10m"`, `"2h"` or `"1d"` into seconds; leave what is no duration to pydantic."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError('a duration is a number of seconds or a text such as "30s", "10m", "2h"')
    return float(match["number"]) * _UNIT_SECONDS[match["unit"]]


@dataclass(frozen=True)
class Allowed:
    """What a type allows.

    Args:
        words: in full, for error messages.
        short: in a word, for the reference.
    """

    words: str
    short: str = "text"


def _known_placeholders(text: str) -> str:
    """Refuse every `{…}` but `{app}`: another one would become part of a folder's name."""
    if re.search(r"[{}]", text.replace("{app}", "")):
        raise ValueError("a path whose only placeholder is `{app}`")
    return text


# ECMA 262, which editors use, has no named groups.
_DURATION_SCHEMA = re.sub(r"\?P<[a-z]+>", "", _DURATION.pattern)

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION_SCHEMA}$"}]}
    ),
    Allowed('duration: seconds, or a text such as "30s", "10m", "2h"', "duration"),
]
Severity = Literal["error", "warning", "off"]
Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9-]{0,38}$"),
    Allowed("name: small letters, digits and `-`, a letter first, at most 39", "name"),
]
VariableName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Allowed("variable name: letters, digits and `_`, no digit first", "variable name"),
]
Port = Annotated[int, Field(ge=1, le=65535)]
# These words become arguments of programs, where a leading `-` would be read as an option.
Argument = Annotated[
    str,
    Field(pattern=r"^[^\s\x00-\x1f-][^\s\x00-\x1f]*$"),
    Allowed("text without spaces that does not begin with `-`"),
]
OptionalArgument = Annotated[
    str,
    Field(pattern=r"^([^\s\x00-\x1f-][^\s\x00-\x1f]*)?$"),
    Allowed("text without spaces that does not begin with `-`, or empty"),
]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$"), Allowed("text of one line")]
FilledLine = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$"), Allowed("text of one line, not empty")]
Referenced = Annotated[
    str,
    Field(pattern=r"^\$\{[A-Za-z][A-Za-z0-9_-]*:[^\x00-\x1f]+\}$"),
    Allowed("reference to where the secret is kept, such as `${env:NAME}`", "reference"),
]
Folder = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f]+$"),
    AfterValidator(_known_placeholders),
    Allowed("path whose only placeholder is `{app}`", "path"),
]
Registry = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"),
    Allowed("`host[:port][/path]` in small letters, without scheme and without a final `/`"),
]
Header = Annotated[
    str,
    Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
    Allowed("header name: letters, digits and `-`"),
]
StatusCode = Annotated[int, Field(ge=100, le=599)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
