from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.environment.environment import Variable
from windlass.environment.model import VariablesSettings
from windlass.environment.problems import Problem
from windlass.environment.variables import Variables, is_secret, load, name_is_secret
from windlass.secrets.references import Address, Reference
from windlass.shell import Sensitive, reveal

RULES = VariablesSettings()


def loaded(root: Path, content: str | bytes, **process: str) -> Variables:
    (root / "envs").mkdir(exist_ok=True)
    (root / "envs" / "prod.env").write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(root, "prod", RULES, process)


def values(root: Path, content: str | bytes, **process: str) -> dict[str, str]:
    found = loaded(root, content, **process)
    assert found.problems == ()
    return {name: reveal(each.value) for name, each in found.values.items()}


def only(root: Path, content: str | bytes) -> Problem:
    (problem,) = loaded(root, content).problems
    return problem


def test_later_files_win_and_say_where(tmp_path: Path) -> None:
    envs = tmp_path / "envs"
    envs.mkdir()
    (envs / "base.env").write_text("A=base\nB=base\nC=base\n")
    (envs / "prod.env").write_text("\n# note\nB=prod\nC=prod\n")
    (envs / "prod.local.env").write_text("C=laptop\n")
    found = load(tmp_path, "prod", RULES, {"A": "process"})
    assert found.values == {
        "A": Variable("A", "base", "envs/base.env:1"),
        "B": Variable("B", "prod", "envs/prod.env:3"),
        "C": Variable("C", "laptop", "envs/prod.local.env:1"),
    }
    assert found.names == {"A", "B", "C"}
    assert found.complete


