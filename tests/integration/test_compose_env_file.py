"""The writer against Compose's own parser; `config` needs no engine."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from windlass.secrets.writers import MAX_ENTRY_BYTES, compose_env_file

pytestmark = pytest.mark.integration

ALPHABET = "ab1 $\"'\n\r\t#={}():`!&;%~é密🔑\u00a0\u0085\u2028\ufeffnrtvabf0x7\\\\"
CHOSEN = [
    *(
        "",
        " ",
        " lead",
        "trail ",
        "\t",
        "$HOME",
        "${HOME}",
        "$$",
        "$",
        "$(id)",
        "a#b",
        "a #b",
        "#a",
        '"',
        "'",
    ),
    *(
        "'\"",
        '"whole"',
        "'whole'",
        "`id`",
        "=",
        "C:\\x\\n",
        "abc\\",
        "\\\\",
        "\\'",
        '\\"',
        "\\$",
        "\n",
        "x\n",
    ),
    *(
        "a\r\nb",
        "密钥",
        "🔑",
        "\u00a0",
        "\ufeff",
        "!",
        "%",
        ";&|",
        "a: b",
        "postgres://u:p$1#@h/d",
        '{"a": "b"}',
    ),
    "-----BEGIN KEY-----\nMIIB\n-----END KEY-----\n",
    "x" * (MAX_ENTRY_BYTES - 8),
]


def fuzzed(seed: int, count: int) -> list[str]:
    source = random.Random(seed)  # noqa: S311
    return ["".join(source.choices(ALPHABET, k=source.randint(0, 24))) for _ in range(count)]


def compose_config(folder: Path, compose: str, *options: str) -> dict[str, str]:
    (folder / "compose.yaml").write_text(compose)
    done = subprocess.run(
        ["docker", "compose", *options, "--file", "compose.yaml", "config", "--format", "json"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    environment = json.loads(done.stdout)["services"]["one"]["environment"]
    # `config` doubles each `$`, so that its output can be read as a Compose file.
    return {name: value.replace("$$", "$") for name, value in environment.items()}


@pytest.mark.parametrize("seed", [1, 20261121])
def test_a_services_env_file_gives_every_value_back(tmp_path: Path, seed: int) -> None:
    values = {f"V{number}": value for number, value in enumerate([*CHOSEN, *fuzzed(seed, 3000)])}
    (tmp_path / "values.env").write_bytes(compose_env_file(values))
    compose = "services: {one: {image: 'x:1', env_file: [values.env]}}\n"
    assert compose_config(tmp_path, compose) == values


def test_the_projects_env_file_gives_every_value_back(tmp_path: Path) -> None:
    values = {f"V{number}": value for number, value in enumerate([*CHOSEN, *fuzzed(2, 1000)])}
    (tmp_path / "values.env").write_bytes(compose_env_file(values))
    environment = {name: f"${{{name}}}" for name in values}
    compose = json.dumps({"services": {"one": {"image": "x:1", "environment": environment}}})
    assert compose_config(tmp_path, compose, "--env-file", "values.env") == values
