"""The scripts of a deploy, one per phase and host: pure builders, the same for `--dry` and for real."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from windlass.engines import compose as engine
from windlass.environment.model import DeploySettings, MigrateSettings
from windlass.release import memory
from windlass.release.layout import META_FILE, MIGRATE_LOG, SECRETS_FILE, STACK_FILE, Layout
from windlass.release.ledger import Meta, journal_line
from windlass.release.lock import WORK_WAIT_SECONDS, guard_lines
from windlass.shell import Command, Script, quote


@dataclass(frozen=True)
class Work:
    """What all scripts of one deploy on one host share.

    Args:
        layout: where files are on the host.
        project: the Compose project.
        release: the release's id.
        action: `deploy` or `rollback`.
        who: `user@machine`.
        token: the lock's token.
        wait: seconds to wait for a script of an earlier deploy whose client is gone.
    """

    layout: Layout
    project: str
    release: str
    action: str
    who: str
    token: str
    wait: float = WORK_WAIT_SECONDS

    def compose(self, release: str | None = None) -> Command:
        """Return the start of every Compose command for a release."""
        identity = release or self.release
        return engine.compose(
            self.project,
            self.layout.release(identity, STACK_FILE),
            self.layout.release(identity, SECRETS_FILE),
        )

    def note(self, phase: str, state: str, detail: str = "") -> str:
        """Return the line that writes to the journal."""
        return journal_line(
            self.layout.journal,
            release=self.release,
            action=self.action,
            phase=phase,
            state=state,
            who=self.who,
            detail=detail,
        )

    def guarded(self, what: str, *lines: str, timeout: float) -> Script:
        """Return a script that runs only while this deploy holds the lock."""
        guard = guard_lines(self.layout, self.token, self.wait)
        return Script.of(what, *guard, *lines, timeout=timeout + self.wait)


def stage(
    work: Work,
    payload: bytes,
    *,
    current: str,
    directories: Sequence[str],
    files: Sequence[str],
    aliases: Mapping[str, str],
    key: str,
    in_memory: bool,
    timeout: float,
) -> Script:
    """Return the script that puts a release's files in place; nothing a user can notice.

    Args:
        work: the deploy.
        payload: the tar archive the script reads from stdin; only its size and SHA-256 are in the script.
        current: the release the plan was made against; another one now means the plan is stale.
        directories: absolute folders under `shared/` to create.
        files: content-addressed folders under `files/` that the archive holds.
        aliases: for each of the release's own images, the reference that stays its own.
        key: the host's key for content hashes, hexadecimal, kept in a 0600 file on its first use.
        in_memory: the release's secrets are kept in memory and reach no disk.
        timeout: seconds.
    """
    target = work.layout.release(work.release)
    returns_to = work.layout.release(current, SECRETS_FILE)
    lines = [
        'mkdir -p "$dir/releases" "$dir/files" "$dir/shared"',
        _expect_current(current),
        work.note("begin", "started"),
        *([] if not key else [_write_key(key)]),
        *_without_leftovers(),
        *([f"[ -e {quote(returns_to)} ] || echo {NO_RETURN}"] if current else []),
        'staging=$(mktemp -d "$dir/releases/.staging.XXXXXX")',
        *(memory.MAKE if in_memory else ["private=$staging"]),
        'trap \'rm -rf "$staging" "$private"\' EXIT',
        'cat >"$private/payload.tar"',
        # A link that drops ends stdin early, and tar may not notice.
        f'echo "{hashlib.sha256(payload).hexdigest()}  $private/payload.tar" | sha256sum --check --status ||'
        " { echo 'the files did not arrive whole' >&2; exit 1; }",
        'mkdir "$staging/content"',
        *(memory.unpack(work.release) if in_memory else [memory.UNPACK]),
        *(_PUT if files else ()),
        *(f"put {quote(f'files/{name}')}" for name in files),
        # A container's user is not known here; nobody else reaches below `shared`, which is closed.
        *(f"mkdir -p -m 0777 {quote(path)}" for path in directories),
        f"rm -rf {quote(target)}",
        f'mv -T "$staging/content/release" {quote(target)}',
        *(f"docker tag {quote(reference)} {quote(alias)}" for reference, alias in aliases.items()),
        work.note("stage", "done"),
    ]
    return work.guarded("stage the release", *lines, timeout=timeout)


def patience(settings: DeploySettings) -> float:
    """Return the seconds to wait for a script whose client is gone: as long as an `up` may take, and some."""
    return max(WORK_WAIT_SECONDS, settings.up_timeout + 60)


def _without_leftovers() -> list[str]:
    """Remove what a script that was killed left of secrets; with both locks held nobody else is at it."""
    return [
        'rm -rf "$dir"/releases/.staging.*',
        'rm -f "$dir/.key.new"',
        # Whatever a person or a restored backup made of them, these are for this user alone.
        'for path in "$dir/releases" "$dir/files" "$dir/shared"; do'
        ' [ ! -O "$path" ] || chmod 700 "$path"; done',
        f'for path in "$dir"/key "$dir"/releases/*/{{{STACK_FILE},{SECRETS_FILE},{META_FILE}}}; do'
        ' [ ! -O "$path" ] || chmod 600 "$path"; done',
    ]


# `put files/<digest>` moves a folder into place whole. Where it is there already, its content and modes are
# made to be those it was named after, file by file: whoever has it mounted sees no empty folder meanwhile.
_PUT: Final = (
    'sum_of() { tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 -cf - . | sha256sum; }',
    "put() {",
    '  local from="$staging/content/$1" to="$dir/$1" path',
    '  if [ ! -e "$to" ]; then mv -T "$from" "$to"; return; fi',
    '  [ "$(sum_of "$from")" != "$(sum_of "$to" 2>/dev/null)" ] || return 0',
    '  chmod u+rwx "$to"',
    "  shopt -s globstar dotglob nullglob",
    '  for path in "$from"/**; do',
    '    path=${path#"$from"/}',
    '    [ -n "$path" ] || continue',
    '    if [ -d "$from/$path" ]; then',
    '      [ -d "$to/$path" ] || { rm -f "$to/$path"; mkdir "$to/$path"; }',
    '      chmod --reference="$from/$path" "$to/$path"',
    "    else",
    '      [ ! -d "$to/$path" ] || rm -rf "$to/$path"',
    '      cp -p --remove-destination "$from/$path" "$to/.windlass.new"',
    '      mv -f -T "$to/.windlass.new" "$to/$path"',
    "    fi",
    "  done",
    '  chmod --reference="$from" "$to"',
    "}",
)


def _write_key(key: str) -> str:
    """Write the key whole or not at all, unless a whole one is there."""
    return (
        f"grep -Eqx '[0-9a-f]{{64}}' \"$dir/key\" 2>/dev/null ||"
        f' {{ printf \'%s\\n\' {key} >"$dir/.key.new" && mv -T -f "$dir/.key.new" "$dir/key"; }}'
    )


def _own_images(aliases: Mapping[str, str]) -> list[str]:
    """Return lines that give a release's references the images they had when it was staged."""
    return [
        f"if docker image inspect {quote(alias)} >/dev/null 2>&1;"
        f" then docker tag {quote(alias)} {quote(reference)}; fi"
        for reference, alias in aliases.items()
    ]


