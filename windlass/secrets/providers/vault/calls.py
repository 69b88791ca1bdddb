"""Asks a Vault server: a connection per thread, patience where it is throttled, refusals in words.

Refusals are told by what they mean for one document. No text of the server or of the SDK is passed on: a
server that is none could put anything into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal
from urllib.parse import quote

from windlass.secrets.providers.base import PARALLEL, Failure, import_sdk
from windlass.secrets.providers.vault.login import EXTRA, Login, new_client, told_by, unreachable

Capability = Literal["read", "create", "update", "read the versions of"]

# Seconds to wait before asking again where the server says it is asked too often.
PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
# How Vault calls a token that is none any more, from 1.10 on.
_BAD_TOKEN: Final = ("invalid token", "bad token", "missing client token")


@dataclass(frozen=True)
class Document:
    """One document of a KV engine.

    Args:
        path: its path under the mount.
        mount: where the engine is mounted.
        namespace: the namespace; empty: the outermost.
        version: an earlier version of it; 0: the current one.
    """

    path: str
    mount: str
    namespace: str
    version: int = 0

    def __str__(self) -> str:
        within = f" of the namespace {self.namespace}" if self.namespace else ""
        return f"{self.mount}/{self.path}{within}"


class Refused(Exception):
    """What the server did not do, and why.

    Args:
        failure: why, for people.
        conflict: another version was written meanwhile.
        deleted: the number of the current version, which is deleted; 0: it is not that.
    """

    def __init__(self, failure: Failure, *, conflict: bool = False, deleted: int = 0) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.conflict = conflict
        self.deleted = deleted


class Calls:
    """The connections to one server.

    Args:
        login: the server and the token.
    """

    def __init__(self, login: Login) -> None:
        self.login = login
        self._hvac = import_sdk("hvac", EXTRA)
        self._requests = import_sdk("requests", EXTRA)
        self._threads = threading.local()
        self._clients: list[Any] = []
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], Any] = {}
        # What keeps every request from being answered; nobody is asked again then.
        self._down: Failure | None = None
        self.pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="vault")

    def close(self) -> None:
        """Close every connection."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients:
                client.adapter.close()
            self._clients.clear()

    def run(
        self, document: Document, capability: Capability, call: Callable[[Any], Any]
    ) -> Mapping[str, Any]:
        """Ask for one thing.

        Args:
            document: what it is about.
            capability: what a policy must allow for it.
            call: asks, given a client of hvac.

        Raises:
            Refused: the server did not do it, or cannot be asked.
        """
        if self._down is not None:
            raise Refused(self._down)
        try:
            answer = self._patiently(document, call)
        except self._hvac.exceptions.VaultError as error:
            raise self._refusal(error, document, capability) from None
        except self._requests.RequestException as error:
            self._down = unreachable(self._requests, error, self.login)
            is_write = capability in {"create", "update"}
            raise Refused(_unknown(self._down, document) if is_write else self._down) from None
        except Exception as error:  # noqa: BLE001 - of the SDK; its message may hold what the server said
            raise Refused(Failure(f"the request failed with {type(error).__name__}")) from None
        if isinstance(answer, dict):
            return answer
        if getattr(answer, "status_code", 0) == 204:
            return {}
        raise Refused(self._no_answer(answer))

    def _patiently(self, document: Document, call: Callable[[Any], Any]) -> Any:
        for pause in PAUSES:
            try:
                return call(self._client(document.namespace))
            except self._hvac.exceptions.RateLimitExceeded:
                time.sleep(pause)
        return call(self._client(document.namespace))

    def _client(self, namespace: str) -> Any:
        """Return this thread's client: a session of requests is for one thread."""
        mine: dict[str, Any] = self._threads.__dict__.setdefault("clients", {})
        if namespace not in mine:
            mine[namespace] = new_client(self._hvac, self.login, namespace)
            with self._lock:
                self._clients.append(mine[namespace])
        return mine[namespace]

    def _no_answer(self, answer: Any) -> Failure:
        if getattr(answer, "is_redirect", False):
            return Failure(
                f"{self.login.shown} sends its callers to another address, which is given no token",
                "name that address in [secrets.vault] address",
            )
        return Failure(f"what {self.login.shown} answers is none of Vault", "check [secrets.vault] address")

    def _refusal(self, error: Any, document: Document, capability: Capability) -> Refused:
        sdk, told = self._hvac.exceptions, told_by(error)
        if isinstance(error, sdk.InvalidPath):
            return self._missing(error, document, told)
        if isinstance(error, (sdk.Forbidden, sdk.Unauthorized)) or "missing client token" in told:
            return Refused(self._forbidden(document, capability, told))
        if isinstance(error, sdk.InvalidRequest) and "check-and-set" in told:
            failure = Failure(f"somebody else wrote to {document} at the same time", "try again")
            return Refused(failure, conflict=True)
        return Refused(self._troubled(error, told))

    def _troubled(self, error: Any, told: str) -> Failure:
        """Return what is wrong with the server itself."""
        sdk, shown = self._hvac.exceptions, self.login.shown
        if isinstance(error, sdk.RateLimitExceeded):
            return Failure(f"{shown} is asked too often", "try again later, or raise its rate limit quota")
        if isinstance(error, sdk.VaultDown) and "sealed" in told:
            self._down = Failure(f"{shown} is sealed", "unseal it: `vault operator unseal`")
            return self._down
        if isinstance(error, sdk.VaultNotInitialized):
            self._down = Failure(f"{shown} is not initialized", "run `vault operator init`")
            return self._down
        if isinstance(error, sdk.InvalidRequest):
            return Failure(f"{shown} calls the request wrong", "check [secrets.vault] version and mount")
        return Failure(f"{shown} failed with {type(error).__name__}", "look into its log")

    def _missing(self, error: Any, document: Document, told: str) -> Refused:
        metadata = _metadata(error.json)
        if metadata is not None and (metadata.get("deletion_time") or metadata.get("destroyed")):
            return _deleted(metadata, document)
        if "no handler for route" in told or "route entry not found" in told:
            failure = Failure(
                f"nothing is mounted at {document.mount}", "correct [secrets.vault] mount, or `mount=`"
            )
            return Refused(failure)
        engine = self._engine(document)
        if engine and engine != self.login.engine:
            failure = Failure(
                f"the KV engine at {document.mount} has version {engine}",
                f"set `version = {engine}` in [secrets.vault]",
            )
            return Refused(failure)
        what = f"version {document.version} of {document}" if document.version else str(document)
        close = self._nearest(document)
        return Refused(
            Failure(f"there is no {what}", f"did you mean {close}?" if close else "", missing=True)
        )

    def _forbidden(self, document: Document, capability: Capability, told: str) -> Failure:
        if any(each in told for each in _BAD_TOKEN) or not self._is_token(document.namespace):
            return Failure(
                f"{self.login.shown} does not know the token, or it expired",
                f"get a new one: it comes from {self.login.token_from}",
            )
        path = policy_path(document, self.login.engine, capability)
        within = f" in the namespace {document.namespace}" if document.namespace else ""
        return Failure(
            f"the token may not {capability} {document}",
            f'a policy must allow it{within}: path "{path}" with capabilities = ["{capability.split()[0]}"]',
        )

    def _is_token(self, namespace: str) -> bool:
        """Whether the server knows the token; also where that cannot be told."""

        def ask() -> bool:
            try:
                self._client(namespace).auth.token.lookup_self()
            except self._hvac.exceptions.Forbidden:
                return False
            except Exception:  # noqa: BLE001 - it is only asked to explain another failure
                return True
            return True

        return bool(self._once(("token", namespace), ask))

    def _engine(self, document: Document) -> int:
        """Return the version of the engine at a mount; 0 where it is not told."""

        def ask() -> int:
            with suppress(Exception):
                address = f"/v1/sys/internal/ui/mounts/{quote(document.mount)}"
                found = self._client(document.namespace).adapter.get(address)
                return int((found["data"].get("options") or {}).get("version", 1))
            return 0

        return int(self._once(("engine", document.namespace, document.mount), ask))

    def _nearest(self, document: Document) -> str:
        parent, _, name = document.path.rpartition("/")

        def ask() -> list[str]:
            with suppress(Exception):
                kv = self._client(document.namespace).secrets.kv
                engine = kv.v2 if self.login.engine == 2 else kv.v1
                found = engine.list_secrets(parent, mount_point=document.mount)
                return [str(each) for each in found["data"]["keys"]]
            return []

        names = self._once(("names", document.namespace, document.mount, parent), ask)
        close = get_close_matches(
            name, [each for each in names if not each.endswith("/") and each != name], 1
        )
        return "/".join(filter(None, (parent, *close))) if close else ""

    def _once(self, key: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]


