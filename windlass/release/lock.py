"""One deploy at a time: a lock on each host that dies with its holder.

A process on the host holds a kernel lock (`flock`) for as long as it hears this client's heartbeat. A
killed client, a closed link or `HEARTBEAT_LIMIT` seconds of silence end it; nothing stays behind. Every
script of a deploy first checks that its own token still holds the lock, and takes a second lock while
it runs, so that a script outliving its client is waited for, not overtaken.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from windlass.errors import Locked, OperationFailed
from windlass.hosts.base import Host, Process
from windlass.release.facts import LockOwner
from windlass.release.layout import Layout
from windlass.shell import Command, Script, assign, quote

HEARTBEAT_SECONDS = 10.0
HEARTBEAT_LIMIT = 45
WORK_WAIT_SECONDS = 120
LOST = 75

_HOLDER = """
dir=$1; owner=$2; limit=$3
umask 077
mkdir -p "$dir" || exit 1
exec 9>>"$dir/lock" || exit 1
# Not -n: whoever looks at the state tries the lock for an instant.
if ! flock -w 1 9; then echo held; cat "$dir/lock.json" 2>/dev/null; echo; exit 73; fi
trap 'rm -f "$dir/lock.json"' EXIT
trap 'exit 0' TERM INT HUP
printf '%s\\n' "${owner/HOLDER/$$}" >"$dir/lock.json" || exit 1
echo locked
while IFS= read -r -t "$limit" line; do [ "$line" = release ] && break; done
"""


class DeployLock:
    """The lock of one host, held while this object lives.

    Args:
        host: the host.
        layout: where its files are.
        who: `user@machine`, shown to whoever is refused.
        action: what is being done.
        release: the release it is done for.
        since: UTC time, as text.
        limit: seconds of silence after which the host gives it up.
        heartbeat: seconds between two signs of life.
    """

    def __init__(
        self,
        host: Host,
        layout: Layout,
        *,
        who: str,
        action: str,
        release: str,
        since: str,
        limit: float = HEARTBEAT_LIMIT,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.token = secrets.token_hex(8)
        self._heartbeat_seconds = heartbeat
        self._host = host
        owner = {"who": who, "action": action, "release": release, "since": since, "token": self.token}
        # First, so that the holder puts its number there and nowhere in a name.
        text = '{"holder": HOLDER, ' + json.dumps(owner)[1:]
        command = Command.of("bash", "-c", _HOLDER, "windlass-lock", layout.directory, text, f"{limit:g}")
        self._process: Process = host.open(command, bulk=False)
        self._stop = threading.Event()
        try:
            self._acquire()
        except BaseException:
            self._process.__exit__(None, None, None)
            raise
        self._beat = threading.Thread(target=self._heartbeat, name="windlass-heartbeat", daemon=True)
        self._beat.start()

    def _acquire(self) -> None:
        answer = _line(self._process)
        if answer == "locked":
            return
        if answer == "held":
            owner = LockOwner.from_json(_line(self._process))
            raise Locked(
                f"{self._host.name} is locked: {owner or 'by a deploy that just began'}.",
                "Wait for it to end; `inv deploy.unlock` ends a hold that should not be there.",
            )
        self._process.wait()  # or what it said is not read yet
        raise OperationFailed(
            f"{self._host.name}: the lock cannot be taken: {self._process.error_text() or 'no answer'}"
        )

    def _heartbeat(self) -> None:
        while not self._stop.wait(self._heartbeat_seconds):
            try:
                self._process.stdin.write(b"\n")
            except (OSError, ValueError):
                return  # the link is gone; the next script says so

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        try:
            self._process.stdin.write(b"release\n")
            self._process.stdin.close()
            self._process.wait()
        except (OSError, ValueError, OperationFailed):
            pass  # the link is gone and the lock with it
        finally:
            self._process.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _line(process: Process) -> str:
    """Read one line of a holder's answer, byte by byte: its stream is not buffered."""
    line = bytearray()
    while (byte := process.stdout.read(1)) not in (b"", b"\n"):
        line += byte
    return line.decode(errors="replace").strip()


def guard_lines(layout: Layout, token: str, wait: float = WORK_WAIT_SECONDS) -> list[str]:
    """Return the first lines of every script that changes something: still ours, nobody else at work.

    Args:
        layout: where the host's files are.
        token: the lock's.
        wait: seconds to wait for a script of an earlier deploy that outlived its client.
    """
    return [
        str(assign("dir", layout.directory)),
        "umask 077",
        'exec 8>>"$dir/work.lock"',
        f"flock -w {wait:g} 8 ||"
        " { echo 'a script of an earlier deploy is still running here' >&2; exit 75; }",
        f'grep -q {quote(token)} "$dir/lock.json" 2>/dev/null ||'
        f" {{ echo 'the lock of this deploy was lost or taken away' >&2; exit {LOST}; }}",
    ]


def unlock(host: Host, layout: Layout) -> LockOwner | None:
    """End the hold of a host's lock; return who held it, None when nobody did."""
    script = Script.of(
        "unlock",
        assign("dir", layout.directory),
        '[ -r "$dir/lock.json" ] || exit 0',
        'cat "$dir/lock.json"',
        'if ! flock -n "$dir/lock" true; then',
        '  holder=$(sed -n \'s/.*"holder": \\([0-9]*\\).*/\\1/p\' "$dir/lock.json")',
        '  if [ -n "$holder" ]; then kill "$holder" 2>/dev/null || true; fi',
        "fi",
        # Under the lock: whoever takes it next has an owner file of its own.
        'flock -w 10 "$dir/lock" rm -f "$dir/lock.json" || { echo "the holder did not end" >&2; exit 1; }',
        timeout=30,
    )
    return LockOwner.from_json(host.run(script).text.strip())


def acquire_all(
    hosts: Sequence[tuple[Host, Layout]], *, who: str, action: str, release: str, since: str
) -> dict[str, DeployLock]:
    """Lock every host or none, in one order so that two clients never wait for each other.

    Raises:
        Locked: another holds one of them; those already taken are given back.
    """
    held: dict[str, DeployLock] = {}
    try:
        for host, layout in sorted(hosts, key=lambda pair: pair[0].name):
            held[host.name] = DeployLock(host, layout, who=who, action=action, release=release, since=since)
    except BaseException:
        for lock in held.values():
            lock.release()
        raise
    return held
