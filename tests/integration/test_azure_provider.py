"""Azure Key Vault through the real SDK, against a server that speaks its protocol."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.keyvault.secrets._shared import HttpChallengeCache
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.keyvault import (
    CLIENT,
    CLIENT_SECRET,
    IDENTITY,
    IDENTITY_HEADER,
    LOCAL,
    MOST_BYTES,
    OBJECT,
    TENANT,
    Fault,
    KeyVault,
    Vault,
    forbidden,
    throttled,
)
from windlass.errors import ConfigurationError
from windlass.secrets.providers.azure.client import AzureClient
from windlass.secrets.providers.azure.sessions import Limits, Session
from windlass.secrets.providers.base import Context, Failure, ProviderError, Resolved, Version
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import AzureSettings, SecretsSettings
from windlass.shell import Sensitive

ROOT = Path(__file__).resolve().parents[2]
# Short, so that what never answers ends a test soon; nothing is measured with it.
SHORT = Limits(connect=15.0, read=2.0, total=60.0, wait=2.0, backoff=0.01)
# Long enough for a busy machine, but no wait between tries.
PATIENT = replace(Limits(), backoff=0.01)
SECRET = "the-value-nobody-may-see"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.fixture(autouse=True)
def no_login_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if re.match(
            "AZURE_|IDENTITY_|MSI_|IMDS_|REQUESTS_CA|CURL_CA|(https?|no|all)_proxy$", name, re.IGNORECASE
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    # The SDK remembers for the whole process where a vault wants its logins, and ports are used again.
    HttpChallengeCache.clear()


@pytest.fixture
def keyvault() -> Iterator[KeyVault]:
    with KeyVault() as server:
        yield server


def settings_of(keyvault: KeyVault, **more: Any) -> AzureSettings:
    given = {
        "vault": keyvault.address,
        "login": "client-secret",
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "ca_file": str(keyvault.ca_file),
        "verify_challenge": False,
    }
    return AzureSettings(**{**given, **more})


Connect = Callable[..., AzureClient]


@pytest.fixture
def connect(keyvault: KeyVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Make clients; the login of the server is the local one, unless the proxy answers for the real ones."""
    made: list[AzureClient] = []
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", keyvault.address)

    def make(limits: Limits = PATIENT, secret: str = CLIENT_SECRET, **more: Any) -> AzureClient:
        azure = settings_of(keyvault, **more)
        context = Context(
            tmp_path,
            {},
            SecretsSettings(azure=azure),
            lambda text: Sensitive(secret) if "$" in text else Sensitive(text),
        )
        made.append(AzureClient(Session(context, limits), azure))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def real_names(keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make clients that use the real names of vaults and logins; the server's proxy answers for all."""
    monkeypatch.delenv("AZURE_AUTHORITY_HOST")
    monkeypatch.setenv("HTTPS_PROXY", keyvault.proxy)

    def make(**more: Any) -> AzureClient:
        return connect(**{"vault": None, "verify_challenge": True, **more})

    return make


def failure(found: Any) -> Failure:
    assert isinstance(found, Failure), found
    assert SECRET not in str(found)
    assert CLIENT_SECRET not in str(found)
    assert "\n" not in str(found)
    return found


def one(client: AzureClient, target: str) -> Resolved:
    return client.fetch([target])[target]


# --- reading


def test_secrets_are_read_each_once_whole_and_by_field(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("plain", " ä$x\n")
    keyvault.put("json", '{"user": "app", "port": 5432, "deep": {"key": "y"}}')
    targets = ["plain", "json", "json#user", "json#port", "JSON#deep.key"]
    assert connect().fetch(targets) == {
        "plain": Sensitive(" ä$x\n"),
        "json": Sensitive('{"user": "app", "port": 5432, "deep": {"key": "y"}}'),
        "json#user": Sensitive("app"),
        "json#port": Sensitive("5432"),
        "JSON#deep.key": Sensitive("y"),
    }
    # The first one of a vault is asked twice: without a login, and with the one it is told to use.
    assert len(keyvault.asked("GET local /secrets/plain")) == 2
    assert len(keyvault.asked("GET local /secrets/json")) == 1


def test_sixteen_are_asked_at_the_same_time_after_one_login(keyvault: KeyVault, connect: Connect) -> None:
    names = [f"s{number}" for number in range(1 + 16 * 3)]
    for name in names:
        keyvault.put(name, f"value of {name}")
    # Answers come only once sixteen calls wait: fewer at a time would wait for ever.
    with keyvault.together(16, r"/secrets/s([1-9]|\d\d)$"):
        found = connect().fetch(names)
    assert found == {name: Sensitive(f"value of {name}") for name in names}
    assert keyvault.peak == 16
    assert len(keyvault.asked("POST .*/token")) == 1
    assert len(keyvault.asked("GET local /secrets/")) == len(names) + 1


def test_real_names_in_every_cloud_with_the_challenge_verified(
    keyvault: KeyVault, real_names: Connect
) -> None:
    keyvault.put("db-password", "one", "shop-vault")
    keyvault.put("db-password", "two", "other-vault")
    for cloud, login in (
        ("public", "login.microsoftonline.com"),
        ("us-government", "login.microsoftonline.us"),
        ("china", "login.chinacloudapi.cn"),
    ):
        keyvault.calls.clear()
        found = real_names(cloud=cloud).fetch(["shop-vault/db-password", "Other-Vault/db-password"])
        assert list(found.values()) == [Sensitive("one"), Sensitive("two")]
        assert keyvault.asked(f"POST {login} .*/token")
        assert {call.split()[1] for call in keyvault.calls} == {"shop-vault", "other-vault", login}


def test_a_vault_of_the_settings_by_its_name(keyvault: KeyVault, real_names: Connect) -> None:
    keyvault.put("db-password", "one", "shop-vault")
    client = real_names(vault="shop-vault")
    assert client.fetch(["db-password", "shop-vault/db-password"]) == {
        "db-password": Sensitive("one"),
        "shop-vault/db-password": Sensitive("one"),
    }
    assert len(keyvault.asked("GET shop-vault")) == 2


def test_a_reference_without_a_vault_needs_one(connect: Connect) -> None:
    found = failure(one(connect(vault=None), "db-password"))
    assert (
        str(found)
        == "The reference names no vault; Write ${azure:vault/name}, or set vault in [secrets.azure]"
    )


def test_versions_are_read_by_id_and_as_previous(keyvault: KeyVault, connect: Connect) -> None:
    first = keyvault.put("key", "old")
    keyvault.put("key", "wrong", enabled=False)
    keyvault.put("key", "new")
    targets = ["key", f"key?version={first.id}", "key?version=previous"]
    assert list(connect().fetch(targets).values()) == [Sensitive("new"), Sensitive("old"), Sensitive("old")]


def test_a_version_that_is_not_there(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("key", "only")
    client = connect()
    found = failure(one(client, f"key?version={'0' * 32}"))
    assert found.reason == f"there is no version {'0' * 32} of the secret key in the vault 127.0.0.1"
    assert failure(one(client, "key?version=previous")).reason == (
        "the secret key of the vault 127.0.0.1 has no previous version"
    )


# --- errors, one sentence each


def test_a_missing_secret_names_the_nearest(keyvault: KeyVault, real_names: Connect) -> None:
    for number in range(60):
        keyvault.put(f"filler-{number}", "x", "shop-vault")
    keyvault.put("zdb-password", "x", "shop-vault")
    found = failure(one(real_names(), "shop-vault/zdb-pasword"))
    assert found == Failure(
        "the vault shop-vault has no secret zdb-pasword", "did you mean zdb-password?", missing=True
    )


def test_a_missing_secret_where_nothing_may_be_listed(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("db-password", "x")
    keyvault.faults = [
        forbidden("ForbiddenByRbac", "/secrets$"),
        forbidden("ForbiddenByRbac", "/deletedsecrets"),
    ]
    found = failure(one(connect(), "db-pasword"))
    assert found.missing
    assert found.fix == "check the name, or store it with secrets.set"


def test_a_deleted_secret_says_how_to_recover_it(keyvault: KeyVault, real_names: Connect) -> None:
    keyvault.put("db-password", SECRET, "shop-vault")
    keyvault.delete("db-password", "shop-vault")
    client = real_names()
    target = "shop-vault/db-password"
    command = "az keyvault secret recover --vault-name shop-vault --name db-password"
    found = failure(one(client, target))
    assert (found.fix, found.missing) == (f"run {command}", True)
    assert "can be recovered until 2026-05-30" in found.reason
    written = failure(client.write({target: Sensitive("x")})[target])
    assert written == Failure(
        "a deleted secret db-password of the vault shop-vault can still be recovered, so its name is taken",
        f"run {command}, then try again",
    )
    assert keyvault.vaults["shop-vault"].secrets == {}


@pytest.mark.parametrize(
    ("inner", "reason", "fix"),
    [
        ("ForbiddenByRbac", f"the login {OBJECT} may not get the secret a", "'Key Vault Secrets User'"),
        ("AccessDenied", f"the login {OBJECT} may not get the secret a", "secret permission get"),
        ("SecretDisabled", "the secret a of the vault 127.0.0.1 is disabled", "--enabled true"),
        ("ForbiddenByFirewall", "the firewall of the vault", "az keyvault network-rule add"),
    ],
)
def test_a_refusal_says_what_to_do(
    keyvault: KeyVault, connect: Connect, inner: str, reason: str, fix: str
) -> None:
    keyvault.put("a", "x")
    with keyvault.faulty(forbidden(inner, "GET local /secrets/a")):
        found = failure(one(connect(), "a"))
    assert reason in found.reason
    assert fix in found.fix
    assert not found.missing


def test_one_that_is_refused_hides_no_other(keyvault: KeyVault, connect: Connect) -> None:
    for name in ("a", "b", "c"):
        keyvault.put(name, name)
    keyvault.faults = [forbidden("ForbiddenByRbac", "/secrets/a$"), Fault("/secrets/c$", 400, "BadParameter")]
    found = connect().fetch(["a", "b", "c", "d"])
    assert "may not get the secret a" in failure(found["a"]).reason
    assert found["b"] == Sensitive("b")
    assert "status 400" in failure(found["c"]).reason
    assert "no secret d" in failure(found["d"]).reason


def test_a_wrong_client_secret_is_told_once_for_all(
    keyvault: KeyVault, connect: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    # The server quotes the secret in its answer, as servers do.
    client = connect(secret=SECRET)
    found = client.fetch([f"s{number}" for number in range(40)])
    assert len(set(map(str, found.values()))) == 1
    assert failure(found["s0"]) == Failure(
        "the login to Azure failed: the client's secret is wrong (AADSTS7000215)",
        "give the secret's value, not its id",
    )
    assert len(keyvault.asked("POST .*/token")) == 1
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""


def test_an_unknown_client(connect: Connect) -> None:
    found = failure(one(connect(client_id="other"), "a"))
    assert "no application of this client id (AADSTS700016)" in found.reason


def test_no_login_at_all_is_one_short_sentence_and_nothing_on_stderr(
    keyvault: KeyVault, tmp_path: Path
) -> None:
    # In a process of its own: there nobody has set handlers for logs, and Python prints warnings.
    keyvault.put("a", "x")
    code = (
        "import sys; from pathlib import Path\n"
        "from windlass.secrets.resolving import Resolver\n"
        "from windlass.secrets.settings import AzureSettings, SecretsSettings\n"
        f"trust = {{'ca_file': {str(keyvault.ca_file)!r}, 'verify_challenge': False}}\n"
        f"azure = AzureSettings(vault={keyvault.address!r}, **trust)\n"
        "with Resolver(Path(), {}, SecretsSettings(azure=azure)) as resolver:\n"
        "    print(resolver.lookup('${azure:a}'))\n"
    )
    environ = {**os.environ, "AZURE_TOKEN_CREDENTIALS": "", "PYTHONPATH": str(ROOT)}
    # Instead of the address that every cloud machine has, and this one may have too.
    environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = "http://127.0.0.1:1"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert re.fullmatch(
        r"there is no login to Azure; tried: Environment, WorkloadIdentity, ManagedIdentity, .*AzureCli, .*; "
        r"run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or .*\n",
        done.stdout,
    )


def test_the_default_login_takes_the_variables(
    keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyvault.put("a", "x")
    for name, value in {"TENANT_ID": TENANT, "CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    assert one(connect(login="default", tenant_id=None, client_id=None), "a") == Sensitive("x")


@pytest.mark.parametrize("client_id", [None, IDENTITY])
def test_the_managed_identity_of_a_machine(
    keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    keyvault.put("a", "x")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", keyvault.proxy)
    assert one(connect(login="managed-identity", client_id=client_id), "a") == Sensitive("x")
    assert len(keyvault.asked("GET .*/metadata/identity/oauth2/token")) == 1
    assert keyvault.asked("POST") == []


def test_the_managed_identity_of_an_app_service(
    keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyvault.put("a", "x")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{keyvault.proxy}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    assert one(connect(login="managed-identity", client_id=None), "a") == Sensitive("x")
    assert len(keyvault.asked("/msi/token")) == 1


def test_a_managed_identity_the_machine_does_not_have(
    keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", keyvault.proxy)
    found = failure(one(connect(login="managed-identity", client_id=CLIENT), "a"))
    assert found.reason == "there is no login to Azure: this machine has no such managed identity"


def test_a_vault_that_does_not_accept_the_login(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("a", "x")
    with keyvault.faulty(Fault("/secrets/a", 401, "Unauthorized", message="AKV10032: Invalid issuer.")):
        found = failure(one(connect(), "a"))
    assert found.reason == "the vault 127.0.0.1 does not accept the login"
    assert "tenant" in found.fix


@pytest.mark.parametrize("missing", ["tenant_id", "client_id"])
def test_a_login_without_its_settings(connect: Connect, missing: str) -> None:
    with pytest.raises(ProviderError, match=f"client-secret needs {missing} in"):
        connect(**{missing: None})


def test_settings_that_are_wrong_are_told_before_anything_is_asked(
    keyvault: KeyVault, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for wrong, said in (
        ({"ca_file": "none.pem"}, "none.pem, cannot be read: No such file"),
        ({"ca_file": "empty.pem"}, "empty.pem, cannot be read"),
        ({"vault": "http://shop-vault.vault.azure.net"}, "is no vault"),
        ({"vault": "shop_vault"}, "is no vault"),
        ({"tenant_id": "../x"}, "tenant_id"),
    ):
        with pytest.raises(ProviderError, match=said):
            connect(**wrong)
    assert keyvault.calls == []


def test_a_vault_that_dns_does_not_know(connect: Connect) -> None:
    found = failure(one(connect(SHORT, vault="https://shop-vault.invalid"), "a"))
    assert "there is no vault shop-vault.invalid: DNS knows no shop-vault.invalid" in found.reason
    assert "cloud" in found.fix


def test_a_vault_that_the_proxy_does_not_know(real_names: Connect) -> None:
    found = failure(one(real_names(limits=SHORT), "no-vault/a"))
    assert found.reason == "the proxy gives no way to no-vault.vault.azure.net"


def test_a_certificate_that_is_not_trusted(connect: Connect) -> None:
    found = failure(one(connect(SHORT, ca_file=None), "a"))
    assert "is not trusted" in found.reason
    assert "ca_file" in found.fix


def test_a_bundle_of_the_sdks_variables_is_trusted(
    keyvault: KeyVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyvault.put("a", "x")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", keyvault.address)
    azure = settings_of(keyvault, ca_file=None)
    process = {"AZURE_CLIENT_SECRET": CLIENT_SECRET, "REQUESTS_CA_BUNDLE": str(keyvault.ca_file)}
    with Resolver(tmp_path, process, SecretsSettings(azure=azure)) as resolver:
        assert resolver.lookup("${azure:a}") == Sensitive("x")


def test_a_challenge_for_another_domain_gets_no_token(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("a", "x")
    found = failure(one(connect(verify_challenge=True), "a"))
    assert "a login that is not for vaults of this domain" in found.reason
    assert keyvault.asked("POST") == []


# --- a provider that is ill


def test_a_provider_that_is_down_is_one_failure_for_all(connect: Connect) -> None:
    with KeyVault() as other:
        address = other.address
    found = connect(SHORT, vault=address).fetch(["a", "b"])
    assert failure(found["a"]) == failure(found["b"])
    assert "does not answer" in failure(found["a"]).reason


def test_throttling_is_waited_out(keyvault: KeyVault, connect: Connect) -> None:
    names = [f"s{number}" for number in range(20)]
    for name in names:
        keyvault.put(name, name)
    # Each is asked six times at most: five refusals are too few to use one up, whoever gets them.
    with keyvault.faulty(throttled(1, times=5, match="/secrets/s[1-9]")):
        found = connect().fetch(names)
    assert found == {name: Sensitive(name) for name in names}


def test_one_that_is_out_of_order_for_a_moment(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("a", "x")
    with keyvault.faulty(Fault("/secrets/a", 503, times=3), Fault("/secrets/a", times=1)):
        assert one(connect(), "a") == Sensitive("x")


@pytest.mark.parametrize(
    ("fault", "reason", "calls"),
    [
        (throttled(3600), "asks to wait 3600 s, which is too long", 1),
        (throttled(0), "gets too many requests", 6),
        (Fault("/secrets/", 503), "is out of order: it answers with status 503", 6),
        (Fault("/secrets/", hang=True), "does not answer", 2),
        (Fault("/secrets/"), "does not answer", 2),
    ],
)
def test_a_vault_that_stays_ill_is_left_alone(
    keyvault: KeyVault, connect: Connect, fault: Fault, reason: str, calls: int
) -> None:
    with keyvault.faulty(fault):
        # What answers has the time a busy machine takes; only what never does is not waited for long.
        limits = SHORT if fault.hang else replace(SHORT, read=15.0)
        found = connect(limits).fetch([f"s{number}" for number in range(40)])
    assert len(set(map(str, found.values()))) == 1
    assert reason in failure(found["s0"]).reason
    assert len(keyvault.calls) == calls


def test_another_vault_still_gives_its_secrets(keyvault: KeyVault, real_names: Connect) -> None:
    keyvault.vaults["ill-vault"] = Vault()
    keyvault.put("a", "x", "good-vault")
    with keyvault.faulty(Fault("GET ill-vault", 503)):
        found = real_names().fetch(["ill-vault/a", "good-vault/a"])
    assert "out of order" in failure(found["ill-vault/a"]).reason
    assert found["good-vault/a"] == Sensitive("x")


GARBAGE = [
    b"", b"<html>", b"[]", b'"x"', b"{}", b'{"value":null}', b'{"value":"v"}', b'{"value":"v","id":3}',
    b'{"value":"v","id":"https://x/secrets/other/0"}', b'{"value":"v","id":"/secrets"}', b"\xff\xfe",
    b'{"value":"v',
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("status", [200, 404])
def test_garbage_is_no_value_and_says_nothing_of_what_there_is(
    keyvault: KeyVault, connect: Connect, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    with keyvault.faulty(Fault("/secrets/a", status, body=body, headers=headers)):
        found = failure(one(connect(), "a"))
    assert "does not speak Key Vault" in found.reason
    assert not found.missing


def test_a_secret_in_an_answer_is_not_repeated(keyvault: KeyVault, connect: Connect) -> None:
    for status in (400, 401, 403, 404, 409, 418, 500):
        fault = Fault("/secrets/", status, SECRET, SECRET, SECRET)
        with keyvault.faulty(fault):
            client = connect()
            failure(one(client, "a"))
            failure(client.write({"a": Sensitive(SECRET)})["a"])
            with pytest.raises(ProviderError) as caught:
                client.versions("a")
            assert SECRET not in str(caught.value)


def test_an_sdk_that_raises_with_the_secret_in_its_text(
    keyvault: KeyVault, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.keyvault.secrets import SecretClient

    def broken(self: object, name: str, value: str, **more: object) -> None:
        raise RuntimeError(f"cannot send {value}")

    monkeypatch.setattr(SecretClient, "set_secret", broken)
    failure(connect().write({"a": Sensitive(SECRET)})["a"])


@pytest.mark.parametrize(("value", "reason"), [("a\0b", "NUL"), ("\ud800", "not valid Unicode")])
def test_values_no_variable_can_hold(keyvault: KeyVault, connect: Connect, value: str, reason: str) -> None:
    keyvault.put("a", value)
    keyvault.put("json", json.dumps({"key": value}))
    client = connect()
    assert reason in failure(one(client, "a")).reason
    assert reason in failure(one(client, "json#key")).reason
    written = client.write({"b": Sensitive(value), "json#other": Sensitive(value)})
    assert reason in failure(written["b"]).reason
    assert reason in failure(written["json#other"]).reason
    assert "b" not in keyvault.vaults[LOCAL].secrets
    assert len(keyvault.values("json")) == 1


# --- writing


def test_a_value_is_written_with_its_tags_kept(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("a", "old", tags={"team": "shop"}, content_type="text/plain")
    written = connect().write({"a": Sensitive("new ä\n"), "b": Sensitive("first")})
    assert keyvault.values("a") == ["old", "new ä\n"]
    assert keyvault.values("b") == ["first"]
    newest = keyvault.vaults[LOCAL].secrets["a"].versions[-1]
    assert (newest.tags, newest.content_type) == ({"team": "shop"}, "text/plain")
    version = written["a"]
    assert isinstance(version, Version)
    assert (version.id, version.stages) == (newest.id, ("current",))
    assert version.created is not None and version.created.timestamp() == newest.created


def test_a_value_that_is_there_already_makes_no_version(keyvault: KeyVault, connect: Connect) -> None:
    kept = keyvault.put("a", "same")
    (version,) = connect().write({"a": Sensitive("same")}).values()
    assert isinstance(version, Version)
    assert (version.id, version.stages) == (kept.id, ("current",))
    assert keyvault.asked("PUT") == []


def test_fields_are_written_together_and_the_others_stay(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("json", '{"a": 1, "b": {"c": 2}}')
    client = connect()
    written = client.write({"json#a": Sensitive("x"), "json#new": Sensitive("y"), "made#a": Sensitive("z")})
    assert all(isinstance(each, Version) for each in written.values())
    assert written["json#a"] == written["json#new"]
    assert json.loads(keyvault.values("json")[-1]) == {"a": "x", "b": {"c": 2}, "new": "y"}
    assert len(keyvault.values("json")) == 2
    assert json.loads(keyvault.values("made")[-1]) == {"a": "z"}


def test_what_cannot_be_written(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("plain", "no json")
    old = keyvault.put("off", "x", enabled=False)
    values = {
        "plain#a": "x",
        "off#a": "x",
        "both": "{}",
        "both#a": "x",
        "twice": "x",
        "Twice": "y",
        f"off?version={old.id}": "x",
        "large": "ä" * (MOST_BYTES // 2) + "x",
        "large-json#a": '"' * (MOST_BYTES // 2),
    }
    written = connect().write({target: Sensitive(value) for target, value in values.items()})
    reasons = {target: failure(found).reason for target, found in written.items()}
    assert "not JSON" in reasons["plain#a"]
    assert "disabled" in reasons["off#a"]
    for target in ("both", "both#a", "twice", "Twice"):
        assert "two values" in reasons[target]
    assert "a version cannot be written" in reasons[f"off?version={old.id}"]
    assert reasons["large"] == "the value has 25601 bytes, and Azure Key Vault keeps 25600 at most"
    assert "keeps 25600 at most" in reasons["large-json#a"]
    assert keyvault.asked("PUT") == []


def test_the_largest_value_there_may_be(keyvault: KeyVault, connect: Connect) -> None:
    value = Sensitive("ä" * (MOST_BYTES // 2))
    client = connect()
    assert isinstance(client.write({"a": value})["a"], Version)
    assert one(client, "a") == value


def test_a_disabled_secret_gets_a_new_version_and_keeps_its_tags(
    keyvault: KeyVault, connect: Connect
) -> None:
    keyvault.put("a", "older", tags={"team": "old"})
    keyvault.put("a", "old", enabled=False, tags={"team": "shop"})
    client = connect()
    assert isinstance(client.write({"a": Sensitive("new")})["a"], Version)
    assert keyvault.vaults[LOCAL].secrets["a"].versions[-1].tags == {"team": "shop"}
    assert one(client, "a") == Sensitive("new")


def test_a_write_that_is_not_allowed(keyvault: KeyVault, connect: Connect) -> None:
    with keyvault.faulty(forbidden("ForbiddenByRbac", "PUT")):
        found = failure(connect().write({"a": Sensitive(SECRET)})["a"])
    assert f"the login {OBJECT} may not set the secret a" in found.reason
    assert "'Key Vault Secrets Officer'" in found.fix


def test_a_write_whose_answer_is_lost_says_that_nobody_knows(keyvault: KeyVault, connect: Connect) -> None:
    with keyvault.faulty(Fault("PUT")):
        found = failure(connect().write({"a": Sensitive(SECRET)})["a"])
    assert "it is not known whether a was written" in found.reason


def test_every_value_comes_back_byte_for_byte(keyvault: KeyVault, connect: Connect) -> None:
    client = connect()

    @settings(max_examples=50)
    @given(st.lists(TEXT, min_size=1, max_size=5))
    def check(values: list[str]) -> None:
        targets = {f"fuzz-{number}": Sensitive(value) for number, value in enumerate(values)}
        targets |= {f"fuzz-json#k{number}": Sensitive(value) for number, value in enumerate(values)}
        assert all(isinstance(each, Version) for each in client.write(targets).values())
        assert client.fetch(list(targets)) == targets

    check()


# --- versions


def test_versions_newest_first_with_their_stages(keyvault: KeyVault, connect: Connect) -> None:
    ids = [keyvault.put("a", f"{number}", enabled=number != 2).id for number in range(4)]
    found = connect().versions("a")
    assert [each.id for each in found] == ids[::-1]
    assert [each.stages for each in found] == [("current",), (), ("previous",), ()]
    assert found[1].note == "disabled"
    assert all(each.created is not None and each.created.tzinfo for each in found)


def test_where_the_newest_is_disabled_none_is_current(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.put("a", "old")
    keyvault.put("a", "new", enabled=False, expires=keyvault.clock)
    newest, older = connect().versions("a")
    assert (newest.stages, newest.note) == ((), "disabled, expires 2026-03-01")
    assert older.stages == ("previous",)


def test_versions_of_one_second(keyvault: KeyVault, connect: Connect) -> None:
    keyvault.ticks = 0
    for number in range(5):
        keyvault.put("a", f"{number}")
    client = connect()
    found = client.versions("a")
    # A read tells which is current; of the others nobody knows which was before it, so none is said to be.
    assert found[0].id == keyvault.vaults[LOCAL].secrets["a"].versions[-1].id
    assert [each.stages for each in found] == [("current",), (), (), (), ()]
    assert "has no previous version" in failure(one(client, "a?version=previous")).reason


def test_versions_of_what_is_not_there(keyvault: KeyVault, connect: Connect) -> None:
    with pytest.raises(ProviderError, match="has no secret a"):
        connect().versions("a")
    with pytest.raises(ProviderError, match="names no vault"):
        connect(vault=None).versions("a")


def test_more_versions_than_a_page(keyvault: KeyVault, connect: Connect) -> None:
    ids = [keyvault.put("a", f"{number}").id for number in range(60)]
    assert [each.id for each in connect().versions("a")] == ids[::-1]


def test_an_earlier_value_is_written_anew(keyvault: KeyVault, connect: Connect) -> None:
    first = keyvault.put("a", "one", tags={"team": "shop"})
    keyvault.put("a", "two", tags={"team": "shop"})
    client = connect()
    restored = client.restore("a", first.id)
    assert keyvault.values("a") == ["one", "two", "one"]
    assert restored.stages == ("current",)
    assert restored.note == f"holds the value of version {first.id}"
    assert client.restore("a", "previous").note.startswith("holds the value of version ")
    assert keyvault.values("a") == ["one", "two", "one", "two"]
    assert keyvault.vaults[LOCAL].secrets["a"].versions[-1].tags == {"team": "shop"}


def test_of_a_field_only_the_field_is_restored(keyvault: KeyVault, connect: Connect) -> None:
    first = keyvault.put("a", '{"x": "1", "y": "1"}')
    keyvault.put("a", '{"x": "2", "y": "2"}')
    connect().restore("a#x", first.id)
    assert json.loads(keyvault.values("a")[-1]) == {"x": "1", "y": "2"}


def test_what_cannot_be_restored(keyvault: KeyVault, connect: Connect) -> None:
    off = keyvault.put("a", "one", enabled=False)
    keyvault.put("a", "two")
    client = connect()
    for version, said in (
        ("0" * 32, "There is no version"),
        (off.id, "is disabled"),
        ("previous", "no previous"),
    ):
        with pytest.raises(ProviderError, match=said):
            client.restore("a", version)
    assert len(keyvault.values("a")) == 2


# --- names of variables


def test_variables_and_secrets_are_named_both_ways(keyvault: KeyVault, real_names: Connect) -> None:
    client = real_names()
    keyvault.vaults["shop-vault"] = Vault()
    names = ["DATABASE_URL", "npm_Token", "_A__B_"]
    targets = {name: client.member("shop-vault", name) for name in names}
    assert targets == {
        "DATABASE_URL": "shop-vault/database-url",
        "npm_Token": "shop-vault/npm-token",
        "_A__B_": "shop-vault/-a--b-",
    }
    client.write({target: Sensitive(name) for name, target in targets.items()})
    keyvault.put("Old-Name", "x", "shop-vault")
    keyvault.put("moved", "x", "shop-vault", tags={"env-name": "DATABASE_URL"})
    keyvault.put("3scale", "x", "shop-vault")
    keyvault.put("certificate", "x", "shop-vault")
    keyvault.vaults["shop-vault"].secrets["certificate"].managed = True
    assert real_names().members("shop-vault") == {
        **targets,
        "OLD_NAME": "shop-vault/Old-Name",
        "MOVED": "shop-vault/moved",
    }


def test_members_of_more_than_a_page_and_of_the_vault_of_the_settings(
    keyvault: KeyVault, connect: Connect
) -> None:
    for number in range(60):
        keyvault.put(f"s-{number}", "x")
    expected = {f"S_{number}": f"s-{number}" for number in range(60)}
    client = connect()
    assert client.members("") == expected
    assert client.members(keyvault.address) == expected
    with pytest.raises(ProviderError, match="cannot stand in a reference"):
        client.members("https://other.vault.azure.net")
    with pytest.raises(ProviderError, match="is no vault"):
        client.members("no_vault")


def test_a_vault_that_may_not_be_listed(keyvault: KeyVault, connect: Connect) -> None:
    with keyvault.faulty(forbidden("ForbiddenByRbac", "/secrets$")), pytest.raises(ProviderError) as caught:
        connect().members("")
    assert f"The login {OBJECT} may not list the secrets of the vault 127.0.0.1." in str(caught.value)
    assert "'Key Vault Secrets User'" in str(caught.value)


def test_names_that_are_one_secret_are_refused(keyvault: KeyVault, connect: Connect) -> None:
    client = connect()
    client.member("", "DATABASE_URL")
    assert client.member("", "DATABASE_URL") == "database-url"
    with pytest.raises(ConfigurationError, match="DATABASE_URL and database_url would be one secret"):
        client.member("", "database_url")


@pytest.mark.parametrize("tags", [{}, {"env-name": "DATABASE_URL"}])
def test_a_secret_of_another_variable_is_not_written_over(
    keyvault: KeyVault, connect: Connect, tags: dict[str, str]
) -> None:
    keyvault.put("database-url", "theirs", tags=tags)
    client = connect()
    for value in ("mine", "theirs"):
        found = failure(client.write({client.member("", "database_url"): Sensitive(value)})["database-url"])
        assert "is kept for the variable DATABASE_URL, not database_url" in found.reason
    assert keyvault.values("database-url") == ["theirs"]


@pytest.mark.parametrize("name", ["a-b", "1A", "", "A" * 128])
def test_variables_that_cannot_be_kept(connect: Connect, name: str) -> None:
    with pytest.raises(ConfigurationError):
        connect().member("", name)


# --- as a reference


def test_a_reference_falls_back_and_says_so(
    keyvault: KeyVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyvault.put("a", "from the vault")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", keyvault.address)
    azure = settings_of(keyvault, client_secret="${env:THE_SECRET}", ca_file="ca.pem")
    (tmp_path / "ca.pem").write_bytes(keyvault.ca_file.read_bytes())
    process = {"THE_SECRET": CLIENT_SECRET, "B": "from the process"}
    with Resolver(tmp_path, process, SecretsSettings(azure=azure)) as resolver:
        assert resolver.lookup("${azure:a} ?? ${env:B}") == Sensitive("from the vault")
        assert resolver.lookup("${azure:b} ?? ${env:B}") == Sensitive("from the process")
        assert "has no secret b" in failure(resolver.lookup("${azure:b}")).reason


def test_a_client_secret_that_cannot_be_had(keyvault: KeyVault, tmp_path: Path) -> None:
    azure = settings_of(keyvault)
    with Resolver(tmp_path, {}, SecretsSettings(azure=azure)) as resolver:
        found = failure(resolver.lookup("${azure:a}"))
    assert "${env:AZURE_CLIENT_SECRET}: the variable AZURE_CLIENT_SECRET is not set" in found.reason


def test_nothing_of_the_sdk_is_loaded_before_a_secret_is_asked_for() -> None:
    code = (
        "import sys\nfrom windlass.secrets.references import parse\n"
        "parse('${azure:shop-vault/db-password}')\n"
        "sys.exit(any(name in sys.modules for name in ('azure', 'azure.core', 'requests', 'msal')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with Resolver(tmp_path, {}) as resolver:
        found = failure(resolver.lookup("${azure:shop-vault/a}"))
    assert "pip install 'windlass[azure]'" in found.fix
