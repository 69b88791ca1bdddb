import json
import shutil
import subprocess

import pytest

from tests.releases import LIVE, RESTORED, container, entries, facts, meta
from windlass.errors import OperationFailed
from windlass.hosts.local import LocalHost
from windlass.release.facts import LockOwner, as_data, facts_script, look, parse_facts
from windlass.release.layout import Layout

OWNER = {"who": "me@here", "action": "deploy", "release": "r2", "since": "now", "token": "t", "holder": 42}
RAW = {
    "id": "f" * 64,
    "name": "/shop-api-1",
    "service": "api",
    "config": "h-r1",
    "status": "running",
    "health": "healthy",
    "exit_code": 0,
    "restart_count": 0,
    "started_at": "2026-01-02T03:04:05Z",
    "restart_policy": "no",
    "image": "shop-api:r1",
    "health_output": "",
}
TOOLS = """engine=26.1.5
compose=2.26.1-4
flock=/usr/bin/flock
arch=x86_64
clock=1772366400
writable=yes
disk=2097152
directory=/srv/shop
current=r1
previous=r0
key=00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff
"""


def answer(**sections: str) -> str:
    """Return what a host prints; a section given as None is not there."""
    found = dict.fromkeys(("tools", "lock", "releases", "journal", "containers", "images"), "")
    found |= {"tools": TOOLS} | sections
    return "".join(f"\n@@windlass {name}\n{text}" for name, text in found.items() if text is not None)


def test_a_whole_answer():
    read = parse_facts(
        "server1",
        answer(
            lock="held\n" + json.dumps(OWNER) + "\n",
            releases=meta("r1").to_json() + "\n" + meta("r0").to_json() + "\n",
            journal='{"at": "2026-03-01T12:00:00Z", "release": "r1", "action": "deploy", "phase": "begin", '
            '"state": "started", "who": "me@here"}\n{"torn',
            containers=json.dumps(RAW) + "\n",
        ),
    )
    assert (read.host, read.directory, read.current, read.previous) == ("server1", "/srv/shop", "r1", "r0")
    assert (read.free_disk_mb, read.clock, read.key) == (2048, 1772366400, b"\x00\xff" * 16)
    assert read.tools["compose"] == "2.26.1-4"
    assert set(read.releases) == {"r0", "r1"}
    assert [entry.phase for entry in read.journal] == ["begin"]
    assert read.running() == {"api": "h-r1"}
    assert read.release_of("api") == "r1"
    assert read.owner == LockOwner("me@here", "deploy", "r2", "now", 42, "t", alive=True)
    assert read.images is None


def test_a_new_host():
    read = parse_facts("server1", answer(tools="current=\nprevious=\nkey=\ndisk=\n"))
    assert (read.current, read.previous, read.key, read.free_disk_mb) == ("", "", b"", None)
    assert (read.owner, read.releases, read.runs, read.interrupted) == (None, {}, (), None)


@pytest.mark.parametrize("end", ["tools", "lock", "releases", "journal", "containers", "images"])
def test_half_an_answer_is_none(end):
    text = answer()
    with pytest.raises(OperationFailed, match="server1: the answer about its state is not complete"):
        parse_facts("server1", text[: text.index(f"@@windlass {end}")])


def test_no_docker():
    tools = TOOLS.replace("engine=26.1.5", "engine=bash: line 5: docker: command not found")
    read = parse_facts("server1", answer(tools=tools))
    assert "command not found" in read.tools["engine"]
    assert read.containers == ()


def test_a_lock_whose_holder_is_gone():
    read = parse_facts("server1", answer(lock="stale\n" + json.dumps(OWNER) + "\n"))
    assert read.owner is not None
    assert not read.owner.alive


@pytest.mark.parametrize(
    "text", ["held\n", "held\n{torn\n", "held\n[]\n", 'held\n{"who": "x"}\n', "working\n"]
)
def test_an_owner_that_cannot_be_read_is_none(text):
    assert parse_facts("server1", answer(lock=text)).owner is None


def test_a_script_that_still_runs():
    assert parse_facts("server1", answer(lock="working\n")).working
    read = parse_facts("server1", answer(lock="held\n" + json.dumps(OWNER) + "\nworking\n"))
    assert read.working
    assert read.owner is not None
    assert not parse_facts("server1", answer()).working


def test_a_release_that_cannot_be_read_is_left_out():
    read = parse_facts("server1", answer(releases="{torn\n[]\n3\n" + meta("r1").to_json() + "\n"))
    assert set(read.releases) == {"r1"}


def test_an_owner_says_who_what_and_since_when():
    owner = LockOwner.from_json(json.dumps(OWNER))
    assert str(owner) == "me@here, deploy of r2, since now"


# --- what the facts mean


