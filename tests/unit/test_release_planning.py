from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.releases import FAILED, HEALTHY_HOST, LIVE, RESTORED, container, entries, facts, meta
from tests.stacks import environment
from windlass.errors import PreflightFailed
from windlass.release.facts import Facts
from windlass.release.planning import (
    UNLESS_BUILT,
    Change,
    Plan,
    changes,
    doomed,
    kept_references,
    last_good,
    one_by_one,
    preflight,
    without_images,
)
from windlass.stack.model import Service, Stack

API = container("api", config="h-r1", image="shop-api:r1")
DB = container("db", config="h-db", image="postgres:17")


def ids(metas):
    return [each.id for each in metas]


# --- changes


def test_everything_is_created_on_a_new_host():
    assert changes(meta("r1"), facts()) == (
        Change("api", "create", "does not run yet"),
        Change("db", "create", "does not run yet"),
    )


def test_what_runs_as_planned_is_unchanged():
    assert {each.kind for each in changes(meta("r1"), facts(containers=[API, DB]))} == {"unchanged"}


def test_another_image_is_said():
    api, db = changes(meta("r2"), facts(containers=[API, DB]))
    assert api == Change("api", "recreate", "image shop-api:r1 → shop-api:r2")
    assert db.kind == "unchanged"


def test_another_configuration_is_said():
    new = meta("r1", hashes={"api": "other", "db": "h-db"})
    assert changes(new, facts(containers=[API, DB]))[0] == Change(
        "api", "recreate", "configuration, variables or mounted files"
    )


def test_what_changed_is_said_by_name():
    old = meta(
        "r1", parts={"api": {"secret KEY": "1", "variable A": "2", "mount /x": "3", "variable B": "4"}}
    )
    parts = {"api": {"secret KEY": "9", "variable A": "2", "secret NEW": "5", "variable B": "8"}}
    host = facts(containers=[API, DB], current="r1", releases={"r1": old})
    new = meta("r1", hashes={"api": "other", "db": "h-db"}, parts=parts)
    api, db = changes(new, host)
    assert api.reason == "mount /x removed, secret KEY changed, secret NEW added, variable B changed"
    assert db == Change("db", "unchanged")
    moved = meta("r2", hashes={"api": "other", "db": "h-db"}, parts=parts)
    assert changes(moved, host)[0].reason.startswith("image shop-api:r1 → shop-api:r2, mount /x removed, ")


def test_a_release_of_an_older_windlass_is_compared_as_a_whole():
    host = facts("r1", containers=[API, DB], current="r1")
    new = meta("r1", hashes={"api": "other", "db": "h-db"}, parts={"api": {"secret KEY": "9"}})
    assert changes(new, host)[0].reason == "configuration, variables or mounted files"


def test_a_container_that_stopped_is_created():
    stopped = container("api", config="h-r1", image="shop-api:r1", status="exited")
    assert changes(meta("r1"), facts(containers=[stopped, DB]))[0].kind == "create"


def test_a_container_of_another_hand_is_replaced():
    foreign = container("api", config="", image="shop-api:r1")
    assert changes(meta("r1"), facts(containers=[foreign, DB]))[0].kind == "recreate"


def test_a_service_that_is_gone_is_removed():
    found = changes(meta("r1"), facts(containers=[API, DB, container("cron", config="x")]))
    assert found[-1] == Change("cron", "remove", "no longer in the Compose files")


def test_a_one_shot_runs_every_time():
    new = meta("r1", hashes={"init": "h"}, images={"init": "i:1"}, one_shots=("init",))
    done = container("init", status="exited", config="h", image="i:1", health="")
    assert changes(new, facts()) == (Change("init", "create", "runs once"),)
    assert changes(new, facts(containers=[done])) == (Change("init", "recreate", "runs once"),)


def test_a_plan_is_unchanged_only_when_every_host_is():
    def plan(*kinds):
        return Plan(
            environment="prod",
            action="deploy",
            release="r1",
            tag="1",
            strategy="recreate",
            was={},
            changes={str(n): (Change("api", kind),) for n, kind in enumerate(kinds)},
            steps=(),
        )

    assert plan("unchanged", "unchanged").unchanged
    assert not plan("unchanged", "create").unchanged
    assert plan("create").as_data()["changes"]["0"][0]["kind"] == "create"


# --- what is recreated by itself


def stack(**services: dict) -> Stack:
    made = {name: Service(name, **each) for name, each in services.items()}
    return Stack("shop", Path("/r"), Path("/r"), {}, made)


def needs(*names: str, **more) -> dict:
    return {"depends_on": dict.fromkeys(names, "service_started"), **more}


CHAIN = {"db": needs(), "redis": needs(), "api": needs("db", "redis"), "web": needs("api"), "cron": needs()}


