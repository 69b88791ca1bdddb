"""Logins to AWS: one client for each region, profile and role, made when first used.

The SDK finds regions, profiles and keys as it always does, but for one thing: variables are looked for among
those Windlass was started with (`Context.process`). What the SDK reads deep inside, such as
`AWS_WEB_IDENTITY_TOKEN_FILE` or the address of a container's credentials, it takes from its own process; both
are the same wherever Windlass runs as a program.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

from windlass.identity import who
from windlass.secrets.providers.aws import failures as limits
from windlass.secrets.providers.aws.failures import Complaint, Kind, Request, complaint, explain
from windlass.secrets.providers.aws.targets import Place, Read
from windlass.secrets.providers.base import PARALLEL, Failure, import_sdk

# By the SDK's name for it: the variables, and the key of the profile.
_VARIABLES: Final[Mapping[str, tuple[tuple[str, ...], str | None, str | None]]] = {
    "profile": (("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), None, None),
    "region": (("AWS_REGION", "AWS_DEFAULT_REGION"), "region", None),
    "config_file": (("AWS_CONFIG_FILE",), None, "~/.aws/config"),
    "credentials_file": (("AWS_SHARED_CREDENTIALS_FILE",), None, "~/.aws/credentials"),
    "ca_bundle": (("AWS_CA_BUNDLE",), "ca_bundle", None),
}
_SERVICE: Final = "secretsmanager"
_EXTRA: Final = "aws"
# AssumeRole gives an hour; a client is made anew before its keys end within a request.
_MARGIN: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Login:
    """How all clients log in.

    Args:
        process: the variables of the operator's process.
        endpoint: another address of the service; empty: the region's own.
        external_id: what the role asks for; empty: nothing.
    """

    process: Mapping[str, str]
    endpoint: str = ""
    external_id: str = ""


@dataclass(frozen=True)
class _Client:
    sdk: Any
    until: datetime | None


def session_name(user: str) -> str:
    """Return the name a role's session has in AWS's log: who uses it, in the characters AWS allows."""
    return re.sub(r"[^\w+=,.@-]", "-", f"windlass-{user}", flags=re.ASCII)[:64]


class Connections:
    """Clients of AWS Secrets Manager; may be asked from several threads.

    Args:
        login: how to log in.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._sessions: dict[str, Any] = {}
        self._clients: dict[Place, _Client] = {}
        # Clients may be used by several threads, but sessions may not.
        self._making = threading.RLock()

    def client(self, place: Place) -> Any:
        """Return the SDK's client for a place.

        Raises:
            Exception: the SDK's, for `explain`: no region, no such profile, a role it may not assume.
        """
        with self._making:
            found = self._clients.get(place)
            if found is None or (found.until and found.until < datetime.now(UTC) + _MARGIN):
                found = self._clients[place] = self._make(place)
            return found.sdk

    def _make(self, place: Place) -> _Client:
        session = self._session(place.profile)
        keys, until = self._assume(session, place) if place.role else ({}, None)
        endpoint = self._login.endpoint or self._endpoint("SECRETS_MANAGER")
        return _Client(self._create(session, _SERVICE, place.region, endpoint, keys), until)

    def _create(self, session: Any, service: str, region: str, endpoint: str, keys: Mapping[str, str]) -> Any:
        config = import_sdk("botocore.config", _EXTRA).Config(
            retries={"mode": "standard", "total_max_attempts": limits.ATTEMPTS},
            connect_timeout=limits.CONNECT_SECONDS,
            read_timeout=limits.READ_SECONDS,
            max_pool_connections=PARALLEL,
        )
        return session.create_client(
            service, region_name=region or None, endpoint_url=endpoint or None, config=config, **keys
        )

    def _session(self, profile: str) -> Any:
        if profile not in self._sessions:
            self._sessions[profile] = self._new_session(profile)
        return self._sessions[profile]

    def _new_session(self, profile: str) -> Any:
        """Return a session that reads the operator's variables; a profile given beats keys there."""
        session = import_sdk("botocore.session", _EXTRA).Session(profile=profile or None)
        chains = import_sdk("botocore.configprovider", _EXTRA).ConfigChainFactory(
            session=session, environ=self._login.process
        )
        store = session.get_component("config_store")
        for name, (variables, key, default) in _VARIABLES.items():
            chain = chains.create_config_chain(
                instance_name=name, env_var_names=list(variables), config_property_names=key, default=default
            )
            store.set_config_provider(name, chain)
        resolver = session.get_component("credential_provider")
        if any(each.METHOD == "env" for each in resolver.providers):
            variables = import_sdk("botocore.credentials", _EXTRA).EnvProvider(self._login.process)
            resolver.insert_before("env", variables)
            resolver.providers.remove(
                next(each for each in resolver.providers if each.METHOD == "env" and each is not variables)
            )
        return session

    def _endpoint(self, service: str) -> str:
        """Return the address the operator's variables name; empty: the SDK decides."""
        process = self._login.process
        if process.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return ""
        return process.get(f"AWS_ENDPOINT_URL_{service}") or process.get("AWS_ENDPOINT_URL", "")

    def _assume(self, session: Any, place: Place) -> tuple[dict[str, str], datetime]:
        sts = self._create(session, "sts", place.region, self._endpoint("STS"), {})
        asked = {"RoleArn": place.role, "RoleSessionName": session_name(who())}
        if self._login.external_id:
            asked["ExternalId"] = self._login.external_id
        try:
            given = sts.assume_role(**asked)["Credentials"]
        finally:
            sts.close()
        keys = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
        return keys, given["Expiration"]

    def explain(self, error: Exception | Complaint, action: str, read: Read) -> Failure:
        """Return in words why a request failed, with the region and the profile that were really used."""
        found = error if isinstance(error, Complaint) else complaint(error)
        region, profile = self.facts(read.place)
        failure = explain(found, Request(action, read, region, profile))
        if found.kind is Kind.UNREACHABLE and (doubt := self._doubt(read.place, region)):
            return Failure(failure.reason, f"{doubt}; {failure.fix}")
        return failure

    def facts(self, place: Place) -> tuple[str, str]:
        """Return the region and the profile that the SDK uses for a place; empty where it has none."""
        region, profile = place.region, place.profile
        # Only words for a sentence, of a configuration that may be the fault.
        with suppress(Exception), self._making:
            session = self._session(place.profile)
            profile = profile or session.get_config_variable("profile") or ""
            region = region or session.get_config_variable("region") or ""
        return region, profile

    def _doubt(self, place: Place, region: str) -> str:
        with suppress(Exception), self._making:
            session = self._session(place.profile)
            known = [
                name
                for partition in session.get_available_partitions()
                for name in session.get_available_regions(_SERVICE, partition)
            ]
            if known and region not in known:
                near = get_close_matches(region, known, 1)
                return f"{region} is no region that the SDK knows" + (f", {near[0]} is" if near else "")
        return ""

    def close(self) -> None:
        """Give all connections back."""
        for client in self._clients.values():
            client.sdk.close()
        self._clients.clear()