def _unknown(failure: Failure, document: Document) -> Failure:
    """Return what became of a write whose answer did not come."""
    return Failure(
        f"{failure.reason}, and it is not known whether {document} was written",
        "look at its history, then write again",
    )


def policy_path(document: Document, engine: int, capability: Capability) -> str:
    """Return the path that a policy must name; that of version 2 is not the one people use."""
    if engine == 1:
        return f"{document.mount}/{document.path}"
    kind = "metadata" if capability == "read the versions of" else "data"
    return f"{document.mount}/{kind}/{document.path}"


def _metadata(answer: Any) -> Mapping[str, Any] | None:
    """Return what an answer says of the version it is about; None where it says nothing."""
    data = answer.get("data") if isinstance(answer, dict) else None
    metadata = data.get("metadata") if isinstance(data, dict) else None
    return metadata if isinstance(metadata, dict) else None


def _deleted(metadata: Mapping[str, Any], document: Document) -> Refused:
    number = metadata.get("version")
    how = "destroyed" if metadata.get("destroyed") else "deleted"
    failure = Failure(
        f"version {number} of {document} is {how}",
        ""
        if how == "destroyed"
        else f"`vault kv undelete -mount={document.mount} -versions={number} {document.path}` brings it back",
        missing=True,
    )
    return Refused(failure, deleted=number if isinstance(number, int) and not document.version else 0)
