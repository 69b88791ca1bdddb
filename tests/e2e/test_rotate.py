"""A key rotated on a real server, killed with -9 in the middle: no value and no row is ever lost."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.project import APP_SECRET, DATABASE_PASSWORD, Done, Project, eventually
from tests.testbed import Server

FIRST_PREVIOUS = "before-Wd4nRt8pQz6y"  # pragma: allowlist secret
ROWS = 6
# So many that a re-encryption goes on for seconds after its second row.
MANY_ROWS = 20
# Each row says which key it is encrypted with; one that neither key reads ends it.
REENCRYPT = """
import hashlib, os, time
from app import database
names = (b"APP_SECRET", b"APP_SECRET_PREVIOUS")
now, before = (hashlib.sha256(os.environb[name]).hexdigest() for name in names)
connection = database.connect()
for number, key in connection.execute("SELECT number, key FROM kept ORDER BY number").fetchall():
    if key not in (now, before):
        raise SystemExit(f"row {number} cannot be read")
    connection.execute("UPDATE kept SET key = %s WHERE number = %s", (now, number))
    print("row", number, "has the new key", os.environ["APP_SECRET"], flush=True)
    time.sleep(0.2)
"""
ROTATION = f"""
[secrets.rotation.APP_SECRET]
generate = "password:40"
previous = "APP_SECRET_PREVIOUS"

[secrets.rotation.APP_SECRET.reencrypt]
service = "api"
command = ["python3", "-c", {json.dumps(REENCRYPT)}]
timeout = 60
"""
COMPOSE = """\
services:
  api: &more
    environment:
      APP_SECRET_PREVIOUS: ${APP_SECRET_PREVIOUS}
  worker: *more
