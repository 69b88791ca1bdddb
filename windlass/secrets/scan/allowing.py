"""The list of what the scan finds and people have looked at: `envs/scan-allow.txt`.

One entry a line, each with a reason:

    3f9a61c04b7d2e58  the key of the test server, which opens nothing
    path:tests/**     invented secrets

The first accepts one finding by its fingerprint, wherever its line moves, in the tree and in history. The
second accepts what looks like a secret in all files of a pattern (`**` for any folders). It never accepts
the value of a secret of the project. Empty lines, and lines that begin with `#`, say nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from windlass.errors import ConfigurationError

ALLOW_FILE: Final = "envs/scan-allow.txt"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_PATH: Final = "path:"


@dataclass(frozen=True)
class Allowed:
    """What is accepted.

    Args:
        fingerprints: the findings, with the reason for each.
        paths: the patterns of paths, with the reason for each.
    """

    fingerprints: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def accepts(self, fingerprint: str, path: str, *, is_value: bool) -> str:
        """Return the entry that accepts a finding; empty when none does.

        Args:
            fingerprint: that of the finding.
            path: the file it is in; empty for a message.
            is_value: whether it is the value of a secret of the project.
        """
        if fingerprint in self.fingerprints:
            return fingerprint
        if is_value or not path:
            return ""
        return next((_PATH + each for each in self.paths if _pattern(each).fullmatch(path)), "")

    @property
    def entries(self) -> frozenset[str]:
        """All entries, as they are written."""
        return frozenset({*self.fingerprints, *(_PATH + each for each in self.paths)})


def load(root: Path) -> Allowed:
    """Read the list of a project; without a file nothing is accepted.

    Raises:
        ConfigurationError: a line is no entry, or gives no reason.
    """
    try:
        text = (root / ALLOW_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Allowed()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ALLOW_FILE} cannot be read: {type(error).__name__}.") from None
    allowed = Allowed()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        _add(allowed, words[0], words[1].strip(" #\t") if len(words) > 1 else "", f"{ALLOW_FILE}:{number}")
    return allowed


def _add(allowed: Allowed, entry: str, reason: str, place: str) -> None:
    is_path = entry.startswith(_PATH) and entry != _PATH
    if not is_path and not _FINGERPRINT.fullmatch(entry):
        raise ConfigurationError(
            f"{place}: no entry of the list.",
            "Write a fingerprint, or `path:` and a pattern, and then the reason.",
        )
    if not reason:
        raise ConfigurationError(
            f"{place}: no reason is given.", "Write after the entry why it is no secret."
        )
    if is_path:
        allowed.paths[entry.removeprefix(_PATH)] = reason
    else:
        allowed.fingerprints[entry] = reason


def _pattern(glob: str) -> re.Pattern[str]:
    """Return the expression for a pattern of paths: `*` within a folder, `**` for any folders."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
