"""Reads secrets of AWS: in batches of 20 where that is allowed, else one by one, 16 requests at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from windlass.errors import WindlassError
from windlass.secrets.providers.aws.failures import Complaint, Kind, coded, complaint
from windlass.secrets.providers.aws.sessions import Connections
from windlass.secrets.providers.aws.targets import CURRENT, Place, Read, bare_name, batches, is_for
from windlass.secrets.providers.base import PARALLEL, Failure
from windlass.shell import Sensitive

_GET: Final = "GetSecretValue"
_BATCH_GET: Final = "BatchGetSecretValue"
# What a batch as a whole is refused for while its secrets may still be had one by one.
_ONE_BY_ONE: Final = frozenset(
    {Kind.DENIED, Kind.MISSING, Kind.NO_VERSION, Kind.DELETED, Kind.KMS, Kind.OTHER}
)
# What is worth another request of its own, which the SDK repeats, where a batch answers so for one secret.
_PASSING: Final = frozenset({Kind.THROTTLED, Kind.SERVER})
_LISTED: Final = 100
_PAGES: Final = 20
# Where a batch was denied: it is in this process once, since who may not now may not in a second.
_denied: set[tuple[str, Place]] = set()

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Document:
    """A secret's content.

    Args:
        text: all of it.
        version: the id of the version.
    """

    text: Sensitive
    version: str


Answer = Document | Failure


class Unreadable(Exception):
    """An answer without a text; holds the sentence's parts, and nothing of the answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def at_once(work: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
    """Do jobs 16 at a time and return the results in the order of the jobs."""
    if len(jobs) <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(min(len(jobs), PARALLEL)) as pool:
        return list(pool.map(work, jobs))


