"""What a reference to AWS Secrets Manager says: which secret, in which region, with which login, which field.

What AWS allows in names and sizes is checked here, since the service says it later and less clearly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from windlass.secrets.targets import Target, parse_target, target_fault

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
OPTIONS: Final = ("stage", "version", "region", "profile", "role")
# What stages are called for all providers.
_STAGES: Final = {"current": CURRENT, "previous": PREVIOUS}
# AWS Secrets Manager, CreateSecret: name and SecretString; the size is in bytes of UTF-8.
NAME_LIMIT: Final = 512
SIZE_LIMIT: Final = 65536
# BatchGetSecretValue: SecretIdList.
BATCH: Final = 20

_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]+")
# Services that keep their own secrets there put `!` into their names: `rds!cluster-…`.
_READABLE: Final = re.compile(r"[A-Za-z0-9/_+=.@!-]+")
# AWS appends a hyphen and six characters to make the ARN; a name that ends alike is found by mistake.
_SUFFIX: Final = re.compile(r"-[A-Za-z0-9]{6}$")
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:(?P<name>[A-Za-z0-9/_+=.@!-]+)"
)
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_PATTERNS: Final = {
    "stage": (re.compile(r"[A-Za-z0-9/_+=.@-]{1,256}"), "a version stage such as `AWSPREVIOUS`"),
    "version": (
        re.compile(r"[A-Za-z0-9-]{32,64}"),
        "a version's id: 32 to 64 letters, digits and `-`",
    ),
    "region": (re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+"), "a region such as `eu-west-1`"),
    "role": (_ROLE, "the ARN of a role, `arn:aws:iam::<account>:role/<name>`"),
}


@dataclass(frozen=True)
class Place:
    """Where secrets are and who asks; what is empty the AWS SDK decides.

    Args:
        region: the region.
        profile: the profile of `~/.aws/config` to log in with.
        role: ARN of the role to assume.
    """

    region: str = ""
    profile: str = ""
    role: str = ""


@dataclass(frozen=True)
class Read:
    """One version of one secret, as it is asked for.

    Args:
        place: where.
        id: name or ARN.
        stage: the version's stage; empty: the current one, unless `version` names one.
        version: the version's id.
    """

    place: Place
    id: str
    stage: str = ""
    version: str = ""

    @property
    def is_current(self) -> bool:
        """Whether it is the current version, the only one that a batch gives."""
        return not self.version and self.stage in {"", CURRENT}

    @property
    def words(self) -> str:
        """Which version it is, for a sentence."""
        if self.version:
            return f"version {self.version}" + (f" with the stage {self.stage}" if self.stage else "")
        return f"version with the stage {self.stage or CURRENT}"


@dataclass(frozen=True)
class Wanted:
    """A target, read: the secret, and its field; empty: the whole secret."""

    read: Read
    field: str = ""


def fault(text: str) -> str:
    """Return what is wrong with a target, in words; empty when nothing is."""
    return target_fault(text, OPTIONS) or _parts_fault(parse_target(text))


def _parts_fault(target: Target) -> str:
    for key, (pattern, words) in _PATTERNS.items():
        if key in target.options and pattern.fullmatch(target.options[key]) is None:
            return f"`{key}` is {words}"
    if target.path.startswith("arn:"):
        return _arn_fault(target)
    if len(target.path) > NAME_LIMIT or _READABLE.fullmatch(target.path) is None:
        return f"a name is at most {NAME_LIMIT} letters, digits and `/_+=.@-`"
    return ""


def _arn_fault(target: Target) -> str:
    match = _ARN.fullmatch(target.path)
    if match is None:
        return "the ARN of a secret is `arn:aws:secretsmanager:<region>:<account>:secret:<name>`"
    other = target.options.get("region", match["region"])
    if other != match["region"]:
        return f"the ARN is of the region {match['region']} and the option says {other}"
    return ""


def wanted(text: str, default: Place) -> Wanted:
    """Read a target that `fault` found nothing wrong with.

    Args:
        text: the target.
        default: the settings; what the target says comes first, and the region of an ARN before both.
    """
    target = parse_target(text)
    options = target.options
    given = {key: options[key] for key in ("region", "profile", "role") if key in options}
    if region := arn_region(target.path):
        given["region"] = region
    place = replace(default, **given)
    stage = options.get("stage", "")
    read = Read(place, target.path, _STAGES.get(stage, stage), options.get("version", ""))
    return Wanted(read, target.field)


def arn_region(secret: str) -> str:
    """Return the region of an ARN; empty for a name."""
    match = _ARN.fullmatch(secret)
    return match["region"] if match else ""


def is_for(secret: str, name: str, arn: str) -> bool:
    """Whether an answer with this name and ARN is of the secret asked for by name, ARN or part of one."""
    return secret in {name, arn, _SUFFIX.sub("", arn)}


def bare_name(secret: str) -> str:
    """Return a secret's name; of an ARN, its last part less what AWS appended."""
    match = _ARN.fullmatch(secret)
    return _SUFFIX.sub("", match["name"]) if match else secret


def resource(secret: str, region: str) -> str:
    """Return what a policy must allow: the ARN of the secret, its account and appended characters open."""
    if _ARN.fullmatch(secret):
        return secret if _SUFFIX.search(secret) else f"{secret}-??????"
    partition = next((f"aws-{part}" for part in ("cn", "us-gov") if region.startswith(f"{part}-")), "aws")
    return f"arn:{partition}:secretsmanager:{region or '*'}:*:secret:{secret}-??????"


def name_fault(name: str) -> str:
    """Return why no secret of this name can be made; empty when it can."""
    if name.startswith("arn:"):
        return "AWS makes ARNs itself, so a new secret is written by its name"
    if not name or len(name) > NAME_LIMIT or _NAME.fullmatch(name) is None:
        return f"a name is at most {NAME_LIMIT} letters, digits and `/_+=.@-`"
    if _SUFFIX.search(name):
        return "a name does not end in `-` and six letters or digits, as ARNs do"
    return ""


def value_fault(text: str) -> str:
    """Return why AWS cannot keep a value; empty when it can. Nothing of the value is in the words."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "the value is not valid Unicode"
    if size == 0:
        return "the value is empty"
    return f"it would have {size} bytes, and AWS keeps at most {SIZE_LIMIT}" if size > SIZE_LIMIT else ""


def batches(reads: Sequence[Read]) -> list[Sequence[Read]]:
    """Split reads of one place into requests; each names a secret once."""
    return [reads[start : start + BATCH] for start in range(0, len(reads), BATCH)]
