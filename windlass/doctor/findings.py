"""What a check of a machine or a provider found, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal

State = Literal["ok", "warning", "failed"]
HERE: Final = "this machine"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        where: this machine, the name of a host, or a provider of secrets.
        what: what was looked at, in a word or two.
        state: whether it is as it must be; a warning stops nothing.
        found: what was found, without a secret.
        fix: how to mend it; empty when nothing is to be mended.
    """

    where: str
    what: str
    state: State
    found: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as plain data, for `--json`."""
        return asdict(self)


def version_of(text: str) -> tuple[int, ...] | None:
    """Return the numbers a version begins with, `v2.24.4-desktop.1` is 2, 24, 4; None when it is none."""
    head = text.strip().removeprefix("v").split("-")[0].split("+")[0]
    parts = head.split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether something is not as it must be."""
    return any(each.state == "failed" for each in findings)
