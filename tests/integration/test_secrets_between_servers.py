"""Secrets copied, compared and rotated between real providers, with their real SDKs, by the command line."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws import AwsServer, aws_server
from tests.keyvault import CLIENT, CLIENT_SECRET, TENANT, KeyVault
from tests.vaultserver import TOKEN, VaultServer

# Every kind of text that a quoting mistake would change on its way.
VALUES = {
    "API_KEY": f"k-{secrets.token_hex(12)}",
    "DB_PASSWORD": f"""dB'pa"ss$w0rd-\\x%41#{secrets.token_hex(6)}""",
    "SIGNING_KEY": f"-----BEGIN KEY-----\n{secrets.token_hex(24)}\n-----END KEY-----\n",
    "GREETING_TOKEN": f"tök€n 😀 {secrets.token_hex(6)}",
}
PROD = """\
[hosts.here]
transport = "local"

[secrets.azure]
vault = "{azure}"
login = "client-secret"
tenant_id = "{tenant}"
client_id = "{client}"
ca_file = "{ca_file}"
verify_challenge = false

[secrets.vault]
address = "{vault}"

[secrets.rotation.MASTER_KEY]
generate = "base64:32"
previous = "MASTER_KEY_PREVIOUS"
"""


@dataclass
class World:
    """A project and the three servers its secrets are kept on."""

    root: Path
    aws: AwsServer
    azure: KeyVault
    vault: VaultServer

    def inv(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a task; nothing it says holds a value."""
        done = self.reveal(*words)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert not [name for name, value in VALUES.items() if value in said or value.splitlines()[-1] in said]
        return done

    def reveal(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a task that may show a value."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"WINDLASS|CI$|AWS_|AZURE_|VAULT_|\w+_proxy$", name, re.IGNORECASE)
        }
        login = {
            "AZURE_CLIENT_SECRET": CLIENT_SECRET,
            "AZURE_AUTHORITY_HOST": self.azure.address,
            "VAULT_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.root,
            env={**kept, **self.aws.environ, **login},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            text=True,
            check=False,
        )

    def states(self, *words: str, code: int = 0) -> dict[str, str]:
        """Return what a copy says of each name."""
        data = json.loads(self.inv(*words, "--json", code=code).stdout)
        return {each["name"]: each["state"] for each in data["secrets"]}

    def variables(self, text: str) -> None:
        (self.root / "envs" / "prod.env").write_text(text)

    @property
    def document(self) -> dict[str, Any]:
        """The document on AWS."""
        found: dict[str, Any] = json.loads(self.aws.value("shop/prod"))
        return found


@pytest.fixture(scope="module")
def servers() -> Iterator[AwsServer]:
    with aws_server() as server:
        yield server


@pytest.fixture
def world(servers: AwsServer, tmp_path: Path) -> Iterator[World]:
    servers.reset()
    with KeyVault() as azure, VaultServer() as vault:
        (tmp_path / "envs").mkdir()
        (tmp_path / "tasks.py").write_text("from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n")
        (tmp_path / "envs" / "base.toml").write_text(f'app = "shop"\ndirectory = "{tmp_path}/srv"\n')
        settings = {"tenant": TENANT, "client": CLIENT, "azure": azure.address, "vault": vault.address}
        text = PROD.format(ca_file=azure.ca_file, **settings)
        (tmp_path / "envs" / "prod.toml").write_text(text)
        from windlass.secrets.writers import dotenv_file

        (tmp_path / ".env.prod").write_bytes(dotenv_file(VALUES))
        yield World(tmp_path, servers, azure, vault)


def sync(source: str, target: str) -> tuple[str, ...]:
    return ("secrets.sync", "--source", source, "--target", target)


def test_a_file_goes_to_aws_and_on_to_azure_and_vault_byte_for_byte(world: World) -> None:
    created = dict.fromkeys(VALUES, "create")
    written = dict.fromkeys(VALUES, "written")
    to_aws = sync("dotenv:.env.prod", "aws:shop/prod#")
    world.aws.put(shop__prod='{"MORE": "left alone"}')
    assert world.states("--dry", *to_aws) == created | {"MORE": "only in target"}
    assert world.document == {"MORE": "left alone"}
    world.inv(*to_aws, code=14)
    assert world.document == {"MORE": "left alone"}
    assert world.states(*to_aws, "--yes") == written | {"MORE": "only in target"}
    assert world.document == VALUES | {"MORE": "left alone"}
    # All fields in one version.
    assert len(world.aws.versions("shop/prod")) == 2
    assert world.states(*to_aws) == dict.fromkeys(VALUES, "same") | {"MORE": "only in target"}

    names = tuple(word for name in VALUES for word in ("--only", name))
    to_azure = sync("aws:shop/prod#", f"azure:{world.azure.address}")
    assert world.states(*to_azure, *names, "--yes") == written
    assert {name: world.azure.values(name.replace("_", "-"))[-1] for name in VALUES} == VALUES
    to_vault = sync(f"azure:{world.azure.address}", "vault:shop")
    assert world.states(*to_vault, "--yes") == written
    assert world.vault.now("shop") == VALUES
    different = world.inv("secrets.diff", "--first", "dotenv:.env.prod", "--second", "vault:shop", "--json")
    assert {each["state"] for each in json.loads(different.stdout)} == {"same"}


def test_secrets_below_a_prefix_are_one_each(world: World) -> None:
    assert set(world.states(*sync("dotenv:.env.prod", "aws:shop/prod/"), "--yes").values()) == {"written"}
    assert {name: world.aws.value(f"shop/prod/{name}") for name in VALUES} == VALUES


def test_one_that_is_denied_is_named_and_the_others_are_written(world: World) -> None:
    denied = "a" * 70_000
    with (world.root / ".env.prod").open("a") as file:
        file.write(f"TOO_BIG={denied}\n")
    states = world.states(*sync("dotenv:.env.prod", "aws:shop/prod/"), "--yes", code=2)
    assert states == dict.fromkeys(VALUES, "written") | {"TOO_BIG": "failed"}


def test_a_secret_is_set_and_its_versions_are_read(world: World) -> None:
    world.variables("API_KEY=${aws:shop/api-key}\n")
    for name in ("API_KEY", "GREETING_TOKEN"):
        (world.root / "value").write_bytes(VALUES[name].encode())
        words = ("secrets.set", "--name", "API_KEY", "--from-file", "value", "--json")
        assert json.loads(world.inv(*words).stdout)["version"] in world.aws.versions("shop/api-key")
    history = json.loads(world.inv("secrets.history", "--name", "API_KEY", "--json").stdout)
    assert [each["stages"][:1] for each in history] == [["current"], ["previous"]]
    get = ("secrets.get", "--name", "API_KEY", "--reveal")
    assert world.reveal(*get).stdout == VALUES["GREETING_TOKEN"]
    assert world.reveal(*get, "--stage", "AWSPREVIOUS").stdout == VALUES["API_KEY"]
    assert world.reveal(*get, "--version", history[1]["version"]).stdout == VALUES["API_KEY"]
    world.inv("secrets.get", "--name", "API_KEY", code=14)


PLACES = {
    "aws, stage": ("aws:shop/master-key", "aws:shop/master-key?stage=AWSPREVIOUS"),
    "azure, version": ("azure:master-key", "azure:master-key?version=previous"),
    "aws, fields": ("aws:shop/keys#MASTER_KEY", "aws:shop/keys#MASTER_KEY_PREVIOUS"),
    "vault, fields": ("vault:shop/keys#MASTER_KEY", "vault:shop/keys#MASTER_KEY_PREVIOUS"),
    "azure and aws": ("azure:master-key", "aws:shop/master-key-previous"),
}


@pytest.mark.parametrize("way", ["finish", "undo"])
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_a_key_is_rotated_and_an_interrupted_rotation_finished_or_undone(
    world: World, places: tuple[str, str], way: str
) -> None:
    place, previous = places
    old = VALUES["API_KEY"]
    world.aws.put(shop__keys=json.dumps({"OTHER": "as it was"}))
    world.vault.put("shop/keys", {"OTHER": "as it was"})
    world.variables(f"MASTER_KEY=${{{place}}}\nMASTER_KEY_PREVIOUS=${{{previous}}}\n")
    (world.root / "old").write_bytes(old.encode())
    world.inv("secrets.set", "--name", "MASTER_KEY", "--from-file", "old")

    # It ends, as a kill -9 would, when the new value is stored and nobody knows it yet.
    stop = (
        "import os; from windlass.secrets.rotating import Store; write = Store.write\n"
        "def stops(self, address, value):\n"
        f"    found = write(self, address, value); str(address) == {place!r} and os._exit(9); return found\n"
        "Store.write = stops\n"
        "from windlass.tasks import namespace as ns\n"
    )
    ours = (world.root / "tasks.py").read_text()
    (world.root / "tasks.py").write_text(stop)
    world.inv("secrets.rotate", "--name", "MASTER_KEY", code=9)
    (world.root / "tasks.py").write_text(ours)

    get = ("secrets.get", "--reveal", "--name")
    new = world.reveal(*get, "MASTER_KEY").stdout
    assert new != old
    assert world.reveal(*get, "MASTER_KEY_PREVIOUS").stdout == old
    told = world.inv("secrets.rotate", "--name", "MASTER_KEY", code=1)
    assert f"{place} holds the new value." in told.stderr
    done = world.inv("secrets.rotate", "--name", "MASTER_KEY", f"--{way}")
    assert new not in told.stderr + done.stdout + done.stderr
    now, before = (new, old) if way == "finish" else (old, new)
    assert world.reveal(*get, "MASTER_KEY").stdout == now
    assert world.reveal(*get, "MASTER_KEY_PREVIOUS").stdout == before
    if "#" in place:
        kept = world.vault.now("shop/keys") if "vault" in place else json.loads(world.aws.value("shop/keys"))
        assert (kept or {})["OTHER"] == "as it was"
