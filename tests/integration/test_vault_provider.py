"""The provider `vault` with the real SDK against a server that speaks Vault's API."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.vaultserver import ROLE_ID, SECRET_ID, TOKEN, Fault, VaultServer
from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import Failure, ProviderError, Resolved, Version
from windlass.secrets.providers.vault import PROVIDER, calls, login
from windlass.secrets.providers.vault.client import VaultClient
from windlass.secrets.references import Address, Reference
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import SecretsSettings
from windlass.shell import Sensitive

pytestmark = pytest.mark.integration

HIDDEN = "Zq7-hidden-5xK"


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        yield server


def resolver_of(
    server: VaultServer | None,
    root: Path = Path("/"),
    process: Mapping[str, str] | None = None,
    **more: object,
) -> Resolver:
    table = {"address": server.address, "token": "${env:THE_TOKEN}"} if server else {}
    process = {"THE_TOKEN": TOKEN, **(process or {})}
    return Resolver(root, process, SecretsSettings.model_validate({"vault": {**table, **more}}))


@pytest.fixture
def client(vault: VaultServer) -> Iterator[VaultClient]:
    yield from connected(vault)


def connected(vault: VaultServer, **more: object) -> Iterator[VaultClient]:
    with resolver_of(vault, **more) as resolver:
        found = resolver.client("vault")
        assert isinstance(found, VaultClient)
        yield found


def value_of(server: VaultServer | None, target: str, **more: object) -> Resolved:
    with resolver_of(server, **more) as resolver:
        return resolver.lookup(f"${{vault:{target}}}")


def failure_of(server: VaultServer | None, target: str, **more: object) -> Failure:
    found = value_of(server, target, **more)
    assert isinstance(found, Failure), "a secret was had"
    return found


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("shop/prod", ""),
        ("shop/prod#password", ""),
        ("shop/prod#a.b?version=3&mount=team/kv&namespace=a/b", ""),
        ("a%23b#c%3Fd", ""),
        ("#password", "name is missing"),
        ("shop#", "field is missing"),
        ("shop?stage=x", "no option"),
        ("shop?version=0", "number from 1"),
        ("shop?version=x", "number from 1"),
        ("shop?version=previous", ""),
        ("/shop", "no `/` at its ends"),
        ("shop/", "no `/` at its ends"),
        ("a//b", "no `//`"),
        ("a/../sys", "`..`"),
        ("shop?mount=../sys", "`..`"),
        ("shop?namespace=/a", "no `/`"),
        ("a%0Ab", "cannot be shown"),
    ],
)
def test_a_target_is_a_path_a_field_and_options(target: str, fault: str) -> None:
    assert fault in PROVIDER.fault(target)
    assert bool(fault) == bool(PROVIDER.fault(target))


def test_fields_come_exactly_and_each_document_is_asked_for_once(
    vault: VaultServer, client: VaultClient
) -> None:
    data = {
        "password": "p'a\"s\\s\n$w ü🔑",
        "port": 5432,
        "on": True,
        "nested": {"deep": ["x", 1]},
        "a.b": "dotted",
        "empty": "",
        "nothing": None,
        "long": "v" * 65536,
        "lone": "a\ud800b",
        "nul": "a\0b",
    }
    vault.put("shop/prod", data)
    vault.put("other", {"key": "o"})
    wanted = {
        "shop/prod#password": data["password"],
        "shop/prod#port": "5432",
        "shop/prod#on": "true",
        "shop/prod#nested.deep": '["x",1]',
        "shop/prod#a.b": "dotted",
        "shop/prod#long": data["long"],
        "shop/prod#lone": data["lone"],
        "shop/prod#nul": data["nul"],
        "other": '{"key":"o"}',
    }
    found = client.fetch([*wanted, "shop/prod#passwort", "shop/prod#nothing"])
    assert {
        target: value.reveal() for target, value in found.items() if isinstance(value, Sensitive)
    } == wanted
    assert "its fields are: a.b, empty" in str(found["shop/prod#passwort"])
    assert "is null" in str(found["shop/prod#nothing"])
    assert sorted(vault.calls) == ["GET secret/data/other", "GET secret/data/shop/prod"]


def test_a_name_with_signs_of_the_grammar(vault: VaultServer, client: VaultClient) -> None:
    vault.put("a#b?c d/é%", {"x#y": "1"})
    assert client.fetch(["a%23b%3Fc d/é%25#x%23y"]) == {"a%23b%3Fc d/é%25#x%23y": Sensitive("1")}


def test_options_name_version_mount_and_namespace(vault: VaultServer, client: VaultClient) -> None:
    vault.mounts["", "team/kv"] = 2
    vault.put("shop", {"key": "first"})
    vault.put("shop", {"key": "second"})
    vault.put("shop", {"key": "of the team"}, namespace="team")
    found = client.fetch(["shop#key", "shop#key?version=1", "shop#key?namespace=team"])
    assert [found[each].reveal() for each in found if isinstance(found[each], Sensitive)] == [
        *("second", "first", "of the team")
    ]
    assert isinstance(client.fetch(["shop#key?mount=nowhere"])["shop#key?mount=nowhere"], Failure)


def test_settings_and_variables_say_which_server_and_namespace(vault: VaultServer) -> None:
    vault.put("shop", {"key": "of the team"}, namespace="team")
    process = {"VAULT_ADDR": f"{vault.address}/", "VAULT_TOKEN": TOKEN, "VAULT_NAMESPACE": "team/"}
    assert value_of(None, "shop#key", process=process) == Sensitive("of the team")
    assert value_of(vault, "shop#key", namespace="team") == Sensitive("of the team")
    assert failure_of(vault, "shop#key").missing


def test_version_one_of_the_engine(vault: VaultServer) -> None:
    vault.put("shop/prod", {"key": "value"}, mount="kv")
    assert value_of(vault, "shop/prod#key", mount="kv", version=1) == Sensitive("value")
    failure = failure_of(vault, "shop/prod#key?version=2", mount="kv", version=1)
    assert "version 1 keeps no versions" in str(failure)
    failure = failure_of(vault, "shop/prot#key", mount="kv", version=1)
    assert str(failure) == "there is no kv/shop/prot; did you mean shop/prod?"


def test_sixteen_documents_are_asked_for_at_a_time(vault: VaultServer, client: VaultClient) -> None:
    arrived = threading.Barrier(16)

    def wait(call: str) -> None:
        arrived.wait(60)

    vault.hook = wait
    for number in range(32):
        vault.put(f"shop/{number}", {"key": str(number)})
    found = client.fetch([f"shop/{number}#key" for number in range(32)])
    assert set(found.values()) == {Sensitive(str(number)) for number in range(32)}
    assert vault.most_at_once == 16
    assert len(vault.calls) == 32


def test_an_approle_logs_in_once(vault: VaultServer) -> None:
    vault.put("shop", {"key": "value"})
    vault.approles["team/approle", ROLE_ID] = SECRET_ID
    process = {"ROLE": ROLE_ID, "SECRET": SECRET_ID}
    settings = {
        "login": "approle",
        "role_id": "${env:ROLE}",
        "secret_id": "${env:SECRET}",
        "token": "${env:NONE}",
    }
    with resolver_of(vault, process=process, **settings) as resolver:
        for _ in range(2):
            assert resolver.client("vault").fetch(["shop#key"]) == {"shop#key": Sensitive("value")}
    assert len(vault.asked("login")) == 1
    settings["login_mount"] = "team/approle"
    assert value_of(vault, "shop#key", process=process, **settings) == Sensitive("value")


APPROLE = {"login": "approle", "role_id": ROLE_ID, "secret_id": "${env:SECRET}"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secret_id": "${env:WRONG_SECRET}"}, "Check [secrets.vault] role_id and ${env:WRONG_SECRET}"),
        ({"login_mount": "nowhere"}, "AppRole is not mounted at nowhere"),
        ({"secret_id": "${env:NO_SECRET}"}, "the variable NO_SECRET is not set"),
    ],
)
def test_a_login_that_fails_says_why(vault: VaultServer, settings: dict[str, str], words: str) -> None:
    process = {"SECRET": SECRET_ID, "WRONG_SECRET": HIDDEN}
    failure = failure_of(vault, "shop#key", process=process, **{**APPROLE, **settings})
    assert words in str(failure)
    assert "hidden" not in str(failure)
    assert not failure.missing


def test_a_login_that_gets_nonsense_says_so(vault: VaultServer) -> None:
    table = {**APPROLE, "process": {"SECRET": SECRET_ID}}
    answers = [b"hidden", {"auth": None}, {"auth": {"client_token": f"a\nb{HIDDEN}"}}, {"auth": {}}]
    for answer in answers:
        with vault.faulty(Fault("login", 200, answer)):
            failure = failure_of(vault, "shop", **table)
        assert "none of Vault" in str(failure)
        assert "hidden" not in str(failure)
    vault.sealed = True
    assert "is sealed" in str(failure_of(vault, "shop", **table))
    with vault.faulty(Fault("login", 500, {"errors": [HIDDEN]})):
        assert "failed with InternalServerError" in str(failure_of(vault, "shop", **table))


def test_what_is_missing_is_told_with_the_nearest_name(vault: VaultServer) -> None:
    vault.put("shop/production", {"key": HIDDEN})
    vault.put("shop/production/eu", {"key": HIDDEN})
    failure = failure_of(vault, "shop/produktion#key")
    assert str(failure) == "there is no secret/shop/produktion; did you mean shop/production?"
    assert failure.missing
    assert str(failure_of(vault, "elsewhere#key")) == "there is no secret/elsewhere"
    assert "there is no version 7 of secret/shop/production" in str(
        failure_of(vault, "shop/production?version=7")
    )
    vault.tokens[TOKEN] = ["list .*"]
    assert str(failure_of(vault, "shop/produktion#key")) == "there is no secret/shop/produktion"


def test_a_deleted_version_is_told_and_how_it_comes_back(vault: VaultServer) -> None:
    vault.put("shop", {"key": "1"})
    vault.put("shop", {"key": "2"})
    vault.delete("shop")
    failure = failure_of(vault, "shop#key")
    assert failure.reason == "version 2 of secret/shop is deleted"
    assert "vault kv undelete -mount=secret -versions=2 shop" in failure.fix
    assert failure.missing
    vault.delete("shop", destroy=True)
    assert str(failure_of(vault, "shop#key")) == "version 2 of secret/shop is destroyed"
    assert value_of(vault, "shop#key?version=1") == Sensitive("1")


def test_a_policy_that_lacks_is_told_with_the_path_it_must_name(vault: VaultServer) -> None:
    vault.put("shop/prod", {"key": HIDDEN})
    vault.put("shop/prod", {"key": HIDDEN}, mount="kv")
    vault.tokens[TOKEN] = ["read .*"]
    failure = failure_of(vault, "shop/prod#key")
    assert failure.reason == "the token may not read secret/shop/prod"
    assert failure.fix == 'a policy must allow it: path "secret/data/shop/prod" with capabilities = ["read"]'
    assert not failure.missing
    failure = failure_of(vault, "shop/prod#key", mount="kv", version=1)
    assert 'path "kv/shop/prod" with' in failure.fix
    assert "in the namespace team" in failure_of(vault, "shop/prod#key?namespace=team").fix


def test_a_token_that_expired_is_told_from_a_policy_that_lacks(vault: VaultServer) -> None:
    vault.put("shop", {"key": HIDDEN})
    process = {"MY_TOKEN": "hvs.expired"}
    failure = failure_of(vault, "shop#key", process=process, token="${env:MY_TOKEN}")
    assert "does not know the token, or it expired" in failure.reason
    assert failure.fix == "get a new one: it comes from ${env:MY_TOKEN}"
    assert "hvs." not in str(failure)
    told = {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}
    with vault.faulty(Fault("GET secret", 403, told)):
        assert "expired" in str(failure_of(vault, "shop#key"))


@pytest.mark.parametrize("token", ["a\nb-hidden", "hidden hidden", "hidden-é"])
def test_a_token_that_can_be_none_is_refused_without_showing_it(vault: VaultServer, token: str) -> None:
    failure = failure_of(vault, "shop", process={"T": token}, token="${env:T}")
    assert "is no token of Vault" in str(failure)
    assert "hidden" not in str(failure)
    assert vault.calls == []


def test_an_engine_of_the_other_version_or_none_is_told(vault: VaultServer) -> None:
    vault.put("shop", {"key": HIDDEN})
    vault.put("shop", {"key": HIDDEN}, mount="kv")
    failure = failure_of(vault, "shop#key", mount="kv")
    assert str(failure) == "the KV engine at kv has version 1; set `version = 1` in [secrets.vault]"
    assert not failure.missing
    assert "has version 2" in str(failure_of(vault, "shop#key", version=1))
    assert "nothing is mounted at nowhere" in str(failure_of(vault, "shop#key", mount="nowhere"))


def test_a_sealed_server_is_told_for_every_secret_and_asked_no_more(
    vault: VaultServer, client: VaultClient
) -> None:
    vault.sealed = True
    found = client.fetch([f"shop/{number}" for number in range(100)])
    assert {str(each) for each in found.values()} == {
        f"{vault.address} is sealed; unseal it: `vault operator unseal`"
    }
    assert len(vault.calls) <= 16


def test_a_throttled_server_is_asked_again_after_a_while(
    vault: VaultServer, client: VaultClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAUSES", (0.01, 0.01, 0.01))
    vault.put("shop", {"key": "value"})
    told = {"errors": [f"request path: rate limit quota exceeded {HIDDEN}"]}
    with vault.faulty(Fault("GET", 429, told, times=3)):
        assert client.fetch(["shop#key"]) == {"shop#key": Sensitive("value")}
    with vault.faulty(Fault("GET", 429, told)):
        (failure,) = client.fetch(["shop#key"]).values()
    assert "asked too often" in str(failure)
    assert "hidden" not in str(failure)
    assert len(vault.calls) == 8


def test_one_that_fails_hides_no_other(vault: VaultServer, client: VaultClient) -> None:
    for name in ("a", "b", "c", "d"):
        vault.put(name, {"key": name})
    vault.tokens[TOKEN] = ["read secret/data/b"]
    with vault.faulty(Fault("data/c", 500, {"errors": [HIDDEN]}), Fault("data/d", 200, b"\xff{" * 9)):
        found = client.fetch(["a#key", "b#key", "c#key", "d#key", "e#key"])
    assert found["a#key"] == Sensitive("a")
    assert "may not read" in str(found["b#key"])
    assert "failed with InternalServerError" in str(found["c#key"])
    assert "none of Vault" in str(found["d#key"])
    assert "there is no secret/e" in str(found["e#key"])
    assert "hidden" not in str(found)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>hidden</html>",
        b"[1, 2]",
        b'"hidden"',
        {"data": "hidden"},
        {"data": {"data": ["hidden"], "metadata": {}}},
        {"data": {"data": {"key": "hidden"}}},
        {"data": {"data": {"key": "hidden"}, "metadata": {"version": "x"}}},
    ],
)
def test_nonsense_is_a_failure_that_shows_nothing_of_it(vault: VaultServer, answer: object) -> None:
    with vault.faulty(Fault("GET", 200, answer)):
        failure = failure_of(vault, "shop#key")
    assert "none of Vault" in str(failure)
    assert "hidden" not in str(failure)
    assert not failure.missing


@pytest.mark.parametrize(
    "answer", [{"errors": "hidden"}, {"errors": [{"hidden": 1}]}, {"errors": {"hidden": 1}}, [], b"hidden"]
)
@pytest.mark.parametrize("status", [400, 403, 404, 418, 500, 501, 502, 503])
def test_a_refusal_that_is_nonsense_shows_nothing_of_it(
    vault: VaultServer, status: int, answer: object
) -> None:
    with vault.faulty(Fault("GET secret/data", status, answer)):
        assert "hidden" not in str(failure_of(vault, "shop#key"))


def test_nobody_is_followed_to_another_address(vault: VaultServer) -> None:
    with VaultServer() as other:
        other.put("shop", {"key": HIDDEN})
        headers = {"Location": f"{other.address}/v1/secret/data/shop"}
        with vault.faulty(Fault("GET", 307, None, headers)):
            failure = failure_of(vault, "shop#key")
        assert "sends its callers to another address" in str(failure)
        assert other.calls == []


def test_a_server_that_is_down_silent_or_cut_off_is_told_once_for_all(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://me:{HIDDEN}@127.0.0.1:{port}"
    failure = failure_of(vault, "shop", address=address)
    assert failure.reason == f"http://127.0.0.1:{port} cannot be reached"
    with vault.faulty(Fault("GET", -1)):
        assert "cannot be reached" in str(failure_of(vault, "shop"))
    # Only now: a busy machine may need longer to refuse or to cut a link.
    monkeypatch.setattr(login, "TIMEOUT", (5.0, 0.3))
    with vault.faulty(Fault("GET", 0)):
        references = [Reference((Address("vault", f"shop/{number}"),)) for number in range(64)]
        with resolver_of(vault) as resolver:
            found = resolver.resolve(references)
    assert {str(each.value) for each in found.values()} == {
        f"{vault.address} did not answer within 0.3 s; look whether it is well"
    }
    assert len(vault.asked("GET secret/data/shop/")) < 64


def test_a_server_with_tls(tmp_path: Path) -> None:
    with VaultServer(tls=True) as vault:
        vault.put("shop", {"key": "value"})
        (tmp_path / "ca.pem").write_bytes(vault.ca_file.read_bytes())
        assert value_of(vault, "shop#key", root=tmp_path, ca_file="ca.pem") == Sensitive("value")
        process = {"VAULT_CACERT": str(vault.ca_file)}
        assert value_of(vault, "shop#key", process=process) == Sensitive("value")
        failure = failure_of(vault, "shop#key")
        assert "is not trusted: self-signed certificate" in failure.reason
        assert "ca_file" in failure.fix
        assert "cannot be read: No such file" in str(failure_of(vault, "shop#key", ca_file="missing.pem"))
        (tmp_path / "no.pem").write_text("hidden")
        failure = failure_of(vault, "shop#key", root=tmp_path, ca_file="no.pem")
        assert "no certificates" in str(failure)
        assert "hidden" not in str(failure)
        plain = vault.address.replace("https", "http")
        assert "cannot be reached" in str(failure_of(vault, "shop#key", address=plain))


def test_tls_to_a_server_that_speaks_none(vault: VaultServer) -> None:
    address = vault.address.replace("http", "https")
    assert "speaks no TLS" in str(failure_of(vault, "shop#key", address=address))


def test_without_an_address_or_a_token_it_says_what_to_set() -> None:
    assert "Set [secrets.vault] address, or the variable VAULT_ADDR" in str(failure_of(None, "shop"))
    failure = failure_of(None, "shop", process={"VAULT_ADDR": "vault.internal:8200"})
    assert "VAULT_ADDR does not begin with https://" in str(failure)
    failure = failure_of(None, "shop", process={"VAULT_ADDR": "http://127.0.0.1:9"})
    assert "the variable VAULT_TOKEN is not set" in str(failure)


def reveal(written: Mapping[str, object]) -> dict[str, str]:
    return {target: each.id if isinstance(each, Version) else str(each) for target, each in written.items()}


def test_fields_of_a_document_are_written_at_once_and_the_others_stay(
    vault: VaultServer, client: VaultClient
) -> None:
    vault.put("shop", {"A": "1", "B": "2", "port": 5432, "nested": {"x": 1}})
    written = client.write(
        {"shop#A": Sensitive("new"), "shop#C": Sensitive("p'a\"\n🔑"), "other#A": Sensitive("x")}
    )
    assert reveal(written) == {"shop#A": "2", "shop#C": "2", "other#A": "1"}
    assert vault.now("shop") == {"A": "new", "B": "2", "port": 5432, "nested": {"x": 1}, "C": "p'a\"\n🔑"}
    assert vault.now("other") == {"A": "x"}
    assert len(vault.asked("POST secret/data/shop")) == 1
    version = written["shop#A"]
    assert isinstance(version, Version)
    assert version.stages == ("current",)
    assert version.created is not None
    assert version.created.tzinfo is not None


def test_a_value_that_is_there_makes_no_new_version(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"A": "1", "port": 5432})
    written = client.write({"shop#A": Sensitive("1"), "shop#port": Sensitive("5432")})
    assert reveal(written) == {"shop#A": "1", "shop#port": "1"}
    assert vault.asked("POST") == []
    assert vault.now("shop") == {"A": "1", "port": 5432}


def test_a_whole_document_is_replaced(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"A": "1"})
    assert reveal(client.write({"shop": Sensitive('{"B": 2}')})) == {"shop": "2"}
    assert vault.now("shop") == {"B": 2}
    assert "JSON table" in reveal(client.write({"shop": Sensitive("hidden")}))["shop"]
    assert reveal(client.write({"shop": Sensitive('{"B": true}'), "empty": Sensitive("{}")})) == {
        "shop": "3",
        "empty": "1",
    }
    assert vault.now("empty") == {}
    both = reveal(client.write({"shop": Sensitive('{"C": 3}'), "shop#D": Sensitive("4")}))
    assert "a field of it too" in both["shop"]
    assert vault.now("shop") == {"B": True, "D": "4"}


def test_what_cannot_be_written_hinders_no_other(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"nested": {"x": "1"}})
    vault.tokens[TOKEN] = ["update secret/data/closed", "read secret/data/blind"]
    written = reveal(
        client.write(
            {
                "shop#good": Sensitive("1"),
                "shop#bad": Sensitive("hid\ud800den"),
                "shop#nested.x": Sensitive("2"),
                "shop#old?version=1": Sensitive("2"),
                "closed#a": Sensitive("hidden"),
                "blind#a": Sensitive("hidden"),
            }
        )
    )
    assert written["shop#good"] == "2"
    assert "not valid Unicode" in written["shop#bad"]
    assert "is within another one" in written["shop#nested.x"]
    assert "cannot be changed" in written["shop#old?version=1"]
    assert 'path "secret/data/closed" with capabilities = ["create"]' in written["closed#a"]
    assert 'path "secret/data/blind" with capabilities = ["read"]' in written["blind#a"]
    assert "hid" not in str(written)
    assert vault.now("shop") == {"nested": {"x": "1"}, "good": "1"}
    client.write({"none#a": Sensitive("hid\ud800den")})
    assert ("", "secret", "none") not in vault.documents


def test_another_writer_in_between_loses_nothing(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"A": "1"})
    left = [1]

    def write_too(call: str) -> None:
        if call.startswith("POST") and left:
            left.pop()
            vault.put("shop", {"A": "1", "theirs": "x"})

    vault.hook = write_too
    assert reveal(client.write({"shop#mine": Sensitive("y")})) == {"shop#mine": "3"}
    assert vault.now("shop") == {"A": "1", "theirs": "x", "mine": "y"}


def test_another_writer_time_and_again_is_told(vault: VaultServer, client: VaultClient) -> None:
    def write_too(call: str) -> None:
        if call.startswith("POST"):
            vault.put("shop", {"theirs": str(len(vault.calls))})

    vault.hook = write_too
    assert "somebody else wrote" in reveal(client.write({"shop#mine": Sensitive("hidden")}))["shop#mine"]
    assert "mine" not in (vault.now("shop") or {})
    assert len(vault.asked("POST")) == 2


def test_two_clients_at_once_lose_nothing_of_each_other(vault: VaultServer) -> None:
    def write(name: str) -> None:
        for client in connected(vault):
            for number in range(10):
                target = f"shop#{name}{number}"
                while isinstance(client.write({target: Sensitive(name)})[target], Failure):
                    pass

    threads = [threading.Thread(target=write, args=(name,)) for name in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vault.now("shop") or {}) == 20


def test_a_write_without_an_answer_says_that_it_may_have_been_done(
    vault: VaultServer, client: VaultClient
) -> None:
    vault.put("shop", {"A": "1"})
    with vault.faulty(Fault("POST", -1)):
        written = reveal(client.write({"shop#A": Sensitive("hidden")}))["shop#A"]
    assert "it is not known whether secret/shop was written" in written
    assert "hidden" not in written


def test_a_document_whose_newest_version_is_deleted_is_written_anew(
    vault: VaultServer, client: VaultClient
) -> None:
    vault.put("shop", {"A": "1"})
    vault.delete("shop")
    assert reveal(client.write({"shop#B": Sensitive("2")})) == {"shop#B": "2"}
    assert vault.now("shop") == {"B": "2"}


def test_writing_to_an_engine_of_the_other_version_writes_nothing(vault: VaultServer) -> None:
    for client in connected(vault, mount="kv"):
        assert "has version 1" in reveal(client.write({"shop#A": Sensitive("1")}))["shop#A"]
    for client in connected(vault, version=1):
        assert "has version 2" in reveal(client.write({"shop#A": Sensitive("1")}))["shop#A"]
    assert vault.asked("POST") == []


def test_version_one_is_written_and_says_it_keeps_no_versions(vault: VaultServer) -> None:
    vault.put("shop", {"A": "1", "B": "2"}, mount="kv")
    for client in connected(vault, mount="kv", version=1):
        written = client.write({"shop#A": Sensitive("new"), "new/one#A": Sensitive("x")})
        assert set(written.values()) == {Version("", None, ("current",))}
        assert vault.now("shop", "kv") == {"A": "new", "B": "2"}
        assert client.write({"shop#A": Sensitive("new")}) == {"shop#A": Version("", None, ("current",))}
        assert len(vault.asked("POST")) == 2
        with pytest.raises(ProviderError, match="version 1 keeps no versions"):
            client.versions("shop#A")
        with pytest.raises(ProviderError, match="version 1 keeps no versions"):
            client.restore("shop#A", "1")


def test_versions_are_told_newest_first(vault: VaultServer, client: VaultClient) -> None:
    for number in range(1, 12):
        vault.put("shop", {"A": str(number)})
        if number == 9:
            vault.delete("shop", destroy=True)
        if number == 10:
            vault.delete("shop")
    found = client.versions("shop#A")
    assert [each.id for each in found] == [str(number) for number in range(11, 0, -1)]
    assert [each.stages for each in found[:4]] == [("current",), (), (), ("previous",)]
    assert [each.note for each in found[:4]] == ["", "deleted", "destroyed", ""]
    assert found[0].created is not None
    assert found[0].created.isoformat() == "2026-03-01T12:00:10.123456+00:00"
    with pytest.raises(ProviderError, match="There is no secret/missing"):
        client.versions("missing")
    vault.tokens[TOKEN] = ["read secret/metadata/.*"]
    with pytest.raises(ProviderError, match=r'path "secret/metadata/shop" with capabilities = \["read"\]'):
        client.versions("shop")


def test_the_version_before_the_current_one_can_be_named(vault: VaultServer, client: VaultClient) -> None:
    for number in range(1, 5):
        vault.put("shop", {"A": str(number)})
        if number == 3:
            vault.delete("shop")
    vault.put("new", {"A": "1"})
    found = client.fetch(["shop#A?version=previous", "new#A?version=previous", "missing?version=previous"])
    assert found["shop#A?version=previous"] == Sensitive("2")
    assert str(found["new#A?version=previous"]) == "secret/new has no version before the current one"
    assert "there is no secret/missing" in str(found["missing?version=previous"])
    failure = failure_of(vault, "shop#A?version=previous", mount="kv", version=1)
    assert "keeps no versions" in str(failure)


def test_an_earlier_version_is_restored_as_a_new_one(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"A": "1", "B": "1"})
    vault.put("shop", {"A": "2", "B": "2", "C": "2"})
    restored = client.restore("shop#A", "1")
    assert (restored.id, restored.stages) == ("3", ("current",))
    assert restored.note == "a new version that holds what version 1 held"
    assert vault.now("shop") == {"A": "1", "B": "2", "C": "2"}
    assert client.restore("shop", "1").id == "4"
    assert vault.now("shop") == {"A": "1", "B": "1"}
    again = client.restore("shop", "1")
    assert (again.id, again.note) == ("4", "it held this already")


def test_what_cannot_be_restored_says_why(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"A": "1"})
    vault.delete("shop")
    vault.put("shop", {"A": "2"})
    for target, version, words in (
        ("shop#A", "1", "Version 1 of secret/shop is deleted"),
        ("shop#A", "9", "no version 9"),
        ("shop#B", "2", "Version 2 of secret/shop has no field B"),
        ("shop#A", "AWSPREVIOUS", "is no version of Vault"),
    ):
        with pytest.raises(ProviderError, match=words):
            client.restore(target, version)
    assert vault.asked("POST") == []


def test_the_members_of_a_document_are_its_fields(vault: VaultServer, client: VaultClient) -> None:
    vault.put("a#b", {"B": "1", "A": "2", "not-one": "3"}, namespace="team")
    members = client.members("a%23b?namespace=team")
    assert members == {"B": "a%23b#B?namespace=team", "A": "a%23b#A?namespace=team"}
    assert client.fetch([members["A"]]) == {members["A"]: Sensitive("2")}
    assert client.member("a%23b?namespace=team", "A") == members["A"]
    for scope, words in (("missing", "There is no"), ("a#b", "names a field"), ("", "the name is missing")):
        with pytest.raises(ProviderError, match=words):
            client.members(scope)
    with pytest.raises(ConfigurationError, match="no name of a variable"):
        client.member("shop", "not-one")


def test_no_secret_is_in_what_is_shown_of_a_client(vault: VaultServer, client: VaultClient) -> None:
    calls = client._calls
    assert TOKEN not in f"{client!r} {calls!r} {calls.login!r}"


def test_a_whole_document_is_json(vault: VaultServer, client: VaultClient) -> None:
    vault.put("shop", {"b": 1, "a": "é"})
    (value,) = client.fetch(["shop"]).values()
    assert isinstance(value, Sensitive)
    assert json.loads(value.reveal()) == {"b": 1, "a": "é"}
