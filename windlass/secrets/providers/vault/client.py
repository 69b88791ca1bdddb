"""HashiCorp Vault and OpenBao, their KV secrets engine, versions 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import (
    Client,
    Failure,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.secrets.providers.process import NAME
from windlass.secrets.providers.vault.calls import Calls, Document, Refused
from windlass.secrets.providers.vault.targets import NUMBER, fault
from windlass.secrets.settings import VaultSettings
from windlass.secrets.targets import Target, field_of, parse_target
from windlass.secrets.writers.entries import text_fault
from windlass.shell import Sensitive

# Stands for the version before the current one, until its number is known.
_PREVIOUS: Final = -1
_NO_VERSIONS: Final = "The KV engine's version 1 keeps no versions."
_NO_VERSIONS_FIX: Final = "Version 2 does: `vault kv enable-versioning <mount>`."


@dataclass(frozen=True)
class _State:
    """What a document holds.

    Args:
        data: its fields.
        version: the number of its version, 0 where there is none.
        created: when that was written.
        is_new: it was written just now.
        is_there: there is such a document, though it may be empty.
    """

    data: Mapping[str, Any]
    version: int
    created: datetime | None = None
    is_new: bool = False
    is_there: bool = True

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))


class VaultClient(Client):
    """Reads and writes documents of a KV engine.

    Args:
        calls: the connections.
        settings: the `[secrets.vault]` table.
    """

    def __init__(self, calls: Calls, settings: VaultSettings) -> None:
        self._calls = calls
        self._settings = settings

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "Vault" if self._has_versions else "Vault's KV engine of version 1"

    @property
    def _has_versions(self) -> bool:
        return self._settings.version == 2

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def _document(self, target: Target) -> Document:
        options = target.options
        return Document(
            target.path,
            options.get("mount", self._settings.mount.strip("/")),
            options.get("namespace", self._calls.login.namespace),
            _PREVIOUS if options.get("version") == "previous" else int(options.get("version", 0)),
        )

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Read each document once, sixteen at a time."""
        parsed = {text: parse_target(text) for text in targets}
        documents = list(dict.fromkeys(map(self._document, parsed.values())))
        states = dict(zip(documents, self._calls.pool.map(self._read_or_failure, documents), strict=True))
        return {text: _field(states[self._document(target)], target) for text, target in parsed.items()}

    def _read_or_failure(self, document: Document) -> _State | Failure:
        try:
            return self._read(self._numbered(document))
        except Refused as refused:
            return refused.failure

    def _numbered(self, document: Document) -> Document:
        """Return the document with the number of the version before the current one, where that is meant."""
        if document.version != _PREVIOUS or not self._has_versions:
            return document
        found = self._versions(document)
        number = next((each.id for each in found if "previous" in each.stages), "")
        if not number:
            here = replace(document, version=0)
            raise Refused(Failure(f"{here} has no version before the current one", missing=True))
        return replace(document, version=int(number))

    def _read(self, document: Document) -> _State:
        """Return what a document holds.

        Raises:
            Refused: it cannot be had.
        """
        if not self._has_versions:
            if document.version:
                raise Refused(Failure(_lower(_NO_VERSIONS), _lower(_NO_VERSIONS_FIX)))
            answer = self._calls.run(
                document,
                "read",
                lambda client: client.secrets.kv.v1.read_secret(document.path, mount_point=document.mount),
            )
            return _State(_table(answer, "data"), 0)
        answer = self._calls.run(
            document,
            "read",
            lambda client: client.secrets.kv.v2.read_secret_version(
                document.path,
                version=document.version or None,
                mount_point=document.mount,
                raise_on_deleted_version=True,
            ),
        )
        metadata = _table(answer, "data", "metadata")
        return _State(_table(answer, "data", "data"), _number(metadata), _time(metadata.get("created_time")))

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Set fields, all those of a document in one write; unchanged ones make no new version."""
        written: dict[str, Written] = {}
        changes: dict[Document, dict[str, Sensitive]] = {}
        for text, value in values.items():
            document = self._document(parse_target(text))
            if document.version:
                written[text] = Failure(
                    "a version that is there cannot be changed", "leave `version=` out to write a new one"
                )
            else:
                changes.setdefault(document, {})[text] = value
        results = self._calls.pool.map(lambda pair: self._write(*pair), changes.items())
        for each in results:
            written.update(each)
        return written

    def _write(self, document: Document, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        fields = {text: parse_target(text).field for text in values}
        try:
            state, failures = self._change(document, lambda data: _with_values(data, fields, values))
        except Refused as refused:
            return dict.fromkeys(values, refused.failure)
        done = Version(str(state.version or ""), state.created, ("current",))
        return {text: failures.get(text, done) for text in values}

    def _change(
        self, document: Document, change: Callable[[Mapping[str, Any]], _Change]
    ) -> tuple[_State, Mapping[str, Failure]]:
        """Change a document, once more where another writer came between reading and writing.

        Raises:
            Refused: it cannot be read or written.
        """
        for is_last in (False, True):
            state = self._current(document)
            changed = change(state.data)
            if changed.data is None or (state.is_there and _is_same(changed.data, state.data)):
                return state, changed.failures
            try:
                return self._put(document, changed.data, state), changed.failures
            except Refused as refused:
                if is_last or not refused.conflict:
                    raise
        raise AssertionError("the last turn returns or raises")

    def _current(self, document: Document) -> _State:
        try:
            return self._read(document)
        except Refused as refused:
            if not refused.failure.missing:
                raise
            return _State({}, refused.deleted, is_there=False)

    def _put(self, document: Document, data: Mapping[str, Any], before: _State) -> _State:
        if not self._has_versions:
            self._calls.run(
                document,
                "update",
                lambda client: client.secrets.kv.v1.create_or_update_secret(
                    document.path, dict(data), method="POST", mount_point=document.mount
                ),
            )
            return _State(data, 0, is_new=True)
        answer = self._calls.run(
            document,
            "update" if before.version else "create",
            lambda client: client.secrets.kv.v2.create_or_update_secret(
                document.path, dict(data), cas=before.version, mount_point=document.mount
            ),
        )
        made = _table(answer, "data")
        return _State(data, _number(made), _time(made.get("created_time")), is_new=True)

    def canonical(self, target: str) -> str:
        """Return the whole path of the document, of which namespace and mount are parts, and the field."""
        parsed = parse_target(target)
        document = self._document(parsed)
        path = f"{document.namespace.strip('/')}/{document.mount}/{document.path}".lstrip("/")
        return f"vault:{Target(path, parsed.field)}"

    def versions(self, target: str) -> tuple[Version, ...]:
        """Return the versions of a document, newest first; every version holds all its fields."""
        document = self._document(parse_target(target))
        if not self._has_versions:
            raise ProviderError(_NO_VERSIONS, _NO_VERSIONS_FIX)
        try:
            return self._versions(document)
        except Refused as refused:
            raise _error(refused) from None

    def _versions(self, document: Document) -> tuple[Version, ...]:
        answer = self._calls.run(
            replace(document, version=0),
            "read the versions of",
            lambda client: client.secrets.kv.v2.read_secret_metadata(
                document.path, mount_point=document.mount
            ),
        )
        data = _table(answer, "data")
        return _versions(_table(answer, "data", "versions"), data.get("current_version"))

    def restore(self, target: str, version: str) -> Version:
        """Write what an earlier version holds as a new version: one field where one is named, else all."""
        parsed = parse_target(target)
        document = replace(self._document(parsed), version=0)
        if not self._has_versions:
            raise ProviderError(_NO_VERSIONS, _NO_VERSIONS_FIX)
        if not NUMBER.fullmatch(version):
            raise ProviderError(f"{version!r} is no version of Vault.", "A version is a number from 1 on.")
        try:
            state = self._restored(document, parsed.field, int(version))
        except Refused as refused:
            raise _error(refused) from None
        note = (
            f"a new version that holds what version {version} held"
            if state.is_new
            else "it held this already"
        )
        return Version(str(state.version), state.created, ("current",), note)

    def _restored(self, document: Document, name: str, version: int) -> _State:
        old = self._read(replace(document, version=version)).data
        if name and name not in old:
            raise Refused(Failure(f"version {version} of {document} has no field {name}", missing=True))

        def change(data: Mapping[str, Any]) -> _Change:
            return _Change({**data, name: old[name]} if name else old, {})

        return self._change(document, change)[0]

    def members(self, scope: str) -> dict[str, str]:
        """Return the fields of a document whose names are names of variables."""
        target = _scope(scope)
        try:
            state = self._read(self._document(target))
        except Refused as refused:
            raise _error(refused) from None
        return {name: str(replace(target, field=name)) for name in state.data if NAME.fullmatch(name)}

    def member(self, scope: str, name: str) -> str:
        """Return the field of a variable in a document."""
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a variable.")
        return str(replace(_scope(scope), field=name))


@dataclass(frozen=True)
class _Change:
    """What a document shall hold; None: what it holds. And what cannot be set, by target."""

    data: Mapping[str, Any] | None
    failures: Mapping[str, Failure]


def _field(state: _State | Failure, target: Target) -> Resolved:
    if isinstance(state, Failure):
        return state
    return field_of(state.text(), target.field) if target.field else Sensitive(state.text())


def _with_values(
    data: Mapping[str, Any], fields: Mapping[str, str], values: Mapping[str, Sensitive]
) -> _Change:
    """Return a document with values set, and what cannot be."""
    failures: dict[str, Failure] = {}
    after = dict(data)
    for text, value in values.items():
        name = fields[text]
        if fault := text_fault(value.reveal()):
            failures[text] = Failure(fault)
        elif not name and len(values) > 1:
            failures[text] = Failure("the whole document is to be written, and a field of it too")
        elif not name:
            whole = _document_of(value.reveal())
            after, failures = (dict(whole), failures) if whole is not None else (after, {text: _NO_TABLE})
        elif name not in data and isinstance(_field(_State(data, 0), Target("", name)), Sensitive):
            failures[text] = Failure(f"the field {name} is within another one", "write that one as a whole")
        elif name not in data or _field(_State(data, 0), Target("", name)) != value:
            # A number that reads as the value is left as it is.
            after[name] = value.reveal()
    return _Change(after if len(failures) < len(values) else None, failures)


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two documents are the same JSON; to Python `1` and `true` are equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


_NO_TABLE: Final = Failure("a whole document is a JSON table", "name a field with `#` to set one value")


def _document_of(text: str) -> Mapping[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _table(answer: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = answer
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise Refused(Failure("what the server answers is none of Vault's KV engine", "check its version"))
    return found


def _number(table: Mapping[str, Any]) -> int:
    number = table.get("version")
    if not isinstance(number, int) or number < 1:
        raise Refused(Failure("what the server answers is none of Vault's KV engine", "check its version"))
    return number


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _versions(found: Mapping[str, Any], current: object) -> tuple[Version, ...]:
    numbers = sorted((int(each) for each in found if each.isdigit()), reverse=True)
    notes = {number: _note(found[str(number)]) for number in numbers}
    before = next((number for number in numbers if number != current and not notes[number]), None)
    stages = {current: ("current",), before: ("previous",)}
    return tuple(
        Version(
            str(number), _time(found[str(number)].get("created_time")), stages.get(number, ()), notes[number]
        )
        for number in numbers
    )


def _note(version: Mapping[str, Any]) -> str:
    if version.get("destroyed"):
        return "destroyed"
    return "deleted" if version.get("deletion_time") else ""


def _scope(scope: str) -> Target:
    problem = fault(scope)
    target = parse_target(scope)
    if problem or target.field:
        raise ProviderError(
            f"{scope} names no document of Vault: {problem or 'it names a field'}.", "Write `vault:path`."
        )
    return target


def _error(refused: Refused) -> ProviderError:
    reason, fix = refused.failure.reason, refused.failure.fix
    return ProviderError(f"{reason[:1].upper()}{reason[1:]}.", f"{fix[:1].upper()}{fix[1:]}" if fix else "")


def _lower(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}".removesuffix(".")
