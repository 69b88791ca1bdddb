"""Every command of docs/providers/azure.md, typed in a scratch project, with the real SDK."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_docs_commands import TASKS, Shell
from tests.keyvault import CLIENT, CLIENT_SECRET, TENANT, KeyVault, Vault
from tests.pages import ROOT, blocks, steps, unprinted

PAGE = "docs/providers/azure.md"
VAULT = "shop-vault"
FILES = {
    "tasks.py": TASKS,
    ".gitignore": ".windlass/\n",
    "compose.yaml": "services: {api: {image: 'shop-api:1', environment: [APP_SECRET]}}\n",
    "envs/base.toml": 'app = "shop"\ndirectory = "{folder}/srv"\n',
    "envs/prod.toml": 'protected = true\n\n[hosts.here]\ntransport = "local"\n',
}


@pytest.fixture
def keyvault() -> Iterator[KeyVault]:
    with KeyVault() as server:
        server.vaults[VAULT] = Vault()
        yield server


@pytest.fixture
def shell(keyvault: KeyVault, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a project, logged in by variables; the proxy answers for the real names."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("{folder}", str(tmp_path)))
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"WINDLASS|CI$|AZURE_|IDENTITY_|MSI_|GIT_|\w+_proxy$", name, re.IGNORECASE)
    }
    login = {"TENANT_ID": TENANT, "CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET}
    made = Shell(
        tmp_path,
        {
            **kept,
            **{f"AZURE_{name}": value for name, value in login.items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "HTTPS_PROXY": keyvault.proxy,
            "REQUESTS_CA_BUNDLE": str(keyvault.ca_file),
        },
    )
    yield made
    made.close()


def test_every_command_of_the_page_runs(shell: Shell, keyvault: KeyVault) -> None:
    found = list(blocks(PAGE, (ROOT / PAGE).read_text()))
    assert found
    for block in found:
        for step in steps(block.language, block.text):
            code, output = shell.run(step.command)
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            assert "Traceback" not in output, said
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"
    assert keyvault.values("mail-token", VAULT)[:2] == ["token-of-the-mailer", "another-token-of-the-mailer"]
    assert keyvault.vaults[VAULT].secrets["mail-user"].versions[-1].tags == {"env-name": "mail_User"}
