from __future__ import annotations

import tomllib
from typing import Any

import pytest

from windlass.environment.files import TomlFile, merge
from windlass.environment.problems import Problem
from windlass.environment.validation import locate, settings_of
from windlass.shell import MASK

VALID = 'app = "shop"\n[hosts.web]\n'


def problems(text: str, base: str = VALID) -> list[Problem]:
    files = (TomlFile("base", base, tomllib.loads(base)), TomlFile("over", text, tomllib.loads(text)))
    settings, found = settings_of(files, merge(files[0].data, files[1].data))
    assert (settings is None) == bool(found)
    return found


@pytest.mark.parametrize(
    ("text", "key", "found", "allowed"),
    [
        ("hosts.web.port = 'x'", "hosts.web.port", '"x"', "whole number, 1 to 65535"),
        ("hosts.web.port = true", "hosts.web.port", "true", "whole number, 1 to 65535"),
        ("hosts.web = 3", "hosts.web", "3", "table"),
        ("hosts = []", "hosts", "[]", "table of tables, by name"),
        (
            "hosts.web.address = '-oProxyCommand=x'",
            "hosts.web.address",
            '"-oProxyCommand=x"',
            "begin with `-`",
        ),
        ("hosts.web.jump = 'a b'", "hosts.web.jump", '"a b"', "without spaces"),
        ("hosts.web.connect_timeout = '5 years'", "hosts.web.connect_timeout", '"5 years"', "duration"),
        ("hosts.web.connect_timeout = -1", "hosts.web.connect_timeout", "-1", "duration"),
        ("hosts.web.connect_timeout = inf", "hosts.web.connect_timeout", "inf", "duration"),
        ("hosts.web.connect_timeout = nan", "hosts.web.connect_timeout", "nan", "duration"),
        ("deploy.poll_interval = 0", "deploy.poll_interval", "0", "more than 0"),
        ("deploy.parallel_hosts = 51", "deploy.parallel_hosts", "51", "1 to 50"),
        ("deploy.healthy_polls = 1.5", "deploy.healthy_polls", "1.5", "at least 1"),
        ("directory = '/srv/{name}'", "directory", '"/srv/{name}"', "`{app}`"),
        ("directory = ''", "directory", '""', "path"),
        ("app = 1979-05-27", "app", "1979-05-27", "name"),
        ("stack.files = []", "stack.files", "[]", "not empty"),
        ("stack.files = ['a', 1]", "stack.files[1]", "1", "text of one line"),
        ("images.registry = 'https://x/'", "images.registry", '"https://x/"', "without scheme"),
        ("images.registry = 'ghcr.io/acme/'", "images.registry", '"ghcr.io/acme/"', "final `/`"),
        ("images.build_args = { A = 1 }", "images.build_args.A", "1", "text"),
        (
            "stack.checks.public_port = 'warn'",
            "stack.checks.public_port",
            '"warn"',
            '"error", "warning" or "off"',
        ),
        ("deploy.migrate = 3", "deploy.migrate", "3", "table"),
        ("health.checks.a = { kind = 'htp' }", "health.checks.a.kind", '"htp"', '"http", "tcp" or "command"'),
        ("health.checks.a = 1", "health.checks.a", "1", "table"),
        (
            "health.checks.a = { kind = 'http', url = 'http://x', json_fields = { b = [1] } }",
            "health.checks.a.json_fields.b",
            "[1]",
            "text, whole number, number or true or false",
        ),
    ],
)
def test_a_wrong_value_says_what_was_found_and_what_is_allowed(
    text: str, key: str, found: str, allowed: str
) -> None:
    (problem,) = problems(text)
    assert (problem.file, problem.key, problem.line) == ("over", key, 1)
    assert problem.found == found
    assert allowed in problem.allowed


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("hosts.web.prot = 1", "port"),
        ("deploy.health_timout = 1", "health_timeout"),
        ("health.checks.a = { kind = 'tcp', port = 1, adress = 'x' }", "address"),
        ("backups.store = 'x'", "backup"),
        ("hosts.web.zzzzzz = 1", ""),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, nearest: str) -> None:
    (problem,) = problems(text)
    assert problem.what == "is no known key"
    assert problem.nearest == nearest


def test_an_unknown_key_is_told_of_each_file_that_has_it() -> None:
    found = problems("foo = 1\n", base="foo = 2\n" + VALID)
    assert [(each.file, each.key) for each in found] == [("base", "foo"), ("over", "foo")]


