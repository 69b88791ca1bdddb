"""Secrets of Docker Swarm: they never change, so a new value is a secret of a new name.

The name in the service stays what it was: `target` is the plain name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from windlass.errors import ConfigurationError
from windlass.secrets.writers.entries import text_fault
from windlass.secrets.writers.versions import SUFFIX_CHARACTERS, versioned
from windlass.shell import Command, Sensitive

# SwarmKit: MaxSecretSize, "secret data must be larger than 0 and less than 500 KB".
MAX_BYTES: Final = 500 * 1024
# SwarmKit: "name must be 64 characters or fewer"; it begins and ends with a letter or a digit.
MAX_NAME: Final = 64
LABEL: Final = "windlass.secret"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class SwarmSecret:
    """A secret as it is made on a Swarm manager.

    Args:
        name: its own name, `<target>_<8 hex digits of a keyed digest>`.
        target: the file's name in the service's `/run/secrets`.
        data: its content, for the command's stdin.
    """

    name: str
    target: str
    data: Sensitive

    def create(self, *labels: str) -> Command:
        """Return the command that makes it and reads its content from stdin.

        Args:
            labels: further labels, as `name=value`.
        """
        named = (f"{LABEL}={self.target}", *labels)
        options = [word for label in named for word in ("--label", label)]
        return Command.of("docker", "secret", "create", *options, self.name, "-")


def swarm_secret(name: str, value: str, key: bytes) -> SwarmSecret:
    """Return a value as a Swarm secret.

    Args:
        name: the plain name.
        value: its content; a value of several lines is as good as any.
        key: a secret of the application that stays the same; the name's digest is keyed with it.

    Raises:
        ConfigurationError: Swarm cannot hold it; the value is not shown.
    """
    if fault := _fault(name, value):
        raise ConfigurationError(f"The Swarm secret {name!r} cannot be made: {fault}.", _instead(value))
    return SwarmSecret(versioned(name, value.encode(), key, "_"), name, Sensitive(value))


def _fault(name: str, value: str) -> str:
    longest = MAX_NAME - SUFFIX_CHARACTERS - 1
    if _NAME.fullmatch(name) is None or len(name) > longest:
        return (
            f"its name is letters, digits, `_`, `.` and `-`, a letter or digit at both ends,"
            f" at most {longest} characters"
        )
    if fault := text_fault(value):
        return fault
    size = len(value.encode())
    if size == 0:
        return "it is empty, which Swarm refuses"
    return f"it has {size} bytes and Swarm takes less than {MAX_BYTES}" if size >= MAX_BYTES else ""


def _instead(value: str) -> str:
    if text_fault(value):
        return ""
    if not value:
        return "A variable can hold an empty value, and so can a Kubernetes secret."
    if len(value.encode()) >= MAX_BYTES:
        return "A Kubernetes secret can hold up to 1 MiB, and a Compose secret any size."
    return ""