def _expect_current(current: str) -> str:
    return (
        f'[ "$(basename "$(readlink "$dir/current")" 2>/dev/null)" = {quote(current)} ] ||'
        f" {{ echo 'another deploy ended after this one was planned' >&2; exit {STALE}; }}"
    )


PULL_MISSING = "missing "
# What `stage` prints where the running release could not be put back: its secrets were in memory.
NO_RETURN = "no-return"
STALE = 76


def begin(work: Work, current: str | None = None) -> Script:
    """Return the script that begins a rollback: nothing to stage, the release is there."""
    lines = [] if current is None else [_expect_current(current)]
    note = work.note("begin", "started")
    needed = memory.require(work.layout, work.release)
    return work.guarded("begin the rollback", *lines, needed, note, *_without_leftovers(), timeout=60)


def pull(references: Sequence[str], timeout: float) -> Script:
    """Return the script that pulls images; it prints `missing <reference>` for each it cannot."""
    return Script.of(
        "pull images",
        *(
            f"docker pull --quiet {quote(reference)} >/dev/null || echo {quote(PULL_MISSING + reference)}"
            for reference in references
        ),
        timeout=timeout,
    )


def migrate(work: Work, settings: MigrateSettings, *, dependencies: bool = True) -> Script:
    """Return the script that runs the migration once, with the new image and variables, and keeps its log.

    Args:
        work: the deploy.
        settings: the migration.
        dependencies: whether the services it needs are started, or replaced where they changed; without,
            they run already and are left as they are.
    """
    name = f"{work.project}-migrate-{work.release.lower()}"
    command = engine.run_once(
        work.compose(), name, settings.service, settings.command, dependencies=dependencies
    )
    log = quote(work.layout.release(work.release, MIGRATE_LOG))
    return work.guarded(
        "run the migration",
        work.note("migrate", "started"),
        f"docker rm -f {quote(name)} >/dev/null 2>&1 || true",
        f"exec 3>&1; touch {log}",
        "run() {",
        *engine.limited(command, settings.timeout, name),
        "}",
        # It goes on when nobody reads it any more, or its log finds no space.
        f"if ( run ) 2>&1 | {{ tee -p {log} >&3 || cat >/dev/null; }}; then :; else",
        f"  tail -n 20 {log} >&2; exit 1",
        "fi",
        work.note("migrate", "done"),
        timeout=settings.timeout + 60,
    )


