"""Keeps the secrets of releases in a host's memory, in `/dev/shm`, for who wants none of them on its disk.

A release's folder then holds a link. The memory is empty after a restart, and where logind has
`RemoveIPC=yes` (its default, logind.conf(5)) also once the last session of a login that is no system user
ends: what runs goes on, since Docker keeps what containers were started with, but there is no way back to
such a release. Its commit can be deployed again.
"""

from __future__ import annotations

from typing import Final

from windlass.release.layout import SECRETS_FILE, Layout
from windlass.shell import quote

# Sets `memory`, a folder of this user's alone, and `private`, a folder in it for this script.
MAKE: Final = (
    'memory=/dev/shm/windlass-$(id -u)-$(cd "$dir" && pwd -P | sha256sum | head -c 16)',
    '[ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] ||'
    " { echo 'there is no file system in memory at /dev/shm' >&2; exit 1; }",
    'mkdir -m 700 "$memory" 2>/dev/null || true',
    # Anybody may write there: what another made under this name is not taken.
    '{ [ -d "$memory" ] && [ ! -L "$memory" ] && [ -O "$memory" ]; } ||'
    ' { echo "$memory is not a folder of this user" >&2; exit 1; }',
    'chmod 700 "$memory"',
    'rm -rf "$memory"/.staging.*',
    # What is left of releases that are gone.
    'for path in "$memory"/*.env; do [ ! -e "$path" ] ||'
    ' [ -d "$dir/releases/$(basename "$path" .env)" ] || rm -f "$path"; done',
    'private=$(mktemp -d "$memory/.staging.XXXXXX")',
)
UNPACK: Final = 'tar -xpf "$private/payload.tar" -C "$staging/content"'


def unpack(release: str) -> list[str]:
    """Return lines that unpack a release, its secrets into memory, with a link to them in its folder."""
    inside, kept = f"release/{SECRETS_FILE}", f'"$memory"/{quote(release)}.env'
    return [
        f"{UNPACK} --exclude={inside}",
        f'tar -xpf "$private/payload.tar" -C "$private" {inside}',
        f'mv -T -f "$private/{inside}" {kept}',
        f'ln -s {kept} "$staging/content/{inside}"',
    ]


def require(layout: Layout, release: str) -> str:
    """Return the line that ends a script where a release's secrets are gone."""
    what = f"the secrets of {release} were kept in memory and are gone: deploy its commit again"
    return f"[ -e {quote(layout.release(release, SECRETS_FILE))} ] || {{ echo {quote(what)} >&2; exit 1; }}"


def remove(layout: Layout, release: str) -> list[str]:
    """Return lines that remove a release, with what it has in memory."""
    secrets = quote(layout.release(release, SECRETS_FILE))
    return [
        f'if [ -L {secrets} ]; then rm -f "$(readlink {secrets})"; fi',
        f"rm -rf {quote(layout.release(release))}",
    ]
