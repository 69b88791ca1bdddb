"""Every command of docs/environments.md, typed in a scratch project without a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_docs_commands import TASKS, Shell
from tests.pages import ROOT, blocks, steps, unprinted
from windlass.shell import MASK

PAGE = "docs/environments.md"

pytestmark = pytest.mark.integration


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a new repository, without the variables of whoever runs the tests."""
    (tmp_path / "tasks.py").write_text(TASKS)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"WINDLASS|GIT_|LOG_LEVEL|APP_KEY", name)
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Shell(tmp_path, {**kept, "PATH": path})
    yield made
    made.close()


def test_every_command_of_the_page_runs(shell: Shell, tmp_path: Path) -> None:
    found = list(blocks(PAGE, (ROOT / PAGE).read_text()))
    everything = ""
    for block in found:
        for step in steps(block.language, block.text):
            code, output = shell.run(step.command)
            everything += output
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"
    assert MASK in everything
    for name in ("keys/database-url", "keys/prod.env", "envs/dev.local.env"):
        value = (tmp_path / name).read_text().strip().partition("=")[2] or (
            tmp_path / name
        ).read_text().strip()
        assert value.strip('"') not in everything
