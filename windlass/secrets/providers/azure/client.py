"""Reads and writes secrets of Azure Key Vault.

Key Vault has no request for many secrets, so they are asked for at the same time. The first one of a vault
goes alone: it finds a login that fails before many try it, and the others use the token it got.

Only `azure.connect` may lead here: this module imports the SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from azure.core.exceptions import HttpResponseError, ServiceResponseError

from windlass.errors import ConfigurationError
from windlass.secrets.providers.azure.failures import Call, Reach, codes, explain, missing
from windlass.secrets.providers.azure.names import (
    PREVIOUS,
    TAG,
    Document,
    Place,
    locate,
    secret_name,
    variable_name,
    vault_address,
)
from windlass.secrets.providers.azure.sessions import Session
from windlass.secrets.providers.base import (
    PARALLEL,
    Client,
    Failure,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.secrets.settings import AzureSettings
from windlass.secrets.targets import Target, field_of, with_fields
from windlass.shell import Sensitive

# Bytes, of Key Vault's documentation ("Secrets are limited to 25k bytes").
MOST_BYTES: Final = 25_600
# How many names are looked through for one like a missing one: 40 requests at most.
_NAMES: Final = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept:
    """A secret as the vault holds it."""

    value: Sensitive | None
    version: Version
    tags: Mapping[str, str]
    content_type: str | None


class _Failed(Exception):
    """One secret cannot be had or written."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class AzureClient(Client):
    """A connection to the vaults of one login.

    Args:
        session: the login.
        settings: the vault of targets that name none, and the cloud.
    """

    def __init__(self, session: Session, settings: AzureSettings) -> None:
        self._session = session
        self._settings = settings
        # The variable of each secret that `member` named: where it is written, its exact name goes with it.
        self._variables: dict[Document, str] = {}

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "Azure Key Vault"

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Get each secret once, 16 at a time."""
        places = {target: self._place(target) for target in targets}
        wanted = [place.document for place in places.values() if isinstance(place, Place)]
        found = self._each(wanted, self._read, "get")
        found |= self._explained(found)

        def taken(place: Place | Failure) -> Resolved:
            if isinstance(place, Failure):
                return place
            value = found[place.document]
            if place.field and isinstance(value, Sensitive):
                value = field_of(value.reveal(), place.field)
            return _usable(value)

        return {target: taken(place) for target, place in places.items()}

    def _place(self, target: str) -> Place | Failure:
        try:
            return locate(target, self._settings)
        except ConfigurationError as error:
            return Failure(error.message.rstrip("."), error.hint.rstrip("."))

    def _each(
        self, documents: Iterable[Document], work: Callable[[Document], T], action: str
    ) -> dict[Document, T | Failure]:
        """Do something with each document; one that fails does not keep another from being done."""
        dead: dict[str, Failure] = {}

        def one(document: Document) -> T | Failure:
            failure = dead.get("") or dead.get(document.vault)
            if failure is not None:
                return failure
            try:
                return work(document)
            except _Failed as failed:
                return failed.failure
            except Exception as error:  # noqa: BLE001 - an SDK's; its text may hold a secret
                trouble = explain(error, Call(document, action, self._settings.login))
                if trouble.reach is not Reach.SECRET:
                    # What is true of the login or the vault is not tried again for each secret.
                    dead["" if trouble.reach is Reach.LOGIN else document.vault] = trouble.failure
                return trouble.failure

        wanted = list(dict.fromkeys(documents))
        first = {document.vault: document for document in reversed(wanted)}
        done = {document: one(document) for document in first.values()}
        left = [document for document in wanted if document not in done]
        if left:
            with ThreadPoolExecutor(min(len(left), PARALLEL)) as pool:
                done.update(zip(left, pool.map(one, left), strict=True))
        return done

    def _read(self, document: Document) -> Sensitive:
        kept = self._get(self._exact(document))
        assert kept.value is not None  # noqa: S101 - a get gives one
        return kept.value

    def _exact(self, document: Document) -> Document:
        """Return a document with the id of its version in place of `previous`."""
        if document.version != PREVIOUS:
            return document
        for version in self._versions(document):
            if PREVIOUS in version.stages:
                return replace(document, version=version.id)
        reason = f"the secret {document.name} of the vault {document.label} has no previous version"
        raise _Failed(Failure(reason, missing=True))

    def _get(self, document: Document) -> _Kept:
        vault = self._session.vault(document.vault)
        secret = vault.get_secret(document.name, document.version or None)
        properties = secret.properties
        if not isinstance(secret.value, str) or (secret.name or "").lower() != document.name:
            raise TypeError("no secret of this name")
        return _kept(properties, Sensitive(secret.value))

    def _explained(self, found: Mapping[Document, Resolved]) -> dict[Document, Resolved]:
        """Say more of the secrets that are not there: a name that is near, or that they were deleted."""
        lost = [
            document
            for document, value in found.items()
            if isinstance(value, Failure) and value.missing and not document.version
        ]
        better: dict[Document, Resolved] = {}
        for address in dict.fromkeys(document.vault for document in lost):
            vault = self._session.vault(address)
            names = _listed(vault.list_properties_of_secrets)
            deleted = _listed(vault.list_deleted_secrets)
            for document in lost:
                if document.vault == address:
                    near = get_close_matches(document.name, names, 1)
                    until = _until(deleted.get(document.name))
                    better[document] = missing(document, near[0] if near else "", until)
        return better

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Make each value the current version; fields of one document in one write, with the others kept.

        A value that is there already makes no version. Key Vault knows no condition for a write: of two
        people who change fields of one document at the same moment, the later one wins.
        """
        places = {target: self._place(target) for target in values}
        parts: dict[Document, dict[str, Sensitive]] = {}
        clashes: set[Document] = set()
        for target, place in places.items():
            if isinstance(place, Place):
                mine = parts.setdefault(place.document, {})
                if place.field in mine or (mine and not (place.field and all(mine))):
                    clashes.add(place.document)
                mine[place.field] = values[target]

        def work(document: Document) -> Version:
            if document in clashes:
                raise _Failed(Failure(f"two values are to be written to {document.name} at once"))
            return self._write(document, parts[document])

        done = self._each(parts, work, "set")
        return {
            target: place if isinstance(place, Failure) else done[place.document]
            for target, place in places.items()
        }

    def _write(self, document: Document, parts: Mapping[str, Sensitive]) -> Version:
        if document.version:
            raise _Failed(Failure("a version cannot be written", "leave ?version=… out"))
        for part in parts.values():
            if isinstance(fault := _usable(part), Failure):
                raise _Failed(fault)
        before = self._before(document)
        tags = self._tags(document, before)
        text = _composed(before, parts)
        if before and before.value == Sensitive(text):
            return replace(before.version, stages=("current",))
        if (size := len(text.encode())) > MOST_BYTES:
            raise _Failed(
                Failure(f"the value has {size} bytes, and Azure Key Vault keeps {MOST_BYTES} at most")
            )
        return self._set(document, Sensitive(text), tags, before.content_type if before else None)

    def _before(self, document: Document) -> _Kept | None:
        """Return what is there now; without its value when it is disabled, None when there is nothing."""
        try:
            return self._get(document)
        except HttpResponseError as error:
            code, inner = codes(error)
            if code == "SecretNotFound":
                return None
            if inner != "SecretDisabled":
                raise
        newest = max(self._properties(document), key=lambda each: each.created_on)
        return _kept(newest, None)

    def _tags(self, document: Document, before: _Kept | None) -> dict[str, str]:
        tags = dict(before.tags) if before else {}
        name = self._variables.get(document)
        if name is None:
            return tags
        other = variable_name(document.name, tags) if before else name
        if other and other != name:
            reason = (
                f"{document.name} of the vault {document.label} is kept for the variable {other}, not {name}"
            )
            raise _Failed(
                Failure(reason, "case means nothing in the names of secrets: rename one of the two")
            )
        return {**tags, TAG: name}

    def _set(
        self, document: Document, value: Sensitive, tags: Mapping[str, str], content_type: str | None
    ) -> Version:
        vault = self._session.vault(document.vault)
        try:
            secret = vault.set_secret(
                document.name, value.reveal(), tags=dict(tags) or None, content_type=content_type
            )
        except ServiceResponseError as error:
            trouble = explain(error, Call(document, "set", self._settings.login))
            reason = f"{trouble.failure.reason}, so it is not known whether {document.name} was written"
            raise _Failed(replace(trouble.failure, reason=reason)) from None
        return replace(_kept(secret.properties, None).version, stages=("current",))

    def canonical(self, target: str) -> str:
        """Return the vault's host, the name in small letters, and the field."""
        place = locate(target, self._settings)
        host = urlsplit(place.document.vault)
        return f"azure:{Target(f'{host.hostname}:{host.port or 443}/{place.document.name}', place.field)}"

    def versions(self, target: str) -> tuple[Version, ...]:
        """Return the versions of a secret, newest first.

        Raises:
            ProviderError: they cannot be had.
        """
        return self._alone(target, "list", lambda place: self._versions(place.document))

    def _versions(self, document: Document) -> tuple[Version, ...]:
        found = [_kept(each, None).version for each in self._properties(document)]
        return staged(found, self._current_id(document))

    def _properties(self, document: Document) -> list[Any]:
        vault = self._session.vault(document.vault)
        found = list(vault.list_properties_of_secret_versions(document.name))
        if not found:
            raise _Failed(missing(replace(document, version="")))
        return found

    def _current_id(self, document: Document) -> str:
        """Return the id of the version that a read gives; empty when it cannot be read, or is disabled."""
        try:
            return self._get(replace(document, version="")).version.id
        except HttpResponseError:
            return ""

    def restore(self, target: str, version: str) -> Version:
        """Write the value of an earlier version anew, since Key Vault cannot move versions.

        Of a target with a field, only that field gets its earlier value.

        Raises:
            ProviderError: there is no such version, or it cannot be read or written.
        """

        def work(place: Place) -> Version:
            now = replace(place.document, version="")
            exact = self._exact(replace(now, version=version))
            try:
                old = self._get(exact)
            except HttpResponseError as error:
                if codes(error)[0] == "SecretNotFound":
                    raise _Failed(missing(exact)) from None
                raise
            assert old.value is not None  # noqa: S101 - a get gives one
            value: Resolved = old.value
            if place.field:
                value = field_of(old.value.reveal(), place.field)
            if isinstance(value, Failure):
                raise _Failed(value)
            written = self._write(now, {place.field: value})
            return replace(written, note=f"holds the value of version {old.version.id}")

        return self._alone(target, "set", work)

    def members(self, scope: str) -> dict[str, str]:
        """Return the secrets of a vault: names of variables to targets.

        Certificates' own secrets, and those whose name is none of a variable, are left out.

        Raises:
            ProviderError: they cannot be listed.
        """
        address = vault_address(scope, self._settings)
        prefix = self._prefix(scope)

        def work(document: Document) -> dict[str, str]:
            listed = list(self._session.vault(document.vault).list_properties_of_secrets())
            own = [each for each in listed if not each.managed and each.name]
            named = {each.name: variable_name(str(each.name), each.tags or {}) for each in own}
            return {variable: f"{prefix}{name}" for name, variable in sorted(named.items()) if variable}

        return _given(self._each([Document(address, "")], work, "list"))

    def member(self, scope: str, name: str) -> str:
        """Return the target that a variable has in a vault.

        Raises:
            ConfigurationError: its name cannot be kept, or would be that of another variable.
        """
        address = vault_address(scope, self._settings)
        document = Document(address, secret_name(name))
        other = self._variables.setdefault(document, name)
        if other != name:
            raise ConfigurationError(
                f"The variables {other} and {name} would be one secret in Azure Key Vault, {document.name}, "
                "where case means nothing.",
                "Rename one of them.",
            )
        return f"{self._prefix(scope)}{document.name}"

    def _prefix(self, scope: str) -> str:
        """Return what stands before a name in targets of a scope.

        Raises:
            ProviderError: the scope is an address, which no target can hold, and not that of the settings.
        """
        if not scope or scope == self._settings.vault:
            return ""
        if "/" in scope:
            raise ProviderError(
                f"The address {scope} cannot stand in a reference.", "Set it as vault in [secrets.azure]."
            )
        return f"{scope}/"

    def _alone(self, target: str, action: str, work: Callable[[Place], T]) -> T:
        place = self._place(target)
        if isinstance(place, Failure):
            raise ProviderError(f"{place.reason}.", place.fix)
        return _given(self._each([place.document], lambda _: work(place), action))