def test_a_key_of_the_kind_that_was_replaced_is_not_blamed() -> None:
    base = VALID + "[health.checks.a]\nkind = 'http'\nurl = 'http://x'\n"
    (problem,) = problems("[health.checks.a]\nkind = 'tcp'\nport = 1\nurl = 'http://x'\n", base)
    assert (problem.file, problem.key) == ("over", "health.checks.a.url")


def test_a_key_named_like_a_kind_is_told_apart() -> None:
    (problem,) = problems("health.checks.a = { kind = 'tcp', port = 1, tcp = 1 }")
    assert problem.key == "health.checks.a.tcp"


@pytest.mark.parametrize("name", ["Web", "a b", "-a", "x" * 40])
def test_a_name_of_the_wrong_form(name: str) -> None:
    (problem,) = problems(f"hosts.'{name}'.port = 1")
    assert problem.what == "is no valid name"
    assert "small letters" in problem.allowed


def test_name_and_value_may_both_be_wrong() -> None:
    found = problems("images.build_args = { 'a b' = 1 }")
    assert [each.what for each in found] == ["is no valid name", "has a wrong value"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("databases.main.name = 'x'", "databases.main.service"),
        ("deploy.migrate.service = 'x'", "deploy.migrate.command"),
        ("health.checks.a.port = 1", "health.checks.a.kind"),
        ("health.checks.a.kind = 'tcp'", "health.checks.a.port"),
        ("backup.stores.x.kind = 'directory'", "backup.stores.x.path"),
    ],
)
def test_a_missing_key_is_told_with_what_it_may_be(text: str, key: str) -> None:
    (problem,) = problems(text)
    assert (problem.key, problem.what, problem.file) == (key, "is missing", "over")
    assert problem.allowed


@pytest.mark.parametrize(
    "text",
    [
        "images.registry = 'https://me:hunter22@registry.example.com'",
        "images.build_args.NPM_TOKEN = ['hunter22']",
        "stack.files = ['a', 'postgres://u:hunter22@db\\n/x', \"postgres://u:hunter22@db\\u0001\"]",
    ],
)
def test_a_value_that_may_be_secret_is_masked(text: str) -> None:
    found = problems(text)
    assert [each.found for each in found] == [MASK]


def test_a_long_value_is_cut() -> None:
    (problem,) = problems(f"app = '{'x' * 500}'")
    assert len(problem.found) < 80


def test_a_file_that_cannot_be_read_makes_nothing_missing() -> None:
    broken = TomlFile("base", "", {}, Problem("base", "", "is not valid TOML"))
    over = TomlFile("over", "", {"hosts": {"web": {"prot": 1}}})
    settings, found = settings_of((broken, over), over.data)
    assert settings is None
    assert [each.key for each in found] == ["", "hosts.web.prot"]


def test_locations_lead_to_keys() -> None:
    def path(*location: Any) -> tuple[str | int, ...]:
        return locate(location)[0]

    assert path("hosts", "web", "port") == ("hosts", "web", "port")
    assert path("health", "checks", "a", "http", "status", 1) == ("health", "checks", "a", "status", 1)
    assert path("health", "checks", "a", "http", "json_fields", "b", "int") == (
        *("health", "checks", "a"),
        *("json_fields", "b"),
    )
    assert path("hosts", "A", "[key]") == ("hosts", "A")
    assert path("deploy", "migrate", "foo") == ("deploy", "migrate", "foo")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token", "plain-Hd7Kq2"),
        ("api_key", "${env"),
        ("token", "${none-such:plain-Hd7Kq2}"),
        ("token", "x${env:TOKEN}"),
        ("address", "https://me:plain-Hd7Kq2@vault"),
    ],
)
def test_a_secret_of_a_plugin_is_a_reference(key: str, value: str) -> None:
    (problem,) = problems(f"[secrets.plugins.keeper]\nregion = 'eu'\n{key} = '{value}'\n")
    assert (problem.file, problem.key, problem.line) == ("over", f"secrets.plugins.keeper.{key}", 3)
    assert "plain-Hd7Kq2" not in str(problem)
    assert "${env:NAME}" in problem.allowed


def test_other_settings_of_a_plugin_are_texts() -> None:
    assert not problems(
        "[secrets.plugins.keeper]\nregion = 'eu'\ntoken = '${env:TOKEN}'\naddress = 'https://x'\n"
    )
