"""AWS Secrets Manager with the real SDK, against a server that is slow, refuses, breaks and lies."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aws import ACCOUNT, REGION, AwsServer, Fault, aws_server
from windlass.errors import ConfigurationError
from windlass.identity import who
from windlass.secrets.providers.aws import PROVIDER, failures, reading, sessions
from windlass.secrets.providers.aws.sessions import session_name
from windlass.secrets.providers.aws.targets import SIZE_LIMIT
from windlass.secrets.providers.base import Client, Context, Failure, ProviderError, Version
from windlass.secrets.settings import AwsSettings, SecretsSettings
from windlass.shell import Sensitive

pytestmark = pytest.mark.integration

VALUE = "hunter2-hidden"
OTHER_ACCOUNT = "222233334444"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/reader"

MakeClient = Callable[..., Client]


@pytest.fixture(scope="module")
def running() -> Iterator[AwsServer]:
    with aws_server() as server:
        yield server


@pytest.fixture
def aws(running: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    """A server without secrets, and a process in which nothing else speaks of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(reading, "_denied", set())
    running.reset()
    return running


@pytest.fixture
def connect(aws: AwsServer) -> Iterator[MakeClient]:
    made: list[Client] = []

    def make(environ: Mapping[str, str] | None = None, **given: str) -> Client:
        own = SecretsSettings(aws=AwsSettings(**given))
        process = aws.environ if environ is None else environ
        made.append(PROVIDER.connect(Context(Path("/nowhere"), process, own)))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early, where how long the SDK waits is not what is looked at."""
    monkeypatch.setattr(failures, "ATTEMPTS", 2)


def failed(client: Client, target: str) -> str:
    """Return in words why a secret cannot be had."""
    answer = client.fetch([target])[target]
    assert isinstance(answer, Failure), "it can be had"
    assert VALUE not in repr(answer)
    return str(answer)


# --- reading


def test_a_hundred_secrets_are_five_requests_at_once(aws: AwsServer, connect: MakeClient) -> None:
    names = [f"shop/s{number}" for number in range(100)]
    aws.put(**{name.replace("/", "__"): f"value of {name}" for name in names})
    found = connect().fetch(names)
    assert found == {name: Sensitive(f"value of {name}") for name in names}
    assert aws.calls == {"BatchGetSecretValue": 5}
    assert max(len(json.loads(body)["SecretIdList"]) for _, body in aws.requests) == 20


def test_fields_of_one_document_are_one_request(aws: AwsServer, connect: MakeClient) -> None:
    document = {"user": "app", "port": 5432, "tls": True, "db": {"password": VALUE}, "a.b": "c"}
    aws.put(shop=json.dumps(document))
    found = connect().fetch(["shop#user", "shop#port", "shop#tls", "shop#db.password", "shop#a.b", "shop"])
    assert [each.reveal() for each in found.values() if isinstance(each, Sensitive)] == [
        "app", "5432", "true", VALUE, "c", json.dumps(document),
    ]  # fmt: skip
    assert aws.calls == {"GetSecretValue": 1}


def test_names_arns_and_parts_of_arns_get_their_own_answers(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(one="1", two="2", three="3")
    arns = {name: str(aws.sdk().describe_secret(SecretId=name)["ARN"]) for name in ("two", "three")}
    partial = arns["three"].rpartition("-")[0]
    found = connect().fetch([partial, arns["two"], "one", "three", "two"])
    assert found == {
        "one": Sensitive("1"), "two": Sensitive("2"), arns["two"]: Sensitive("2"),
        partial: Sensitive("3"), "three": Sensitive("3"),
    }  # fmt: skip
    assert aws.calls == {"BatchGetSecretValue": 1}


def test_stages_and_versions_are_read_one_by_one(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="old", other="x")
    old = next(iter(aws.versions("key")))
    aws.sdk().put_secret_value(SecretId="key", SecretString="new")
    found = connect().fetch(
        ["key", "other", "key?stage=AWSPREVIOUS", f"key?version={old}", "key?stage=AWSCURRENT"]
    )
    assert [each.reveal() for each in found.values() if isinstance(each, Sensitive)] == [
        "new", "x", "old", "old", "new",
    ]  # fmt: skip
    assert aws.calls == {"BatchGetSecretValue": 1, "GetSecretValue": 3}


def test_a_batch_that_answers_with_an_old_version_is_not_believed(
    aws: AwsServer, connect: MakeClient
) -> None:
    aws.put(key="first", other="x")
    first = next(iter(aws.versions("key")))
    second = aws.sdk().put_secret_value(SecretId="key", SecretString="second")["VersionId"]
    aws.sdk().update_secret_version_stage(
        SecretId="key", VersionStage="AWSCURRENT", MoveToVersionId=first, RemoveFromVersionId=second
    )
    said = aws.sdk().batch_get_secret_value(SecretIdList=["key"])["SecretValues"][0]
    assert said["VersionStages"] == ["AWSPREVIOUS"], (
        "the server answers as it should: this test shows nothing"
    )
    assert connect().fetch(["key", "other"])["key"] == Sensitive("first")


def test_regions_are_asked_for_their_own_secrets(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="Ireland")
    created = aws.sdk(region="us-east-1").create_secret(Name="key", SecretString="Virginia")
    client = connect(region="us-east-1")
    found = client.fetch(["key", "key?region=eu-west-1", created["ARN"]])
    assert [each.reveal() for each in found.values() if isinstance(each, Sensitive)] == [
        "Virginia", "Ireland", "Virginia",
    ]  # fmt: skip
    assert connect(region="eu-west-1").fetch([created["ARN"]]) == {created["ARN"]: Sensitive("Virginia")}


def test_binary_text_is_text_and_other_bytes_are_none(aws: AwsServer, connect: MakeClient) -> None:
    aws.sdk().create_secret(Name="text", SecretBinary="é🔑\n".encode())
    aws.sdk().create_secret(Name="bytes", SecretBinary=b"hunter2-hidden\xff")
    client = connect()
    assert client.fetch(["text", "bytes"])["text"] == Sensitive("é🔑\n")
    assert "the secret bytes is binary and not UTF-8 text" in failed(client, "bytes")


@pytest.mark.parametrize("value", ["a\0b", "é🔑", " a\r\n", "x" * SIZE_LIMIT, '"\\\n\t'])
def test_every_text_arrives_byte_for_byte(aws: AwsServer, connect: MakeClient, value: str) -> None:
    aws.put(key=value, other="x")
    assert connect().fetch(["key"])["key"] == Sensitive(value)
    assert connect().fetch(["key", "other"])["key"] == Sensitive(value)


def test_half_a_character_is_a_failure(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(field='{"a": "hunter2-hidden\\ud800"}', whole="hunter2-hidden\ud800", other="x")
    client = connect()
    assert failed(client, "field#a") == "the field a of the secret field is not valid Unicode"
    assert failed(client, "whole") == "the secret whole is not valid Unicode"
    assert isinstance(client.fetch(["whole", "other"])["whole"], Failure)


# --- logins


def test_a_profile_of_the_sdks_files_is_used(aws: AwsServer, connect: MakeClient, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile work]\nregion = eu-central-1\n")
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = x\n")
    aws.sdk(region="eu-central-1").create_secret(Name="key", SecretString="of work")
    files = {
        "AWS_CONFIG_FILE": f"{tmp_path}/config",
        "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/credentials",
    }
    bare = {name: value for name, value in aws.environ.items() if name != "AWS_REGION"} | files
    for client, target in (
        (connect(bare, profile="work"), "key"),
        (connect(bare), "key?profile=work"),
        (connect(bare | {"AWS_PROFILE": "work"}), "key"),
    ):
        assert client.fetch([target]) == {target: Sensitive("of work")}


def test_a_profile_that_does_not_exist(connect: MakeClient) -> None:
    assert "there is no AWS profile nobody; `aws configure list-profiles`" in failed(
        connect(profile="nobody"), "a"
    )


def test_one_login_that_fails_does_not_hide_the_others(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="x")
    found = connect().fetch(["key?profile=nobody", "key"])
    assert found["key"] == Sensitive("x")
    assert isinstance(found["key?profile=nobody"], Failure)


def test_a_role_is_assumed_in_the_name_of_who_asks(aws: AwsServer, connect: MakeClient) -> None:
    given = aws.sdk("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    theirs = aws.sdk(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    theirs.create_secret(Name="key", SecretString="theirs")
    aws.put(key="ours")
    client = connect(role=ROLE, external_id="shop 1")
    assert client.fetch(["key"]) == {"key": Sensitive("theirs")}
    assert connect().fetch([f"key?role={ROLE}", "key"]) == {
        f"key?role={ROLE}": Sensitive("theirs"), "key": Sensitive("ours"),
    }  # fmt: skip
    client.fetch(["key", "other"])
    assert aws.calls["AssumeRole"] == 2, "once for each client"
    asked = next(body for action, body in aws.requests if action == "AssumeRole").decode()
    assert "ExternalId=shop+1" in asked
    assert f"RoleSessionName={session_name(who()).replace('@', '%40')}" in asked


def test_a_role_that_may_not_be_assumed(aws: AwsServer, connect: MakeClient) -> None:
    aws.faults.append(Fault("AssumeRole", code="AccessDenied", status=403))
    said = failed(connect(role=ROLE), "key")
    assert said.startswith(f"the role {ROLE} cannot be assumed; allow this login sts:AssumeRole on it")


def test_keys_of_a_role_are_made_anew_before_they_end(
    aws: AwsServer, connect: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(role=ROLE)
    client.fetch(["key"])
    client.fetch(["key"])
    assert aws.calls["AssumeRole"] == 1

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + sessions._MARGIN * 20

    monkeypatch.setattr(sessions, "datetime", Later)
    client.fetch(["key"])
    assert aws.calls["AssumeRole"] > 1


@pytest.mark.parametrize("user", ["root@vm", "uid 1000@a b", "ä" * 100, "x" * 100])
def test_a_session_has_a_name_aws_takes(user: str) -> None:
    import re

    assert re.fullmatch(r"[\w+=,.@-]{2,64}", session_name(user), re.ASCII)


def test_no_login_and_no_region(aws: AwsServer, connect: MakeClient) -> None:
    keyless = {name: value for name, value in aws.environ.items() if "KEY" not in name}
    assert "there is no login to AWS; run `aws sso login`" in failed(connect(keyless), "a")
    placeless = {name: value for name, value in aws.environ.items() if name != "AWS_REGION"}
    assert "set `region` in [secrets.aws]" in failed(connect(placeless), "a")
    assert isinstance(connect(placeless, region=REGION), Client)


def test_an_expired_login_says_how_to_renew_it(aws: AwsServer, connect: MakeClient, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile team]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n"
    )
    sso = connect(aws.environ | {"AWS_CONFIG_FILE": f"{tmp_path}/config"}, profile="team")
    assert "the login to AWS with the profile team has expired; run `aws sso login --profile team`" in failed(
        sso, "a"
    )
    aws.faults.append(Fault(code="ExpiredTokenException", message="The security token is expired"))
    found = connect().fetch(["a", "b"])
    assert len(set(map(str, found.values()))) == 1
    assert "the login to AWS has expired" in str(found["a"])
    assert "ListSecrets" not in aws.calls


def test_the_process_own_keys_are_not_used_for_another_process(
    aws: AwsServer, connect: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environ.items():
        monkeypatch.setenv(name, value)
    aws.put(key="x")
    elsewhere = {"AWS_ENDPOINT_URL": aws.endpoint, "AWS_REGION": REGION}
    assert "there is no login to AWS" in failed(connect(elsewhere), "key")


# --- what can go wrong with one secret


def test_every_secret_that_cannot_be_had_is_named_with_its_reason(
    aws: AwsServer, connect: MakeClient
) -> None:
    aws.put(shop__prod__password=VALUE, gone=VALUE, empty__less="x")
    aws.sdk().delete_secret(SecretId="gone", RecoveryWindowInDays=7)
    aws.sdk().create_secret(Name="valueless")
    client = connect()
    targets = ["shop/prod/password", "shop/prod/pasword", "gone", "unlike", "valueless", "empty/less#field"]
    found = {target: str(answer) for target, answer in client.fetch(targets).items()}
    assert found["shop/prod/password"] == "[REDACTED]"
    where = "AWS Secrets Manager in eu-west-1"
    assert (
        found["shop/prod/pasword"]
        == f"there is no secret shop/prod/pasword in {where}; there is shop/prod/password"
    )
    assert (
        found["unlike"]
        == f"there is no secret unlike in {where}; look at the name, the region and the account"
    )
    assert (
        "the secret gone in eu-west-1 is marked deleted; `aws secretsmanager restore-secret" in found["gone"]
    )
    assert found["valueless"] == "the secret valueless in eu-west-1 has no version with the stage AWSCURRENT"
    assert found["empty/less#field"] == (
        "the secret empty/less: it is not JSON, so it has no field field; leave `#…` out to get it whole"
    )
    assert aws.calls["ListSecrets"] == 1


def test_a_stage_or_version_that_is_not_there(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="x")
    version = "0" * 32
    client = connect()
    assert "has no version with the stage AWSPREVIOUS" in failed(client, "key?stage=AWSPREVIOUS")
    assert f"has no version {version}" in failed(client, f"key?version={version}")
    assert "there is no secret kye" in failed(client, "kye?stage=AWSPREVIOUS")


def test_a_secret_of_another_region_says_where_it_was_looked_for(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key=VALUE)
    assert "there is no secret key in AWS Secrets Manager in us-west-2" in failed(
        connect(region="us-west-2"), "key"
    )


def test_no_right_to_list_costs_only_the_hint(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(shop="x")
    aws.faults.append(Fault("ListSecrets"))
    assert "there is no secret shpo" in failed(connect(), "shpo")


def test_a_field_that_is_not_there_names_those_that_are(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(shop=json.dumps({"user": VALUE, "password": VALUE, "none": None}))
    client = connect()
    assert failed(client, "shop#pasword") == (
        "the secret shop: it has no field pasword; its fields are: none, password, user"
    )
    assert failed(client, "shop#none") == "the secret shop: its field none is null"


# --- a policy that denies


def deny_batch(aws: AwsServer) -> None:
    aws.faults.append(Fault("BatchGetSecretValue", message="User: arn:aws:iam::1:user/ci is not authorized"))


def test_where_a_policy_denies_the_batch_secrets_are_read_one_by_one(
    aws: AwsServer, connect: MakeClient
) -> None:
    names = [f"s{number}" for number in range(45)]
    aws.put(**dict.fromkeys(names, VALUE))
    deny_batch(aws)
    assert connect().fetch(names) == dict.fromkeys(names, Sensitive(VALUE))
    assert aws.calls == {"BatchGetSecretValue": 3, "GetSecretValue": 45}


def test_a_denied_batch_is_not_tried_again_in_this_process(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(a="1", b="2")
    deny_batch(aws)
    for _ in range(2):
        assert connect().fetch(["a", "b"]) == {"a": Sensitive("1"), "b": Sensitive("2")}
    assert aws.calls == {"BatchGetSecretValue": 1, "GetSecretValue": 4}


def test_a_denied_secret_says_which_right_is_missing(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(a=VALUE, b=VALUE)
    caller = "arn:aws:sts::123456789012:assumed-role/ci/me"
    message = f"User: {caller} is not authorized to perform: secretsmanager:X with an explicit deny"
    aws.faults += [Fault("GetSecretValue", message=message), Fault("BatchGetSecretValue", message=message)]
    found = connect().fetch(["a", "b"])
    for name in "ab":
        assert str(found[name]) == (
            f"AWS denies GetSecretValue of {name} in eu-west-1 to {caller}; "
            f"allow secretsmanager:GetSecretValue on "
            f"arn:aws:secretsmanager:eu-west-1:*:secret:{name}-??????, "
            "and take out the policy that denies it explicitly"
        )


def batch_says(aws: AwsServer, **errors: str) -> None:
    """Let one batch answer, with HTTP 200, that some of its secrets cannot be had."""
    listed = [{"SecretId": name, "ErrorCode": code, "Message": "no"} for name, code in errors.items()]
    body = json.dumps({"SecretValues": [], "Errors": listed}).encode()
    aws.faults.append(Fault("BatchGetSecretValue", "garbage", body=body, times=1))


def test_errors_inside_a_batch_are_each_secrets_own(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(busy="x", broken="y", left_out="z")
    batch_says(
        aws, denied="AccessDeniedException", key="DecryptionFailure", busy="ThrottlingException",
        broken="InternalServiceError",
    )  # fmt: skip
    found = connect().fetch(["denied", "key", "busy", "broken", "left_out"])
    assert "allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-west-1:*:secret:denied-" in str(
        found["denied"]
    )
    assert "allow kms:Decrypt on that key" in str(found["key"])
    assert (found["busy"], found["broken"], found["left_out"]) == (
        Sensitive("x"),
        Sensitive("y"),
        Sensitive("z"),
    )


def test_one_bad_name_in_a_batch_is_no_failure_of_the_others(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(a="1", b="2")
    aws.faults.append(Fault("BatchGetSecretValue", code="InvalidParameterException", message=VALUE))
    found = connect().fetch(["a", "b"])
    assert found == {"a": Sensitive("1"), "b": Sensitive("2")}
    aws.faults.clear()
    connect().fetch(["a", "b"])
    assert aws.calls["BatchGetSecretValue"] == 2, "only a denied batch is remembered"


# --- a service that fails


@pytest.mark.parametrize(
    "fault",
    [
        Fault(code="ThrottlingException", times=2),
        Fault(code="InternalServiceError", status=500, times=2),
        Fault(kind="cut", times=2),
        Fault(kind="garbage", status=503, body=b"<html>", times=2),
    ],
    ids=["throttled", "500", "cut", "503"],
)
def test_what_passes_is_waited_for(aws: AwsServer, connect: MakeClient, fault: Fault) -> None:
    aws.put(a="1", b="2")
    aws.faults.append(replace(fault))
    assert connect().fetch(["a", "b"]) == {"a": Sensitive("1"), "b": Sensitive("2")}
    assert aws.calls == {"BatchGetSecretValue": 3}


def test_a_service_that_throttles_for_good_is_asked_five_times(aws: AwsServer, connect: MakeClient) -> None:
    aws.faults.append(Fault(code="ThrottlingException"))
    assert "throttles requests, after 5 attempts; try again in a minute" in failed(connect(), "a")
    assert aws.calls == {"GetSecretValue": 5}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(code="InternalServiceError", status=500), "failed on its side, in 2 attempts"),
        (Fault(kind="hang"), "gave no answer within 0.5 seconds, in 2 attempts"),
        (Fault(kind="cut"), "cannot be reached; look at the network"),
    ],
    ids=["500", "hang", "cut"],
)
def test_a_service_that_fails_for_good(
    aws: AwsServer, connect: MakeClient, fault: Fault, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.kind == "hang":  # the others do answer, and a busy machine may need longer for it
        monkeypatch.setattr(failures, "READ_SECONDS", 0.5)
    aws.put(a=VALUE, b=VALUE)
    aws.faults.append(fault)
    client = connect()
    assert words in failed(client, "a")
    assert all(words in str(each) for each in client.fetch(["a", "b"]).values())
    with pytest.raises(ProviderError, match=words.partition(";")[0]):
        client.versions("a")
    assert words in str(client.write({"a": Sensitive("new")})["a"])


@pytest.mark.usefixtures("quick")
def test_nobody_listens_and_a_region_that_is_none(connect: MakeClient, aws: AwsServer) -> None:
    nobody = connect(endpoint="http://127.0.0.1:9")
    assert "AWS Secrets Manager in eu-west-1 cannot be reached; look at the network" in failed(nobody, "a")
    typo = connect(endpoint="http://127.0.0.1:9", region="eu-wset-1")
    assert "eu-wset-1 is no region that the SDK knows, eu-west-1 is" in failed(typo, "a")


GARBAGE = [
    b"", b"<html>hunter2-hidden</html>", b"\xff\xfe", b"[]", b'"a"', b"null", b'{"SecretString": 5}',
    b'{"SecretString": null}', b'{"SecretValues": 5}', b'{"SecretValues": [5]}', b'{"Errors": [{}]}',
    b'{"SecretValues": [{"Name": 5, "VersionStages": 5}]}', b'{"SecretBinary": "hunter2-hidden!!"}',
    b'{"CreatedDate": "x", "SecretString": {"hunter2-hidden": 1}}', b'{"Errors": {"a": 5}}', b'{"__type": 5}',
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE)
def test_garbage_is_no_secret_and_no_crash(aws: AwsServer, connect: MakeClient, body: bytes) -> None:
    aws.faults.append(Fault(kind="garbage", body=body))
    client = connect()
    found = client.fetch(["a", "b", "c?stage=AWSPREVIOUS"])
    written = client.write({"d": Sensitive(VALUE), "e#f": Sensitive(VALUE)})
    assert all(isinstance(each, Failure) for each in (*found.values(), *written.values()))
    assert VALUE not in f"{found} {written}"
    for call in (lambda: client.versions("a"), lambda: client.members("a#"), lambda: client.members("a/")):
        with pytest.raises(ProviderError) as error:
            call()
        assert VALUE not in str(error.value)


@settings(max_examples=30)
@given(body=st.binary(max_size=200))
def test_whatever_answers_nothing_is_raised(running: AwsServer, body: bytes) -> None:
    running.faults[:] = [Fault(kind="garbage", body=body)]
    client = PROVIDER.connect(Context(Path("/nowhere"), running.environ))
    found = client.fetch(["a", "b"])
    client.close()
    running.faults.clear()
    assert all(isinstance(each, Failure) for each in found.values())


def test_sixteen_requests_run_at_the_same_time(aws: AwsServer, connect: MakeClient) -> None:
    names = [f"s{number}" for number in range(64)]
    aws.put(**dict.fromkeys(names, VALUE))
    deny_batch(aws)
    client = connect()
    client.fetch(names[:2])
    aws.gate = threading.Barrier(16, timeout=60)
    assert client.fetch(names) == dict.fromkeys(names, Sensitive(VALUE))
    assert not aws.gate.broken


def test_batches_run_at_the_same_time_as_single_reads(aws: AwsServer, connect: MakeClient) -> None:
    names = [f"s{number}" for number in range(60)]
    aws.put(**dict.fromkeys(names, VALUE))
    aws.gate = threading.Barrier(4, timeout=60)
    asked = [*names, "s0?stage=AWSCURRENT"]
    assert connect().fetch(asked) == dict.fromkeys(asked, Sensitive(VALUE))
    assert aws.calls == {"BatchGetSecretValue": 3, "GetSecretValue": 1}
    assert not aws.gate.broken


# --- writing


def test_a_new_secret_is_made_and_read_back(aws: AwsServer, connect: MakeClient) -> None:
    client = connect()
    written = client.write(
        {"shop/key": Sensitive(VALUE), "shop/doc#a": Sensitive("1"), "shop/doc#b": Sensitive("é")}
    )
    assert all(isinstance(each, Version) and each.stages == ("current",) for each in written.values())
    assert client.fetch(["shop/key", "shop/doc#b"]) == {
        "shop/key": Sensitive(VALUE),
        "shop/doc#b": Sensitive("é"),
    }
    assert json.loads(aws.value("shop/doc")) == {"a": "1", "b": "é"}
    assert aws.calls["CreateSecret"] == 2
    assert aws.sdk().describe_secret(SecretId="shop/key")["Description"] == "Written by Windlass."


def test_fields_of_one_document_are_one_write_and_the_others_stay(
    aws: AwsServer, connect: MakeClient
) -> None:
    aws.put(shop=json.dumps({"keep": {"deep": [1]}, "a": "old"}))
    written = connect().write({"shop#a": Sensitive("new"), "shop#b": Sensitive("2")})
    assert len(set(written.values())) == 1
    assert json.loads(aws.value("shop")) == {"keep": {"deep": [1]}, "a": "new", "b": "2"}
    assert aws.calls["PutSecretValue"] == 1
    assert len(aws.versions("shop")) == 2


@pytest.mark.parametrize("target", ["shop", "shop#a"])
def test_the_value_that_is_there_makes_no_new_version(
    aws: AwsServer, connect: MakeClient, target: str
) -> None:
    aws.put(shop='{"a":  "1"}')
    client = connect()
    value = client.fetch([target])[target]
    assert isinstance(value, Sensitive)
    written = client.write({target: value})[target]
    assert isinstance(written, Version)
    assert (written.id, written.note) == (next(iter(aws.versions("shop"))), "unchanged")
    assert "PutSecretValue" not in aws.calls


def test_a_new_value_makes_the_old_one_the_previous(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="old")
    written = connect().write({"key": Sensitive("new")})["key"]
    assert isinstance(written, Version)
    assert aws.versions("key")[written.id] == ["AWSCURRENT"]
    assert (aws.value("key"), aws.value("key", "AWSPREVIOUS")) == ("new", "old")


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (Fault("PutSecretValue", "cut", times=1, after=True), "PutSecretValue"),
        (
            Fault("PutSecretValue", code="InternalServiceError", status=500, times=1, after=True),
            "PutSecretValue",
        ),
        (Fault("CreateSecret", "cut", times=1, after=True), "CreateSecret"),
    ],
)
def test_a_write_whose_answer_is_lost_is_made_once(
    aws: AwsServer, connect: MakeClient, fault: Fault, action: str
) -> None:
    if action == "PutSecretValue":
        aws.put(key="old")
    before = len(aws.versions("key")) if action == "PutSecretValue" else 0
    aws.faults.append(replace(fault))
    written = connect().write({"key": Sensitive("new")})["key"]
    assert isinstance(written, Version)
    assert aws.calls[action] == 2
    assert list(aws.versions("key")[written.id]) == ["AWSCURRENT"]
    assert len(aws.versions("key")) == before + 1


def test_what_somebody_else_wrote_at_the_same_moment_is_kept(
    aws: AwsServer, connect: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.put(shop=json.dumps({"ours": "old", "theirs": "old"}))
    client = connect()
    real = reading.Reader.get
    others = iter([{"ours": "old", "theirs": "new"}, None])

    def get(self: reading.Reader, read: Any) -> Any:
        found = real(self, read)
        if not read.stage and (other := next(others, None)):
            aws.sdk().put_secret_value(SecretId="shop", SecretString=json.dumps(other))
        return found

    monkeypatch.setattr(reading.Reader, "get", get)
    written = client.write({"shop#ours": Sensitive("new")})["shop#ours"]
    assert isinstance(written, Version)
    assert json.loads(aws.value("shop")) == {"ours": "new", "theirs": "new"}
    assert aws.versions("shop")[written.id] == ["AWSCURRENT"]


def test_an_arn_and_the_name_of_one_secret_do_not_undo_each_other(
    aws: AwsServer, connect: MakeClient
) -> None:
    aws.put(shop="{}")
    arn = aws.sdk().describe_secret(SecretId="shop")["ARN"]
    connect().write({"shop#a": Sensitive("1"), f"{arn}#b": Sensitive("2")})
    assert json.loads(aws.value("shop")) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"key": "x" * (SIZE_LIMIT + 1)}, "65537 bytes, and AWS keeps at most 65536"),
        ({"key": "é" * (SIZE_LIMIT // 2) + "e"}, "65537 bytes"),
        ({"doc#a": "x" * SIZE_LIMIT}, "bytes, and AWS keeps at most 65536"),
        ({"key": "hunter2-hidden\ud800"}, "is not valid Unicode"),
        ({"doc#a": "hunter2-hidden\udfff"}, "is not valid Unicode"),
        ({"key": ""}, "the value is empty"),
        ({"doc#a": ""}, "the value is empty"),
        ({"key#a": "x"}, "it is not JSON, so no field can be set"),
        ({"list#a": "x"}, "it is no JSON table"),
        ({"doc": "x", "doc#a": "y"}, "whole and as fields at once"),
        ({"doc#a": "x", "doc#%61": "y"}, "two different values"),
        ({"key?stage=AWSPREVIOUS": "x"}, "leave `stage` and `version` out"),
        ({"rds!cluster": "x"}, "none can be made: a name is at most"),
        ({"shop-AbCdEf": "x"}, "none can be made: a name does not end in"),
        ({f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:none-AbCdEf": "x"}, "AWS makes ARNs itself"),
    ],
)
def test_what_cannot_be_written_is_refused_before_aws_is_asked(
    aws: AwsServer, connect: MakeClient, values: dict[str, str], words: str
) -> None:
    aws.put(key=VALUE, doc='{"a": "1"}', list="[1]")
    written = connect().write({target: Sensitive(value) for target, value in values.items()})
    assert set(written) == set(values)
    for each in written.values():
        assert words in str(each)
        assert "hunter2" not in str(each)
    assert not {"PutSecretValue", "CreateSecret"} & set(aws.calls)


def test_the_largest_value_aws_keeps_is_written(aws: AwsServer, connect: MakeClient) -> None:
    value = "é" * (SIZE_LIMIT // 2)
    assert isinstance(connect().write({"key": Sensitive(value)})["key"], Version)
    assert aws.value("key") == value


def test_a_deleted_secret_is_not_written(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="old")
    aws.sdk().delete_secret(SecretId="key", RecoveryWindowInDays=7)
    assert "is marked deleted" in str(connect().write({"key": Sensitive(VALUE)})["key"])
    assert "PutSecretValue" not in aws.calls


def test_a_denied_write_says_which_right_is_missing(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="old")
    aws.faults += [Fault("PutSecretValue"), Fault("CreateSecret")]
    written = connect().write({"key": Sensitive(VALUE), "new/key": Sensitive(VALUE)})
    assert "allow secretsmanager:PutSecretValue on arn:aws:secretsmanager:eu-west-1:*:secret:key-" in str(
        written["key"]
    )
    assert "allow secretsmanager:CreateSecret on" in str(written["new/key"])
    assert aws.value("key") == "old"


def test_a_secret_somebody_else_makes_meanwhile_is_written(
    aws: AwsServer, connect: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.Reader.get

    def get(self: reading.Reader, read: Any) -> Any:
        try:
            return real(self, read)
        finally:
            aws.put(key="theirs")

    monkeypatch.setattr(reading.Reader, "get", get)
    assert isinstance(connect().write({"key": Sensitive("ours")})["key"], Version)
    assert (aws.value("key"), aws.value("key", "AWSPREVIOUS")) == ("ours", "theirs")


def test_who_may_write_and_not_read_writes_whole_secrets_only(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="old", doc="{}")
    aws.faults.append(Fault("GetSecretValue"))
    written = connect().write({"key": Sensitive("new"), "doc#a": Sensitive("x")})
    assert isinstance(written["key"], Version)
    assert "allow secretsmanager:GetSecretValue" in str(written["doc#a"])
    assert (aws.value("key"), aws.value("doc")) == ("new", "{}")


def test_what_aws_says_of_a_value_is_not_repeated(aws: AwsServer, connect: MakeClient) -> None:
    aws.faults.append(
        Fault("CreateSecret", code="ValidationException", message=f"Value '{VALUE}' at 'secretString'")
    )
    written = connect().write({"key": Sensitive(VALUE)})["key"]
    assert isinstance(written, Failure)
    assert VALUE not in repr(written)
    assert "CreateSecret of key in eu-west-1: ValidationException" in str(written)


# --- versions


def test_versions_are_told_and_an_earlier_one_is_made_current_again(
    aws: AwsServer, connect: MakeClient
) -> None:
    client = connect()
    first, second, third = (client.write({"key": Sensitive(value)})["key"] for value in "abc")
    assert isinstance(first, Version) and isinstance(second, Version) and isinstance(third, Version)
    told = client.versions("key")
    assert [each.id for each in told] == [third.id, second.id, first.id]
    assert [each.stages for each in told] == [("current",), ("previous",), ()]
    assert all(each.created and each.created.tzinfo for each in told)
    assert client.restore("key", first.id).id == first.id
    assert client.fetch(["key", "key?stage=AWSPREVIOUS"]) == {
        "key": Sensitive("a"),
        "key?stage=AWSPREVIOUS": Sensitive("c"),
    }
    stages = {each.id: each.stages for each in client.versions("key")}
    assert (stages[first.id], stages[third.id]) == (("current",), ("previous",))


def test_the_current_version_needs_no_restoring(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="a")
    current = next(iter(aws.versions("key")))
    assert connect().restore("key", current).stages == ("current",)
    assert "UpdateSecretVersionStage" not in aws.calls


def test_a_field_goes_back_and_the_others_stay(aws: AwsServer, connect: MakeClient) -> None:
    client = connect()
    first = client.write({"shop#key": Sensitive("old"), "shop#other": Sensitive("old")})["shop#key"]
    client.write({"shop#key": Sensitive("new"), "shop#other": Sensitive("new")})
    assert isinstance(first, Version)
    assert client.restore("shop#key", first.id).stages == ("current",)
    assert json.loads(aws.value("shop")) == {"key": "old", "other": "new"}


def test_a_version_that_is_not_there_is_not_restored(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(key="a", doc='{"a": "1"}')
    for target in ("key", "doc#a"):
        with pytest.raises(ProviderError, match="has no version 00000"):
            connect().restore(target, "0" * 32)
    missing = "Secrets Manager can't find the specified secret."
    aws.faults.append(Fault("ListSecretVersionIds", code="ResourceNotFoundException", message=missing))
    with pytest.raises(ProviderError, match="there is no secret none"):
        connect().versions("none")


# --- scopes


def test_the_members_of_a_document_are_its_fields(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(shop=json.dumps({"B": "2", "A": "1", "not a name": "x"}))
    client = connect()
    found = client.members("shop#")
    assert found == {"A": "shop#A", "B": "shop#B"}
    assert client.fetch(list(found.values())) == {"shop#A": Sensitive("1"), "shop#B": Sensitive("2")}
    assert client.members("shop#?region=eu-west-1") == {
        "A": "shop#A?region=eu-west-1", "B": "shop#B?region=eu-west-1",
    }  # fmt: skip


def test_the_members_below_a_prefix_are_secrets(aws: AwsServer, connect: MakeClient) -> None:
    names = [f"shop/prod/S{number:03}" for number in range(120)]
    aws.put(
        **{
            name.replace("/", "__"): "x"
            for name in [*names, "shop/prod/deep/A", "shop/production/A", "other"]
        }
    )
    assert connect().members("shop/prod/") == {name.rpartition("/")[2]: name for name in names}
    assert connect().members("nothing/") == {}


def test_the_place_of_a_variable_in_a_scope(connect: MakeClient) -> None:
    client = connect()
    assert client.member("shop/prod#", "KEY") == "shop/prod#KEY"
    assert client.member("shop/prod/", "KEY") == "shop/prod/KEY"
    assert (
        client.member("shop/prod/?region=eu-west-1&profile=a", "KEY")
        == "shop/prod/KEY?region=eu-west-1&profile=a"
    )
    for scope, name, words in (
        ("shop/prod", "KEY", "it ends in `#`"),
        ("shop/prod#KEY", "KEY", "it ends in `#`"),
        (f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:shop/", "KEY", "no ARN in common"),
        ("shop prod#", "KEY", "a name is at most"),
        ("#", "KEY", "name is missing"),
        ("shop/prod#", "not-a-name", "no name of a variable"),
        ("shop/", "K" * 508, "AWS cannot keep"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            client.member(scope, name)


def test_a_scope_that_cannot_be_listed(aws: AwsServer, connect: MakeClient) -> None:
    aws.put(text=VALUE, list="[1]")
    aws.faults.append(Fault("ListSecrets"))
    client = connect()
    for scope, words in (
        ("text#", "is no JSON table"),
        ("list#", "is no JSON table"),
        ("none#", "there is no secret none"),
        ("shop/", r"allow secretsmanager:ListSecrets on \*"),
    ):
        with pytest.raises(ProviderError, match=words) as error:
            client.members(scope)
        assert VALUE not in str(error.value)


def test_times_of_versions_are_aware(aws: AwsServer, connect: MakeClient) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    aws.put(key="a")
    (only,) = connect().versions("key")
    assert only.created is not None
    assert before <= only.created.astimezone(UTC)
