"""What a trial of the login to a provider proves, against a server that speaks Vault's protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vaultserver import TOKEN, VaultServer
from windlass.doctor.findings import Finding
from windlass.doctor.logins import examine
from windlass.environment.inspection import without_variables
from windlass.environment.keeping import Keeping

pytestmark = pytest.mark.integration

VALUE = "planted-in-Vault-7Hd2q"
ENVIRONMENT = """\
app = "shop"
[hosts.here]
transport = "local"
[secrets.vault]
address = "{address}"
"""


def tried(root: Path, server: VaultServer, target: str, token: str = TOKEN) -> Finding:
    """Try the login with one reference; nothing that is found holds a secret."""
    (root / "envs").mkdir()
    (root / "envs" / "prod.toml").write_text(ENVIRONMENT.format(address=server.address))
    (root / "envs" / "prod.env").write_text(f"API_KEY=${{vault:{target}}}\n")
    with Keeping(without_variables(root, "prod"), {"VAULT_TOKEN": token} if token else {}) as keeping:
        (finding,) = examine(keeping)
    assert (finding.where, finding.what) == ("vault", "login")
    assert VALUE not in str(finding)
    assert TOKEN not in str(finding)
    return finding


def test_a_secret_that_is_there_proves_the_login(tmp_path: Path) -> None:
    with VaultServer() as server:
        server.put("shop", {"API_KEY": VALUE})
        assert tried(tmp_path, server, "shop#API_KEY").state == "ok"


@pytest.mark.parametrize("target", ["nowhere#API_KEY", "shop#OTHER_KEY"])
def test_a_name_that_is_missing_proves_the_login_too(tmp_path: Path, target: str) -> None:
    with VaultServer() as server:
        server.put("shop", {"API_KEY": VALUE})
        finding = tried(tmp_path, server, target)
    assert finding.state == "ok"
    assert f"API_KEY from vault:{target}: " in finding.found


@pytest.mark.parametrize("token", ["hvs.of-nobody", ""])
def test_a_login_that_is_refused_is_no_missing_name(tmp_path: Path, token: str) -> None:
    with VaultServer() as server:
        finding = tried(tmp_path, server, "nowhere#API_KEY", token)
    assert finding.state == "failed"
    assert finding.fix


def test_a_server_that_does_not_answer_is_no_missing_name(tmp_path: Path) -> None:
    with VaultServer() as server:
        pass
    finding = tried(tmp_path, server, "nowhere#API_KEY")
    assert finding.state == "failed"
