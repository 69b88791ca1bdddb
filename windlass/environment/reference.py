"""Writes the reference pages and the editors' schema from the code they describe.

`python -m windlass.environment.reference` writes them into `docs/reference/`, with `--check` it ends with 1
when one of them is not what the code says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo

from windlass.environment.decorators import DECORATORS
from windlass.environment.describe import allowed, bare, field_type, is_section, literal, members, short
from windlass.environment.model import Settings
from windlass.environment.value_types import TYPES, TypeForm
from windlass.errors import EXIT_CODES
from windlass.fields import Section
from windlass.secrets.providers.registry import BUILT_IN, built_in

FOLDER: Final = "docs/reference"
EXAMPLE: Final = """\
app = "shop"
protected = true

[hosts.web1]
address = "203.0.113.10"
user = "deploy"

[hosts.web2]
address = "203.0.113.11"
user = "deploy"
jump = "ops@bastion.example.com"

[stack]
files = ["compose.yaml", "compose.prod.yaml"]
public_services = ["edge"]

[images]
registry = "ghcr.io/acme"

[deploy]
health_timeout = "3m"

[deploy.migrate]
service = "api"
command = ["npx", "prisma", "migrate", "deploy"]

[databases.main]
service = "db"
name = "shop"

[backup]
store = "archive"

[backup.stores.archive]
path = "~/backups/shop"

[health.checks.api]
kind = "http"
service = "api"
url = "http://127.0.0.1:3000/health"
secret_headers = { "X-Health-Key" = "HEALTH_KEY" }
json_fields = { "status" = "ok", "database.connected" = true }
smoke = true

[health.checks.cache]
kind = "command"
service = "redis"
command = ["redis-cli", "ping"]
expect = "PONG"

[variables]
public = ["PUBLIC_*"]
"""
_HEAD: Final = (
    "<!-- Written by `python -m windlass.environment.reference`; edit the code it comes from. -->\n"
)
# Keywords of a JSON schema whose value is a table by names, not by keywords.
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs"})
_LEFT_OUT: Final = frozenset({"discriminator", "minProperties", "required", "title"})
_INTRODUCTION: Final = f"""\
# The environment files

An environment is what Windlass deploys to: its hosts, its stack and its variables. `envs/base.toml` holds
what all environments share and `envs/<name>.toml` what is special in one. Tables merge, lists and single
values replace; a table that changes its `kind` replaces as well. Every problem of the files is reported
at once, and a key that is not on this page is one.

The environment a task works on is the one named with `--env`, else that of `$WINDLASS_ENV`, else the one
whose file says `default = true`, else the only one.

A duration is a number of seconds or a text such as `"30s"`, `"10m"`, `"2h"` or `"1d"`.

Editors complete and check the files with [environment.schema.json](environment.schema.json): put
`#:schema ../docs/reference/environment.schema.json` in the first line, or the address of a copy.

## An example

```toml
{EXAMPLE}```
"""
_VARIABLES: Final = """\
## The variables: `envs/*.env`

The variables of the stack come from `envs/schema.env` (the defaults), then `envs/base.env`, then
`envs/<name>.env`, then `envs/<name>.local.env` (for one laptop, kept out of git); later files win. The
variables of your own process do not override them.

They are dotenv files: `KEY=value`, one each; `'single'` or `"double"` quotes around values with spaces,
`#` or line breaks. `$` means nothing, nothing is expanded, and every value arrives in the container byte
for byte. A line that cannot be read, a name set twice in one file and a name other than letters, digits
and `_` are problems.

A value can name a secret in place of holding it. The reference is the whole value:

| reference | gives |
|---|---|
{references}

A reference further on in a text is none: the text is taken as it is, and you are warned. Keep the whole value
where it is kept. A secret that is missing or empty is a problem. Text that only looks like a reference
(`${{word:…`) can be kept in a file and referenced with `${{file:…}}`.

A value is secret, and never shown, when it is referenced; when it is a URL with a password, a connection
string with one, a private key, or a token of GitHub, GitLab, Stripe or Slack; when its name says so
(`PASSWORD`, `SECRET`, `TOKEN`, `KEY`, `CREDENTIAL`, `DSN`, `PRIVATE` and the like as a word of it, `AUTH`,
`BEARER`, `JWT`, `PAT`, `SK` as its last); when it has the form of a JWT, an AWS key id or a Google API key;
or when `variables.secret` names it. `variables.public` names exceptions from the names and these three forms.
"""
_SCHEMA: Final = """\
## The schema of the variables: `envs/schema.env`

`envs/schema.env` declares the variables: an entry for each, its value the default, or none. The comments
right above an entry, without a blank line between, are its description and its decorators:

```ini
# Connection of the application.
# @required(prod, staging) @sensitive @type=url(schemes=postgres|postgresql)
# @example=postgres://user:password@db/shop
DATABASE_URL=

# @type=enum(debug|info|warning)
LOG_LEVEL=info
```

It stays a dotenv file that any reader takes. The same decorators are read in `envs/base.env`; a variable is
described in one of the two. A comment that begins with `@` and a letter is a line of decorators, and one that
cannot be read is a problem. Texts with spaces, `,`, `|`, `(` or `)` stand in quotes; there are no escapes.

A task that loads an environment refuses it with every problem at once, each with its file and line and never
with a value. A variable that stands in another file and not in `envs/schema.env` is a warning of `env.check`.

The decorators:

{decorators}

The types:

{types}

