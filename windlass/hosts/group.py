"""Many hosts at once: a bounded pool, and one result per host."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from windlass.environment.environment import Environment
from windlass.environment.model import HostSettings
from windlass.errors import ConfigurationError, WindlassError, joined
from windlass.hosts.base import Host, Redact
from windlass.hosts.local import LocalHost

T = TypeVar("T")

# sshd's stock MaxStartups is 10:30:100: it drops connections of a burst beyond ten.
DEFAULT_PARALLEL = 8


@dataclass(frozen=True)
class HostResult(Generic[T]):
    """What came of one host: a value, or the error that stands for it."""

    host: Host
    value: T | None
    error: WindlassError | None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Hosts:
    """The hosts of an environment, in the order of its file."""

    def __init__(self, hosts: tuple[Host, ...], parallel: int = DEFAULT_PARALLEL) -> None:
        self._hosts = hosts
        self._parallel = parallel

    @classmethod
    def of(cls, environment: Environment, redact: Redact, only: str | None = None) -> Hosts:
        """Return the environment's hosts, or the one named; nothing connects yet.

        Raises:
            ConfigurationError: no host has that name.
        """
        settings = environment.settings
        return cls(
            tuple(
                make_host(name, settings.hosts[name], environment.root, redact)
                for name in chosen_names(environment, only)
            ),
            settings.deploy.parallel_hosts,
        )

    @property
    def first(self) -> Host:
        """The first host: where what is done once is done."""
        return self._hosts[0]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def map(self, work: Callable[[Host], T], *, parallel: int | None = None) -> tuple[HostResult[T], ...]:
        """Run `work` for every host, several at a time, and return one result per host, in order.

        Args:
            work: what to do with a host.
            parallel: how many hosts at a time, where the environment's number does not fit.

        An error that is no `WindlassError` is a defect and is raised.
        """

        def attempt(host: Host) -> HostResult[T]:
            try:
                return HostResult(host, work(host), None)
            except WindlassError as error:
                return HostResult(host, None, error)

        if len(self._hosts) == 1:
            return (attempt(self._hosts[0]),)
        with ThreadPoolExecutor(min(parallel or self._parallel, len(self._hosts))) as pool:
            try:
                return tuple(pool.map(attempt, self._hosts))
            except BaseException:
                # Ctrl-C reaches this thread alone: end what the others wait for, or leaving waits as long.
                self.close()
                raise

    def close(self) -> None:
        """Close every connection."""
        for host in self._hosts:
            host.close()


def raise_first(results: Sequence[HostResult[T]]) -> None:
    """Raise one error for all hosts that failed: every sentence, the exit code of the first."""
    errors = [result.error for result in results if result.error is not None]
    if errors:
        raise errors[0] if len(errors) == 1 else joined(errors)


def chosen_names(environment: Environment, only: str | None = None) -> tuple[str, ...]:
    """Return the names of the environment's hosts, or the one named.

    Raises:
        ConfigurationError: no host has that name.
    """
    names = tuple(environment.settings.hosts)
    if not only:
        return names
    if only not in names:
        near = difflib.get_close_matches(only, names, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Hosts: {', '.join(names)}."
        raise ConfigurationError(f"{environment.name} has no host {only}.", hint)
    return (only,)


def make_host(name: str, settings: HostSettings, root: Path, redact: Redact) -> Host:
    """Return the host for these settings; SSH libraries load only for servers."""
    if settings.transport == "local":
        return LocalHost(name, redact, root, settings.command_timeout)
    from windlass.hosts.ssh import SshHost

    return SshHost(name, settings, root, redact)