class Reader:
    """Reads secrets.

    Args:
        connections: the clients.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def read(self, reads: Iterable[Read]) -> dict[Read, Answer]:
        """Read each once. None raises for another: one that cannot be had gets its failure."""
        asked = list(dict.fromkeys(reads))
        found = self._unreachable(asked)
        left = [read for read in asked if read not in found]
        for answers in at_once(self._some, self._requests(left)):
            found.update(answers)
        # What a batch did not give: it is denied, or it gave another version than the current one.
        rest = [read for read in left if read not in found]
        found.update(zip(rest, at_once(self._one, rest), strict=True))
        return self._with_hints(found)

    def get(self, read: Read) -> Document:
        """Read one secret.

        Raises:
            Exception: the SDK's, for `Connections.explain`; or `Unreadable`.
        """
        asked = {"SecretId": read.id}
        if read.version:
            asked["VersionId"] = read.version
        if read.stage or not read.version:
            asked["VersionStage"] = read.stage or CURRENT
        return self._document(read, self._connections.client(read.place).get_secret_value(**asked))

    def failure(self, error: Exception, action: str, read: Read) -> Failure:
        """Return what an error says of a secret."""
        if isinstance(error, Unreadable):
            return error.failure
        if isinstance(error, WindlassError):
            return Failure(error.message.rstrip("."), error.hint)
        return self._connections.explain(error, action, read)

    def _unreachable(self, reads: Sequence[Read]) -> dict[Read, Answer]:
        """Return the same failure for all reads of a place where no client can be made."""
        places: dict[Place, list[Read]] = {}
        for read in reads:
            places.setdefault(read.place, []).append(read)
        found: dict[Read, Answer] = {}
        for place, group in places.items():
            try:
                self._connections.client(place)
            except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
                found.update(dict.fromkeys(group, self.failure(error, "AssumeRole", group[0])))
        return found

    def _requests(self, reads: Sequence[Read]) -> list[Sequence[Read]]:
        """Return what to ask for together: current versions of one place in batches, the rest alone."""
        together: dict[Place, list[Read]] = {}
        alone: list[Sequence[Read]] = []
        seen: set[tuple[Place, str]] = set()
        for read in reads:
            # The same region, whether a reference names it or the SDK finds it.
            endpoint, place = self._key(read.place)
            if read.is_current and (place, read.id) not in seen and (endpoint, place) not in _denied:
                together.setdefault(place, []).append(read)
                seen.add((place, read.id))
            else:
                alone.append([read])
        return [batch for group in together.values() for batch in batches(group)] + alone

    def _key(self, place: Place) -> tuple[str, Place]:
        about = self._connections.client(place).meta
        return str(about.endpoint_url), replace(place, region=str(about.region_name))

    def _some(self, reads: Sequence[Read]) -> dict[Read, Answer]:
        # One alone needs no right to ask for many.
        return {reads[0]: self._one(reads[0])} if len(reads) == 1 else self._batch(reads)

    def _one(self, read: Read) -> Answer:
        try:
            return self.get(read)
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            return self.failure(error, _GET, read)

    def _batch(self, reads: Sequence[Read]) -> dict[Read, Answer]:
        """Return what one request gives; what is left out has to be asked for alone."""
        try:
            client = self._connections.client(reads[0].place)
            said = client.batch_get_secret_value(SecretIdList=[read.id for read in reads])
            if "SecretValues" not in said and "Errors" not in said:
                raise TypeError("no answer of this operation")  # noqa: TRY301 - as any other garbage
            return self._sorted(reads, said)
        except Exception as error:  # noqa: BLE001 - the SDK's are many; each becomes a sentence
            return self._refused(reads, error)

    def _refused(self, reads: Sequence[Read], error: Exception) -> dict[Read, Answer]:
        kind = complaint(error).kind
        if kind is Kind.DENIED:
            _denied.add(self._key(reads[0].place))
        if kind in _ONE_BY_ONE:
            return {}
        return {read: self.failure(error, _BATCH_GET, read) for read in reads}

    def _sorted(self, reads: Sequence[Read], said: Mapping[str, Any]) -> dict[Read, Answer]:
        """Give each secret its own part of a batch's answer, whatever their order."""
        found: dict[Read, Answer] = {}
        errors = {each["SecretId"]: each for each in said.get("Errors") or ()}
        for read in reads:
            if read.id in errors:
                trouble = _complaint_of(errors[read.id])
                if trouble.kind not in _PASSING:
                    found[read] = self._connections.explain(trouble, _GET, read)
                continue
            for each in said.get("SecretValues") or ():
                is_current = CURRENT in each.get("VersionStages", ())
                if is_current and is_for(read.id, each.get("Name", ""), each.get("ARN", "")):
                    found[read] = self._answer(read, each)
        return found

    def _answer(self, read: Read, said: Mapping[str, Any]) -> Answer:
        try:
            return self._document(read, said)
        except Unreadable as error:
            return error.failure

    def _document(self, read: Read, said: Mapping[str, Any]) -> Document:
        text = said.get("SecretString")
        if text is None and isinstance(data := said.get("SecretBinary"), bytes):
            try:
                text = data.decode()
            except UnicodeDecodeError:
                raise Unreadable(Failure(f"the secret {read.id} is binary and not UTF-8 text")) from None
        if not isinstance(text, str):
            garbage = Complaint(Kind.GARBAGE, "")
            raise Unreadable(self._connections.explain(garbage, _GET, read))
        if not is_unicode(text):
            raise Unreadable(Failure(f"the secret {read.id} is not valid Unicode"))
        return Document(Sensitive(text), str(said.get("VersionId", "")))

    def _with_hints(self, found: Mapping[Read, Answer]) -> dict[Read, Answer]:
        """Add to secrets that do not exist the name of one that does and is written alike."""
        names: dict[Place, list[str]] = {}
        whole: dict[Read, Answer] = {}
        for read, answer in found.items():
            whole[read] = answer
            if not isinstance(answer, Failure) or not answer.missing:
                continue
            if not answer.reason.startswith("there is no secret"):
                continue
            if read.place not in names:
                names[read.place] = self._names(read.place)
            whole[read] = self._hinted(read, answer, names[read.place])
        return whole

    def _hinted(self, read: Read, failure: Failure, names: Sequence[str]) -> Failure:
        name = bare_name(read.id)
        if name in names:
            return self._connections.explain(Complaint(Kind.NO_VERSION, ""), _GET, read)
        near = get_close_matches(name, names, 1)
        fix = f"there is {near[0]}" if near else "look at the name, the region and the account"
        return Failure(failure.reason, fix, missing=True)

    def _names(self, place: Place) -> list[str]:
        try:
            return [each["Name"] for each in self.listed(place)]
        except Exception:  # noqa: BLE001 - a hint only, and many may not list
            return []

    def listed(self, place: Place, prefix: str = "") -> list[Mapping[str, Any]]:
        """Return what AWS says of all secrets whose names begin alike; of the first 2,000 without a prefix.

        Raises:
            Exception: the SDK's, for `Connections.explain`.
        """
        client = self._connections.client(place)
        asked: dict[str, Any] = {"MaxResults": _LISTED}
        if prefix:
            asked["Filters"] = [{"Key": "name", "Values": [prefix]}]
        found: list[Mapping[str, Any]] = []
        pages = 0
        while pages == 0 or ("NextToken" in asked and (prefix or pages < _PAGES)):
            said = client.list_secrets(**asked)
            found += said["SecretList"]
            pages += 1
            asked.pop("NextToken", None)
            if said.get("NextToken"):
                asked["NextToken"] = said["NextToken"]
        return found


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON can hold half of a character, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _complaint_of(error: Mapping[str, Any]) -> Complaint:
    return coded(str(error.get("ErrorCode", "")), str(error.get("Message", "")))