@pytest.mark.parametrize(
    ("recreated", "first"),
    [
        ([], ()),
        (["web"], ()),
        (["cron"], ()),
        (["db"], ("db",)),
        (["api"], ("api",)),
        (["api", "redis", "db"], ("db", "redis", "api")),
        (["db", "api", "web"], ()),
        (["db", "web"], ("db",)),
    ],
)
def test_what_others_that_stay_depend_on_is_recreated_by_itself(recreated, first):
    changes = [Change(name, "recreate" if name in recreated else "unchanged") for name in CHAIN]
    assert one_by_one(stack(**CHAIN), [*changes, Change("old", "remove")]) == first


def test_what_runs_once_does_not_run_twice():
    services = {"init": needs(one_shot=True), "api": needs("init"), "web": needs("api")}
    changes = [Change("init", "recreate"), Change("api", "recreate"), Change("web", "unchanged")]
    assert one_by_one(stack(**services), changes) == ()


# --- preflight


def problem(tmp_path: Path, **said) -> str:
    with pytest.raises(PreflightFailed) as caught:
        preflight(environment(tmp_path, **said.pop("tables", {})), [facts(**said)])
    assert caught.value.exit_code == 15
    assert caught.value.hint == "Nothing was changed."
    return caught.value.message


def test_a_host_that_is_fit_passes(tmp_path):
    preflight(environment(tmp_path), [facts(), facts()])


@pytest.mark.parametrize(
    ("tool", "answer", "sentence"),
    [
        ("engine", "", "server1: its Docker Engine does not answer (no docker command)"),
        ("engine", "permission denied", "server1: its Docker Engine does not answer (permission denied)"),
        ("compose", "", "server1: it has no Docker Compose v2 plugin (no answer)"),
        ("compose", "docker: 'compose' is not a docker command.", "it has no Docker Compose v2 plugin"),
        ("compose", "2.24.3", "server1: its Docker Compose is 2.24.3; 2.24.4 or newer is needed"),
        ("compose", "1.29.2", "its Docker Compose is 1.29.2"),
        ("flock", "", "server1: it has no `flock` (package util-linux)"),
        ("writable", "no: /opt", "server1: its user may not write to /opt; create /srv/shop for it"),
    ],
)
def test_each_problem_has_its_sentence(tmp_path, tool, answer, sentence):
    assert sentence in problem(tmp_path, tools=HEALTHY_HOST | {tool: answer})


@pytest.mark.parametrize(
    "version", ["2.24.4", "v2.24.5", "2.26.1-4", "2.40.0+ds1", "3.0.0", "5.0.1-desktop.1"]
)
def test_versions_as_distributions_write_them(tmp_path, version):
    preflight(environment(tmp_path), [facts(tools=HEALTHY_HOST | {"compose": version})])


def test_an_environment_never_takes_the_place_of_another(tmp_path):
    other = {"r1": meta("r1", environment="staging")}
    said = problem(tmp_path, current="r1", releases=other)
    assert "/srv/shop runs r1 of the environment staging" in said
    preflight(environment(tmp_path), [facts("r1", current="r1")])


def test_what_a_build_will_make_is_not_known_before(tmp_path):
    new = meta("r1", built=("shop-api:r1",))
    running = [API, DB]
    assert changes(new, facts(containers=running))[0].reason == ""
    found = {each.service: each for each in changes(new, facts(containers=running), builds=True)}
    assert (found["api"].kind, found["api"].reason) == ("unchanged", UNLESS_BUILT)
    assert found["db"].reason == ""


def test_too_little_disk(tmp_path):
    tables = {"tables": {"deploy": {"min_free_disk_mb": 500}}}
    assert "only 499 MiB of disk are free; 500 MiB are asked for" in problem(
        tmp_path, free_disk_mb=499, **tables
    )
    preflight(environment(tmp_path, deploy={"min_free_disk_mb": 500}), [facts(free_disk_mb=500)])


def test_disk_that_is_not_known_stops_nothing(tmp_path):
    preflight(environment(tmp_path), [facts(free_disk_mb=None)])


def test_every_problem_of_every_host_is_told(tmp_path):
    bad = HEALTHY_HOST | {"engine": "", "flock": ""}
    with pytest.raises(PreflightFailed) as caught:
        preflight(environment(tmp_path), [facts(tools=bad), facts(host="server2", free_disk_mb=1)])
    lines = caught.value.message.splitlines()
    assert lines[0] == "several checks failed:"
    assert len(lines) == 4
    assert lines[3].startswith("  server2: only 1 MiB")


# --- which release was the last good one


def test_the_last_good_is_the_newest_that_ran_well():
    assert last_good(facts("r1", "r2", "r3")) == "r3"
    assert last_good(facts("r1", "r2", "r3"), besides="r3") == "r2"


def test_no_release_no_last_good():
    assert last_good(facts()) == ""
    assert last_good(facts("r1"), besides="r1") == ""


