"""From the old release to the new and back, on hosts that do as they are told."""

from dataclasses import dataclass, field

import pytest

from tests.releases import facts, meta, work
from tests.stacks import environment
from windlass.errors import CommandFailed, HostUnreachable, LinkDropped
from windlass.events import Notice, PhaseChanged
from windlass.hosts.base import Completed
from windlass.release import switching
from windlass.release.switching import Row, Target, switch
from windlass.shell import Script

UP, RESTORE, RECORD, JOURNAL = (
    "start the release",
    "put the previous release back",
    "record the release",
    "write the journal",
)


@dataclass
class FakeHost:
    """A host whose scripts and health end as a test says, by the script's name; `health` is one too."""

    name: str
    errors: dict[str, BaseException] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def run(self, script: Script, **options: object) -> Completed:
        self.ran.append(script.what)
        if script.what in self.errors:
            raise self.errors[script.what]
        return Completed(self.name, 0, b"", b"")


@pytest.fixture(autouse=True)
def health(monkeypatch):
    """Take the new release's health from the host; the old one is healthy unless it says `old health`."""

    def wait(host, project, expected, timeout, **options):
        new = expected["api"].config == "h-r2"
        host.ran.append("health" if new else "old health")
        if (error := host.errors.get(host.ran[-1])) is not None:
            raise error

    monkeypatch.setattr(switching, "wait_until_healthy", wait)


def failure(text: str = "it failed") -> CommandFailed:
    return CommandFailed(text, 1)


def deploy(tmp_path, *hosts: FakeHost, current: str = "r1", events: list | None = None):
    """Switch from r1 to r2 on these hosts."""
    releases = ["r1"] if current else []
    targets = [
        Target(host, work(f"/srv/{host.name}"), facts(*releases, current=current, host=host.name), meta("r2"))
        for host in hosts
    ]
    records = {host.name: Script.of(RECORD) for host in hosts}
    heard = [] if events is None else events
    return switch(environment(tmp_path), targets, records, heard.append, str)


def states(outcome):
    return {row.host: (row.now, row.state) for row in outcome.rows}


def test_one_after_another_and_recorded_once_all_are_good(tmp_path):
    events = []
    first, second = FakeHost("a"), FakeHost("b")
    outcome = deploy(tmp_path, first, second, events=events)
    assert outcome.error is None
    assert outcome.rows == (Row("a", "r1", "r2", "live"), Row("b", "r1", "r2", "live"))
    assert first.ran == second.ran == [UP, "health", RECORD]
    begun = [each.phase for each in events if isinstance(each, PhaseChanged) and each.state == "started"]
    assert begun == ["up", "health", "up", "health", "record"]


@pytest.mark.parametrize("at", [UP, "health"])
def test_a_host_that_fails_gets_its_old_release_back(tmp_path, at):
    host = FakeHost("a", {at: failure("no good\nand more")})
    outcome = deploy(tmp_path, host)
    assert states(outcome) == {"a": ("r1", "restored")}
    assert outcome.error.exit_code == 1
    assert outcome.error.message.startswith(
        "The release failed and every host runs what it ran before: no good"
    )
    assert "and more" not in outcome.error.message, "the whole was told when it happened"
    assert host.ran[-3:] == [RESTORE, "old health", JOURNAL]


def test_all_that_were_begun_go_back_newest_first(tmp_path):
    order = []
    hosts = [FakeHost(name, ran=order) for name in "abc"]
    hosts[1].errors["health"] = failure()
    outcome = deploy(tmp_path, *hosts)
    assert [row.state for row in outcome.rows] == ["restored", "restored", "as before"]
    assert outcome.error.exit_code == 1
    assert order.count(UP) == 2
    assert order.count(RESTORE) == 2


def test_newest_first(tmp_path):
    told = []
    hosts = [FakeHost("a"), FakeHost("b", {"health": failure()})]
    deploy(tmp_path, *hosts, events=told)
    steps = [
        each.host for each in told if getattr(each, "step", "") == "put r1 back" and each.state == "done"
    ]
    assert steps == ["b", "a"]


@pytest.mark.parametrize("error", [LinkDropped("a: gone"), HostUnreachable("a: gone"), failure()])
@pytest.mark.parametrize("at", [RESTORE, "old health"])
def test_a_host_that_cannot_be_put_back_is_told_apart(tmp_path, error, at):
    events = []
    hosts = [FakeHost("a"), FakeHost("b", {"health": failure(), at: error})]
    outcome = deploy(tmp_path, *hosts, events=events)
    assert states(outcome) == {"a": ("r1", "restored"), "b": ("?", "unknown")}
    assert outcome.error.exit_code == 2
    assert any(isinstance(each, Notice) and str(error) in each.text for each in events)


def test_an_untouched_host_that_does_not_answer_is_not_claimed_to_be_fine(tmp_path):
    hosts = [FakeHost("a", {"health": failure()}), FakeHost("b", {JOURNAL: LinkDropped("gone")})]
    outcome = deploy(tmp_path, *hosts)
    assert outcome.rows[1].state == "unknown"
    assert outcome.error.exit_code == 2


def test_a_first_release_that_fails_has_nothing_to_go_back_to(tmp_path):
    host = FakeHost("a", {"health": failure()})
    outcome = deploy(tmp_path, host, current="")
    assert states(outcome) == {"a": ("r2", "failed")}
    assert outcome.error.exit_code == 1
    assert "there is none to go back to" in outcome.error.message
    assert RESTORE not in host.ran


def test_a_release_that_is_back_counts_though_it_cannot_be_written_down(tmp_path):
    events = []
    outcome = deploy(
        tmp_path, FakeHost("a", {"health": failure(), JOURNAL: failure("disk full")}), events=events
    )
    assert states(outcome) == {"a": ("r1", "restored")}
    assert outcome.error.exit_code == 1
    assert any(isinstance(each, Notice) and "disk full" in each.text for each in events)


def test_a_release_that_cannot_be_recorded_everywhere_is_no_failure_that_changed_nothing(tmp_path):
    hosts = [FakeHost("a", {RECORD: failure("disk full")}), FakeHost("b")]
    outcome = deploy(tmp_path, *hosts)
    assert states(outcome) == {"a": ("?", "unknown"), "b": ("r2", "live")}
    assert outcome.error.exit_code == 2
    assert "runs and is healthy, but could not be recorded everywhere: a: disk full" in outcome.error.message
    assert RESTORE not in hosts[0].ran + hosts[1].ran


def test_an_interrupt_goes_back_as_well(tmp_path):
    outcome = deploy(tmp_path, FakeHost("a", {"health": KeyboardInterrupt()}))
    assert states(outcome) == {"a": ("r1", "restored")}
    assert "interrupted" in outcome.error.message


def test_a_defect_goes_back_and_is_raised(tmp_path):
    host = FakeHost("a", {"health": ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        deploy(tmp_path, host)
    assert host.ran[-3:] == [RESTORE, "old health", JOURNAL]
