"""What a provider is: a place secrets are kept in, and how it is read, written and asked for versions.

A provider is found by its name, the word before the colon of a reference. The built-in ones stand in this
package; others come from packages that name a `Provider` under the entry point group
`windlass.secret_providers`. Nothing but `connect` may import an SDK.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from windlass.errors import ConfigurationError
from windlass.secrets.settings import SecretsSettings
from windlass.shell import Sensitive

# How many requests to one provider run at the same time, where it has no way to ask for many at once.
PARALLEL: Final = 16


@dataclass(frozen=True)
class Failure:
    """Why a secret cannot be had or written, in words that hold no secret.

    Args:
        reason: what is wrong.
        fix: what to do about it; empty where the reason says it.
        missing: it is certain that there is no such secret, and not only that it cannot be reached.
    """

    reason: str
    fix: str = ""
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}" if self.fix else self.reason


Resolved = Sensitive | Failure


@dataclass(frozen=True)
class Version:
    """One version of a secret.

    Args:
        id: the provider's name for it.
        created: when it was written, aware; None where the provider does not say.
        stages: `current`, `previous`, and names of the provider's own.
        note: what else the provider says of it, such as `disabled`.
    """

    id: str
    created: datetime | None = None
    stages: tuple[str, ...] = ()
    note: str = ""


Written = Version | Failure


# Gives what a text says: the secret it refers to, or itself.
Lookup = Callable[[str], Resolved]


@dataclass(frozen=True)
class Context:
    """What providers may look at.

    Args:
        root: the repository; relative paths start there.
        process: the variables of the operator's own process.
        settings: the environment's `[secrets]` table.
        lookup: resolves a setting that may be a reference, such as `[secrets.vault] token`.
    """

    root: Path
    process: Mapping[str, str] = field(default_factory=dict)
    settings: SecretsSettings = field(default_factory=SecretsSettings)
    lookup: Lookup = Sensitive


class NotSupported(ConfigurationError):
    """The provider has no such operation; the sentence names both."""


class Client(ABC):
    """A connection to a provider, made once for a run; its methods may be called from one thread at a time.

    No method raises for one secret among many: that one gets a `Failure`. What concerns all of them alike
    (no login, no region) is the same `Failure` for each.
    """

    @abstractmethod
    def fetch(self, targets: Sequence[str]) -> Mapping[str, Resolved]:
        """Get many secrets, each asked for once, in as few requests as the provider allows."""

    def write(self, values: Mapping[str, Sensitive]) -> Mapping[str, Written]:
        """Make each value the current version of its target; those of one document in one write.

        Writing the value a target has already makes no new version where the provider can tell.
        """
        del values
        raise self._unsupported("write to")

    def versions(self, target: str) -> tuple[Version, ...]:
        """Return the versions of a secret, newest first.

        Raises:
            ProviderError: they cannot be had.
        """
        del target
        raise self._unsupported("tell versions of")

    def restore(self, target: str, version: str) -> Version:
        """Make an earlier version the current one again, and the one it replaces the previous.

        Raises:
            ProviderError: there is no such version, or it cannot be changed.
        """
        del target, version
        raise self._unsupported("restore")

    def canonical(self, target: str) -> str:
        """Return the one name of the place that a write to a target changes, whatever else it is called.

        Without what selects a stage or a version; a field stands behind `#`, which a document's own name
        holds as `%23`. Places of all providers are compared by it.

        Raises:
            ProviderError: it is not known.
        """
        return f"{self.provider_name}:{target}"

    def members(self, scope: str) -> Mapping[str, str]:
        """Return what is kept under a scope, such as one document's fields: names of variables to targets.

        Raises:
            ProviderError: it cannot be listed, or two entries would have one name.
        """
        del scope
        raise self._unsupported("list")

    def member(self, scope: str, name: str) -> str:
        """Return the target that a variable has under a scope.

        Raises:
            ConfigurationError: the provider cannot keep a secret of this name.
        """
        del scope, name
        raise self._unsupported("copy to")

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give connections back."""

    def _unsupported(self, what: str) -> NotSupported:
        return NotSupported(f"Windlass cannot {what} {self.provider_name}.")

    @property
    @abstractmethod
    def provider_name(self) -> str:
        """The provider in words, for sentences: `AWS Secrets Manager`."""


class ProviderError(ConfigurationError):
    """A provider that cannot be used, or a secret it does not give; no sentence holds a value."""


@dataclass(frozen=True)
class Provider:
    """A place secrets are kept in.

    Args:
        name: the word before the colon.
        form: an example of a reference, for errors and the documentation.
        description: what it gives.
        fault: says what is wrong with a target; empty when nothing is. It knows no settings.
        connect: makes a client; the only one that may import an SDK, or raise `ProviderError`.
        extra: what to install beside Windlass: the `aws` of `pip install 'windlass[aws]'`.
        is_remote: secrets come over a network, so that a cache saves time.
    """

    name: str
    form: str
    description: str
    fault: Callable[[str], str]
    connect: Callable[[Context], Client]
    extra: str = ""
    is_remote: bool = False


def all_failed(targets: Iterable[str], failure: Failure) -> dict[str, Resolved]:
    """Return the same failure for every target."""
    return dict.fromkeys(targets, failure)


class OneByOne(Client):
    """A client for a place where asking for one secret is cheap."""

    def __init__(self, name: str, get: Callable[[str], Resolved]) -> None:
        self._name = name
        self._get = get

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return self._name

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Get each."""
        return {target: self._get(target) for target in targets}


def setting(context: Context, text: str) -> Sensitive:
    """Return the value of a setting that may be a reference.

    Raises:
        ProviderError: it cannot be had.
    """
    value = context.lookup(text)
    if isinstance(value, Failure):
        raise ProviderError(f"{text}: {value.reason}.", value.fix)
    return value


def import_sdk(module: str, extra: str) -> Any:
    """Import an SDK that is an extra of Windlass.

    Raises:
        ProviderError: it is not installed; the sentence says how to.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ProviderError(
            f"{module} is needed and cannot be imported: {error}.", f"Run pip install 'windlass[{extra}]'."
        ) from None
