"""Reading real Compose files: what is missing or wrong is one clear sentence, and no secret is in it."""

from pathlib import Path

import pytest

from tests.stacks import RESOURCES, environment
from windlass.errors import ConfigurationError
from windlass.stack.checks import check
from windlass.stack.reading import read
from windlass.stack.texts import SecretText

pytestmark = pytest.mark.integration
VALUES = {"API_TOKEN": "S3cr3t-value"}


def project(folder: Path, text: str) -> Path:
    (folder / "compose.yaml").write_text(text)
    return folder


def test_the_stack_of_a_project_with_profiles() -> None:
    plain = read(environment(RESOURCES / "profiles", secret=VALUES))
    assert sorted(plain.services) == ["app"]
    assert plain.missing == ()  # only a disabled service uses it
    every = read(environment(RESOURCES / "profiles", secret=VALUES, stack={"profiles": ["debug", "tools"]}))
    assert sorted(every.services) == ["admin", "app", "debug"]
    assert [(each.name, each.services) for each in every.missing] == [("ONLY_IN_DEBUG", ("debug",))]


def test_a_missing_variable_is_found_though_the_operator_or_the_dotenv_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE", "operator's")
    (tmp_path / ".env").write_text("TWO=from dotenv\n")
    text = "services:\n  app:\n    image: a:${ONE}\n    environment: {X: '${TWO}', Y: '${THREE:-default}'}\n"
    where = environment(project(tmp_path, text))
    stack = read(where)
    assert [(each.name, each.in_dotenv) for each in stack.missing] == [("ONE", False), ("TWO", True)]
    findings = [each for each in check(stack, where) if each.rule == "missing_variable"]
    assert [each.severity for each in findings] == ["error", "error"]
    assert "The .env beside the Compose file sets TWO" in findings[1].fix


def test_every_required_variable_is_named_at_once(tmp_path: Path) -> None:
    text = "services:\n  app:\n    image: a:1\n    environment: {X: '${ONE:?is needed}', Y: '${TWO?}'}\n"
    with pytest.raises(ConfigurationError, match=r"requires variables ONE.*TWO.*no value") as raised:
        read(environment(project(tmp_path, text)))
    assert "envs/prod.env" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("services:\n  a: [\n", "yaml"),
        ("services:\n  a: {imag: x}\n", "imag is not allowed"),
        ("services:\n  a: {image: x, depends_on: [b]}\n", 'undefined service "b"'),
        ("services:\n  a: {image: x, env_file: no.env}\n", r"no\.env not found"),
        ("services:\n  a: {image: x, ports: ['${API_TOKEN}:80']}\n", r"\$\{API_TOKEN\}"),
        ("services: {}\n", "no enabled service"),
    ],
)
def test_an_invalid_project_is_one_sentence_with_the_file(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        read(environment(project(tmp_path, text), secret=VALUES))
    assert "compose.yaml" in raised.value.message
    assert "\n" not in raised.value.message
    assert "S3cr3t" not in str(raised.value)
    assert "windlass-secret" not in str(raised.value)


def test_a_fault_in_an_env_file_shows_no_value(tmp_path: Path) -> None:
    for content in ('A="S3cr3t\n', "S3cr3t+/x y=1\n", "A=${S3cr3t\n"):
        (tmp_path / "a.env").write_text(content)
        with pytest.raises(ConfigurationError) as raised:
            read(environment(project(tmp_path, "services:\n  a: {image: 'x:1', env_file: a.env}\n")))
        assert "S3cr3t" not in str(raised.value), content


def test_a_secret_with_defaults_and_alternates(tmp_path: Path) -> None:
    text = (
        "services:\n  a:\n    image: x:1\n    environment:\n"
        "      SET: '${API_TOKEN:-no}'\n      ALT: '${API_TOKEN:+yes}'\n      EMPTY: '${NOTHING:-fallback}'\n"
    )
    stack = read(environment(project(tmp_path, text), secret={**VALUES, "NOTHING": ""}))
    found = stack.model["services"]["a"]["environment"]
    assert isinstance(found["SET"], SecretText)
    assert (found["ALT"], found["EMPTY"]) == ("yes", "fallback")


def test_the_first_compose_file_gives_the_project_directory(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "compose.yaml").write_text(
        "services:\n  a: {image: 'x:1', volumes: ['./c:/c:ro']}\n"
    )
    stack = read(environment(tmp_path, stack={"files": ["deploy/compose.yaml"]}))
    assert stack.directory == tmp_path / "deploy"
    assert stack.services["a"].binds[0].source == str(tmp_path / "deploy" / "c")
    assert stack.services["a"].binds[0].inside
