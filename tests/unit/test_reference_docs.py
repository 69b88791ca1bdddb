from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.environment.describe import is_section
from windlass.environment.model import Settings
from windlass.environment.reference import (
    EXAMPLE,
    exit_codes,
    json_schema,
    main,
    markdown,
    pages,
    tables,
)
from windlass.errors import EXIT_CODES
from windlass.secrets.providers.registry import BUILT_IN, built_in

ROOT = Path(__file__).parents[2]


def test_the_pages_of_this_repository_are_what_the_code_says() -> None:
    for name, text in pages().items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, (
            f"run python -m windlass.environment.reference: {name}"
        )


def test_the_example_is_valid_and_on_the_page() -> None:
    settings = Settings.model_validate(tomllib.loads(EXAMPLE))
    assert settings.backup.store in settings.backup.stores
    assert EXAMPLE in markdown()


def test_every_key_has_its_row() -> None:
    sections = re.split(r"^## ", markdown(), flags=re.MULTILINE)
    for title, section in tables():
        kind = section.model_fields.get("kind")
        heading = f"`[{title}]`" if title else "Top level"
        matching = [
            text
            for text in sections
            if text.startswith(heading)
            and (kind is None or f'| `kind` | `"{kind.annotation.__args__[0]}"`' in text)  # type: ignore[union-attr]
        ]
        assert len(matching) == 1, title
        for name, field in section.model_fields.items():
            assert f"| `{name}` |" in matching[0]
            assert (field.description or "?").replace("|", "&#124;") in matching[0]


def test_every_row_has_four_cells() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `") and line[3] != "$"]
    assert len(rows) == sum(len(section.model_fields) for _, section in tables())
    assert {line.count(" | ") for line in rows} == {3}


def test_durations_are_shown_as_people_write_them() -> None:
    assert '| `timeout` | duration | `"6h"` |' in markdown()
    assert '| `connect_timeout` | duration | `"10s"` |' in markdown()


def test_every_provider_of_secrets_is_on_the_page() -> None:
    for provider in map(built_in, BUILT_IN):
        assert f"| `{provider.form}` | {provider.description} |" in markdown()


def test_every_exit_code_is_on_its_page() -> None:
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in exit_codes()


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(schema, list):
        for each in schema:
            yield from schemas(each)
    elif isinstance(schema, dict):
        yield schema
        for keyword, value in schema.items():
            named = keyword in {"properties", "patternProperties", "$defs"}
            yield from schemas(list(value.values()) if named else value)


def test_the_schema_takes_a_part_of_an_environment() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("draft/2020-12/schema")
    for each in schemas(schema):
        assert not {"required", "minProperties", "oneOf", "discriminator"} & set(each)
        assert {"type": "null"} not in each.get("anyOf", [])


def test_the_schema_knows_the_same_keys_as_the_model() -> None:
    schema = json_schema()
    for _, section in tables():
        part = schema if section is Settings else schema["$defs"][section.__name__]
        assert set(part["properties"]) == set(section.model_fields)
        assert part["additionalProperties"] is False


def test_the_schemas_patterns_are_ones_that_editors_read() -> None:
    patterns = [each["pattern"] for each in schemas(json_schema()) if "pattern" in each]
    assert patterns
    assert not [pattern for pattern in patterns if "(?P" in pattern]


def test_the_keys_of_the_example_are_in_the_schema() -> None:
    schema = json_schema()

    def check(data: dict[str, Any], part: dict[str, Any]) -> None:
        options = [
            schema["$defs"][each["$ref"].rpartition("/")[2]]
            for each in part.get("anyOf", [])
            if "$ref" in each
        ]
        if "$ref" in part:
            options = [schema["$defs"][part["$ref"].rpartition("/")[2]]]
        properties = {
            name: each for option in options or [part] for name, each in option.get("properties", {}).items()
        }
        for key, value in data.items():
            (inner,) = [properties[key]] if key in properties else part["patternProperties"].values()
            if isinstance(value, dict) and (
                "$ref" in inner or "patternProperties" in inner or "anyOf" in inner
            ):
                check(value, inner)

    check({key: value for key, value in tomllib.loads(EXAMPLE).items() if key != "health"}, schema)


def test_main_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert "environment.md" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    page = tmp_path / "docs" / "reference" / "environment.schema.json"
    assert json.loads(page.read_text()) == json_schema()
    page.write_text("{}")
    capsys.readouterr()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert "environment.schema.json" in capsys.readouterr().out


def test_every_table_of_the_model_has_a_section() -> None:
    titles = [title for title, _ in tables()]
    assert titles[0] == ""
    assert {"hosts.<name>", "stack.checks", "deploy.migrate", "backup.stores.<name>"} <= set(titles)
    assert titles.count("health.checks.<name>") == 3
    assert all(is_section(section) for _, section in tables())
