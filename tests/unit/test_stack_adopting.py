from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from windlass.environment import example
from windlass.environment import variables as variables_module
from windlass.environment.inspection import examine
from windlass.errors import ConfigurationError
from windlass.stack.adopting import Used, app_name, base_toml, overrides, propose, variables

COMPOSE = """\
services:
  web:
    image: example/web:${TAG:-1.0}
    ports: ["${PORT:-8080}:80", "9090:90"]
    environment:
      KEY: ${SECRET_KEY:?set it}
      PRICE: $$5
  db:
    image: postgres:17
    environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: $DB_PASSWORD}
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My Shop!", "my-shop"),
        ("shop2", "shop2"),
        ("42nd", "nd"),
        ("---", "app"),
        ("x" * 60, "x" * 39),
        ("a_b.c", "a-b-c"),
    ],
)
def test_any_text_makes_a_valid_name(text: str, name: str) -> None:
    assert app_name(text) == name


def test_variables_are_found_once_with_their_first_default() -> None:
    text = "${A} ${A:-1} $B ${C-x} ${D:?no} $$E ${F:+y}"
    assert variables(text) == (
        Used("A", "1"),
        Used("B", None),
        Used("C", "x"),
        Used("D", None),
        Used("F", None),
    )


def test_a_doubled_dollar_is_no_variable() -> None:
    assert variables("price $$5 $$NAME") == ()


def test_the_proposal_names_the_database_and_a_check() -> None:
    model = {
        "services": {
            "web": {"ports": ["${PORT:-8080}:80"]},
            "db": {"image": "${IMAGE:-postgres:17}", "environment": {"POSTGRES_USER": "${DB_USER:-shop}"}},
        }
    }
    data = tomllib.loads(base_toml("shop", ["compose.yaml"], model))
    assert data["databases"] == {"db": {"service": "db", "name": "shop", "user": "shop"}}
    assert data["health"]["checks"]["web"]["port"] == 8080


def test_an_existing_project_gets_files_that_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("SECRET_KEY=do-not-copy-this\n")
    files = {file.path: file.text for file in propose(tmp_path, files=[], app="", host="deploy@example.com")}
    assert set(files) == {
        "envs/base.toml",
        "envs/environment.schema.json",
        "envs/prod.toml",
        "envs/base.env",
        "envs/schema.env",
        ".dockerignore",
        ".env.example",
        ".gitignore",
        "tasks.py",
        "noxfile.py",
    }
    assert "do-not-copy-this" not in "".join(files.values())
    assert "SECRET_KEY=${env:SECRET_KEY}" in files["envs/base.env"]
    assert "# TAG=1.0" in files["envs/base.env"]
    host = tomllib.loads(files["envs/prod.toml"])
    assert host["protected"] is True
    assert host["hosts"]["server1"] == {"address": "example.com", "user": "deploy"}


def test_the_schema_says_what_names_and_defaults_tell(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"{COMPOSE}    labels: [x=${{DEBUG:-false}}, y=${{API_KEY:-a b}}]\n"
    )
    files = {file.path: file.text for file in propose(tmp_path, files=[], app="shop", host="")}
    (tmp_path / "envs").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    declared = variables_module.schema_of(tmp_path)[0].declarations
    assert [(each.name, each.always, each.sensitive, str(each.type or "")) for each in declared.values()] == [
        ("API_KEY", False, True, ""),
        ("DB_PASSWORD", True, True, ""),
        ("DEBUG", False, None, "bool"),
        ("PORT", False, None, "port"),
        ("SECRET_KEY", True, True, ""),
        ("TAG", False, None, ""),
    ]
    process = {"SECRET_KEY": "Kx7vQ2mRzp4T", "DB_PASSWORD": "nB8wYd3Jh6Lc"}
    found = examine(tmp_path, "local", process=process)
    assert (found.problems, found.variables.warnings) == ((), ())
    assert files[".env.example"] == example.text(tmp_path)
    assert "a b" not in files["envs/schema.env"]


def test_a_repository_without_a_compose_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no Compose file"):
        propose(tmp_path, files=[], app="", host="")
    with pytest.raises(ConfigurationError, match=r"no stack\.yaml"):
        propose(tmp_path, files=["stack.yaml"], app="", host="")


def test_services_of_nearly_one_name_get_tables_of_their_own() -> None:
    services = ("web_a", "web-a", "WEB a")
    model = {"services": {name: {"image": "postgres", "ports": ["80:80"]} for name in services}}
    data = tomllib.loads(base_toml("shop", ["compose.yaml"], model))
    for found in (data["databases"], data["health"]["checks"]):
        assert {key: each["service"] for key, each in found.items()} == {
            "web-a": "web_a",
            "web-a-2": "web-a",
            "web-a-3": "WEB a",
        }


@pytest.mark.parametrize(
    ("main", "other"),
    [
        ("docker-compose.yml", "docker-compose.override.yml"),
        ("compose.yaml", "compose.override.yaml"),
        ("compose.yaml", "docker-compose.override.yml"),
    ],
)
def test_an_override_is_taken_as_compose_takes_it(tmp_path: Path, main: str, other: str) -> None:
    (tmp_path / main).write_text(COMPOSE)
    (tmp_path / other).write_text("services: {web: {environment: {MORE: $FROM_OVERRIDE}}}\n")
    files = {file.path: file.text for file in propose(tmp_path, files=[], app="", host="")}
    assert tomllib.loads(files["envs/base.toml"])["stack"]["files"] == [main, other]
    assert "FROM_OVERRIDE" in files["envs/base.env"]
    assert overrides(tmp_path, []) == (other,)
    assert overrides(tmp_path, [main]) == ()
