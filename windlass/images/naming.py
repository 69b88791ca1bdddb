"""Names of images, tags and releases."""

from __future__ import annotations

import hashlib
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from windlass.errors import ConfigurationError

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


def reference(app: str, service: str, tag: str, registry: str | None = None) -> str:
    """Return the image reference of a service: `[registry/]app-service:tag`.

    Raises:
        ConfigurationError: the tag or the registry prefix is not valid.
    """
    check_tag(tag)
    if registry is not None and not _REGISTRY.fullmatch(registry):
        raise ConfigurationError(
            f"{registry!r} is no registry prefix.",
            "Write [images] registry like `ghcr.io/acme`, in lower case.",
        )
    name = f"{app}-{_component(service)}:{tag}"
    return f"{registry}/{name}" if registry else name


def check_tag(tag: str) -> str:
    """Return the tag if an image may have it.

    Raises:
        ConfigurationError: it may not.
    """
    if not _TAG.fullmatch(tag):
        raise ConfigurationError(
            f"{tag!r} is no image tag.",
            "A tag has up to 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two.",
        )
    return tag


def _component(service: str) -> str:
    """Return a service's name as a repository may have it; a changed name stays distinct by its hash."""
    plain = re.sub(r"[^a-z0-9]+", lambda found: found[0][0] if found[0][0] in "._" else "-", service.lower())
    plain = plain.strip("._-") or "service"
    return plain if plain == service else f"{plain}-{hashlib.sha256(service.encode()).hexdigest()[:6]}"


def release_id(tag: str, now: datetime) -> str:
    """Return the id of a release made at `now`, such as `20260102T030405Z-1a2b3c4`; ids sort by time."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", tag).strip("-.")[:64] or "release"
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{clean}"


def default_tag(root: Path, now: datetime | None = None) -> str:
    """Return the tag for the state of a repository.

    Args:
        root: a folder of the repository.
        now: the time to name a tree that git does not know; empty: the clock's.

    Returns:
        The short commit; with `-dirty-` and 8 hex of a hash of all that differs when something does;
        `t` and the UTC time where there is no git or no commit.
    """
    commit = _git(root, "rev-parse", "--short=12", "HEAD").decode().strip()
    if not commit:
        return f"t{(now or datetime.now(UTC)).astimezone(UTC):%Y%m%dT%H%M%SZ}"
    changed = _changes(root)
    return f"{commit}-dirty-{changed}" if changed else commit


def _changes(root: Path) -> str:
    """Return a hash of what differs from the commit, untracked files among it; empty when nothing does."""
    top = Path(_git(root, "rev-parse", "--show-toplevel").decode().strip() or root)
    seen = hashlib.sha256()
    diff = _git(top, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color")
    untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")[:-1]
    if not diff and not untracked:
        return ""
    seen.update(diff)
    for name in sorted(untracked):
        seen.update(b"\0" + name + b"\0")
        path = top / name.decode(errors="surrogateescape")
        if path.is_file():
            with path.open("rb") as file:
                seen.update(hashlib.file_digest(file, "sha256").digest())
    return seen.hexdigest()[:8]


def _git(root: Path, *words: str) -> bytes:
    """Return what git printed, or nothing when it failed or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""
