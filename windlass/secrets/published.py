"""Keeps secrets out of the files of a repository that Git would take in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from windlass.errors import ConfigurationError
from windlass.secrets.references import Address
from windlass.secrets.targets import parse_target

_GIT_TIMEOUT: Final = 20.0


def refuse_published(root: Path, address: Address, name: str) -> None:
    """Refuse to write a secret into a file of the repository that Git does not ignore.

    Args:
        root: the repository.
        address: where the secret would be written; only files and dotenv files are looked at.
        name: what it is called.

    Raises:
        ConfigurationError: it would be written there.
    """
    if address.provider not in {"file", "dotenv"}:
        return
    path = parse_target(address.target).path if address.provider == "dotenv" else address.target
    try:
        place = (root / Path(path).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):  # no path, or no such home: who writes there says so
        return
    if place.is_relative_to(root.resolve()) and _is_ignored(root, place) is False:
        raise ConfigurationError(
            f"{path} would hold the value of {name} and git does not ignore it; nothing was written.",
            "Add it to .gitignore, such as the line envs/*.local.env.",
        )


def _is_ignored(root: Path, path: Path) -> bool | None:
    """Return whether git ignores a path; None where there is no git or no repository."""
    try:
        said = subprocess.run(
            ["git", "check-ignore", "--quiet", "--", str(path)],
            cwd=root,
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {0: True, 1: False}.get(said.returncode)
