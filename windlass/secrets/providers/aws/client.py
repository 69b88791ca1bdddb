"""AWS Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from windlass.errors import ConfigurationError
from windlass.secrets.providers.aws.reading import Answer, Reader, is_unicode
from windlass.secrets.providers.aws.sessions import Connections, Login
from windlass.secrets.providers.aws.targets import (
    CURRENT,
    PREVIOUS,
    Place,
    Read,
    bare_name,
    fault,
    name_fault,
    wanted,
)
from windlass.secrets.providers.aws.writing import Writer
from windlass.secrets.providers.base import (
    Client,
    Failure,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.secrets.providers.process import NAME
from windlass.secrets.targets import Target, field_of, parse_target
from windlass.shell import Sensitive

_STAGES: Final = {CURRENT: "current", PREVIOUS: "previous"}
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


class AwsClient(Client):
    """Secrets of AWS Secrets Manager.

    Args:
        login: how to log in.
        place: the region, profile and role of references that name none.
    """

    def __init__(self, login: Login, place: Place) -> None:
        self._place = place
        self._connections = Connections(login)
        self._reader = Reader(self._connections)
        self._writer = Writer(self._connections, self._reader)

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "AWS Secrets Manager"

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Get each secret once, whatever number of its fields is asked for."""
        asked = {target: wanted(target, self._place) for target in targets}
        found = self._reader.read(want.read for want in asked.values())
        return {target: _value(found[want.read], want.read, want.field) for target, want in asked.items()}

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Make each value the current one; a secret that does not exist is made."""
        return self._writer.write(values, self._place)

    def versions(self, target: str) -> tuple[Version, ...]:
        """Return the versions of a secret, newest first; of a field, those of its document."""
        read = wanted(target, self._place).read
        try:
            found = self._all_versions(read)[::-1]
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            raise self._error(error, "ListSecretVersionIds", read) from None
        # Of versions of one second the one listed last is the newest.
        return tuple(sorted(found, key=lambda each: each.created or _FIRST, reverse=True))

    def _all_versions(self, read: Read) -> list[Version]:
        client = self._connections.client(read.place)
        asked: dict[str, Any] = {"SecretId": read.id, "IncludeDeprecated": True}
        found: list[Version] = []
        while True:
            said = client.list_secret_version_ids(**asked)
            found += map(_version, said["Versions"])
            if not said.get("NextToken"):
                return found
            asked["NextToken"] = said["NextToken"]

    def restore(self, target: str, version: str) -> Version:
        """Make an earlier version the current one again; of a field, write what it was as a new version.

        The other fields of its document keep the values they have.
        """
        want = wanted(target, self._place)
        if want.field:
            return self._restore_field(target, version)
        known = {each.id: each for each in self.versions(target)}
        if version not in known:
            raise ProviderError(f"The secret {want.read.id} has no version {version}.", _known(known))
        current = next((each.id for each in known.values() if "current" in each.stages), "")
        if current != version:
            try:
                self._move(want.read, version, current)
            except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
                raise self._error(error, "UpdateSecretVersionStage", want.read) from None
        return replace(known[version], stages=("current",))

    def _move(self, read: Read, version: str, current: str) -> None:
        asked = {"SecretId": read.id, "VersionStage": CURRENT, "MoveToVersionId": version}
        if current:
            asked["RemoveFromVersionId"] = current
        # AWS makes the version it is taken from the previous one by itself.
        self._connections.client(read.place).update_secret_version_stage(**asked)

    def _restore_field(self, target: str, version: str) -> Version:
        want = wanted(target, self._place)
        read = replace(want.read, stage="", version=version)
        value = _value(self._reader.read([read])[read], read, want.field)
        if isinstance(value, Failure):
            raise ProviderError(f"{value.reason}.", value.fix)
        written = self.write({target: value})[target]
        if isinstance(written, Failure):
            raise ProviderError(f"{written.reason}.", written.fix)
        return written

    def canonical(self, target: str) -> str:
        """Return the bare name and the field: which region and account a login leads to is not known here."""
        parsed = parse_target(target)
        return f"aws:{Target(bare_name(parsed.path), parsed.field)}"

    def members(self, scope: str) -> dict[str, str]:
        """Return the fields of a document (`shop/prod#`) or the secrets below a prefix (`shop/prod/`)."""
        target = _scope(scope)
        read = wanted(str(target), self._place).read
        names = self._below(read) if target.path.endswith("/") else self._fields(read)
        return {name: self.member(scope, name) for name in sorted(names)}

    def _below(self, read: Read) -> list[str]:
        try:
            found = self._reader.listed(read.place, read.id)
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            raise self._error(error, "ListSecrets", read) from None
        names = [each["Name"].removeprefix(read.id) for each in found if each["Name"].startswith(read.id)]
        return [name for name in names if NAME.fullmatch(name)]

    def _fields(self, read: Read) -> list[str]:
        answer = self._reader.read([read])[read]
        if isinstance(answer, Failure):
            raise ProviderError(f"{answer.reason}.", answer.fix)
        try:
            document = json.loads(answer.text.reveal())
        except ValueError:  # its message would hold a part of the document
            document = None
        if not isinstance(document, dict):
            raise ProviderError(f"The secret {read.id} is no JSON table, so it has no fields.")
        return [name for name in document if NAME.fullmatch(name)]

    def member(self, scope: str, name: str) -> str:
        """Return the target of a variable: a field of a document, or a secret below a prefix."""
        target = _scope(scope)
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a variable.")
        if not target.path.endswith("/"):
            return str(replace(target, field=name))
        path = f"{target.path}{name}"
        if problem := name_fault(path):
            raise ConfigurationError(f"AWS cannot keep a secret {path}: {problem}.")
        return str(replace(target, path=path))

    def _error(self, error: Exception, action: str, read: Read) -> ProviderError:
        failure = self._reader.failure(error, action, read)
        return ProviderError(f"{failure.reason}.", failure.fix)

    def close(self) -> None:
        """Give connections back."""
        self._connections.close()


def _value(answer: Answer, read: Read, name: str) -> Resolved:
    if isinstance(answer, Failure):
        return answer
    if not name:
        return answer.text
    value = field_of(answer.text.reveal(), name)
    if isinstance(value, Failure):
        return replace(value, reason=f"the secret {read.id}: {value.reason}")
    if not is_unicode(value.reveal()):
        return Failure(f"the field {name} of the secret {read.id} is not valid Unicode")
    return value


def _version(said: Mapping[str, Any]) -> Version:
    stages = tuple(_STAGES.get(each, each) for each in said.get("VersionStages", ()))
    return Version(said["VersionId"], said.get("CreatedDate"), stages)


def _known(versions: Mapping[str, Version]) -> str:
    return f"It has: {', '.join(versions)}."


def _scope(scope: str) -> Target:
    """Read a scope: a target that ends, before its options, in `#` or `/`.

    Raises:
        ConfigurationError: it is none.
    """
    before, question, options = scope.partition("?")
    path = before.removesuffix("#")
    problem = fault(f"{path}{question}{options}")
    if not problem and not before.endswith(("#", "/")):
        problem = "it ends in `#` for the fields of one secret, or in `/` for secrets below a prefix"
    if not problem and before.endswith("/") and before.startswith("arn:"):
        problem = "secrets below a prefix have no ARN in common; write the prefix of their names"
    if problem:
        raise ConfigurationError(f"{scope} is no place for secrets in AWS: {problem}.")
    return parse_target(f"{path}{question}{options}")