@pytest.mark.parametrize("bad", [FAILED, RESTORED, LIVE[:5], LIVE[:1]])
def test_a_release_that_failed_is_never_picked(bad):
    journal = [*entries("r1", LIVE), *entries("r2", bad), *entries("r3", LIVE)]
    assert last_good(facts("r1", "r2", "r3", journal=journal), besides="r3") == "r1"


def test_a_release_whose_last_run_failed_is_never_picked():
    journal = [*entries("r1", LIVE), *entries("r2", LIVE), *entries("r1", RESTORED, "rollback")]
    assert last_good(facts("r1", "r2", journal=journal), besides="r2") == ""


def test_a_release_that_ran_well_again_is_picked():
    journal = [
        *entries("r1", LIVE),
        *entries("r2", LIVE),
        *entries("r1", FAILED, "rollback"),
        *entries("r1", LIVE, "rollback"),
    ]
    assert last_good(facts("r1", "r2", journal=journal), besides="r2") == "r1"


def test_what_was_rolled_back_from_is_no_release_to_go_back_to():
    journal = [*entries("r0", LIVE), *entries("r1", LIVE), *entries("r2", LIVE)]
    journal += entries("r1", LIVE, "rollback")
    assert last_good(facts("r0", "r1", "r2", journal=journal), besides="r1") == "r0"
    journal += entries("r0", LIVE, "rollback")
    assert last_good(facts("r0", "r1", "r2", journal=journal), besides="r0") == ""


def test_a_release_no_longer_kept_is_never_picked():
    journal = [*entries("r1", LIVE), *entries("r2", LIVE)]
    assert last_good(facts("r2", journal=journal), besides="r2") == ""


@pytest.mark.parametrize("end", [["migrate started"], ["migrate started", "migrate done"], ["end failed"]])
def test_a_migration_of_its_own_says_nothing_about_a_release(end):
    journal = [
        *entries("r1", LIVE),
        *entries("r1", ["migrate started", *end], "migrate"),
        *entries("r2", LIVE),
    ]
    assert last_good(facts("r1", "r2", journal=journal), besides="r2") == "r1"


# --- what is pruned


def test_the_oldest_beyond_the_number_kept_go():
    host = facts("r1", "r2", "r3", "r4", current="r4")
    assert ids(doomed(host, "r5", keep=3)) == ["r2", "r1"]
    assert ids(doomed(host, "r5", keep=5)) == []


def test_the_new_release_counts_before_it_is_there():
    assert ids(doomed(facts("r1", "r2", current="r2"), "r3", keep=2)) == ["r1"]


def test_the_previous_good_one_is_never_pruned():
    journal = [*entries("r1", LIVE), *(each for n in "23456" for each in entries(f"r{n}", RESTORED))]
    host = facts("r1", "r2", "r3", "r4", "r5", "r6", current="r1", journal=journal)
    assert "r1" not in ids(doomed(host, "r7", keep=2))
    # Also where the one that runs is not the newest good one.
    journal += entries("r6", LIVE, "rollback")
    host = facts("r1", "r2", "r3", "r4", "r5", "r6", current="r6", journal=journal)
    assert ids(doomed(host, "r6", keep=2)) == ["r5", "r4", "r3", "r2"]


@given(
    count=st.integers(1, 8),
    bad=st.sets(st.integers(0, 7)),
    keep=st.integers(2, 6),
    at=st.integers(0, 7),
)
def test_whatever_happened_what_runs_and_what_to_go_back_to_stay(count, bad, keep, at):
    names = [f"r{n}" for n in range(count)]
    journal = [each for n, name in enumerate(names) for each in entries(name, FAILED if n in bad else LIVE)]
    current = names[at % count]
    host = facts(*names, current=current, journal=journal)
    gone = set(ids(doomed(host, "r9", keep)))
    assert current not in gone
    assert last_good(host, besides="r9") not in gone
    assert len(set(names) - gone) <= max(keep, 3)
    imageless = set(ids(without_images(host, doomed(host, "r9", keep), "r9", keep=1)))
    assert not imageless & {current, last_good(host, besides="r9")}


def test_images_of_old_releases_go_before_the_releases():
    host = facts("r1", "r2", "r3", "r4", current="r4")
    assert ids(without_images(host, [], "r5", keep=3)) == ["r2", "r1"]
    assert ids(without_images(host, [meta("r1")], "r5", keep=3)) == ["r2"]
    assert without_images(host, [], "r5", keep=9) == ()


def test_images_kept_releases_name_stay():
    host = facts("r1", "r2", current="r2")
    kept = kept_references(host, [meta("r1")], meta("r3"))
    assert kept == {"shop-api:r2", "shop-api:r3", "postgres:17"}


def test_a_release_of_the_same_tag_keeps_its_image():
    same = {"api": "shop-api:same"}
    host = Facts("server1", releases={"r1": meta("r1", images=same), "r2": meta("r2", images=same)})
    assert kept_references(host, [meta("r1", images=same)], meta("r3", images=same)) == {"shop-api:same"}
