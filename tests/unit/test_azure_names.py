from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.providers.azure.names import (
    TAG,
    Document,
    Place,
    folded,
    label,
    locate,
    secret_name,
    target_problem,
    variable_name,
    vault_address,
)
from windlass.secrets.providers.base import ProviderError
from windlass.secrets.settings import AzureSettings

VERSION = "0123456789abcdef" * 2
VARIABLES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,126}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("shop-vault/db-password", Place(Document("https://shop-vault.vault.azure.net", "db-password"))),
        ("Shop-Vault/DB-Password", Place(Document("https://shop-vault.vault.azure.net", "db-password"))),
        ("a#b.c", Place(Document("https://set.vault.azure.net", "a"), "b.c")),
        (f"a#b?version={VERSION}", Place(Document("https://set.vault.azure.net", "a", VERSION), "b")),
        ("v12/a?version=previous", Place(Document("https://v12.vault.azure.net", "a", "previous"))),
        ("a--b", Place(Document("https://set.vault.azure.net", "a--b"))),
    ],
)
def test_where_a_target_leads(text: str, place: Place) -> None:
    assert target_problem(text) == ""
    assert locate(text, AzureSettings(vault="set")) == place


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a/b/c", "with one `/`"),
        ("/a", "'' is no name of a vault"),
        ("ab/a", "'ab' is no name of a vault"),
        ("1vault/a", "no name of a vault"),
        ("vault-/a", "no name of a vault"),
        ("va--ult/a", "no name of a vault"),
        ("v" * 25 + "/a", "no name of a vault"),
        ("shop.vault.azure.net/a", "no name of a vault"),
        ("vault/", "'' is no name of a secret"),
        ("vault/DATABASE_URL", "DATABASE_URL is kept as database-url"),
        ("ä", "no name of a secret"),
        ("a" * 128, "no name of a secret"),
        ("a?version=1", "32 hexadecimal digits"),
        (f"a?version={VERSION.upper()}x", "32 hexadecimal digits"),
        ("a?stage=x", "`stage` is no option; known: version"),
        ("a b", "no name of a secret"),
    ],
)
def test_what_is_no_target(text: str, problem: str) -> None:
    assert problem in target_problem(text)


@pytest.mark.parametrize(
    ("cloud", "address"),
    [
        ("public", "https://shop.vault.azure.net"),
        ("us-government", "https://shop.vault.usgovcloudapi.net"),
        ("china", "https://shop.vault.azure.cn"),
    ],
)
def test_a_name_is_a_host_of_its_cloud(cloud: str, address: str) -> None:
    settings = AzureSettings.model_validate({"cloud": cloud})
    assert vault_address("shop", settings) == address
    assert label(address) == "shop"


@pytest.mark.parametrize(
    "address", ["https://shop.vault.azure.net", "https://10.0.0.1:8443", "https://kv.local"]
)
def test_a_whole_address_is_taken_as_it_is(address: str) -> None:
    assert vault_address("", AzureSettings(vault=address)) == address
    assert vault_address("", AzureSettings(vault=f"{address}/")) == address


@pytest.mark.parametrize(
    "address",
    [
        "http://shop.vault.azure.net",
        "https://",
        "https://shop.vault.azure.net/secrets",
        "https://user@shop.vault.azure.net",
        "https://shop.vault.azure.net?x=1",
        "https://shop.vault.azure.net#x",
        "https://shop:none",
        "https://shop:0",
        "https://[::1",
        "shop.vault.azure.net",
        "s",
    ],
)
def test_what_is_no_vault(address: str) -> None:
    with pytest.raises(ProviderError, match="is no vault"):
        vault_address("", AzureSettings(vault=address))


def test_no_vault_at_all() -> None:
    with pytest.raises(ProviderError, match="names no vault") as caught:
        locate("a", AzureSettings())
    assert "[secrets.azure]" in caught.value.hint


@given(VARIABLES)
def test_every_variable_comes_back_from_the_name_it_is_kept_under(name: str) -> None:
    secret = secret_name(name)
    assert target_problem(secret) == ""
    assert variable_name(secret, {TAG: name}) == name
    # Without the tag, as in a vault somebody else filled, in capital letters.
    assert variable_name(secret, {}) == name.upper()


@given(VARIABLES, VARIABLES)
def test_variables_share_a_secret_only_in_another_case(one: str, other: str) -> None:
    assert (folded(one) == folded(other)) == (one.lower() == other.lower())


def test_a_tag_that_is_not_the_name_is_not_believed() -> None:
    assert variable_name("moved", {TAG: "DATABASE_URL"}) == "MOVED"
    assert variable_name("database-url", {TAG: "database-url"}) == ""
    assert variable_name("3scale", {}) == ""


@pytest.mark.parametrize("name", ["", "a-b", "1a", "A" * 128])
def test_what_cannot_be_kept(name: str) -> None:
    with pytest.raises(ConfigurationError):
        secret_name(name)
