"""An environment once it is loaded: its settings and its variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.environment.model import Settings
from windlass.secrets.references import Address, Reference
from windlass.shell import Sensitive, Word, reveal


@dataclass(frozen=True)
class Variable:
    """A variable for the stack.

    Args:
        name: its name, `[A-Za-z_][A-Za-z0-9_]*`.
        value: its value; a `Sensitive` when it is secret.
        origin: where it was set, such as `envs/prod.env:12`.
        reference: what the file says where the value is kept; None for a value that stands in the file.
        source: the address of the reference that gave the value.
    """

    name: str
    value: Word
    origin: str
    reference: Reference | None = None
    source: Address | None = None

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return isinstance(self.value, Sensitive)


@dataclass(frozen=True)
class Environment:
    """A loaded and valid environment.

    Args:
        name: the name of its file in `envs/`.
        root: the repository that holds `envs/`.
        settings: the merged and validated TOML files.
        variables: the merged dotenv files, by name.
        notes: what a person should know of them, such as a secret taken from its second place.
    """

    name: str
    root: Path
    settings: Settings
    variables: Mapping[str, Variable]
    notes: tuple[str, ...] = ()

    @property
    def secrets(self) -> dict[str, str]:
        """The secret values, by variable name: for redaction and for writers of 0600 files only."""
        return {name: reveal(each.value) for name, each in self.variables.items() if each.secret}
