"""Writes what `windlass init` proposes, and never over a file of yours unless asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from windlass.stack.adopting import NewFile, overrides, propose


def write_project(
    root: Path, *, files: Sequence[str], app: str, host: str, force: bool, dry: bool
) -> Iterator[str]:
    """Write the proposed files and yield a sentence for each."""
    for name in overrides(root, files):
        yield f"{name} is taken too, as Compose itself does; leave it out of `files` if no server needs it"
    for new in propose(root, files=files, app=app, host=host):
        yield _write(root, new, force=force, dry=dry)
    yield "Next: look through envs/, then `inv env.check` and `inv deploy.plan`."


def _write(root: Path, new: NewFile, *, force: bool, dry: bool) -> str:
    path = root / new.path
    # A tasks/ package does the same as a tasks.py, and Invoke would find only one of them.
    taken = path.exists() or (new.path == "tasks.py" and (root / "tasks").is_dir())
    if taken and not force:
        return f"kept {new.path}" + (f"; add to yours: {new.addition}" if new.addition else "")
    if not dry:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new.text)
    return f"{'would write' if dry else 'wrote'} {new.path}"