def staged(versions: Iterable[Version], current: str = "") -> tuple[Version, ...]:
    """Sort versions, newest first, and say which is current and which was before it.

    Key Vault keeps no stages. Current is the newest version, unless it is disabled: then a read fails. The
    previous one is the newest of the others that are enabled; where two of those were made in the same
    second, nobody knows which.

    Args:
        versions: in any order.
        current: the id of the version a read gives, where it is known.
    """
    ordered = sorted(versions, key=lambda each: (each.id == current, _time(each)), reverse=True)
    found = []
    others = [each for each in ordered[1:] if "disabled" not in each.note]
    is_known = len(others) < 2 or _time(others[0]) != _time(others[1])
    for each in ordered:
        stages: tuple[str, ...] = ()
        if each is ordered[0] and "disabled" not in each.note:
            stages = ("current",)
        elif others and each is others[0] and is_known:
            stages = (PREVIOUS,)
        found.append(replace(each, stages=stages))
    return tuple(found)


def _time(version: Version) -> float:
    return version.created.timestamp() if version.created else 0.0


def _kept(properties: Any, value: Sensitive | None) -> _Kept:
    created = properties.created_on if isinstance(properties.created_on, datetime) else None
    notes = [] if properties.enabled is not False else ["disabled"]
    if isinstance(properties.expires_on, datetime):
        notes.append(f"expires {properties.expires_on:%Y-%m-%d}")
    version = Version(properties.version or "", created, note=", ".join(notes))
    return _Kept(value, version, dict(properties.tags or {}), properties.content_type)


