"""Every command of the pages about Vault, PostgreSQL, files and commands, typed in scratch projects."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_docs_commands import TASKS, Shell
from tests.pages import ROOT, blocks, steps, unprinted
from tests.postgres import PostgresServer
from tests.testbed.docker import docker
from tests.vaultserver import TOKEN, VaultServer

pytestmark = pytest.mark.integration

PASSWORD = "Zq7vTn2kLw5xHq8"  # pragma: allowlist secret
TABLE = 'CREATE TABLE "EnvironmentVariable" (key text PRIMARY KEY, value text NOT NULL)'
FILES = {
    "tasks.py": TASKS,
    ".gitignore": ".windlass/\n.cache/\n.config/\n",
    "compose.yaml": "services: {api: {image: 'shop-api:1', environment: [APP_SECRET]}}\n",
    "envs/base.toml": 'app = "shop"\ndirectory = "{folder}/srv"\n',
    "envs/prod.toml": 'protected = true\n\n[hosts.here]\ntransport = "local"\n',
}


@contextmanager
def shell_in(folder: Path, **variables: str) -> Iterator[Shell]:
    """A shell in a new project, with no login but what is given."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("{folder}", str(folder)))
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    # The folder is the home as well, which is no part of a repository elsewhere.
    (folder / ".gitignore").write_text(".shop/\n")
    unwanted = r"WINDLASS|CI$|VAULT_|PG|GIT_|\w+_proxy$"
    kept = {name: value for name, value in os.environ.items() if not re.match(unwanted, name, re.IGNORECASE)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = Shell(folder, {**kept, "PATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8", **variables})
    try:
        yield shell
    finally:
        shell.close()


def run(shell: Shell, page: str) -> None:
    """Type what a page says, and check that it does what the page says."""
    found = list(blocks(page, (ROOT / page).read_text()))
    assert found
    for block in found:
        for step in steps(block.language, block.text):
            code, output = shell.run(step.command)
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            assert "Traceback" not in output, said
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"


def test_every_command_of_the_page_about_vault_runs(tmp_path: Path) -> None:
    with (
        VaultServer() as vault,
        shell_in(tmp_path, VAULT_ADDR=vault.address, VAULT_TOKEN=TOKEN) as shell,
    ):
        run(shell, "docs/providers/vault.md")
        assert vault.now("shop/mail") == {"SMTP_PASSWORD": "Rk29-lantern-47", "SMTP_USER": "shop"}
        kept = [entry.data or {} for entry in vault.documents["", "secret", "shop/prod"]]
        assert [each.get("mail_token") for each in kept][2:4] == [
            "token-of-the-mailer",
            "another-token-of-the-mailer",
        ]
        assert len(kept) == 5


def test_every_command_of_the_page_about_postgres_runs(tmp_path: Path) -> None:
    with PostgresServer() as server, shell_in(tmp_path) as shell:
        docker("network", "disconnect", "none", server.app)
        docker("network", "connect", "bridge", server.app)
        query = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
        address = docker("inspect", "--format", query, server.app)
        server.sql(f"ALTER USER app PASSWORD '{PASSWORD}'; {TABLE}")
        url = f"postgresql://app:{PASSWORD}@{address}:5432/{server.database}\n"
        (tmp_path / "database-url").write_text(url)
        run(shell, "docs/providers/postgres.md")
        names = server.sql('SELECT key FROM "EnvironmentVariable" ORDER BY key').split()
        assert names == ["JWT_SECRET", "MAIL_TOKEN", "SMTP_PASSWORD"]


def test_every_command_of_the_page_about_files_and_commands_runs(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        run(shell, "docs/providers/files-and-commands.md")