def up(
    work: Work,
    settings: DeploySettings,
    aliases: Mapping[str, str] | None = None,
    first: Sequence[str] = (),
) -> Script:
    """Return the script that makes the release run.

    Args:
        work: the deploy.
        settings: says how long it may take.
        aliases: where the release's images are kept as they were, for references that moved on.
        first: services to recreate by themselves before all others, see `planning.one_by_one`.
    """
    ups = [*(engine.up(work.compose(), (name,)) for name in first), engine.up(work.compose())]
    return work.guarded(
        "start the release",
        work.note("up", "started"),
        *_own_images(aliases or {}),
        *engine.outliving(engine.limited_together(ups, settings.up_timeout)),
        work.note("up", "done"),
        timeout=settings.up_timeout + 30,
    )


def restore(work: Work, previous: Meta, settings: DeploySettings) -> Script:
    """Return the script that puts the previous release back, with its own images, files and variables."""
    return work.guarded(
        "put the previous release back",
        # A disk that is full must not keep the old release from coming back.
        f"{{ {work.note('restore', 'started')}; }} || true",
        memory.require(work.layout, previous.id),
        *_own_images(previous.aliases),
        *engine.outliving(engine.limited(engine.up(work.compose(previous.id)), settings.up_timeout)),
        timeout=settings.up_timeout + 30,
    )


def record(
    work: Work,
    *,
    previous: str,
    prune: Iterable[Meta] = (),
    without_images: Iterable[Meta] = (),
    keep_images: Iterable[str] = (),
) -> Script:
    """Return the script that makes the release the current one and removes what is no longer kept.

    Args:
        work: the deploy.
        previous: the release that was current before; empty when there was none.
        prune: releases to remove.
        without_images: releases that stay, but whose images go.
        keep_images: references that stay though a pruned release names them.
    """
    doomed = tuple(prune)
    kept = set(keep_images)
    aged = (*doomed, *without_images)
    named = {reference for meta in aged for reference in meta.images.values()} - kept
    images = sorted(named | {alias for meta in aged for alias in meta.aliases.values()})
    lines = [
        _link(work.layout, "current", work.release),
        *([_link(work.layout, "previous", previous)] if previous and previous != work.release else []),
        work.note("record", "done"),
        *(line for meta in doomed for line in memory.remove(work.layout, meta.id)),
        *(f"docker image rm {quote(reference)} >/dev/null 2>&1 || true" for reference in images),
        _prune_files(),
    ]
    return work.guarded("record the release", *lines, timeout=120)


def _link(layout: Layout, name: str, release: str) -> str:
    """Point a link at a release atomically: made beside, then renamed over."""
    beside, place = quote(layout.path(f".{name}.new")), quote(layout.path(name))
    return f"ln -sfn {quote('releases/' + release)} {beside}; mv -T -f {beside} {place}"


def _prune_files() -> str:
    """Remove mounted files that no kept release names."""
    return (
        'for folder in "$dir"/files/*; do [ -e "$folder" ] || continue;'
        f' grep -qF "/files/$(basename "$folder")/" "$dir"/releases/*/{STACK_FILE} || rm -rf "$folder"; done'
    )


def end(work: Work, state: str, detail: str, phase: str = "end") -> Script:
    """Return the script that writes down how a deploy ended when it did not end well."""
    make = f"mkdir -p {quote(work.layout.directory)}"
    return Script.of("write the journal", make, work.note(phase, state, detail), timeout=30)
