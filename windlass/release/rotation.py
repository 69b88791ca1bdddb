"""A rotation where it meets the hosts: its record, the deploy of what uses the secret, the re-encryption.

The record is `rotation.json` in the application's folder on the first host, mode 0600, so that whoever is on
call finds it. It is changed under the deploy lock only; the deploy in it takes that lock as any other does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from windlass.engines import compose as engine
from windlass.environment.environment import Environment
from windlass.environment.inspection import examine
from windlass.environment.problems import InvalidEnvironment
from windlass.errors import Locked, OperationFailed, WindlassError
from windlass.events import Emit, Notice, Output
from windlass.hosts.base import Host
from windlass.hosts.group import Hosts
from windlass.identity import who
from windlass.progress import phase
from windlass.release import scripts
from windlass.release.deploying import Options, Session, deploy, look_all, make_plan
from windlass.release.facts import KEY_BYTES, Facts
from windlass.release.layout import Layout, layout
from windlass.release.lock import DeployLock, acquire_all
from windlass.release.planning import Plan
from windlass.secrets.comparing import Digests
from windlass.secrets.providers.base import Failure
from windlass.secrets.redaction import Redactor
from windlass.secrets.rotating import Deployed, Rotation, Rotator
from windlass.secrets.settings import ReencryptSettings, RotationSettings
from windlass.shell import Script, Sensitive, assign, quote

ACTION: Final = "rotate"
RECORD: Final = "rotation.json"
REENCRYPT_LOG: Final = "reencrypt.log"
_TIMEOUT: Final = 60.0


def read_record(environment: Environment, host: Host) -> Rotation | None:
    """Return the last rotation that was written down on a host; None when there is none.

    Raises:
        OperationFailed: the record is damaged.
    """
    place = layout(environment, host.name)
    script = Script.of(
        "look for a rotation",
        assign("dir", place.directory),
        f'if [ -e "$dir/{RECORD}" ]; then cat "$dir/{RECORD}"; fi',
        timeout=_TIMEOUT,
    )
    text = host.run(script).text
    return Rotation.from_json(text) if text.strip() else None


def record_script(work: scripts.Work, rotation: Rotation) -> Script:
    """Return the script that writes a rotation down, whole or not at all."""
    return work.guarded(
        "write the rotation down",
        # In the script and not on stdin: a script that was cut off does not run.
        f"printf '%s\\n' {quote(rotation.to_json())} >\"$dir/.{RECORD}.new\"",
        f'chmod 600 "$dir/.{RECORD}.new"',
        # Before anything is done that it speaks of, also when the power fails.
        f'sync "$dir/.{RECORD}.new"',
        f'mv -T -f "$dir/.{RECORD}.new" "$dir/{RECORD}"',
        timeout=_TIMEOUT,
    )


def key_script(work: scripts.Work, key: bytes) -> Script:
    """Return the script that gives a new host the key of content hashes, unless it has one."""
    return work.guarded(
        "keep the key of digests",
        f"grep -Eqx '[0-9a-f]{{{2 * KEY_BYTES}}}' \"$dir/key\" 2>/dev/null ||"
        f' {{ printf \'%s\\n\' {key.hex()} >"$dir/.key.new" && mv -T -f "$dir/.key.new" "$dir/key"; }}',
        timeout=_TIMEOUT,
    )


def reencrypt_script(work: scripts.Work, settings: ReencryptSettings) -> Script:
    """Return the script that runs the re-encryption once, with the live release's image and variables."""
    name = f"{work.project}-reencrypt-{work.release.lower()}"
    command = engine.run_once(work.compose(), name, settings.service, settings.command, dependencies=False)
    log = quote(work.layout.release(work.release, REENCRYPT_LOG))
    return work.guarded(
        "run the re-encryption",
        f"docker rm -f {quote(name)} >/dev/null 2>&1 || true",
        f"exec 3>&1; touch {log}",
        "run() {",
        *engine.limited(command, settings.timeout, name),
        "}",
        # It goes on when nobody reads it any more, or its log finds no space.
        f"if ( run ) 2>&1 | {{ tee -p {log} >&3 || cat >/dev/null; }}; then :; else",
        f"  tail -n 20 {log} >&2; exit 1",
        "fi",
        timeout=settings.timeout + _TIMEOUT,
    )


def go_on(rotator: Rotator, emit: Emit, *, undo: bool) -> Rotation:
    """Carry a rotation on from wherever it is, to its end or back.

    Args:
        rotator: the rotation.
        emit: told what happens.
        undo: go back.

    Returns:
        The record as it is now.

    Raises:
        WindlassError: a step failed; the record says how far it came.
    """
    if undo:
        with phase(emit, "put the old value back"):
            rotator.take_back()
        if rotator.spread_back():
            rotator.end_undone()
    else:
        with phase(emit, "store both values"):
            rotator.store()
        if rotator.spread():
            rotator.end()
    return rotator.rotation


