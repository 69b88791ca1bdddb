"""What AWS or its SDK complains about becomes a sentence with the fix, without the words of either."""

from __future__ import annotations

import string

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.providers.aws.failures import (
    _CLASSES,
    Kind,
    Request,
    coded,
    complaint,
    explain,
)
from windlass.secrets.providers.aws.targets import Place, Read

ROLE = "arn:aws:iam::123456789012:role/reader"
REQUEST = Request(
    "GetSecretValue", Read(Place("eu-west-1", "", ROLE), "shop/prod", "AWSPREVIOUS"), "eu-west-1", "work"
)


def client_error(
    code: str, message: str = "", status: int = 400, operation: str = "GetSecretValue"
) -> Exception:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return sdk.ClientError(response, operation)  # type: ignore[arg-type]


def said(error: Exception) -> str:
    return str(explain(error, REQUEST))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            client_error("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            "there is no secret shop/prod in AWS Secrets Manager in eu-west-1",
        ),
        (
            client_error(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret value for staging label: AWSPREVIOUS",
            ),
            "the secret shop/prod in eu-west-1 has no version with the stage AWSPREVIOUS",
        ),
        (
            client_error(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            ),
            "the secret shop/prod in eu-west-1 is marked deleted; `aws secretsmanager restore-secret "
            "--secret-id shop/prod --region eu-west-1 --profile work` brings it back",
        ),
        (
            client_error(
                "AccessDeniedException",
                "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: "
                "secretsmanager:GetSecretValue on resource: shop/prod because no policy allows it",
            ),
            "AWS denies GetSecretValue of shop/prod in eu-west-1 to arn:aws:iam::123456789012:user/ci; "
            "allow secretsmanager:GetSecretValue on "
            "arn:aws:secretsmanager:eu-west-1:*:secret:shop/prod-??????",
        ),
        (
            client_error("AccessDeniedException", "… with an explicit deny in a service control policy"),
            "take out the policy that denies it explicitly",
        ),
        (client_error("AccessDeniedException", "Access to KMS is not allowed"), "allow kms:Decrypt on"),
        (client_error("DecryptionFailure"), "allow kms:Decrypt on that key"),
        (
            client_error("AccessDenied", operation="AssumeRole"),
            f"the role {ROLE} cannot be assumed; allow this login sts:AssumeRole on it",
        ),
        (
            client_error("ExpiredTokenException", "The security token included in the request is expired"),
            "the login to AWS with the profile work has expired; run `aws sso login --profile work`",
        ),
        (sdk.UnauthorizedSSOTokenError(), "has expired; run `aws sso login --profile work`"),
        (sdk.SSOTokenLoadError(error_msg="x"), "run `aws sso login --profile work`"),
        (sdk.TokenRetrievalError(provider="sso", error_msg="x"), "run `aws sso login --profile work`"),
        (sdk.NoCredentialsError(), "there is no login to AWS with the profile work"),
        (sdk.PartialCredentialsError(provider="env", cred_var="x"), "there is no login to AWS"),
        (client_error("UnrecognizedClientException"), "AWS does not accept the access key"),
        (client_error("InvalidSignatureException", "Signature expired: 1 is earlier"), "set its clock"),
        (sdk.NoRegionError(), "set `region` in [secrets.aws], AWS_REGION, or `?region=…` in the reference"),
        (sdk.ProfileNotFound(profile="work"), "there is no AWS profile work"),
        (sdk.ConfigParseError(path="x"), "cannot read its configuration"),
        (client_error("ThrottlingException", "Rate exceeded"), "throttles requests, after 5 attempts"),
        (client_error("TooManyRequestsException", status=429), "throttles requests"),
        (client_error("InternalServiceError", status=500), "failed on its side, in 5 attempts"),
        (client_error("503", status=503), "failed on its side"),
        (sdk.EndpointConnectionError(endpoint_url="x"), "cannot be reached; look at the network"),
        (sdk.ConnectTimeoutError(endpoint_url="x"), "cannot be reached"),
        (sdk.ConnectionClosedError(endpoint_url="x"), "cannot be reached"),
        (sdk.ProxyConnectionError(proxy_url="x"), "cannot be reached"),
        (sdk.ReadTimeoutError(endpoint_url="x"), "gave no answer within 10 seconds"),
        (sdk.SSLError(endpoint_url="x", error="x"), "is not trusted; set AWS_CA_BUNDLE"),
        (ResponseParserError("x"), "something else; look at the proxy"),
        (client_error("403", status=403), "something else"),
        (client_error("LimitExceededException"), "AWS refuses GetSecretValue of shop/prod in eu-west-1: L"),
        (RuntimeError("x"), "RuntimeError"),
    ],
)
def test_each_error_has_its_sentence_and_its_fix(error: Exception, words: str) -> None:
    assert words in said(error)


def test_every_class_named_here_is_one_of_the_sdk_or_of_python() -> None:
    import builtins

    for name in set(_CLASSES) - {"ResponseParserError", "LoginError"}:
        assert hasattr(sdk, name) or hasattr(builtins, name), name


@pytest.mark.parametrize("kind", Kind)
def test_only_what_is_surely_not_there_counts_as_missing(kind: Kind) -> None:
    from windlass.secrets.providers.aws.failures import Complaint

    assert explain(Complaint(kind, "X"), REQUEST).missing == (kind in {Kind.MISSING, Kind.NO_VERSION})


def test_what_concerns_no_single_secret_is_the_same_for_all() -> None:
    other = Request("GetSecretValue", Read(Place("eu-west-1"), "other"), "eu-west-1", "work")
    for error in (sdk.NoCredentialsError(), sdk.NoRegionError(), client_error("ExpiredTokenException")):
        assert explain(error, REQUEST) == explain(error, other)


def test_a_right_on_all_secrets_is_asked_for_where_the_operation_needs_it() -> None:
    listing = Request("ListSecrets", Read(Place("eu-west-1"), "shop/"), "eu-west-1")
    assert "allow secretsmanager:ListSecrets on *" in str(explain(client_error("AccessDenied"), listing))


@pytest.mark.parametrize(
    "code", ["ValidationException", "AccessDeniedException", "Unheard", "InvalidRequestException"]
)
@pytest.mark.parametrize("operation", ["PutSecretValue", "AssumeRole", "GetSecretValue"])
def test_no_sentence_repeats_what_was_sent(code: str, operation: str) -> None:
    message = "1 validation error detected: Value 'hunter2-hidden' at 'secretString' failed"
    assert "hunter2" not in said(client_error(code, message, operation=operation))
    broken = sdk.ParamValidationError(report="Invalid length for SecretString, value: hunter2-hidden")
    assert "hunter2" not in said(broken)


@given(st.text(), st.text(string.ascii_letters + " {}%$'\"\n"), st.integers(100, 599))
def test_whatever_the_service_says_there_is_one_line(code: str, message: str, status: int) -> None:
    failure = explain(coded(code, message, status), REQUEST)
    assert failure.reason
    assert "\n" not in str(failure)
    assert "{" not in str(failure)


def test_an_error_of_a_strange_form_is_no_defect() -> None:
    class Strange(Exception):
        def __init__(self) -> None:
            self.response = {"Error": None}

    assert complaint(Strange()).kind is Kind.GARBAGE
