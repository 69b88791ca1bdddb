"""What an error of the AWS SDK means: one sentence and what to do.

The SDK's own messages are read for what they say and never passed on: some repeat what was sent, and what is
sent may be a secret. Errors are known by the names of their classes, so that the SDK need not be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from windlass.secrets.providers.aws.targets import Place, Read, resource
from windlass.secrets.providers.base import Failure

# How often a request is made before it is given up, and how long each may take, in seconds.
ATTEMPTS: Final = 5
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0


class Kind(Enum):
    """What went wrong, as far as it matters for what to do."""

    MISSING = auto()
    NO_VERSION = auto()
    DELETED = auto()
    EXISTS = auto()
    DENIED = auto()
    KMS = auto()
    NO_LOGIN = auto()
    EXPIRED = auto()
    BAD_KEY = auto()
    CLOCK = auto()
    NO_REGION = auto()
    PROFILE = auto()
    CONFIG = auto()
    ROLE = auto()
    THROTTLED = auto()
    SERVER = auto()
    UNREACHABLE = auto()
    SLOW = auto()
    TLS = auto()
    GARBAGE = auto()
    OTHER = auto()


# In the order they are tried: the first class of which an error is one.
_CLASSES: Final = {
    "NoCredentialsError": Kind.NO_LOGIN,
    "PartialCredentialsError": Kind.NO_LOGIN,
    "NoAuthTokenError": Kind.NO_LOGIN,
    "SSOTokenLoadError": Kind.EXPIRED,
    "SSOError": Kind.EXPIRED,
    "LoginError": Kind.EXPIRED,
    "TokenRetrievalError": Kind.EXPIRED,
    "CredentialRetrievalError": Kind.EXPIRED,
    "NoRegionError": Kind.NO_REGION,
    "InvalidRegionError": Kind.NO_REGION,
    "ProfileNotFound": Kind.PROFILE,
    "ConfigParseError": Kind.CONFIG,
    "ConfigNotFound": Kind.CONFIG,
    "InvalidConfigError": Kind.CONFIG,
    "InfiniteLoopConfigError": Kind.CONFIG,
    "UnknownCredentialError": Kind.CONFIG,
    "SSLError": Kind.TLS,
    "ConnectTimeoutError": Kind.UNREACHABLE,
    "ReadTimeoutError": Kind.SLOW,
    "HTTPClientError": Kind.UNREACHABLE,
    "ConnectionError": Kind.UNREACHABLE,
    "ResponseParserError": Kind.GARBAGE,
    "ResponseStreamingError": Kind.GARBAGE,
    "UnicodeDecodeError": Kind.GARBAGE,
    "AttributeError": Kind.GARBAGE,
    "TypeError": Kind.GARBAGE,
    "KeyError": Kind.GARBAGE,
}
_CODES: Final = {
    "ResourceNotFoundException": Kind.MISSING,
    "ResourceExistsException": Kind.EXISTS,
    "AccessDeniedException": Kind.DENIED,
    "AccessDenied": Kind.DENIED,
    "UnauthorizedOperation": Kind.DENIED,
    "DecryptionFailure": Kind.KMS,
    "EncryptionFailure": Kind.KMS,
    "ExpiredToken": Kind.EXPIRED,
    "ExpiredTokenException": Kind.EXPIRED,
    "UnrecognizedClientException": Kind.BAD_KEY,
    "InvalidClientTokenId": Kind.BAD_KEY,
    "InvalidSignatureException": Kind.BAD_KEY,
    "SignatureDoesNotMatch": Kind.BAD_KEY,
    "IncompleteSignature": Kind.BAD_KEY,
    "MissingAuthenticationToken": Kind.BAD_KEY,
    "AuthFailure": Kind.BAD_KEY,
    "RequestExpired": Kind.CLOCK,
    "RequestTimeTooSkewed": Kind.CLOCK,
    "InternalServiceError": Kind.SERVER,
    "InternalServiceErrorException": Kind.SERVER,
    "InternalFailure": Kind.SERVER,
    "ServiceUnavailable": Kind.SERVER,
}
# Those of botocore.retries.standard.ThrottledRetryableChecker that a service without files can give.
_THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
_DELETED: Final = re.compile(r"marked (deleted|for deletion)|scheduled for deletion", re.IGNORECASE)
_NO_VERSION: Final = re.compile(r"secret value for|staging label|VersionStage|VersionId", re.IGNORECASE)
_CALLER: Final = re.compile(r"User: (arn:[\w:/+=,.@-]{1,300}) is not authorized", re.ASCII)
_SERVICE: Final = "AWS Secrets Manager in {region}"
_SENTENCES: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.MISSING: (f"there is no secret {{id}} in {_SERVICE}", ""),
    Kind.NO_VERSION: ("the secret {id} in {region} has no {version}", ""),
    Kind.DELETED: (
        "the secret {id} in {region} is marked deleted",
        "`aws secretsmanager restore-secret --secret-id {id} --region {region}{profile_option}` "
        "brings it back",
    ),
    Kind.EXISTS: ("the secret {id} was made in {region} by somebody else just now", "try again"),
    Kind.DENIED: (
        "AWS denies {action} of {id} in {region}{caller}",
        "allow secretsmanager:{action} on {resource}{explicit}",
    ),
    Kind.KMS: (
        "AWS does not let this login use the key that encrypts {id} in {region}",
        "allow kms:{kms} on that key",
    ),
    Kind.NO_LOGIN: (
        "there is no login to AWS{with_profile}",
        "run `aws sso login{profile_option}`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    Kind.EXPIRED: (
        "the login to AWS{with_profile} has expired",
        "run `aws sso login{profile_option}`, or set new keys where they come from variables",
    ),
    Kind.BAD_KEY: (
        "AWS does not accept the access key{with_profile}",
        "look at where the keys come from with `aws configure list{profile_option}`",
    ),
    Kind.CLOCK: ("AWS does not accept the time of this machine", "set its clock"),
    Kind.NO_REGION: (
        "it is not known in which AWS region the secret is",
        "set `region` in [secrets.aws], AWS_REGION, or `?region=…` in the reference",
    ),
    Kind.PROFILE: (
        "there is no AWS profile{named_profile}",
        "`aws configure list-profiles` says which there are",
    ),
    Kind.CONFIG: ("the AWS SDK cannot read its configuration", "look at `~/.aws/config`{with_profile}"),
    Kind.ROLE: (
        "the role {role} cannot be assumed{caller}",
        "allow this login sts:AssumeRole on it, and in the role's trust policy this login, "
        "with the `external_id` of [secrets.aws] where it asks for one",
    ),
    Kind.THROTTLED: (f"{_SERVICE} throttles requests, after {{attempts}} attempts", "try again in a minute"),
    Kind.SERVER: (
        f"{_SERVICE} failed on its side, in {{attempts}} attempts",
        "try again; https://health.aws.amazon.com says what is broken",
    ),
    Kind.UNREACHABLE: (
        f"{_SERVICE} cannot be reached",
        "look at the network, the proxy, the region and `endpoint` of [secrets.aws]",
    ),
    Kind.SLOW: (
        f"{_SERVICE} gave no answer within {{seconds:g}} seconds, in {{attempts}} attempts",
        "look at the network and the proxy, and try again",
    ),
    Kind.TLS: (
        f"the certificate of {_SERVICE} is not trusted",
        "set AWS_CA_BUNDLE to the certificates of the proxy in between",
    ),
    Kind.GARBAGE: (
        f"what answers for {_SERVICE} is something else",
        "look at the proxy and at `endpoint` of [secrets.aws]",
    ),
    Kind.OTHER: ("AWS refuses {action} of {id} in {region}: {code}", ""),
}
_EVERYTHING: Final = frozenset({"BatchGetSecretValue", "ListSecrets"})


@dataclass(frozen=True)
class Request:
    """What was asked for, to speak of it.

    Args:
        action: the operation, such as `GetSecretValue`.
        read: the secret.
        region: the region it was really looked for in.
        profile: the profile that was really used; empty: none.
    """

    action: str
    read: Read
    region: str = ""
    profile: str = ""


@dataclass(frozen=True)
class Complaint:
    """What an error says, less its words.

    Args:
        kind: what it means.
        code: the service's word for it, or the error's class.
        caller: who was denied, as AWS names it.
        explicit: a policy denies it, and not only none allows it.
    """

    kind: Kind
    code: str
    caller: str = ""
    explicit: bool = False


def complaint(error: Exception) -> Complaint:
    """Return what an error of the SDK says."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return _answered(response, str(getattr(error, "operation_name", "")))
    classes = {each.__name__ for each in type(error).__mro__}
    kind = next((kind for name, kind in _CLASSES.items() if name in classes), Kind.OTHER)
    return Complaint(kind, type(error).__name__)