class HostDesk:
    """What a rotation needs of the hosts; see `windlass.secrets.rotating.Desk`.

    Args:
        environment: the environment; its variables are not looked at.
        hosts: its hosts.
        emit: told what happens.
        redactor: learns every secret of the deploy.
        settings: how the secret is rotated.
        variable: the secret.
        wants_deploy: whether what runs is to get the new value now.
        current: reads what the store holds, which a deploy must give.
        show: shown the deploy's plan before it is carried out.
    """

    def __init__(
        self,
        environment: Environment,
        hosts: Hosts,
        emit: Emit,
        redactor: Redactor,
        settings: RotationSettings,
        variable: str,
        *,
        wants_deploy: bool = True,
        current: Callable[[], Sensitive | Failure],
        show: Callable[[Plan], None],
    ) -> None:
        self._environment = environment
        self._hosts = hosts
        self._emit = emit
        self._redactor = redactor
        self._settings = settings
        self._variable = variable
        self._wants_deploy = wants_deploy
        self._current = current
        self._show = show
        self._facts: Mapping[str, Facts] = look_all(environment, hosts, with_images=False)
        self._lock: DeployLock | None = None
        self._key = next((each.key for each in self._facts.values() if each.key), b"")

    @property
    def first(self) -> Facts:
        """What is true on the host that keeps the record."""
        return self._facts[self._hosts.first.name]

    @contextmanager
    def locked(self, seen: Rotation | None) -> Iterator[None]:
        """Hold the deploy lock of the first host, so that there is one rotation at a time.

        Args:
            seen: the record as it was when it was decided what to do.

        Raises:
            Locked: a deploy or another rotation is under way, or went on since.
        """
        self._take_lock()
        try:
            if read_record(self._environment, self._hosts.first) != seen:
                raise Locked("Another rotation went on meanwhile.", "Run it again to see what is true.")
            yield
        finally:
            self._give_lock_back()

    def digests(self) -> Digests:
        """Return what makes the record's digests: under the key the hosts keep, made when there is none.

        The lock must be held.
        """
        if not self._key:
            self._key = secrets.token_bytes(KEY_BYTES)
            self._hosts.first.run(key_script(self._work(), self._key))
        return Digests(self._key)

    # --- what a rotation asks for

    def note(self, rotation: Rotation) -> None:
        """Write the record down."""
        self._hosts.first.run(record_script(self._work(), rotation))

    def deploy(self) -> Deployed:
        """Deploy the running release's images with today's values, so that who uses the secret is replaced.

        Raises:
            WindlassError: it did not end well; what ran before runs again, or the error says what does.
        """
        live = self.first.releases.get(self.first.current)
        if live is None:
            self._emit(Notice("info", "Nothing is deployed yet, so there is nobody to give the value to."))
            return "nothing runs"
        if not self._wants_deploy:
            return "not wanted"
        environment = self._loaded()
        session = Session(environment, self._hosts, self._emit, self._redactor)
        prepared = make_plan(session, Options(tag=live.tag, build=False, skip_migrate=True))
        if prepared.candidate.commit != live.commit:
            was, here = live.commit[:12] or "no commit", prepared.candidate.commit[:12] or "none"
            text = f"The release that runs was made from {was}, and this folder is at {here}"
            self._emit(Notice("warning", f"{text}: services defined otherwise here change too."))
        self._show(prepared.plan)
        # A deploy takes the lock of every host itself.
        self._give_lock_back()
        outcome = deploy(session, prepared)
        if outcome.error is not None:
            raise outcome.error
        self._facts = look_all(self._environment, self._hosts, with_images=False)
        self._take_lock()
        return "done"

    @property
    def live(self) -> str:
        """The id of the release that runs on the first host; empty when none does."""
        return self.first.current

    @property
    def reencrypts(self) -> bool:
        """Whether a re-encryption is configured."""
        return self._settings.reencrypt is not None

    def reencrypt(self) -> None:
        """Run the re-encryption in the live release on the first host; it does it for all.

        Raises:
            CommandFailed: it failed or took too long.
        """
        settings = self._settings.reencrypt
        assert settings is not None  # noqa: S101 - the caller asked
        host = self._hosts.first
        work = self._work(settings.timeout + _TIMEOUT)
        with phase(self._emit, "re-encrypt"):
            host.run(
                reencrypt_script(work, settings),
                on_line=lambda line: self._emit(Output(host.name, settings.service, line)),
            )

    # --- how

    def _loaded(self) -> Environment:
        """Load the environment with its values, and see that the secret is the store's."""
        root, name = self._environment.root, self._environment.name
        # Not from the cache: what was written a moment ago must not be missed.
        found = examine(root, name)
        if found.problems or found.settings is None:
            raise InvalidEnvironment(name, found.problems)
        environment = Environment(name, root, found.settings, found.variables.values, found.variables.notes)
        self._redactor.learn(environment.secrets.values())
        value = environment.variables[self._variable].value
        if not isinstance(value, Sensitive) or value != self._current():
            raise OperationFailed(
                f"{name} still gives {self._variable} another value than the store.",
                "`inv secrets.check` says from which place of its reference it comes.",
            )
        return environment

    def _work(self, wait: float = 0.0) -> scripts.Work:
        return scripts.Work(
            layout=Layout(self.first.directory),
            project=self._environment.settings.app,
            release=self.first.current,
            action=ACTION,
            who=who(),
            token="" if self._lock is None else self._lock.token,
            wait=max(wait, scripts.patience(self._environment.settings.deploy)),
        )

    def _take_lock(self) -> None:
        host = self._hosts.first
        since = datetime.now(UTC).isoformat("T", "seconds")
        pairs = [(host, Layout(self.first.directory))]
        self._lock = acquire_all(pairs, who=who(), action=ACTION, release=self._variable, since=since)[
            host.name
        ]

    def _give_lock_back(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(WindlassError):
                lock.release()