Where the environment is protected, a variable whose value is a placeholder (`change-this`, `<…>`, `xxx`,
`your-…-here`, and for a secret also `password`, `secret`, `example` or words such as
`prod-database-password`) is a problem, and so is a secret of the types {strong}
that is shorter than 8 characters, repeats itself or counts. Elsewhere both are warnings.
"""


def markdown() -> str:
    """Return the page about the environment files."""
    sections = "\n".join(_section(title, section) for title, section in tables())
    references = "\n".join(f"| `{each.form}` | {each.description} |" for each in map(built_in, BUILT_IN))
    variables = _VARIABLES.format(references=references)
    return f"{_HEAD}\n{_INTRODUCTION}\n{sections}\n{variables}\n{_schema()}"


def _schema() -> str:
    """Return the section about decorators and types."""
    strong = [f"`{each.name}`" for each in TYPES if each.strong]
    return _SCHEMA.format(
        decorators="\n".join(f"- `{each.form}`: {each.description}" for each in DECORATORS),
        types="\n".join(f"- `{each.form}`: {each.description}{_options(each)}" for each in TYPES),
        strong=f"{', '.join(strong[:-1])} and {strong[-1]}",
    )


def _options(kind: TypeForm) -> str:
    """Return what the options of a type mean."""
    named = [f"`{name}=` {option.description}" for name, option in kind.options.items() if name]
    return f" Options: {'; '.join(named)}." if named else ""


def exit_codes() -> str:
    """Return the page about exit codes."""
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in sorted(EXIT_CODES.items()))
    return (
        f"{_HEAD}\n# Exit codes\n\nEvery task ends with one of these, for scripts and CI.\n\n"
        f"| code | meaning |\n|---:|---|\n{rows}\n"
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one file of an environment.

    Each file is a part of the whole, so no key is required and a check may leave its `kind` to the
    other file.
    """
    schema: dict[str, Any] = _partial(Settings.model_json_schema())
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Windlass environment",
        "description": "envs/base.toml or envs/<name>.toml",
    }
    return {**head, **{keyword: value for keyword, value in schema.items() if keyword not in head}}


def tables() -> Iterator[tuple[str, type[Section]]]:
    """Yield the tables of the files, outermost first, each with its title."""
    yield "", Settings
    yield from _inner_tables("", Settings)


def _inner_tables(prefix: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    for name, field in section.model_fields.items():
        for title, inner in _sections_of(f"{prefix}{name}", field_type(field)):
            yield title, inner
            yield from _inner_tables(f"{title}.", inner)


def _sections_of(title: str, annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    plain = bare(annotation)[0]
    if get_origin(plain) is dict:
        yield from _sections_of(f"{title}.<name>", get_args(plain)[1])
        return
    for member in members(plain):
        if is_section(member):
            yield title, member


def _section(title: str, section: type[Section]) -> str:
    kind = section.model_fields.get("kind")
    suffix = f" with `kind = {allowed(field_type(kind))}`" if kind else ""
    heading = f"`[{title}]`{suffix}" if title else "Top level"
    rows = "\n".join(_row(name, field) for name, field in section.model_fields.items())
    text = " ".join((section.__doc__ or "").split())
    return f"## {heading}\n\n{text}\n\n| key | type | default | what it is |\n|---|---|---|---|\n{rows}\n"


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", short(field_type(field)), _default(field), field.description or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, Section):
        return "see its table"
    if isinstance(field.default, dict) and field.default:
        plain = {name: _plain(value) for name, value in field.default.items()}
        return f"`{literal(plain)}`"
    if short(field_type(field)) == "duration":
        return f"`{literal(_duration(field.default))}`"
    return f"`{literal(field.default)}`"


def _duration(seconds: float) -> float | str:
    """Return a duration as a person writes it: 600 is `10m`."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    return next((f"{seconds // size:.0f}{unit}" for unit, size in units if seconds % size == 0), seconds)


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, Section) else value


def _partial(schema: Any) -> Any:
    """Return a schema that also takes a part of what it describes, without what says nothing."""
    if isinstance(schema, list):
        return [_partial(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    part: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _BY_NAME:
            part[keyword] = {name: _partial(each) for name, each in value.items()}
        elif keyword not in _LEFT_OUT and not (
            keyword == "default" and (value is None or isinstance(value, dict))
        ):
            # Without `kind` several kinds of a table may match, which `oneOf` would refuse.
            part["anyOf" if keyword == "oneOf" else keyword] = _partial(value)
    if "patternProperties" in part:
        part.setdefault("additionalProperties", False)
    return _without_null(part)


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """Drop the alternative `null`, which TOML does not have: an empty key is left out."""
    alternatives = [each for each in part.get("anyOf", ()) if each != {"type": "null"}]
    if len(alternatives) != 1:
        return part
    return {keyword: value for keyword, value in part.items() if keyword != "anyOf"} | dict(alternatives[0])


def pages() -> dict[str, str]:
    """Return the generated files, by path relative to the repository."""
    return {
        f"{FOLDER}/environment.md": markdown(),
        f"{FOLDER}/environment.schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        f"{FOLDER}/exit-codes.md": exit_codes(),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` compare them.

    Returns:
        The exit code: 1 when `--check` found a page that is not what the code says, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m windlass.environment.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository; default: this folder")
    options = parser.parse_args(arguments)
    stale = [name for name, text in pages().items() if _content(options.root / name) != text]
    for name in stale:
        if options.check:
            sys.stdout.write(f"{name} is not what the code says: run python -m {__spec__.name}\n")
        else:
            (options.root / name).parent.mkdir(parents=True, exist_ok=True)
            (options.root / name).write_text(pages()[name], encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    return int(bool(stale) and options.check)


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
