"""A rotation interrupted at every step, then finished or undone: no value is ever lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.secretstores import Memory, Versioned, install
from windlass.errors import ConfigurationError, OperationFailed
from windlass.secrets import rotating
from windlass.secrets.comparing import Digests
from windlass.secrets.providers.aws.client import AwsClient
from windlass.secrets.providers.aws.sessions import Login
from windlass.secrets.providers.aws.targets import Place
from windlass.secrets.providers.azure.client import AzureClient
from windlass.secrets.providers.azure.sessions import Session
from windlass.secrets.providers.base import Client
from windlass.secrets.providers.vault.calls import Calls
from windlass.secrets.providers.vault.client import VaultClient
from windlass.secrets.providers.vault.login import Login as VaultLogin
from windlass.secrets.references import Address
from windlass.secrets.resolving import Resolver
from windlass.secrets.rotating import Deployed, Rotation, Rotator, Store, begin, describe, same_secret
from windlass.secrets.settings import AzureSettings, VaultSettings
from windlass.shell import Sensitive

OLD, OLDER = "old-Zq8vTn2kLw5x", "older-Rk3mVb7cXs1p"  # pragma: allowlist secret
PLACES = {
    "file and file": ("plain:shop/KEY", "plain:shop/KEY_PREVIOUS"),
    "versions and stage": ("kept:shop/KEY", "kept:shop/KEY?stage=previous"),
    "versions and own place": ("kept:shop/KEY", "kept:shop/KEY_PREVIOUS"),
    "versions and file": ("kept:shop/KEY", "plain:shop/KEY_PREVIOUS"),
    "file and versions": ("plain:shop/KEY", "kept:shop/KEY_PREVIOUS"),
    "versions alone": ("kept:shop/KEY", ""),
    "field and field": ("kept:shop#KEY", "kept:shop#KEY_PREVIOUS"),
}
every_place = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)


class Killed(BaseException):
    """Stops everything, as `kill -9` does: nothing is written after it."""


class World:
    """Stores, an application that runs, and its data; whatever happens is counted and may be the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: tuple[str, str], *, reencrypts: bool) -> None:
        self.plain, self.kept = Memory("plain", self.happens), Versioned("kept", self.happens)
        install(monkeypatch, self.plain, self.kept)
        self.place, self.previous = _address(places[0]), _address(places[1]) if places[1] else None
        self.reencrypts = reencrypts
        self.record = ""
        self.root = Path()
        self.digests = Digests()
        self.happened: list[str] = []
        self.kill_at = 0
        self.kill_before = ""
        self.made: list[str] = []
        self.learnt: set[str] = set()
        self.wanted: Deployed = "done"
        self.release = 1
        self.last: Rotation | None = None
        self._put(self.place, OLD)
        if self.previous and "?" not in self.previous.target:
            self._put(self.previous, OLDER)
        self.plain.writes.clear()
        self.kept.writes.clear()
        # What the application has, and with which key each of its rows is encrypted.
        self.running: tuple[str, str | None] = (OLD, None)
        self.rows = [OLD, OLD]
        self.happened.clear()

    def client(self, address: Address) -> Memory:
        return self.plain if address.provider == "plain" else self.kept

    def _put(self, address: Address, value: str) -> None:
        self.client(address).write({address.target: Sensitive(value)})

    def value(self, address: Address) -> str | None:
        found = self.client(address).fetch([address.target])[address.target]
        return found.reveal() if isinstance(found, Sensitive) else None

    def happens(self, what: str) -> None:
        """Count what happens; with `kill_at`, all ends there."""
        self.happened.append(what)
        if what == self.kill_before or (self.kill_at and len(self.happened) >= self.kill_at):
            raise Killed(what)

    # --- what a rotation needs

    def note(self, rotation: Rotation) -> None:
        self.happens("note")
        self.record = rotation.to_json()
        self.happens("noted")

    def deploy(self) -> Deployed:
        self.happens("deploy")
        if self.wanted == "done":
            previous = self.value(self.previous) if self.previous else None
            self.running = (self.value(self.place) or "", previous)
            self.release += 1
            # A live application goes on writing, with its key.
            self.rows.append(self.running[0])
            self.happens("deployed")
        return self.wanted

    @property
    def live(self) -> str:
        return f"20260301T12000{self.release}Z-1a2b3c4"

    def reencrypt(self) -> None:
        for index in range(len(self.rows)):
            self.happens("re-encrypt a row")
            # The application can read a row with one of the two keys it has, or the row is lost.
            assert self.rows[index] in self.running, "a row that nothing can read"
            self.rows[index] = self.running[0]
        self.happens("re-encrypted")

    def make(self) -> Sensitive:
        self.made.append(f"new-{len(self.made)}-Hd5tWq9zPb2n")
        return Sensitive(self.made[-1])

    # --- as the task does it

    def store(self) -> Store:
        return Store(Resolver(self.root, {}), lambda value: self.learnt.add(value.reveal()))

    def rotator(self) -> Rotator:
        store = self.store()
        if self.record:
            rotation = Rotation.from_json(self.record)
        else:
            rotation = begin(
                store,
                self.digests,
                variable="KEY",
                environment="prod",
                place=self.place,
                previous=self.previous,
                who="ana@desk",
                reencrypts=self.reencrypts,
                last=self.last,
                live=self.live,
            )
        return Rotator(rotation, store, self, self.digests, self.make, "ben@call")

    def finish(self) -> Rotator:
        rotator = self.rotator()
        rotator.store()
        if rotator.spread():
            rotator.end()
        return rotator

    def finish_until_spread(self) -> None:
        """Do all but write down that it is over."""
        rotator = self.rotator()
        rotator.store()
        rotator.spread()

    def undo(self) -> Rotator:
        rotator = self.rotator()
        rotator.take_back()
        if rotator.spread_back():
            rotator.end_undone()
        return rotator

    # --- what must hold

    def all_values(self) -> set[str]:
        """Return every value that can still be had from a store, whatever version it is."""
        return {
            value for client in (self.plain, self.kept) for each in client.kept.values() for value in each
        }

    def check_nothing_is_lost(self) -> None:
        needed = {OLD, *self.rows, *(value for value in self.running if value)} - {OLDER}
        assert needed <= self.all_values()
        stored = [value for value in self.made if value in self.all_values()]
        assert len(stored) <= 1, "a second new value was stored"
        if self.record:
            for value in (OLD, OLDER, *self.made):
                assert value not in self.record


