"""Rotating a secret: a new value, the old one kept, what runs replaced; finished or undone by anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ._secrets_shared import ENV_HELP, YES_HELP, learner, opened, value_from_file
from ._task import is_dry, task

if TYPE_CHECKING:
    from windlass.environment.keeping import Keeping
    from windlass.errors import WindlassError
    from windlass.hosts.group import Hosts
    from windlass.release.rotation import HostDesk
    from windlass.secrets.comparing import Digests
    from windlass.secrets.redaction import Redactor
    from windlass.secrets.references import Address
    from windlass.secrets.rotating import Rotation, Rotator
    from windlass.secrets.settings import RotationSettings
    from windlass.shell import Sensitive

    from ._terminal import Terminal


@task(
    help={
        "name": "The variable; its value in envs/ must be a reference.",
        "env": ENV_HELP,
        "value-from-file": "Take the new value from this file, byte for byte; without it, one is made.",
        "finish": "Go on with a rotation that was interrupted.",
        "undo": "Go back from a rotation that was interrupted: the old value becomes the current one.",
        "deploy": "Give what runs the new value; --no-deploy leaves that to the next deploy.",
        "yes": YES_HELP,
        "json": "Write the result as JSON to stdout and events as JSON Lines to stderr.",
    }
)
def rotate(
    context: Context,
    name: str = "",
    env: str = "",
    value_from_file: str = "",
    finish: bool = False,
    undo: bool = False,
    deploy: bool = True,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Give a secret a new value: both stored, what uses it replaced, data re-encrypted; never loses the old.

    An interrupted rotation says what is true and asks for --finish or --undo; whoever is on call can do it.
    """
    from windlass.errors import ConfigurationError

    from . import _terminal

    if finish and undo:
        raise ConfigurationError("--finish and --undo are opposites.", "Give one of them.")
    terminal = _terminal.Terminal(as_json=json)
    with opened(env) as keeping:
        redactor = learner(keeping)
        keeping.address(name)
        with _terminal.connected(keeping.environment, redactor=redactor) as hosts:
            work = _Work(terminal, keeping, hosts, redactor, name, value_from_file, wants_deploy=deploy)
            seen = work.decide(finish=finish, undo=undo)
            if is_dry(context):
                work.try_out(seen, undo=undo)
                work.show(undo=undo)
                return
            _terminal.confirm(keeping.environment, f"secrets.rotate of {name}", yes=yes)
            rotation = work.carry_out(seen, undo=undo)
        work.report(rotation)