def _composed(before: _Kept | None, parts: Mapping[str, Sensitive]) -> str:
    """Return the text to write: a whole value, or what is there with new fields.

    Raises:
        _Failed: what is there has no fields.
    """
    if "" in parts:
        return parts[""].reveal()
    if before and before.value is None:
        raise _Failed(Failure("it is disabled, so its other fields cannot be read", "enable it first"))
    document = before.value.reveal() if before and before.value else ""
    try:
        return with_fields(document, {name: value.reveal() for name, value in parts.items()})
    except ValueError as error:
        raise _Failed(Failure(str(error))) from None


def _usable(value: Resolved) -> Resolved:
    """Return a value that a variable can hold, or why it cannot."""
    if isinstance(value, Sensitive):
        text = value.reveal()
        if "\0" in text:
            return Failure("the value holds a NUL byte, which no variable can hold")
        try:
            text.encode()
        except UnicodeEncodeError:
            return Failure("the value is not valid Unicode")
    return value


def _listed(entries: Callable[[], Iterable[Any]]) -> dict[str, Any]:
    """Return entries by name; none where the login may not list them, as they only help."""
    try:
        return {each.name.lower(): each for each in islice(entries(), _NAMES) if each.name}
    except Exception:  # noqa: BLE001 - whatever is wrong, the secret is missing all the same
        return {}


def _until(deleted: Any) -> str:
    if deleted is None:
        return ""
    date = deleted.scheduled_purge_date
    return f"{date:%Y-%m-%d}" if isinstance(date, datetime) else "it is purged"


def _given(done: Mapping[Document, T | Failure]) -> T:
    (result,) = done.values()
    if isinstance(result, Failure):
        raise ProviderError(f"{result.reason[:1].upper()}{result.reason[1:]}.", result.fix)
    return result
