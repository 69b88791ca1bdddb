from __future__ import annotations

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ODataV4Format,
    ServiceRequestError,
    ServiceResponseError,
)

from windlass.secrets.providers.azure.failures import Call, Reach, codes, explain, missing
from windlass.secrets.providers.azure.names import Document
from windlass.secrets.providers.azure.sessions import Overlong

SECRET = "the-value-nobody-may-see"
LOGIN = "0b1ec700-0000-4000-8000-000000000001"
DOCUMENT = Document("https://shop-vault.vault.azure.net", "db-password")


def answer(status: int, code: str = "", inner: object = None, message: str = SECRET) -> HttpResponseError:
    error = HttpResponseError(message)
    error.status_code = status
    error.error = ODataV4Format({"code": code, "message": message, "innererror": inner})
    return error


CASES = [
    (Overlong(90), "shop-vault asks to wait 90 s", Reach.VAULT),
    (DecodeError(SECRET), "does not speak Key Vault", Reach.SECRET),
    (AttributeError(SECRET), "does not speak Key Vault", Reach.SECRET),
    (
        ValueError(f"The challenge resource {SECRET} does not match"),
        "not for vaults of this domain",
        Reach.VAULT,
    ),
    (ServiceRequestError(SECRET), "at shop-vault.vault.azure.net does not answer", Reach.VAULT),
    (ServiceResponseError(SECRET), "does not answer", Reach.VAULT),
    (AzureError(SECRET), "does not answer", Reach.VAULT),
    (ClientAuthenticationError(SECRET), "the login to Azure failed", Reach.LOGIN),
    (ClientAuthenticationError(f"AADSTS7000222: {SECRET}"), "has expired (AADSTS7000222)", Reach.LOGIN),
    (ClientAuthenticationError(f"AADSTS53003: {SECRET}"), "Entra ID refuses it (AADSTS53003)", Reach.LOGIN),
    (
        ClientAuthenticationError(
            f"none\n\tEnvironmentCredential: {SECRET}\n\tAzureCliCredential: {SECRET}\n"
        ),
        "tried: Environment, AzureCli",
        Reach.LOGIN,
    ),
    (answer(404, "SecretNotFound"), "the vault shop-vault has no secret db-password", Reach.SECRET),
    (answer(404, SECRET), "does not speak Key Vault", Reach.SECRET),
    (answer(403, "Forbidden", {"code": "SecretDisabled"}), "is disabled", Reach.SECRET),
    (answer(409, "Conflict", {"code": "ObjectIsBeingDeleted"}), "is being deleted", Reach.SECRET),
    (answer(409, "Conflict", {"code": "ObjectIsDeletedButRecoverable"}), "its name is taken", Reach.SECRET),
    (answer(403, "Forbidden", {"code": "ForbiddenByConnection"}), "the firewall", Reach.VAULT),
    (answer(403, "Forbidden", SECRET), "the login may not get the secret db-password", Reach.SECRET),
    (
        answer(403, "Forbidden", None, f"appid=1;oid={LOGIN};{SECRET}"),
        f"the login {LOGIN} may not get",
        Reach.SECRET,
    ),
    (answer(403, "Forbidden", None, f"oid={SECRET}"), "the login may not get", Reach.SECRET),
    (answer(429), "gets too many requests", Reach.VAULT),
    (answer(502), "out of order: it answers with status 502", Reach.VAULT),
    (answer(400, SECRET, {"code": SECRET}), "refuses the request with status 400", Reach.SECRET),
]


@pytest.mark.parametrize(("error", "reason", "reach"), CASES)
def test_what_the_sdk_raises_is_one_sentence_without_a_servers_text(
    error: Exception, reason: str, reach: Reach
) -> None:
    trouble = explain(error, Call(DOCUMENT))
    assert reason in trouble.failure.reason
    assert trouble.reach is reach
    assert SECRET not in str(trouble.failure)
    assert "\n" not in str(trouble.failure)


def test_only_a_certain_answer_says_that_a_secret_is_missing() -> None:
    found = [error for error, *_ in CASES if explain(error, Call(DOCUMENT)).failure.missing]
    assert [codes(error)[0] for error in found if isinstance(error, HttpResponseError)] == ["SecretNotFound"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("action", "role"),
    [
        ("get", "Key Vault Secrets User"),
        ("list", "Key Vault Secrets User"),
        ("set", "Key Vault Secrets Officer"),
    ],
)
def test_the_role_a_call_needs(action: str, role: str) -> None:
    assert f"{role!r}" in explain(answer(403, "Forbidden"), Call(DOCUMENT, action)).failure.fix


def test_a_circle_of_causes_ends() -> None:
    error = ServiceRequestError(SECRET)
    other = OSError("x")
    error.__cause__, other.__context__ = other, error
    assert "does not answer" in explain(error, Call(DOCUMENT)).failure.reason


def test_how_a_missing_secret_is_told() -> None:
    assert missing(DOCUMENT, "db-passwort").fix == "did you mean db-passwort?"
    assert "az keyvault secret recover" in missing(DOCUMENT, "db-passwort", "2026-05-30").fix
    assert all(each.missing for each in (missing(DOCUMENT), missing(DOCUMENT, deleted="2026-05-30")))