def _answered(response: Mapping[str, Any], operation: str) -> Complaint:
    said = response.get("Error") or {}
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0)
    found = coded(code, message, status)
    if operation == "AssumeRole" and found.kind is Kind.DENIED:
        return Complaint(Kind.ROLE, found.code, found.caller)
    return found


def coded(code: str, message: str, status: int = 400) -> Complaint:
    """Return what a code and message of the service say.

    Args:
        code: such as `AccessDeniedException`.
        message: its sentence.
        status: the HTTP status.
    """
    caller = _CALLER.search(message)
    kind = _kind(code, message, status)
    # Codes are single words; what is none comes from something that is not AWS.
    word = code if re.fullmatch(r"[A-Za-z]{1,80}", code) else "an unknown error"
    return Complaint(kind, word, caller[1] if caller else "", "explicit deny" in message)


def _kind(code: str, message: str, status: int) -> Kind:
    if code in _THROTTLED or status == 429:
        return Kind.THROTTLED
    if _DELETED.search(message):
        return Kind.DELETED
    known = _CODES.get(code)
    if known is None and code != "InvalidRequestException":
        return _unknown_kind(code, status)
    return _closer(known, message)


def _unknown_kind(code: str, status: int) -> Kind:
    if status >= 500:
        return Kind.SERVER
    # A status in place of a code: the body was none of AWS.
    return Kind.OTHER if re.search(r"[A-Za-z]", code) else Kind.GARBAGE