"""
ROTATE = ("secrets.rotate", "--env", "bed", "--name", "APP_SECRET")


@pytest.fixture(scope="module")
def server(project: Project) -> Server:
    return project.bed.servers[0]


@pytest.fixture(scope="module")
def rotating(project: Project, server: Server) -> Project:
    """A deployed project that keeps its key in files of the operator, and rows encrypted with it."""
    keys = project.root.parent / "keys"
    keys.mkdir()
    (keys / "now").write_text(f"{APP_SECRET}\n")
    (keys / "before").write_text(f"{FIRST_PREVIOUS}\n")
    (project.root / "previous.yaml").write_text(COMPOSE)
    project.configure(files=("compose.yaml", "previous.yaml"), more=ROTATION)
    project.set(APP_SECRET="${file:../keys/now}", APP_SECRET_PREVIOUS="${file:../keys/before}")
    project.commit()
    project.inv("deploy.bed").expect()
    sql(project, server, "CREATE TABLE kept (number integer PRIMARY KEY, key text)")
    return project


@pytest.fixture
def rows(rotating: Project, server: Server) -> Project:
    """Rows that are encrypted with the key of now."""
    key = digest(value(rotating, "now"))
    sql(rotating, server, "TRUNCATE kept")
    for number in range(1, ROWS + 1):
        sql(rotating, server, f"INSERT INTO kept VALUES ({number}, '{key}')")  # noqa: S608 - a digest
    return rotating


def sql(project: Project, server: Server, text: str) -> list[str]:
    database = project.containers(server)["db"]["id"]
    argv = [
        "docker",
        "exec",
        database,
        "psql",
        "-U",
        "app",
        "-d",
        "app",
        "-v",
        "ON_ERROR_STOP=1",
        "-Atc",
        text,
    ]
    return server.exec(argv).stdout.splitlines()


def value(project: Project, name: str) -> str:
    return (project.root.parent / "keys" / name).read_text().removesuffix("\n")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def variable(project: Project, server: Server, name: str, secret: str) -> str:
    """Ask the live application for one of its variables, with the key it should have."""
    done = project.get(server, f"/env/{name}", "--fail", "--header", f"x-app-secret: {secret}")
    return done.stdout.decode()


def check(project: Project, server: Server, now: str, before: str) -> None:
    """Both values are stored, the application has both, and every row can be read with the one of now."""
    assert (value(project, "now"), value(project, "before")) == (now, before)
    assert variable(project, server, "APP_SECRET_PREVIOUS", now) == before
    assert sql(project, server, "SELECT DISTINCT key FROM kept") == [digest(now)]
    assert project.answers(server)


def check_readable(project: Project, server: Server, old: str) -> None:
    """At any instant every row can be read with a value that is stored somewhere."""
    keys = project.root.parent / "keys"
    stored = {path.read_text().removesuffix("\n") for path in keys.iterdir() if path.is_file()}
    assert old in stored
    assert set(sql(project, server, "SELECT DISTINCT key FROM kept")) <= {digest(each) for each in stored}


def leaks(project: Project, done: Done) -> list[str]:
    keys = project.root.parent / "keys"
    stored = [path.read_text().removesuffix("\n") for path in keys.iterdir()]
    return [each for each in (*stored, APP_SECRET, DATABASE_PASSWORD) if each in done.out + done.err]


def record(project: Project, server: Server) -> str:
    """Return what is written down of the last rotation; nothing before the first."""
    return server.exec(["cat", project.folder("rotation.json")], check=False).stdout


def test_a_rotation_replaces_what_uses_the_key_and_re_encrypts(rows: Project, server: Server) -> None:
    old = value(rows, "now")
    was = rows.containers(server)
    done = rows.inv(*ROTATE, "--json").expect()
    assert done.json["outcome"] == "rotated"
    new = value(rows, "now")
    check(rows, server, new, old)
    assert len(new) == 40
    now = rows.containers(server)
    assert {name for name in now if now[name]["id"] != was[name]["id"]} == {"api", "worker"}
    assert {name: each["image"] for name, each in now.items()} == {
        name: each["image"] for name, each in was.items()
    }
    lines = [event["line"] for event in done.events if event["event"] == "Output"]
    assert f"row {ROWS} has the new key [REDACTED]" in lines
    assert server.exec(["stat", "-c", "%a", rows.folder("rotation.json")]).stdout.strip() == "600"
    assert not [each for each in (old, new) if each in record(rows, server)]


def test_the_plan_names_the_services(rows: Project, server: Server) -> None:
    done = rows.inv(*ROTATE).expect()
    for service, kind in (("api", "recreate"), ("worker", "recreate"), ("db", "unchanged")):
        assert any(line.split()[1:3] == [service, kind] for line in done.out.splitlines()), done
    assert not leaks(rows, done)


@pytest.mark.parametrize("way", ["--finish", "--undo"])
@pytest.mark.parametrize("phase", ["store both values", "plan", "stage", "up", "health", "re-encrypt"])
def test_killed_and_then_finished_or_undone(rows: Project, server: Server, phase: str, way: str) -> None:
    old = value(rows, "now")
    if phase == "re-encrypt":
        more = f"generate_series({ROWS + 1}, {MANY_ROWS})"
        sql(rows, server, f"INSERT INTO kept SELECT {more}, '{digest(old)}'")
    running = rows.start(*ROTATE, "--json")
    running.wait_for_phase(phase)
    if phase == "re-encrypt":
        running.wait_for(lambda event: str(event.get("line", "")).startswith("row 2 "))
    running.kill()
    eventually(lambda: not rows.locked(server), 20, "the lock is free")
    if phase == "store both values":
        # Whether it was written down is only true when nobody is at it any more.
        eventually(lambda: not rows.working(server), 60, "the last script ended")
    check_readable(rows, server, old)

    written = record(rows, server)
    if not written or json.loads(written)["outcome"]:
        # It was killed before anything was written down: there is nothing to go on with.
        assert (phase, value(rows, "now")) == ("store both values", old)
        rows.inv(*ROTATE, way).expect(10)
        return
    told = rows.inv(*ROTATE).expect(1)
    assert "was interrupted after the step" in told.err
    assert "--finish" in told.err and "--undo" in told.err
    made = value(rows, "now")
    done = rows.inv(*ROTATE, way).expect()
    new = value(rows, "now")
    if way == "--finish":
        if made != old:
            assert new == made, "a second value was made though the first was stored"
        check(rows, server, new, old)
    else:
        assert new == old
        assert variable(rows, server, "APP_SECRET_PREVIOUS", old)
        assert sql(rows, server, "SELECT DISTINCT key FROM kept") == [digest(old)]
    assert not leaks(rows, told)
    assert not leaks(rows, done)
    rows.inv(*ROTATE, way).expect(10)


def test_a_rotation_that_makes_it_ill_goes_back_and_can_be_undone(rows: Project, server: Server) -> None:
    old, before = value(rows, "now"), value(rows, "before")
    current = rows.status()["server1"]["current"]
    rows.set(FAIL_HEALTH="1")
    rows.configure(files=("compose.yaml", "previous.yaml"), more=ROTATION, health_timeout=30)
    done = rows.inv(*ROTATE).expect(1)
    assert "--finish or --undo" in done.err
    assert rows.status()["server1"]["current"] == current
    assert variable(rows, server, "APP_SECRET_PREVIOUS", old) == before
    rows.set(FAIL_HEALTH="")
    rows.configure(files=("compose.yaml", "previous.yaml"), more=ROTATION)
    rows.inv(*ROTATE, "--undo").expect()
    assert value(rows, "now") == old
    assert sql(rows, server, "SELECT DISTINCT key FROM kept") == [digest(old)]
    assert rows.answers(server)


def test_two_at_once_are_one_after_the_other_or_refused(rows: Project, server: Server) -> None:
    running = rows.start(*ROTATE, "--json")
    running.wait_for_phase("re-encrypt")
    running.process.send_signal(signal.SIGSTOP)  # or it may end before the other one looks
    try:
        second = rows.inv(*ROTATE)
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert second.code in {1, 13}
    first = running.finish().expect()
    new, old = value(rows, "now"), value(rows, "before")
    check(rows, server, new, old)
    assert not leaks(rows, first)
    assert not leaks(rows, second)


def test_no_value_is_in_anything_that_was_said_or_left(rows: Project, server: Server, tmp_path: Path) -> None:
    for done in rows.said:
        assert not leaks(rows, done)
    journal = server.exec(["cat", rows.folder("journal.jsonl")]).stdout
    now, before = value(rows, "now"), value(rows, "before")
    for text in (journal, record(rows, server)):
        assert now not in text and before not in text
    assert not [path for path in rows.temporary.rglob("*") if path.is_file()]
