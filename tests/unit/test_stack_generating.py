from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.stacks import environment
from windlass.environment.environment import Environment
from windlass.errors import ConfigurationError
from windlass.stack.generating import content, generated_files, override, put

ROOT = Path("/repo")
TOKEN = "t0ken '\"$x\nline"  # pragma: allowlist secret


def where(**files: dict[str, object]) -> Environment:
    named = {name.replace("__", "/").replace("_", "."): each for name, each in files.items()}
    return environment(
        ROOT,
        public={"INNGEST_URL": "http://inngest:8288", "PORT": "3000"},
        secret={"INNGEST_KEY": TOKEN, "INNGEST_DATABASE_URL": "postgres://u:hidden@db/inngest"},
        stack={"env_files": named},
    )


def test_patterns_and_other_names_say_what_a_file_holds() -> None:
    settings = {"variables": ["INNGEST_K*", "PORT"], "renamed": {"DATABASE_URL": "INNGEST_DATABASE_URL"}}
    (path, found), *others = generated_files(where(scripts___env=settings), ROOT).items()
    assert not others
    assert path == "/repo/scripts/.env"
    assert dict(found.names) == {
        "INNGEST_KEY": "INNGEST_KEY",
        "PORT": "PORT",
        "DATABASE_URL": "INNGEST_DATABASE_URL",
    }


@pytest.mark.parametrize(
    "settings", [{"variables": ["NOTHING_*"]}, {"variables": ["PORT"], "renamed": {"A": "NOTHING_B"}}]
)
def test_a_variable_that_nothing_sets_is_an_error(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"The generated file \.env is to hold NOTHING_"):
        generated_files(where(_env=settings), ROOT)


@pytest.mark.parametrize("key", ["../.env", "/etc/.env", ".", "a/../../b"])
def test_a_file_outside_the_repository_is_an_error(key: str) -> None:
    outside = environment(ROOT, public={"A": "1"}, stack={"env_files": {key: {"variables": ["A"]}}})
    with pytest.raises(ConfigurationError, match="not in the repository"):
        generated_files(outside, ROOT)


@pytest.mark.parametrize(
    ("format_", "written"),
    [
        ("dotenv", 'INNGEST_KEY="t0ken \'\\"$x\\nline"\n'),
        ("compose", 'INNGEST_KEY="t0ken \'\\"\\$x\\nline"\n'),
        ("shell", "export INNGEST_KEY='t0ken '\"'\"'\"$x\nline'\n"),
    ],
)
def test_a_file_is_written_for_its_reader(format_: str, written: str) -> None:
    here = where(_env={"variables": ["INNGEST_KEY"], "format": format_})
    (found,) = generated_files(here, ROOT).values()
    assert content(found, here) == written.encode()


def test_a_value_its_reader_cannot_hold_is_refused_by_the_name_of_file_and_variable() -> None:
    here = where(_env={"variables": ["INNGEST_KEY"], "format": "docker"})
    (found,) = generated_files(here, ROOT).values()
    with pytest.raises(ConfigurationError, match=r"\.env: The variable 'INNGEST_KEY'") as caught:
        content(found, here)
    assert "t0ken" not in str(caught.value)


def test_what_compose_reads_here_has_no_secret(tmp_path: Path) -> None:
    files = generated_files(where(_env={"variables": ["*"]}), ROOT)
    shown = dict.fromkeys(("INNGEST_KEY", "INNGEST_DATABASE_URL", "INNGEST_URL", "PORT"), "stand-in")
    places = put(files, shown, tmp_path)
    text = places["/repo/.env"].read_text()
    assert text.count('"stand-in"\n') == 4


def test_only_services_that_read_a_generated_file_are_changed_and_keep_the_order() -> None:
    def entries(*paths: str) -> list[dict[str, object]]:
        return [{"path": path, "required": False, "format": "raw"} for path in paths]

    model = {
        "services": {
            "a": {"env_file": entries("/re$po/one.env", "/re$po/.env", "/re$po/${X}.env", "/etc/x.env")},
            "b": {"env_file": entries("/re$po/one.env")},
            "c": {"image": "x:1"},
        }
    }
    text = override(model, {"/re$po/.env": Path("/tmp/w$/0.env")}, Path("/re$po"))
    assert "!override" in text
    read = yaml.safe_load(text.replace("!override", ""))
    kept = {"required": False, "format": "raw"}
    assert read == {
        "services": {
            "a": {
                "env_file": [
                    {"path": "/re$$po/one.env", **kept},
                    {"path": "/tmp/w$$/0.env", "required": True},
                    {"path": "/re$$po/${X}.env", **kept},
                    {"path": "/etc/x.env", **kept},
                ]
            }
        }
    }
    assert json.dumps(read)