class _Work:
    """One call of the task."""

    def __init__(
        self,
        terminal: Terminal,
        keeping: Keeping,
        hosts: Hosts,
        redactor: Redactor,
        name: str,
        path: str,
        *,
        wants_deploy: bool,
    ) -> None:
        from windlass.release.rotation import HostDesk
        from windlass.secrets.rotating import Store
        from windlass.secrets.settings import RotationSettings

        self._terminal = terminal
        self._keeping = keeping
        self._hosts = hosts
        self._redactor = redactor
        self._name = name
        self._settings: RotationSettings = keeping.environment.settings.secrets.rotation.get(
            name, RotationSettings()
        )
        self._given: Sensitive | None = value_from_file(path) if path else None
        self._place: Address = keeping.address(name)
        self._store = Store(keeping.resolver, lambda value: redactor.learn([value.reveal()]))
        self._desk: HostDesk = HostDesk(
            keeping.environment,
            hosts,
            terminal.emit,
            redactor,
            self._settings,
            name,
            wants_deploy=wants_deploy,
            current=lambda: self._store.read(self._place),
            show=self._show_changes,
        )

    def decide(self, *, finish: bool, undo: bool) -> Rotation | None:
        """Return the record of the last rotation, once it is clear that what was asked for fits it.

        Raises:
            OperationFailed: an interrupted rotation is there and nobody said what to do with it, or none is.
        """
        from windlass.errors import ConfigurationError, OperationFailed
        from windlass.release.rotation import read_record

        environment = self._keeping.environment
        seen = read_record(environment, self._hosts.first)
        if seen is None or seen.is_over:
            if finish or undo:
                raise ConfigurationError(f"No rotation of {environment.name} is unfinished.")
            return seen
        if seen.environment != environment.name or seen.variable != self._name:
            raise OperationFailed(
                f"A rotation of {seen.variable} in {seen.environment}, by {seen.who} since {seen.started}, "
                "is unfinished.",
                f"First `inv secrets.rotate --env {seen.environment} --name {seen.variable}`.",
            )
        if not (finish or undo):
            self._explain(seen)
        return seen

    def _explain(self, seen: Rotation) -> None:
        """Say what is true of an interrupted rotation."""
        from windlass.errors import OperationFailed
        from windlass.secrets.rotating import describe

        with self._desk.locked(seen):
            lines = describe(self._rotator(seen))
        raise OperationFailed(
            " ".join(lines),
            "Run it again with --finish to go on, or with --undo to go back to the value before.",
        )

    def carry_out(self, seen: Rotation | None, *, undo: bool) -> Rotation:
        """Begin or go on, under the lock."""
        from windlass.errors import WindlassError
        from windlass.release.rotation import go_on

        with self._desk.locked(seen), self._keeping.writing():
            rotation = self._begin(seen, self._desk.digests()) if seen is None or seen.is_over else seen
            rotator = self._rotator(rotation)
            try:
                return go_on(rotator, self._terminal.emit, undo=undo)
            except WindlassError as error:
                _add_way_out(error, rotator)
                raise

    def try_out(self, seen: Rotation | None, *, undo: bool) -> None:
        """Refuse what `carry_out` would refuse before it changes anything; changes nothing itself.

        Raises:
            WindlassError: why it would not be done.
        """
        from windlass.secrets.comparing import Digests

        if seen is None or seen.is_over:
            # Under a key of its own: the hosts' may be yet to be made.
            self._begin(seen, Digests())
        elif undo:
            with self._desk.locked(seen):
                self._rotator(seen).require_way_back()

    def _begin(self, last: Rotation | None, digests: Digests) -> Rotation:
        """Return the record of a rotation that may begin; changes nothing."""
        from windlass.environment.keeping import require_value
        from windlass.identity import who
        from windlass.secrets.rotating import begin

        self._require_settings()
        if self._given is not None:
            self._redactor.learn([self._given.reveal()])
            require_value(self._name, self._given)
        return begin(
            self._store,
            digests,
            variable=self._name,
            environment=self._keeping.environment.name,
            place=self._place,
            previous=self._previous(),
            who=who(),
            given=self._given,
            reencrypts=self._settings.reencrypt is not None,
            last=last,
            live=self._desk.live,
        )

    def _require_settings(self) -> None:
        """Refuse what would fail only after the old value was replaced."""
        from windlass.errors import ConfigurationError
        from windlass.secrets.generating import kind_fault

        fault = "" if self._given is not None else kind_fault(self._settings.generate)
        if fault:
            raise ConfigurationError(f"[secrets.rotation.{self._name}] generate: {fault}.")

    def _previous(self) -> Address | None:
        name = self._settings.previous
        return self._keeping.address(name) if name else None

    def _rotator(self, rotation: Rotation) -> Rotator:
        from windlass.identity import who
        from windlass.secrets.rotating import Rotator

        digests = self._desk.digests()
        return Rotator(rotation, self._store, self._desk, digests, lambda: self._make(rotation), who())

    def _make(self, rotation: Rotation) -> Sensitive:
        from windlass.errors import ConfigurationError
        from windlass.secrets.generating import generate

        if self._given is not None:
            return self._given
        if rotation.given:
            raise ConfigurationError(
                "The new value was given and did not reach the store.", "Give --value-from-file again."
            )
        return generate(self._settings.generate)

    # --- speaking

    def show(self, *, undo: bool) -> None:
        """Say what would be done; changes nothing."""
        previous = self._previous()
        reencrypt = self._settings.reencrypt
        first = (
            [f"keep the value before at {previous}"] if previous else ["keep the value before as a version"]
        )
        steps = [f"put the value before back at {self._place}"] if undo else [*first, f"write {self._place}"]
        live = self._desk.first.current
        steps += [f"deploy the images of {live} again, with the values of now"] if live else []
        steps += [f"run {' '.join(reencrypt.command)} in {reencrypt.service}"] if reencrypt and live else []
        self._terminal.result({"name": self._name, "steps": steps})
        for step in steps:
            self._terminal.say(f"would {step}")

    def _show_changes(self, plan: object) -> None:
        from windlass.release.planning import Plan

        assert isinstance(plan, Plan)  # noqa: S101 - so that this module imports nothing at its top
        rows = [
            (host, change.service, change.kind, change.reason)
            for host, changes in plan.changes.items()
            for change in changes
        ]
        self._terminal.table(f"deploy of {plan.release}", ("host", "service", "change", "why"), rows)

    def report(self, rotation: Rotation) -> None:
        """Say how it ended."""
        self._terminal.result(
            {
                "ok": rotation.is_over,
                "name": rotation.variable,
                "outcome": rotation.outcome or "unfinished",
                "step": rotation.step,
                "place": rotation.place,
                "previous": rotation.previous,
                "old_version": rotation.old_version,
                "new_version": rotation.new_version,
            }
        )
        self._terminal.say(_sentence(rotation, self._keeping.environment.name))


def _sentence(rotation: Rotation, env: str) -> str:
    if not rotation.is_over:
        way = "--undo" if rotation.undoing else "--finish"
        return (
            f"{rotation.variable}: both values are stored; what is encrypted waits for a deploy. "
            f"`inv secrets.rotate --env {env} --name {rotation.variable} {way}` goes on."
        )
    if rotation.outcome == "undone":
        return f"{rotation.variable} has the value it had before, at {rotation.place}."
    before = f"at {rotation.previous}" if rotation.previous else f"version {rotation.old_version}"
    return f"{rotation.variable} has a new value at {rotation.place}; the one before is {before}."


def _add_way_out(error: WindlassError, rotator: Rotator) -> None:
    """Say in an error what both places hold now and how to go on, once anything was written down."""
    from windlass.errors import WindlassError

    rotation = rotator.rotation
    if not rotation.by:
        return
    try:
        seen = " ".join(rotator.seen())
    except WindlassError as unseen:
        seen = f"What is stored cannot be said: {unseen.message}"
    words = "--undo" if rotation.undoing else "--finish or --undo"
    command = f"inv secrets.rotate --env {rotation.environment} --name {rotation.variable}"
    # What failed may have said already which of the two it must be.
    way = "" if "--finish" in error.hint or "--undo" in error.hint else f"Run `{command}` with {words}."
    error.hint = " ".join(filter(None, (error.hint, seen, way)))
