"""Every command of docs/secrets.md, typed in a scratch project."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_docs_commands import TASKS, Shell
from tests.pages import ROOT, blocks, steps, unprinted

PAGE = "docs/secrets.md"
FILES = {
    "tasks.py": TASKS,
    "envs/base.toml": 'app = "shop"\ndirectory = "{folder}/srv"\n',
    "envs/prod.toml": '[hosts.here]\ntransport = "local"\n',
}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a project without anything set."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("{folder}", str(tmp_path)))
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    kept = {name: value for name, value in os.environ.items() if not re.match(r"WINDLASS|CI$|GIT_", name)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Shell(tmp_path, {**kept, "PATH": path, "HOME": str(tmp_path)})
    yield made
    made.close()


def test_every_command_of_the_page_runs(shell: Shell, tmp_path: Path) -> None:
    found = list(blocks(PAGE, (ROOT / PAGE).read_text()))
    assert found
    everything = ""
    values: set[str] = set()
    for block in found:
        for step in steps(block.language, block.text):
            code, output = shell.run(adapted(step.command))
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            assert "Traceback" not in output, said
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"
            everything += output
            # What a later step replaces was a secret, too.
            values |= {path.read_text().strip() for path in tmp_path.glob("keys/*")}
    assert len(values) >= 5
    assert not [value for value in values if value in everything]
    keys = tmp_path / "keys"
    assert len(base64.b64decode((keys / "MASTER_KEY").read_text())) == 32
    assert (keys / "MASTER_KEY").read_text() != (keys / "MASTER_KEY_PREVIOUS").read_text()


def adapted(command: str) -> str:
    """Return a command in which a pipe ends as its first part does: `secrets.get` must not fail unseen."""
    return f"set -o pipefail; {command}" if "|" in command else command