def test_the_last_run_was_interrupted():
    found = facts("r1", journal=[*entries("r1", LIVE), *entries("r2", LIVE[:5])]).interrupted
    assert found is not None
    assert (found.release, found.where) == ("r2", "in up")


def test_a_run_somebody_is_at_is_not_interrupted():
    journal = [*entries("r1", LIVE), *entries("r2", LIVE[:5])]
    owner = LockOwner("me@here", "deploy", "r2", "now", 42, "t")
    busy = facts("r1", journal=journal, owner=owner)
    assert busy.interrupted is None
    assert busy.is_busy(busy.runs[-1])
    assert not busy.is_busy(busy.runs[0])
    gone = facts("r1", journal=journal, owner=LockOwner(**vars(owner) | {"alive": False}))
    assert gone.interrupted is not None


def test_a_new_deploy_does_not_hide_that_the_last_was_interrupted():
    """It has written nothing yet: it builds."""
    journal = [*entries("r1", LIVE), *entries("r2", LIVE[:5])]
    found = facts("r1", journal=journal, owner=LockOwner("me@here", "deploy", "r3", "now", 42, "t"))
    assert found.interrupted is not None
    assert not found.is_busy(found.runs[-1])


def test_a_migration_of_its_own_does_not_hide_it_either():
    done = entries("r1", ["migrate started", "migrate done"], "migrate")
    found = facts("r1", journal=[*entries("r2", LIVE[:5]), *done]).interrupted
    assert found is not None
    assert found.release == "r2"
    cut = facts("r1", journal=[*entries("r1", LIVE), *done[:1]]).interrupted
    assert cut is not None
    assert (cut.action, cut.where) == ("migrate", "in migrate")


def test_a_later_end_makes_up_for_it():
    assert facts("r1", journal=[*entries("r2", LIVE[:5]), *entries("r3", LIVE)]).interrupted is None
    assert facts("r1", journal=[*entries("r2", LIVE[:5]), *entries("r3", RESTORED)]).interrupted is None


def test_the_release_a_service_runs():
    host = facts(
        "r1", "r2", current="r1", containers=[container("api", config="h-r2"), container("db", config="h-db")]
    )
    assert host.release_of("api") == "r2"
    assert host.release_of("db") == "r1", "the current one, where several fit"
    assert host.release_of("worker") == ""
    assert facts("r1", containers=[container("api", config="x")]).release_of("api") == ""
    assert facts("r1", containers=[container("api", config="h-r1", status="exited")]).release_of("api") == ""


def test_what_is_ready():
    host = facts(
        containers=[
            container("api", health=""),
            container("db"),
            container("redis", health="starting"),
            container("cron", status="exited"),
        ]
    )
    assert host.ready() == {"api", "db"}


def test_status_as_data():
    host = facts(
        "r1",
        current="r1",
        journal=[*entries("r1", LIVE), *entries("r2", LIVE[:3])],
        containers=[container("api", config="h-r1", image="shop-api:r1")],
        key=b"key-of-the-host",
    )
    data = as_data(host)
    assert json.loads(json.dumps(data)) == json.loads(json.dumps(data, default=str))
    assert data["interrupted"]["where"] == "in migrate"
    assert data["services"][0]["release"] == "r1"
    assert "key-of-the-host" not in json.dumps(data)


# --- the script itself, on this machine


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Give a PATH without Docker."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "cat", "flock", "uname", "date", "df", "awk", "realpath", "basename", "readlink"):
        (folder / name).symlink_to(shutil.which(name))
    for name in ("dirname", "tail", "xargs", "sort", "head", "mkdir"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_host_without_docker_answers_whole(tools, tmp_path):
    read = look(LocalHost("here"), Layout(str(tmp_path / "new's" / "shop")), "shop")
    assert read.directory == str(tmp_path / "new's" / "shop")
    assert "docker" in read.tools["engine"]
    assert read.tools["writable"] == "yes"
    assert read.free_disk_mb is not None
    assert (read.containers, read.images, read.owner, read.current) == ((), None, None, "")
    assert not (tmp_path / "new's").exists(), "looking makes nothing"


def test_an_engine_that_does_not_answer_leaves_the_rest(tools, tmp_path):
    docker = tools / "docker"
    docker.write_text("#!/bin/bash\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    shop = tmp_path / "shop"
    (shop / "releases" / "r1").mkdir(parents=True)
    (shop / "releases" / "r1" / "meta.json").write_text(meta("r1").to_json())
    (shop / "current").symlink_to("releases/r1")
    read = look(LocalHost("here"), Layout(str(shop)), "shop")
    assert "Cannot connect" in read.tools["engine"]
    assert (read.current, set(read.releases)) == ("r1", {"r1"})


def test_looking_is_valid_bash():
    for with_images in (True, False):
        script = facts_script(Layout("/srv/it's $HOME"), "shop", with_images=with_images)
        subprocess.run(["bash", "-n"], input=script.text(), text=True, check=True)
