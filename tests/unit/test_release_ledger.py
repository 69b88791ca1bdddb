import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.releases import FAILED, LIVE, RESTORED, entries, meta
from windlass.release.ledger import Entry, Meta, journal_line, runs


def test_meta_reads_what_it_wrote():
    written = meta("r1", one_shots=("init",))
    assert Meta.from_json(written.to_json()) == written
    assert "\n" not in written.to_json()


def test_meta_of_a_newer_version_is_read():
    data = json.loads(meta("r1").to_json()) | {"strategy": "blue-green", "schema": 2}
    assert Meta.from_json(json.dumps(data)).schema == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"id": "r1"}'])
def test_meta_that_is_none_is_an_error(text):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Meta.from_json(text)


def run_of(steps, action="deploy"):
    (run,) = runs(entries("r1", steps, action))
    return run


def test_a_run_that_ended_well():
    run = run_of(LIVE)
    assert (run.release, run.action, run.who) == ("r1", "deploy", "me@here")
    assert run.state == "live"
    assert run.phases == ("stage", "migrate", "up", "record")


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        (LIVE[:1], "in stage"),
        (LIVE[:2], "after stage"),
        (LIVE[:3], "in migrate"),
        (LIVE[:4], "after migrate"),
        (LIVE[:5], "in up"),
        (LIVE[:6], "after up"),
        ([*LIVE[:6], "restore started"], "in restore"),
    ],
)
def test_a_run_nobody_ended_says_where_it_was_cut_off(steps, where):
    run = run_of(steps)
    assert (run.state, run.where) == ("interrupted", where)


def test_a_rollback_has_nothing_to_stage():
    assert run_of(["begin started"], "rollback").where == "before up"
    assert run_of(["begin started", "up started", "up done", "record done"], "rollback").state == "live"


def test_a_run_that_failed_and_one_that_was_put_back():
    assert run_of(FAILED).state == "failed"
    assert run_of(RESTORED).state == "restored"
    assert run_of(RESTORED).phase == "restore"


def test_the_detail_and_the_times_are_kept():
    first, last = entries("r1", ["begin started", "end failed"])
    (run,) = runs([first, Entry(**vars(last) | {"at": "2026-03-01T12:09:00Z", "detail": "disk full"})])
    assert (run.started, run.ended) == ("2026-03-01T12:00:00Z", "2026-03-01T12:09:00Z")
    assert run.detail == "disk full"


def test_runs_follow_each_other():
    journal = [*entries("r1", LIVE), *entries("r2", LIVE[:4]), *entries("r3", RESTORED)]
    assert [(run.release, run.state) for run in runs(journal)] == [
        ("r1", "live"),
        ("r2", "interrupted"),
        ("r3", "restored"),
    ]


def test_a_migration_of_its_own_is_a_run():
    journal = [*entries("r1", LIVE), *entries("r1", ["migrate started", "migrate done"], "migrate")]
    assert [(run.action, run.state) for run in runs(journal)] == [("deploy", "live"), ("migrate", "done")]


def test_a_journal_cut_at_its_beginning_is_read():
    (run,) = runs(entries("r1", LIVE[4:]))
    assert (run.release, run.state) == ("r1", "live")
    assert runs([]) == ()


@given(st.lists(st.tuples(st.sampled_from(sorted({*LIVE, *FAILED, *RESTORED})), st.sampled_from(["a", "b"]))))
def test_no_journal_is_too_strange_to_be_read(steps):
    found = runs([each for step, release in steps for each in entries(release, [step])])
    assert all(run.state in {"live", "failed", "restored", "interrupted"} for run in found)


@pytest.mark.parametrize("text", ["", "{", '{"at": "2026', "[]", "null", "3", '"x"'])
def test_a_line_a_crash_cut_short_is_left_out(text):
    assert Entry.from_json(text) is None


HOSTILE = "a'b\"c\\d $HOME `id` $(id) %s %d\n{}\ttab é 🚢 -n"


def written(tmp_path, **fields):
    """Run the line with bash and read what it wrote."""
    journal = tmp_path / "the journal's"
    line = journal_line(str(journal), **fields)
    subprocess.run(["bash", "-euc", line], check=True)
    return journal.read_text()


def test_a_line_is_written_as_it_is_read(tmp_path):
    fields = {name: f"{name} {HOSTILE}" for name in ("release", "action", "phase", "state", "who", "detail")}
    text = written(tmp_path, **fields)
    assert text.count("\n") == 1
    entry = Entry.from_json(text)
    assert entry is not None
    assert {name: getattr(entry, name) for name in fields} == fields
    assert entry.at.endswith("Z")


def test_a_torn_line_spoils_only_itself(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"at": "2026-03-01T12:00:00Z", "release": "r1", "pha')
    line = journal_line(str(journal), release="r2", action="deploy", phase="begin", state="started", who="me")
    subprocess.run(["bash", "-euc", f"{line}\n{line}"], check=True)
    found = [entry for text in journal.read_text().splitlines() if (entry := Entry.from_json(text))]
    assert [(entry.release, entry.phase) for entry in found] == [("r2", "begin")] * 2