def _address(text: str) -> Address:
    provider, _, target = text.partition(":")
    return Address(provider, target)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch, PLACES["file and file"], reencrypts=True)


def interruptions(monkeypatch: pytest.MonkeyPatch, places: tuple[str, str], how: str) -> Iterator[World]:
    """Yield a world for each instant a run can be killed at."""
    for kill_at in itertools.count(1):
        with monkeypatch.context() as patch:
            world = World(patch, places, reencrypts=bool(places[1]))
            if how == "undo":
                world.finish_until_spread()
            world.kill_at = kill_at + len(world.happened)
            try:
                world.finish() if how == "finish" else world.undo()
            except Killed:
                world.kill_at = 0
                world.check_nothing_is_lost()
                yield world
            else:
                assert kill_at > 6, "it was killed at every step"
                return


@every_place
def test_a_rotation_ends_with_both_values_where_they_belong(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    world = World(monkeypatch, places, reencrypts=bool(places[1]))
    rotation = world.finish().rotation
    (new,) = world.made
    assert world.value(world.place) == new
    if world.previous:
        assert world.value(world.previous) == OLD
        assert world.running == (new, OLD)
        assert set(world.rows) == {new}
    assert (rotation.outcome, rotation.step, rotation.is_over) == ("rotated", "ended", True)
    assert rotation.old == "" and rotation.attempts == ()
    assert world.learnt >= {OLD, new}


def test_the_old_value_is_stored_and_all_is_deployed_before_anything_is_re_encrypted(world: World) -> None:
    world.finish()
    order = [each for each in world.happened if each not in {"note", "noted"}]
    wanted = [
        "written shop/KEY_PREVIOUS",
        "write shop/KEY",
        "written shop/KEY",
        "deployed",
        "re-encrypt a row",
    ]
    positions = [order.index(each) for each in wanted]
    assert positions == sorted(positions)
    assert order[-1] == "re-encrypted"


@every_place
def test_finished_after_a_kill_at_every_instant(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    for world in interruptions(monkeypatch, places, "finish"):
        world.finish()
        world.check_nothing_is_lost()
        new = world.value(world.place)
        assert new in world.made
        assert world.running[0] == new
        if world.previous:
            assert world.value(world.previous) == OLD
            assert set(world.rows) == {new}
        assert Rotation.from_json(world.record).outcome == "rotated"


@every_place
def test_undone_after_a_kill_at_every_instant(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    for world in interruptions(monkeypatch, places, "finish"):
        if not world.record:
            continue  # nothing was begun
        if Rotation.from_json(world.record).is_over:
            continue
        world.undo()
        world.check_nothing_is_lost()
        assert world.value(world.place) == OLD
        assert world.running[0] == OLD
        if world.previous:
            assert set(world.rows) == {OLD}
        assert Rotation.from_json(world.record).outcome == "undone"


@every_place
def test_an_undo_killed_at_every_instant_is_undone_again(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    for world in interruptions(monkeypatch, places, "undo"):
        if Rotation.from_json(world.record).is_over:
            continue
        world.undo()
        world.check_nothing_is_lost()
        assert (world.value(world.place), world.running[0]) == (OLD, OLD)
        if world.previous:
            assert set(world.rows) == {OLD}
            assert world.value(world.previous) == world.made[0]


@every_place
def test_killed_again_and_again_and_then_finished(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    world = World(monkeypatch, places, reencrypts=bool(places[1]))
    for further in itertools.count(3):
        world.kill_at = len(world.happened) + further
        try:
            world.finish()
        except Killed:
            world.check_nothing_is_lost()
        else:
            break
        assert len(world.happened) < 500
    assert world.value(world.place) in world.made


def test_an_undo_that_has_begun_is_not_finished_forwards(world: World) -> None:
    world.finish_until_spread()
    world.kill_before = "written shop/KEY"
    with pytest.raises(Killed):
        world.undo()
    world.kill_before = ""
    with pytest.raises(OperationFailed, match="undoing has begun"):
        world.finish()


@every_place
def test_an_undo_that_changed_nothing_yet_may_be_finished_forwards(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    world = World(monkeypatch, places, reencrypts=bool(places[1]))
    world.finish_until_spread()
    world.kill_at = len(world.happened) + 2
    with pytest.raises(Killed):
        world.undo()
    world.kill_at = 0
    assert Rotation.from_json(world.record).undoing
    assert world.finish().rotation.outcome == "rotated"
    assert world.value(world.place) == world.made[0]
    world.check_nothing_is_lost()


def test_an_undo_without_a_way_back_leads_into_no_dead_end(world: World) -> None:
    """Killed once both were stored, and then somebody writes another value to the second place."""
    world.kill_before = "deploy"
    with pytest.raises(Killed):
        world.finish()
    world.kill_before = ""
    new = world.made[0]
    world.plain.kept["shop/KEY_PREVIOUS"] = ["somebody-elses"]
    record = world.record
    with pytest.raises(OperationFailed, match="no longer at plain:shop/KEY_PREVIOUS") as undone:
        world.undo()
    assert undone.value.hint == "Go on with --finish."
    assert world.record == record
    assert "holds a value that is neither" in "\n".join(describe(world.rotator()))
    # Nothing is re-encrypted without the value before; written back there, all goes on.
    with pytest.raises(OperationFailed, match="does not hold the value before") as finished:
        world.finish()
    assert "Write it there again" in finished.value.hint
    assert (world.running, world.rows) == ((OLD, None), [OLD, OLD])
    world.plain.kept["shop/KEY_PREVIOUS"] = [OLD]
    assert world.finish().rotation.outcome == "rotated"
    assert set(world.rows) == {new}


def test_a_value_somebody_else_wrote_is_never_overwritten(world: World) -> None:
    world.kill_at = 8
    with pytest.raises(Killed):
        world.finish()
    world.kill_at = 0
    world.plain.kept["shop/KEY"] = ["somebody-elses"]
    for attempt in (world.finish, world.undo):
        with pytest.raises(OperationFailed, match="somebody wrote another one"):
            attempt()
        assert world.plain.now("shop/KEY") == "somebody-elses"
        assert world.plain.now("shop/KEY_PREVIOUS") == OLD


def test_a_write_that_arrives_late_is_still_known(world: World) -> None:
    """Two runs made a value each; only the first one's reached the store, after the second looked."""
    world.kill_before = "write shop/KEY"
    for _ in range(2):
        with pytest.raises(Killed):
            world.finish()
    world.kill_before = ""
    assert len(Rotation.from_json(world.record).attempts) == 2
    world.plain.kept["shop/KEY"] = [world.made[0]]
    world.finish()
    assert world.plain.now("shop/KEY") == world.made[0]
    assert len(world.made) == 2


def test_the_previous_version_of_a_document_is_no_place_for_a_fields_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever writes another field makes a version in which the field has the new value."""
    world = World(monkeypatch, ("kept:shop#KEY", "kept:shop#KEY?stage=previous"), reencrypts=False)
    with pytest.raises(ConfigurationError, match="a version of a whole document"):
        world.finish()
    assert world.happened == []


def test_a_re_encryption_needs_the_value_before(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, PLACES["versions alone"], reencrypts=True)
    with pytest.raises(ConfigurationError, match="needs the value before as well"):
        world.finish()
    assert world.happened == []


def test_without_a_deploy_it_is_over_unless_something_is_to_be_re_encrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reencrypts, over in ((False, True), (True, False)):
        with monkeypatch.context() as patch:
            world = World(patch, PLACES["file and file"], reencrypts=reencrypts)
            world.wanted = "not wanted"
            assert world.finish().rotation.is_over == over
            assert world.rows == [OLD, OLD]
            world.wanted = "done"
            if not over:
                assert world.finish().rotation.outcome == "rotated"
                assert set(world.rows) == set(world.made)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> World:
    """A rotation that is over, and a release that runs with the value before."""
    world = World(monkeypatch, PLACES["file and file"], reencrypts=False)
    world.wanted = "not wanted"
    world.last = world.finish().rotation
    world.record = ""
    world.happened.clear()
    return world


def test_what_runs_with_the_value_before_keeps_it_until_a_deploy(waiting: World) -> None:
    new = waiting.made[0]
    with pytest.raises(OperationFailed, match=r"was made before KEY was rotated last") as refused:
        waiting.finish()
    assert refused.value.hint == "First give it the value of now with `inv deploy.prod`."
    assert waiting.happened == []
    assert (waiting.value(waiting.place), waiting.plain.now("shop/KEY_PREVIOUS")) == (new, OLD)
    waiting.wanted = "done"
    waiting.deploy()
    assert waiting.finish().rotation.outcome == "rotated"
    assert waiting.plain.now("shop/KEY_PREVIOUS") == new


def test_a_release_gone_back_to_keeps_its_value_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, PLACES["file and file"], reencrypts=False)
    world.last, world.record = world.finish().rotation, ""
    assert world.finish().rotation.outcome == "rotated"
    world.last, world.record = Rotation.from_json(world.record), ""
    world.release -= 1
    with pytest.raises(OperationFailed, match="was made before KEY was rotated last"):
        world.finish()


def test_the_rotation_of_another_secret_does_not_hide_what_waits(waiting: World) -> None:
    store = waiting.store()
    waiting._put(_address("plain:shop/OTHER"), OLD)

    def beginning(variable: str, environment: str, live: str, last: Rotation | None) -> Rotation:
        return begin(
            store,
            waiting.digests,
            variable=variable,
            environment=environment,
            place=_address("plain:shop/OTHER"),
            previous=_address("plain:shop/OTHER_PREVIOUS"),
            who="ana@desk",
            last=last,
            live=live,
        )

    other = beginning("OTHER", "prod", waiting.live, waiting.last)
    assert other.lacking == {"KEY": waiting.live}
    with pytest.raises(OperationFailed, match="KEY was rotated last"):
        beginning("KEY", "prod", waiting.live, other)
    # What cannot be told is not refused: another environment, nothing that runs, a record of before.
    assert beginning("KEY", "staging", waiting.live, other).lacking == {}
    assert beginning("KEY", "prod", "", other).lacking == {}
    assert beginning("KEY", "prod", waiting.live, replace(other, lacking={})).lacking == {}


def test_what_was_undone_does_not_wait_for_a_deploy(waiting: World) -> None:
    waiting.release += 1
    waiting.finish_until_spread()
    undone = waiting.undo().rotation
    assert undone.lacking == {}


def test_where_nothing_runs_nothing_is_re_encrypted(world: World) -> None:
    world.wanted = "nothing runs"
    assert world.finish().rotation.outcome == "rotated"
    assert "re-encrypt a row" not in world.happened


def test_what_would_lose_the_old_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, ("plain:shop/KEY", ""), reencrypts=False)
    with pytest.raises(ConfigurationError, match="keeps no versions"):
        world.finish()
    assert (world.plain.writes, world.record) == ([], "")


def test_a_place_without_versions_is_no_stage_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """`KEY?stage=previous` is another name where there are no versions: it must be written."""
    world = World(monkeypatch, ("plain:shop/KEY", "plain:shop/KEY?stage=previous"), reencrypts=False)
    assert world.finish().rotation.apart


def test_what_cannot_be_written_is_refused_before_anything_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", OLD)
    world = World(monkeypatch, PLACES["file and file"], reencrypts=False)
    world.place = Address("env", "KEY")
    with pytest.raises(ConfigurationError, match="cannot write to"):
        world.finish()
    assert world.happened == []


def test_the_value_given_must_be_another_one(world: World) -> None:
    with pytest.raises(ConfigurationError, match="has already"):
        begin(
            world.store(),
            world.digests,
            variable="KEY",
            environment="prod",
            place=world.place,
            previous=world.previous,
            who="ana@desk",
            given=Sensitive(OLD),
        )


def test_a_store_that_refuses_stops_it_with_everything_as_it_was(world: World) -> None:
    world.plain.refused.add("shop/KEY_PREVIOUS")
    with pytest.raises(
        OperationFailed, match=r"shop/KEY_PREVIOUS could not be written: .* is closed; ask for it"
    ):
        world.finish()
    assert world.plain.now("shop/KEY") == OLD
    world.plain.refused.clear()
    assert world.undo().rotation.outcome == "undone"


def test_a_version_that_is_gone_is_not_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, PLACES["versions and own place"], reencrypts=True)
    world.finish_until_spread()
    monkeypatch.setattr(world.kept, "versions", lambda target: ())
    with pytest.raises(OperationFailed, match="no longer has its version 1"):
        world.undo()
    assert world.value(_address("kept:shop/KEY_PREVIOUS")) == OLD
    assert not Rotation.from_json(world.record).undoing
    assert world.finish().rotation.outcome == "rotated"
    assert world.value(world.place) == world.made[0]
    assert set(world.rows) == set(world.made)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("aws:shop/prod#KEY", "aws:shop/prod#KEY?stage=AWSPREVIOUS", True),
        ("aws:shop/prod?region=eu-west-1", "aws:shop/prod?region=eu-west-1&stage=AWSPREVIOUS", True),
        ("aws:shop/prod?region=eu-west-1", "aws:shop/prod?stage=AWSPREVIOUS", False),
        ("azure:shop/key", "azure:shop/key?version=1", True),
        ("aws:shop/prod#KEY", "aws:shop/prod#KEY_PREVIOUS", False),
        ("aws:shop/prod", "azure:shop/prod?stage=AWSPREVIOUS", False),
        ("aws:shop/prod", "aws:shop/prod", False),
    ],
)
def test_another_stage_of_the_same_secret_is_known(one: str, other: str, same: bool) -> None:
    assert same_secret(_address(one), _address(other)) == same


@pytest.mark.parametrize(
    ("place", "previous"),
    [
        ("file:store/K", "file:store/K"),
        ("file:store/K", "file:./store/K"),
        ("file:store/K", "file:store/../link"),
        ("file:store/K", "file:folder/K"),
        ("file:store/K", "file:store/hard"),
        ("file:store/K", "file:store/K_UNDONE"),
        ("dotenv:.env#K", "dotenv:store/../.env#K"),
        ("dotenv:.env#K", "dotenv:%2Eenv#K"),
        ("dotenv:.env#K", "dotenv:.env#K_UNDONE"),
        # A file that is replaced as a whole takes its entries along.
        ("dotenv:.env#K", "file:.env"),
    ],
)
def test_one_place_under_two_names_is_refused_before_anything_happens(
    tmp_path: Path, world: World, place: str, previous: str
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "K").write_text(f"{OLD}\n")
    (tmp_path / "store" / "hard").hardlink_to(tmp_path / "store" / "K")
    (tmp_path / "link").symlink_to("store/K")
    (tmp_path / "folder").symlink_to("store")
    (tmp_path / ".env").write_text(f"K={OLD}\nOTHER=kept\n")
    world.root, world.place, world.previous = tmp_path, _address(place), _address(previous)
    with pytest.raises(ConfigurationError, match="the value before would be lost"):
        world.finish()
    assert world.happened == []
    assert (tmp_path / "store" / "K").read_text() == f"{OLD}\n"
    assert (tmp_path / ".env").read_text() == f"K={OLD}\nOTHER=kept\n"


@pytest.mark.parametrize(
    ("place", "previous"),
    [("file:store/K", "file:store/k_before"), ("dotenv:.env#K", "dotenv:./.env#K_BEFORE")],
)
def test_two_places_of_one_folder_or_file_are_two(
    tmp_path: Path, world: World, place: str, previous: str
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "K").write_text(f"{OLD}\n")
    (tmp_path / ".env").write_text(f"K={OLD}\nOTHER=kept\n")
    world.root, world.place, world.previous = tmp_path, _address(place), _address(previous)
    store = world.store()
    rotator = world.rotator()
    rotator.store()
    assert store.read(_address(previous)) == Sensitive(OLD)
    assert store.read(_address(place)) == Sensitive(world.made[0])
    assert "OTHER=kept\n" in (tmp_path / ".env").read_text()


def test_a_link_made_after_it_began_costs_no_value(tmp_path: Path, world: World) -> None:
    (tmp_path / "K").write_text(f"{OLD}\n")
    world.root, world.place, world.previous = tmp_path, _address("file:K"), _address("file:before")
    world.kill_before = "noted"
    with pytest.raises(Killed):
        world.finish()
    world.kill_before = ""
    (tmp_path / "before").symlink_to("K")
    with pytest.raises(ConfigurationError, match="are one place"):
        world.finish()
    assert (tmp_path / "K").read_text() == f"{OLD}\n"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("kept:shop", "kept:shop#KEY", True),
        ("kept:shop#KEY", "kept:shop#KEY.inner", True),
        ("kept:shop#KEY", "kept:shop#KEY_PREVIOUS", False),
        ("kept:shop#KEY", "kept:shop2#KEY", False),
        ("kept:shop/KEY", "plain:shop/KEY", False),
    ],
)
def test_a_document_and_what_is_in_it_change_together(world: World, one: str, other: str, same: bool) -> None:
    assert world.store().is_changed_with(_address(one), _address(other)) == same


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("aws:shop/K", f"aws:{ARN}shop/K-AbCdEf", True),
        ("aws:shop/K", f"aws:{ARN}shop/K", True),
        ("aws:shop/K#a", f"aws:{ARN}shop/K-AbCdEf#a?stage=AWSPREVIOUS", True),
        ("aws:shop/K", "aws:shop/K?region=eu-west-1", True),
        ("aws:shop/K", "aws:shop/K_PREVIOUS", False),
        ("aws:shop/K#a", "aws:shop/K#b", False),
        ("azure:key", "azure:my-vault/KEY", True),
        ("azure:key", "azure:MY-vault/key?version=previous", True),
        ("azure:key", "azure:other-vault/key", False),
        ("azure:key#a", "azure:key#b", False),
        ("vault:shop/K#a", "vault:shop/K#a?mount=kv", True),
        ("vault:shop/K#a", "vault:shop/%4B#a?version=2", True),
        ("vault:shop/K#a", "vault:shop/K#a?mount=other", False),
        ("vault:shop/K#a", "vault:shop/K#a?namespace=team", False),
        ("vault:shop/K#a?namespace=team", "vault:shop/K#a?mount=team/kv", True),
    ],
)
def test_other_words_for_one_place_of_a_remote_store_are_known(one: str, other: str, same: bool) -> None:
    azure, vault = AzureSettings(vault="https://My-Vault.vault.azure.net/"), VaultSettings(mount="kv")
    clients: dict[str, Client] = {
        "aws": AwsClient(Login({}), Place("eu-west-1")),
        # Neither is asked for anything: what a place is called is known without it.
        "azure": AzureClient(cast(Session, None), azure),
        "vault": VaultClient(Calls(VaultLogin("http://localhost", True, 2, "", "", "a test")), vault),
    }
    names = [clients[each.provider].canonical(each.target) for each in map(_address, (one, other))]
    assert (names[0] == names[1]) == same


def test_what_is_true_is_said_without_a_value(world: World) -> None:
    world.kill_at = 10
    with pytest.raises(Killed):
        world.finish()
    world.kill_at = 0
    text = "\n".join(describe(world.rotator()))
    assert "The rotation of KEY, begun by ana@desk at" in text
    assert "plain:shop/KEY holds the new value." in text
    assert "plain:shop/KEY_PREVIOUS holds the value before." in text
    world.plain.kept["shop/KEY_PREVIOUS"] = ["somebody-elses"]
    assert "KEY_PREVIOUS holds a value that is neither" in "\n".join(describe(world.rotator()))
    assert not [value for value in (OLD, OLDER, *world.made) if value in text]
    world.plain.refused.add("shop/KEY")
    assert "plain:shop/KEY cannot be read" in "\n".join(describe(world.rotator()))


def test_a_record_is_read_back_and_a_damaged_one_is_told(world: World) -> None:
    rotation = world.finish().rotation
    assert Rotation.from_json(rotation.to_json()) == rotation
    other = replace(rotation, undoing=True, attempts=("a", "b"), lacking={"KEY": "release"})
    assert Rotation.from_json(other.to_json()) == other
    data = json.loads(rotation.to_json())
    for text in ("", "{", "[]", "{}", json.dumps(data | {"schema": 2}), json.dumps(data | {"step": "x"})):
        with pytest.raises(OperationFailed, match="cannot be read"):
            Rotation.from_json(text)
    assert Rotation.from_json(json.dumps(data | {"later": 1})) == rotation
    del data["lacking"]
    assert Rotation.from_json(json.dumps(data)) == replace(rotation, lacking={})
    with pytest.raises(OperationFailed, match="cannot be read"):
        Rotation.from_json(json.dumps(data | {"lacking": 1}))


def test_steps_are_in_order() -> None:
    assert rotating.STEPS[0] == "begun"
    assert rotating.STEPS.index("verified") < rotating.STEPS.index("deployed")
    assert rotating.STEPS.index("deployed") < rotating.STEPS.index("re-encrypted")