def _closer(kind: Kind | None, message: str) -> Kind:
    """Return what a message makes of a code that AWS uses for several things."""
    if kind is Kind.DENIED and "KMS" in message:
        return Kind.KMS
    if kind is Kind.BAD_KEY and re.search(r"expired|not yet current", message):
        return Kind.CLOCK
    if kind in {Kind.MISSING, None} and _NO_VERSION.search(message):
        return Kind.NO_VERSION
    return kind or Kind.OTHER


def explain(error: Exception | Complaint, request: Request) -> Failure:
    """Return a failure in words for what an error says of a request."""
    found = error if isinstance(error, Complaint) else complaint(error)
    reason, fix = _SENTENCES[found.kind]
    facts = _facts(found, request)
    missing = found.kind in {Kind.MISSING, Kind.NO_VERSION}
    return Failure(reason.format_map(facts), fix.format_map(facts), missing)


def _facts(found: Complaint, request: Request) -> dict[str, Any]:
    place: Place = request.read.place
    profile = request.profile
    region = request.region or place.region
    everything = request.action in _EVERYTHING
    return {
        "id": request.read.id,
        "version": request.read.words,
        "region": region or "no region",
        "role": place.role,
        "action": request.action,
        "resource": "*" if everything else resource(request.read.id, region),
        "kms": "Decrypt" if request.action == "GetSecretValue" else "GenerateDataKey and kms:Decrypt",
        "caller": f" to {found.caller}" if found.caller else "",
        "explicit": ", and take out the policy that denies it explicitly" if found.explicit else "",
        "code": found.code,
        "attempts": ATTEMPTS,
        "seconds": READ_SECONDS,
        "with_profile": f" with the profile {profile}" if profile else "",
        "named_profile": f" {profile}" if profile else "",
        "profile_option": f" --profile {profile}" if profile else "",
    }
