"""Texts of a Compose project with secrets in them, held so that the secret itself is not there.

The local `docker compose` is given a sentinel for every secret; what it prints is turned into
`SecretText`, which names the secret and masks itself when shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from windlass.errors import ConfigurationError
from windlass.secrets.writers import compose_text
from windlass.shell import MASK

SECRET_PREFIX: Final = "WINDLASS_SECRET_"  # noqa: S105  a prefix of names
LITERAL_PREFIX: Final = "WINDLASS_LITERAL_"


@dataclass(frozen=True)
class SecretRef:
    """The place of a secret in a text; `name` is the variable a rendered file takes it from."""

    name: str


@dataclass(frozen=True)
class SecretText:
    """A text with secrets in it, such as a database URL; `str` shows a mask in their place."""

    parts: tuple[str | SecretRef, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables the text needs, in order."""
        return tuple(part.name for part in self.parts if isinstance(part, SecretRef))

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else MASK for part in self.parts)

    def exact(self, values: Mapping[str, str]) -> str:
        """Return the text with the secrets themselves in place; `values` is by variable name."""
        return "".join(part if isinstance(part, str) else values[part.name] for part in self.parts)


Scalar = str | SecretText


def exact(text: Scalar, values: Mapping[str, str]) -> str:
    """Return a text of the model with its secrets in place."""
    return text.exact(values) if isinstance(text, SecretText) else text


def template(text: Scalar) -> str:
    """Return the text as Compose must read it: `$` doubled where literal, `${NAME}` for a secret."""
    if isinstance(text, str):
        return compose_text(text)
    return "".join(compose_text(p) if isinstance(p, str) else f"${{{p.name}}}" for p in text.parts)


@dataclass(frozen=True)
class Sentinels:
    """Stand-ins for values while `docker compose config` runs; `nonce` is random for every read."""

    nonce: str

    def secret(self, name: str) -> str:
        """Return what stands for the secret variable `name`."""
        return f"windlass-secret-{name}-{self.nonce}"

    def missing(self, name: str) -> str:
        """Return what stands for a variable nothing sets, to find who uses it."""
        return f"windlass-missing-{name}-{self.nonce}"

    def parse(self, text: str) -> Scalar:
        """Return a text that Compose printed, with its sentinels as references."""
        pieces = re.split(rf"windlass-secret-(\w+)-{self.nonce}", text)
        if len(pieces) == 1:
            return text
        parts = [SecretRef(SECRET_PREFIX + p) if at % 2 else p for at, p in enumerate(pieces)]
        return SecretText(tuple(part for part in parts if part))

    def names(self, text: str) -> list[str]:
        """Return the variables whose sentinel stands in a text, secret or missing, sorted."""
        return sorted(set(re.findall(rf"windlass-(?:secret|missing)-(\w+)-{self.nonce}", text)))

    def readable(self, text: str) -> str:
        """Return a message of Compose with `${NAME}` where a sentinel stood."""
        return re.sub(rf"windlass-(?:secret|missing)-(\w+)-{self.nonce}", r"${\1}", text)


def convert(node: Any, change: Callable[[str], Any]) -> Any:
    """Return a copy of a JSON tree with `change` applied to every text that is a value.

    Raises:
        ConfigurationError: a secret stands in the name of a key.
    """
    if isinstance(node, str):
        return change(node)
    if isinstance(node, list):
        return [convert(each, change) for each in node]
    if isinstance(node, dict):
        for key in node:
            if isinstance(change(key), SecretText):
                raise ConfigurationError(
                    f"A secret variable is part of a name in the Compose project: {change(key)}.",
                    "Use a variable that is not secret there, or list it under [variables] public.",
                )
        return {key: convert(each, change) for key, each in node.items()}
    return node


def secret_texts(node: Any) -> Iterator[SecretText]:
    """Yield every text with a secret in a tree of the model."""
    if isinstance(node, SecretText):
        yield node
    elif isinstance(node, Mapping):
        for each in node.values():
            yield from secret_texts(each)
    elif isinstance(node, list | tuple):
        for each in node:
            yield from secret_texts(each)
