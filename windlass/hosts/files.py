"""Atomic uploads, as scripts."""

from __future__ import annotations

from pathlib import PurePosixPath

from windlass.shell import Script, assign


def put_script(path: str, size: int, mode: int) -> Script:
    """Return the script that writes its payload to `path`, whole or not at all.

    The size in bytes is checked before the rename: a link that drops ends the payload early, and
    `cat` cannot tell that from its end.
    """
    target = PurePosixPath(path)
    return Script.of(
        f"write {path}",
        assign("target", str(target)),
        assign("template", str(target.parent / f".{target.name}.XXXXXX")),
        "umask 077",
        'partial=$(mktemp "$template")',
        "trap 'rm -f \"$partial\"' EXIT",
        'cat >"$partial"',
        'size=$(wc -c <"$partial")',
        f'if [ "$size" -ne {size} ]; then echo "only $size of {size} bytes arrived" >&2; exit 1; fi',
        'if [ -d "$target" ]; then echo "$target is a folder" >&2; exit 1; fi',
        f'chmod {mode:04o} "$partial"',
        'mv -f "$partial" "$target"',
        "trap - EXIT",
    )