def test_without_files_there_are_no_variables(tmp_path: Path) -> None:
    assert load(tmp_path, "prod", RULES, {}) == Variables({}, (), frozenset(), True)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=", ""),
        ("A=''", ""),
        ("A=b c # note", "b c"),
        ("A=b#c", "b#c"),
        ("export A=b", "b"),
        ("A='$HOME ${HOME} \\n'", "$HOME ${HOME} \\n"),
        ('A="$HOME ${HOME:+x} \\n\\""', '$HOME ${HOME:+x} \n"'),
        ("A=$HOME", "$HOME"),
        ("A=${HOME}", "${HOME}"),
        ("A='one\ntwo'", "one\ntwo"),
        ("A='one\r\ntwo\rthree'", "one\r\ntwo\rthree"),
        ("A=é密🔑", "é密🔑"),
        ("A=a=b", "a=b"),
        ("A=' lead trail '", " lead trail "),
        ("A='x ${env:HOME}'", "x ${env:HOME}"),
    ],
)
def test_values_are_taken_as_they_are(tmp_path: Path, line: str, value: str) -> None:
    assert values(tmp_path, line + "\n", HOME="/home") == {"A": value}


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_every_value_can_be_written(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    content = f'A="{quoted}"\nB=last\n'
    root = tmp_path_factory.getbasetemp()
    assert values(root, content) == {"A": value, "B": "last"}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert values(tmp_path, b"\xef\xbb\xbfA=b\r\nC=d\r\n") == {"A": "b", "C": "d"}


@pytest.mark.parametrize(
    ("content", "line", "key", "what"),
    [
        ("\n\nA='open\nB=1\n", 3, "", "cannot be read"),
        ("A=1\r\n\r\nB: 2\r\n", 3, "", "cannot be read"),
        ("A='x' y\n", 1, "", "cannot be read"),
        ("A=1\nhunter22\n", 2, "", "without `=`"),
        ("A=1\nexport B\n", 2, "", "without `=`"),
        ("A.B=1\n", 1, "", "letters, digits"),
        ("1A=1\n", 1, "", "letters, digits"),
        ("'A B'=1\n", 1, "", "letters, digits"),
        ("É=1\n", 1, "", "letters, digits"),
        ("A=1\nB=2\nA=3\n", 3, "A", "first in line 1"),
        ("A='one\ntwo'\n\nB=${nope:x}\n", 4, "B", "no known provider"),
        ("A=${env:NOPE}\n", 1, "A", "not set"),
        ("A=${file:nope}\n", 1, "A", "No such file"),
        (f"A={'x' * 131072}\n", 1, "A", "131074 bytes"),
        (b"A=1\nB=\0\n", 2, "", "NUL"),
        (b"A=1\nB=\xff\n", 2, "", "UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, key: str, what: str
) -> None:
    problems = loaded(tmp_path, content).problems
    assert (problems[0].place, problems[0].key) == (f"envs/prod.env:{line}", key)
    assert what in str(problems[0])
    assert "hunter22" not in str(problems)


def test_a_value_that_is_as_long_as_the_system_allows(tmp_path: Path) -> None:
    assert len(values(tmp_path, f"A={'x' * 131069}\n")["A"]) == 131069


def test_a_folder_in_place_of_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "envs" / "base.env").mkdir(parents=True)
    (problem,) = load(tmp_path, "prod", RULES, {}).problems
    assert "directory" in problem.what


def test_several_problems_are_told_together(tmp_path: Path) -> None:
    found = loaded(tmp_path, "A=${x:y}\nB\nC=${env:NOPE}\nD=fine\n")
    assert sorted(each.line or 0 for each in found.problems) == [1, 2, 3]
    assert found.names == {"A", "C", "D"}
    assert not found.complete


def test_references_are_secret_and_point_to_their_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one\ntwo\n")
    found = loaded(tmp_path, "GREETING=${env:G}\nMOTD=${file:key}\n", G="hello $x")
    assert found.values == {
        "GREETING": Variable("GREETING", Sensitive("hello $x"), "envs/prod.env:1", *kept("env", "G")),
        "MOTD": Variable("MOTD", Sensitive("one\ntwo"), "envs/prod.env:2", *kept("file", "key")),
    }
    assert found.notes == ()


def kept(provider: str, target: str) -> tuple[Reference, Address]:
    address = Address(provider, target)
    return Reference((address,)), address


def test_a_value_that_is_not_from_its_first_place_is_noted(tmp_path: Path) -> None:
    found = loaded(tmp_path, "A=${env:A} ?? ${env:B}\n", B="b")
    assert values(tmp_path, "A=${env:A} ?? ${variable:C}\nC=c\n") == {"A": "c", "C": "c"}
    assert found.problems == ()
    assert found.notes == (
        "A (envs/prod.env:1) is taken from env:B, since env:A: "
        "the variable A is not set where Windlass was started",
    )


def test_a_reference_that_is_replaced_need_not_be_reachable(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "base.env").write_text("A=${env:NOPE}\n")
    assert values(tmp_path, "A=here\n") == {"A": "here"}


@pytest.mark.parametrize(("content", "what"), [("a\0b", "NUL"), ("x" * 140000, "allows"), (" \n", "empty")])
def test_a_referenced_value_that_cannot_be_used(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "key").write_text(content)
    problem = only(tmp_path, "A=${file:key}\n")
    assert what in problem.what
    assert content not in str(problem)


@pytest.mark.parametrize(
    "name",
    [
        *("PASSWORD", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "REDIS_PASS", "PASSPHRASE", "dbPassword"),
        *(
            "APP_SECRET",
            "SECRET_KEY_BASE",
            "SECRETS",
            "GITHUB_TOKEN",
            "GITHUBTOKEN",
            "githubToken",
            "API_KEY",
        ),
        *(
            "APIKEY",
            "STRIPE_KEY",
            "KEY",
            "JWT_KEYS",
            "MASTER_KEY_PREVIOUS",
            "ENCRYPTION_KEY_2",
            "SSH_PRIVATE",
        ),
        *(
            "AWS_CREDENTIALS",
            "SENTRY_DSN",
            "REDISCLI_AUTH",
            "VAULT_SECRET_ID",
            "AZURE_STORAGE_CONNECTION_STRING",
        ),
        *(
            "GITHUB_PAT",
            "JWT",
            "supabaseJwt",
            "AUTH",
            "REDIS_AUTH",
            "BASIC_AUTH_2",
            "STRIPE_SK_LIVE",
            "BEARER",
        ),
    ],
)
def test_names_that_say_secret(name: str) -> None:
    assert name_is_secret(name)
    assert is_secret(name, "x7", RULES)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PWD",
            "GREETING",
            "KEYCLOAK_URL",
            "MONKEY",
            "TOKENIZER",
            "COMPASS",
            "BYPASS",
            "PORT",
            "HOST",
            "_",
            "__",
        ),
        *(
            "SSH_PUBLIC_KEY",
            "STRIPE_PUBLISHABLE_KEY",
            "AWS_ACCESS_KEY_ID",
            "TOKEN_TTL",
            "PASSWORD_MIN_LENGTH",
        ),
        *("POSTGRES_PASSWORD_FILE", "CACHE_KEY_PREFIX", "SECRET_NAME", "PASSWORDLESS"),
        *("AUTH_URL", "AUTHOR", "OAUTH_SCOPES", "AUTH_PROVIDER", "JWT_ALGORITHM", "JWT_AUDIENCE", "SKIP"),
        *("PATH", "PATTERN", "PAT_DIRECTORY", "BEARER_REALM", "SKU", "LIVE", "2"),
    ],
)
def test_names_that_do_not(name: str) -> None:
    assert not name_is_secret(name)
    assert not is_secret(name, "some-value", RULES)


