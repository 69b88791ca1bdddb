"""Writes secrets to AWS: each document in one write, and no new version where nothing changes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.secrets.providers.aws.failures import Kind, complaint
from windlass.secrets.providers.aws.reading import Document, Reader, Unreadable, at_once
from windlass.secrets.providers.aws.sessions import Connections
from windlass.secrets.providers.aws.targets import (
    PREVIOUS,
    Place,
    Read,
    Wanted,
    name_fault,
    value_fault,
    wanted,
)
from windlass.secrets.providers.base import Failure, Version, Written
from windlass.secrets.targets import field_of, with_fields
from windlass.shell import Sensitive

_DESCRIPTION: Final = "Written by Windlass."
_CURRENT_STAGES: Final = ("current",)
_UNCHANGED: Final = "unchanged"
# How often fields are set again in what somebody else wrote at the same moment.
_TRIES: Final = 5


@dataclass
class _Order:
    """All that is to be written to one secret.

    Args:
        read: the secret, its current version.
        whole: the new content; None where fields are written.
        fields: the new fields.
        targets: the targets it is for.
        fault: why it cannot be written.
    """

    read: Read
    whole: Sensitive | None = None
    fields: dict[str, Sensitive] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    fault: str = ""

    def add(self, target: str, want: Wanted, value: Sensitive) -> None:
        """Take a value in."""
        self.targets.append(target)
        if not want.read.is_current:
            self.fault = "only the current version is written; leave `stage` and `version` out"
        before = self.fields.get(want.field) if want.field else self.whole
        if before is not None and before != value:
            self.fault = "two different values are to be written to it"
        if want.field:
            self.fields[want.field] = value
        else:
            self.whole = value
        if self.whole is not None and self.fields:
            self.fault = "it is to be written whole and as fields at once"
        if problem := _text_fault(value):
            self.fault = problem

    def unchanged(self, document: Document) -> bool:
        """Whether a document holds all of it already."""
        if self.whole is not None:
            return document.text == self.whole
        text = document.text.reveal()
        return all(field_of(text, name) == value for name, value in self.fields.items())

    def content(self, document: str) -> str:
        """Return what to write where a document stands.

        Raises:
            ValueError: it cannot have fields, or would not fit; the message holds no value.
        """
        fields = {name: value.reveal() for name, value in self.fields.items()}
        text = self.whole.reveal() if self.whole is not None else with_fields(document, fields)
        if problem := value_fault(text):
            raise ValueError(problem)
        return text


def _text_fault(value: Sensitive) -> str:
    """Return why a value is none for a field or a secret; its size counts with the whole document."""
    problem = value_fault(value.reveal())
    return "" if problem.startswith("it would have") else problem


class Writer:
    """Writes secrets.

    Args:
        connections: the clients.
        reader: reads what is there.
    """

    def __init__(self, connections: Connections, reader: Reader) -> None:
        self._connections = connections
        self._reader = reader

    def write(self, values: Mapping[str, Sensitive], default: Place) -> dict[str, Written]:
        """Write each target; those of one document in one write."""
        orders: dict[tuple[Place, str], _Order] = {}
        for target, value in values.items():
            want = wanted(target, default)
            key = want.read.place, want.read.id
            order = orders.setdefault(key, _Order(Read(*key)))
            order.add(target, want, value)
        todo = list(orders.values())
        if any(order.read.id.startswith("arn:") for order in todo):
            # An ARN and a name may be of one secret: one after another, each sees what is written before.
            done = [self._order(order) for order in todo]
        else:
            done = at_once(self._order, todo)
        results = zip(todo, done, strict=True)
        return {target: written for order, written in results for target in order.targets}

    def _order(self, order: _Order) -> Written:
        if order.fault:
            return self._not_written(order, order.fault)
        try:
            return self._write(order)
        except Unreadable as error:
            return error.failure
        except ValueError as error:
            return self._not_written(order, str(error))

    def _not_written(self, order: _Order, why: str) -> Failure:
        return Failure(f"the secret {order.read.id} is not written: {why}")

    def _write(self, order: _Order) -> Written:
        try:
            found = self._reader.get(order.read)
        except Unreadable:
            if order.whole is None:
                raise
            return self._put(order, order.content(""))
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            return self._unread(order, error)
        if order.unchanged(found):
            return Version(found.version, stages=_CURRENT_STAGES, note=_UNCHANGED)
        return self._put(order, order.content(found.text.reveal()), found.version)

    def _unread(self, order: _Order, error: Exception) -> Written:
        """Write what could not be read before: there is none, it is empty, or reading is not allowed."""
        kind = complaint(error).kind
        if kind is Kind.MISSING:
            return self._create(order)
        if kind is Kind.NO_VERSION or (kind is Kind.DENIED and order.whole is not None):
            return self._put(order, order.content(""))
        return self._reader.failure(error, "GetSecretValue", order.read)

    def _create(self, order: _Order) -> Written:
        if problem := name_fault(order.read.id):
            return Failure(f"there is no secret {order.read.id}, and none can be made: {problem}")
        content = order.content("")
        try:
            said = self._connections.client(order.read.place).create_secret(
                Name=order.read.id,
                Description=_DESCRIPTION,
                SecretString=content,
                ClientRequestToken=str(uuid.uuid4()),
            )
            return _written(said)
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            if complaint(error).kind is Kind.EXISTS and order.whole is not None:
                return self._put(order, content)  # made by somebody else since it was looked for
            return self._reader.failure(error, "CreateSecret", order.read)

    def _put(self, order: _Order, content: str, base: str = "") -> Written:
        """Write a new version.

        AWS writes without asking what was there before. Where fields are set, the version that ours replaced
        is looked at afterwards: when it is not the one the fields were set in, somebody else wrote in
        between, and the fields are set again in what that was.

        Args:
            order: what to write.
            content: the new content.
            base: the version it was made from; empty: none.
        """
        client = self._connections.client(order.read.place)
        for _ in range(_TRIES):
            try:
                said = client.put_secret_value(
                    SecretId=order.read.id, SecretString=content, ClientRequestToken=str(uuid.uuid4())
                )
                written = _written(said)
            except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
                return self._reader.failure(error, "PutSecretValue", order.read)
            other = self._replaced(order) if order.fields and base else None
            if other is None or other.version in {base, written.id}:
                return written
            try:
                content, base = order.content(other.text.reveal()), written.id
            except ValueError:  # what they wrote has no fields; it stays the previous version
                return written
        return Failure(
            f"others write to the secret {order.read.id} all the time, so that their fields may be lost",
            f"compare its version {PREVIOUS} with the current one",
        )

    def _replaced(self, order: _Order) -> Document | None:
        """Return the version before the current one; None where it cannot be had: ours is written."""
        try:
            return self._reader.get(Read(order.read.place, order.read.id, PREVIOUS))
        except Exception:  # noqa: BLE001 - a look at what others did; it undoes nothing
            return None


def _written(said: Mapping[str, Any]) -> Version:
    return Version(str(said["VersionId"]), stages=_CURRENT_STAGES)
