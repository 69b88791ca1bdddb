"""What a reference to AWS says, and what AWS would refuse, is known without asking AWS."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.providers.aws.targets import (
    BATCH,
    NAME_LIMIT,
    SIZE_LIMIT,
    Place,
    Read,
    Wanted,
    bare_name,
    batches,
    fault,
    is_for,
    name_fault,
    resource,
    value_fault,
    wanted,
)

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/prod-AbCdEf"
PARTIAL = ARN.rpartition("-")[0]
ROLE = "arn:aws:iam::123456789012:role/team/reader"
VERSION = "0123456789abcdef0123456789abcdef"
NAMES = st.text(string.ascii_letters + string.digits + "/_+=.@-", min_size=1, max_size=NAME_LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "shop/prod",
        "shop/prod#password",
        "shop/prod#db.password?stage=AWSPREVIOUS",
        f"shop?version={VERSION}&region=eu-west-1&profile=my team&role={ROLE}",
        "rds!cluster-0f1e2d3c#password",
        ARN,
        f"{PARTIAL}#password?region=eu-west-1",
        "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:a",
    ],
)
def test_a_good_target(text: str) -> None:
    assert fault(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name is missing"),
        ("shop prod", "a name is at most 512"),
        ("a" * 513, "a name is at most 512"),
        ("shop:prod", "a name is at most 512"),
        ("shop%20prod", "a name is at most 512"),
        ("a#", "name of the field"),
        ("a?key=b", "`key` is no option; known: profile, region, role, stage, version"),
        ("a?stage=b c", "`stage` is a version stage"),
        ("a?version=1", "`version` is"),
        ("a?region=Ireland", "`region` is a region such as"),
        ("a?role=reader", "`role` is the ARN of a role"),
        ("arn:aws:secretsmanager:eu-west-1:1:secret:a", "the ARN of a secret is"),
        ("arn:aws:s3:::bucket", "the ARN of a secret is"),
        (f"{ARN}?region=us-east-1", "the ARN is of the region eu-west-1 and the option says us-east-1"),
    ],
)
def test_a_bad_target_is_known_without_asking(text: str, words: str) -> None:
    assert words in fault(text)


def test_what_the_target_says_comes_before_the_settings() -> None:
    default = Place("eu-central-1", "work", ROLE)
    assert wanted("a", default) == Wanted(Read(default, "a"))
    assert wanted("a#b?region=us-east-1", default) == Wanted(Read(Place("us-east-1", "work", ROLE), "a"), "b")
    assert wanted("a?profile=other&role=x", default).read.place == Place("eu-central-1", "other", "x")


def test_the_region_of_an_arn_comes_before_the_settings() -> None:
    assert wanted(ARN, Place("us-east-1")).read.place == Place("eu-west-1")
    assert wanted(f"{PARTIAL}#a", Place("us-east-1")).read.place == Place("eu-west-1")


def test_two_fields_of_one_document_are_one_read() -> None:
    assert wanted("a#b", Place()).read == wanted("a#c", Place()).read
    assert wanted("a#b", Place()).read != wanted("a#b?stage=AWSPREVIOUS", Place()).read


def test_stages_have_the_names_they_have_for_all_providers() -> None:
    assert wanted("a?stage=previous", Place()) == wanted("a?stage=AWSPREVIOUS", Place())
    assert wanted("a?stage=current", Place()).read.is_current


def test_only_the_current_version_can_be_had_in_a_batch() -> None:
    current = ("a", "a?stage=AWSCURRENT")
    others = ("a?stage=AWSPREVIOUS", f"a?version={VERSION}", f"a?stage=AWSCURRENT&version={VERSION}")
    assert all(wanted(each, Place()).read.is_current for each in current)
    assert not any(wanted(each, Place()).read.is_current for each in others)


@pytest.mark.parametrize("asked", ["shop/prod", ARN, PARTIAL])
def test_an_answer_is_known_by_name_arn_and_part_of_one(asked: str) -> None:
    assert is_for(asked, "shop/prod", ARN)
    assert not is_for(asked, "shop/pro", ARN.replace("shop/prod", "shop/pro"))
    assert bare_name(asked) == "shop/prod"


def test_the_answer_for_a_longer_name_is_of_no_shorter_one() -> None:
    other = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/prod-AbCdEf-GhIjKl"
    assert not is_for("shop/prod", "shop/prod-AbCdEf", other)
    assert not is_for(PARTIAL, "shop/prod-AbCdEf", other)


@pytest.mark.parametrize(
    ("secret", "region", "arn"),
    [
        ("a/b", "eu-west-1", "arn:aws:secretsmanager:eu-west-1:*:secret:a/b-??????"),
        ("a", "cn-north-1", "arn:aws-cn:secretsmanager:cn-north-1:*:secret:a-??????"),
        ("a", "us-gov-west-1", "arn:aws-us-gov:secretsmanager:us-gov-west-1:*:secret:a-??????"),
        ("a", "", "arn:aws:secretsmanager:*:*:secret:a-??????"),
        (ARN, "us-east-1", ARN),
        (PARTIAL, "us-east-1", f"{PARTIAL}-??????"),
    ],
)
def test_what_a_policy_must_allow(secret: str, region: str, arn: str) -> None:
    assert resource(secret, region) == arn


@given(NAMES)
def test_a_name_is_good_unless_it_ends_like_an_arn(name: str) -> None:
    ending = name[-7:]
    alike = len(ending) == 7 and ending[0] == "-" and ending[1:].isalnum()
    assert bool(name_fault(name)) == (alike or name.startswith("arn:"))


@pytest.mark.parametrize("name", ["", "a b", "a!b", "a#b", "é", "a" * 513, ARN, "a\n", "shop-AbCdEf"])
def test_a_name_that_aws_would_not_take(name: str) -> None:
    assert name_fault(name)


@pytest.mark.parametrize("character", ["a", "é", "€", "🔑"])
def test_the_size_of_a_value_is_counted_in_bytes(character: str) -> None:
    size = len(character.encode())
    fits = character * (SIZE_LIMIT // size)
    assert value_fault(fits) == ""
    assert str(len((fits + character).encode())) in value_fault(fits + character)


@pytest.mark.parametrize("text", ["", "hid\ud800den", "hid\udfffden"])
def test_a_value_that_is_none_is_refused_without_showing_it(text: str) -> None:
    assert value_fault(text)
    assert "hid" not in value_fault(text)


@given(st.integers(1, 205))
def test_batches_hold_all_and_no_more_than_aws_takes(count: int) -> None:
    reads = [Read(Place(), f"s{number}") for number in range(count)]
    found = batches(reads)
    assert [read for batch in found for read in batch] == reads
    assert max(len(batch) for batch in found) <= BATCH
    assert len(found) == -(-count // BATCH)