@pytest.mark.parametrize(
    "value", ["true", "5432", "", "8080", "http://web:8080/a@b", "http://user@host", "a@b:c"]
)
def test_ordinary_values_of_ordinary_names_are_public(value: str) -> None:
    assert not is_secret("SETTING", value, RULES)


@pytest.mark.parametrize("value", ["true", "FALSE", "", "0", "none"])
def test_a_value_that_tells_nothing_is_not_secret(value: str) -> None:
    assert not is_secret("REQUIRE_PASSWORD", value, RULES)


@pytest.mark.parametrize(
    "value",
    [
        "postgres://app:pw@db/app",
        "redis://:pw@cache:6379",
        "see amqp://u:p@mq",
        "host=db password=x",
        "Server=db;Password=x",
        "DefaultEndpointsProtocol=https;AccountKey=x==",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n",
        "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n",
    ],
)
def test_values_that_say_secret(value: str) -> None:
    assert is_secret("SETTING", value, RULES)
    assert is_secret("SETTING", value, VariablesSettings(public=["*"]))


TOKENS = [  # cut in two, so that no scan takes them for real ones
    *("ghp" + "_16C7e42F292c6912E7710c838347Ae178B4a", "gho" + "_16C7e42F292c6912E7710c838347Ae178B4a"),
    *("github_pat" + "_11ABCDEFG0abcdefghij_klmnop", "glpat" + "-abcdefghij0123456789"),
    *("sk_live" + "_4eC39HqLyjWDarjtT1zdp7dc", "rk_live" + "_4eC39HqLyjWDarjtT1zdp7dc"),
    *("xoxb" + "-17653672481-19874698323", "https://x:" + "ghp" + "_16C7e42F292c6912E7710c@github.com/a"),
]
MAYBE_PUBLIC = [
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmN",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ASIA" + "IOSFODNN7EXAMPLE",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
]


@pytest.mark.parametrize("value", TOKENS)
def test_tokens_are_secret_whatever_their_name(value: str) -> None:
    assert is_secret("SETTING", value, RULES)
    assert is_secret("SETTING", value, VariablesSettings(public=["*"]))


@pytest.mark.parametrize("value", MAYBE_PUBLIC)
def test_tokens_that_browsers_may_hold_are_secret_unless_named_public(value: str) -> None:
    assert is_secret("SETTING", value, RULES)
    assert not is_secret("SETTING", value, VariablesSettings(public=["SETTING"]))


@pytest.mark.parametrize(
    "value",
    [
        *("ghp_", "sk_live_", "sk_test", "task_live_migration_of_all", "eyJ.a.b", "AKIA", "xoxb-", "glpat-x"),
        "MAKIAIOSFODNN7EXAMPLE",  # pragma: allowlist secret
        "AKIAIOSFODNN7EXAMPLES",  # pragma: allowlist secret
        *("AIza", "https://auth.example.com/login"),
    ],
)
def test_words_like_the_beginning_of_a_token_are_public(value: str) -> None:
    assert not is_secret("SETTING", value, RULES)
    assert not is_secret("AUTH_URL", value, RULES)


def test_a_certificate_is_public() -> None:
    assert not is_secret("TLS_CA", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", RULES)


def test_the_rules_of_the_environment_win_over_names() -> None:
    rules = VariablesSettings(secret=["MOTD", "X_*"], public=["*_KEY", "X_KEY"])
    assert is_secret("MOTD", "true", rules)
    assert not is_secret("SORT_ORDER_KEY", "value", rules)
    assert is_secret("X_KEY", "value", rules)
    assert not is_secret("motd", "value", rules)
