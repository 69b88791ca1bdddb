"""The main job: deploy, look, deploy again, go back, with the real command line on a real server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.e2e.project import Project, eventually
from tests.testbed import Server


@pytest.fixture(scope="module")
def server(deployed: Project) -> Server:
    return deployed.bed.servers[0]


def snapshot(project: Project, server: Server) -> tuple[str, object, object]:
    """Return everything a command that changes nothing must leave as it is."""
    files = server.exec(["find", project.folder(), "-printf", "%p %s %l %T@\n"]).stdout
    images = server.exec(["docker", "image", "ls", "--no-trunc", "--format", "{{.ID}} {{.Tag}}"]).stdout
    # A refused or finished lock touches nothing but its own two files.
    kept = sorted(line for line in files.splitlines() if "lock" not in line)
    return "\n".join(kept), sorted(images.splitlines()), project.containers(server)


def current(project: Project) -> str:
    return str(project.status()["server1"]["current"])


def test_the_first_deploy_answers_and_is_recorded(deployed: Project, server: Server) -> None:
    assert deployed.answers(server)
    order = deployed.get(server, "/orders", "--json", '{"item": "tea", "quantity": 1}').stdout
    assert json.loads(order), order
    status = deployed.status()["server1"]
    assert status["current"].endswith(deployed.git("rev-parse", "--short=12", "HEAD"))
    assert status["previous"] == ""
    assert status["lock"] is None
    assert status["interrupted"] is None
    assert {each["service"] for each in status["services"]} == {"api", "worker", "db", "redis"}
    assert {each["release"] for each in status["services"]} == {status["current"]}
    assert {each["health"] for each in status["services"]} == {"healthy"}
    meta = json.loads(server.exec(["cat", deployed.folder("current", "meta.json")]).stdout)
    assert meta["commit"] == deployed.git("rev-parse", "HEAD")


def test_a_second_commit_changes_only_its_own_services(deployed: Project, server: Server) -> None:
    was, before = current(deployed), deployed.containers(server)
    tag = deployed.commit()
    done = deployed.inv("deploy.bed", "--json").expect()
    row = done.json["hosts"][0]
    assert done.json["ok"] is True
    assert (row["was"], row["state"]) == (was, "live")
    assert row["now"].endswith(tag)
    after = deployed.containers(server)
    for service in ("db", "redis"):
        assert after[service]["id"] == before[service]["id"], "untouched services keep their containers"
    for service in ("api", "worker"):
        assert after[service]["image"].endswith(f":{tag}")
    status = deployed.status()["server1"]
    assert (status["current"], status["previous"]) == (row["now"], was)
    assert b"tea" in deployed.get(server, "/orders").stdout


def test_phases_come_in_order_and_each_ends(deployed: Project) -> None:
    deployed.commit()
    events = deployed.inv("deploy.bed", "--json").expect().events
    phases = [each for each in events if each["event"] == "PhaseChanged"]
    assert [each["phase"] for each in phases if each["state"] == "started"] == [
        *("plan", "preflight", "lock", "build", "ship", "stage"),
        *("migrate", "up", "health", "smoke", "record"),
    ]
    assert all(each["seconds"] >= 0 for each in phases if each["state"] == "done")
    assert len([each for each in phases if each["state"] == "done"]) == 11


def test_status_and_history_for_people(deployed: Project) -> None:
    said = deployed.inv("deploy.status").expect().out
    assert f"server1: current {current(deployed)}" in said
    assert "healthy" in said
    rows = deployed.inv("deploy.history", "--json").expect().json
    assert rows[0]["release"] == current(deployed)
    assert {row["state"] for row in rows} == {"live"}
    assert rows[0]["commit"] == deployed.git("rev-parse", "HEAD")[:12]
    assert current(deployed) in deployed.inv("deploy.history").expect().out


def test_the_plan_says_what_would_change_and_changes_nothing(deployed: Project, server: Server) -> None:
    before = snapshot(deployed, server)
    said = deployed.inv("deploy.plan").expect().out
    assert "Nothing would change" in said
    deployed.set(GREETING="another")
    plan = deployed.inv("deploy.plan", "--json").expect().json
    kinds = {change["service"]: change["kind"] for change in plan["changes"]["server1"]}
    assert kinds == {"api": "recreate", "worker": "recreate", "db": "unchanged", "redis": "unchanged"}
    deployed.set(GREETING="")
    assert snapshot(deployed, server) == before


def test_dry_prints_the_very_scripts_and_changes_nothing(deployed: Project, server: Server) -> None:
    before = snapshot(deployed, server)
    said = deployed.inv("--dry", "deploy.bed").expect().out
    for phase in ("stage", "migrate", "up", "record"):
        assert f"# {phase} on server1" in said
    assert "docker compose --ansi never -p" in said
    assert "flock" in said
    assert snapshot(deployed, server) == before
    assert "[REDACTED]" not in said, "a script holds no secret, so nothing in it is masked"


def test_dry_of_the_other_tasks_changes_nothing(deployed: Project, server: Server) -> None:
    before = snapshot(deployed, server)
    assert "docker compose" in deployed.inv("--dry", "deploy.rollback").expect().out
    assert "server1" in deployed.inv("--dry", "deploy.unlock").expect().out
    assert snapshot(deployed, server) == before


def test_rollback_and_back(deployed: Project, server: Server) -> None:
    status = deployed.status()["server1"]
    newest, older = status["current"], status["previous"]
    done = deployed.inv("deploy.rollback", "--json").expect()
    assert done.json["hosts"][0] == {"host": "server1", "was": newest, "now": older, "state": "live"}
    assert deployed.containers(server)["api"]["image"].rpartition(":")[2] in older
    assert deployed.answers(server)
    deployed.inv("deploy.rollback", "--to", newest).expect()
    status = deployed.status()["server1"]
    assert (status["current"], status["previous"]) == (newest, older)
    assert {each["release"] for each in status["services"]} == {newest}
    history = deployed.inv("deploy.history", "--json", "--limit", "2").expect().json
    assert [(row["action"], row["state"]) for row in history] == [("rollback", "live")] * 2


def test_rollback_to_what_is_not_there(deployed: Project) -> None:
    done = deployed.inv("deploy.rollback", "--to", "20200101T000000Z-none").expect(10)
    assert "server1 does not keep the release 20200101T000000Z-none." in done.err


def test_a_tag_without_a_build(deployed: Project, server: Server) -> None:
    newest = current(deployed)
    tag = deployed.status()["server1"]["previous"].rpartition("-")[2]
    done = deployed.inv("deploy.bed", "--tag", tag, "--no-build", "--json").expect()
    phases = {each["phase"] for each in done.events if each["event"] == "PhaseChanged"}
    assert "build" not in phases
    assert done.json["hosts"][0]["now"].endswith(tag)
    assert deployed.containers(server)["api"]["image"].endswith(f":{tag}")
    deployed.inv("deploy.rollback", "--to", newest).expect()


def test_a_tag_nobody_has(deployed: Project, server: Server) -> None:
    before = deployed.containers(server)
    done = deployed.inv("deploy.bed", "--tag", "never-built", "--no-build").expect(1)
    assert "never-built" in done.err
    assert deployed.containers(server) == before
    assert not deployed.locked(server)


def test_skip_migrate(deployed: Project) -> None:
    done = deployed.inv("deploy.bed", "--skip-migrate", "--json").expect()
    phases = {each["phase"] for each in done.events if each["event"] == "PhaseChanged"}
    assert "migrate" not in phases
    assert "up" in phases


def test_only_the_newest_releases_are_kept(deployed: Project) -> None:
    deployed.configure(deploy="keep_releases = 2")
    newest = current(deployed)
    deployed.inv("deploy.bed", "--no-build").expect()
    server = deployed.bed.servers[0]
    releases = server.exec(["ls", deployed.folder("releases")]).stdout.split()
    assert len(releases) == 2
    assert newest in releases
    deployed.configure()


def test_a_protected_environment_asks(deployed: Project, server: Server) -> None:
    deployed.environment("live", deployed.bed.servers[:1], top="protected = true\n")
    before = snapshot(deployed, server)
    for words in (["deploy.live"], ["deploy.rollback", "--env", "live"], ["deploy.unlock", "--env", "live"]):
        done = deployed.inv(*words).expect(14)
        assert "live" in done.err
        assert "--yes" in done.err
    assert snapshot(deployed, server) == before
    code, said = typed(deployed, "lime\n", "deploy.live", "--no-build", "--take-over")
    assert code == 14, said
    assert snapshot(deployed, server) == before
    code, said = typed(deployed, "live\n", "deploy.live", "--no-build", "--take-over")
    assert code == 0, said
    assert "Type its name" in said
    # Back in the hands of the environment it was of, which is refused without saying so.
    assert "of the environment live" in deployed.inv("deploy.bed", "--no-build").expect(15).err
    deployed.inv("deploy.bed", "--no-build", "--take-over").expect()
    (deployed.root / "envs" / "live.toml").unlink()


def typed(project: Project, answer: str, *words: str) -> tuple[int, str]:
    """Run a command on a terminal, type an answer, and return its exit code and all it said."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        project.argv(*words),
        cwd=project.root,
        env=project.process_environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    said = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end of a terminal is closed
            break
        if not chunk:
            break
        said += chunk
    os.close(ours)
    return process.wait(60), said.decode(errors="replace")


def test_logs_show_every_service_and_mask_secrets(deployed: Project) -> None:
    said = deployed.inv("deploy.logs", "--service", "api", "--service", "worker").expect().out
    assert "api-1" in said
    assert "worker-1" in said
    assert "redis-1" not in said
    assert "listens on port" in said


def test_a_stack_that_was_broken_by_hand_is_mended(deployed: Project, server: Server) -> None:
    server.exec(["docker", "rm", "--force", deployed.containers(server)["api"]["id"]])
    assert not deployed.answers(server)
    status = deployed.status()["server1"]
    assert "api" not in {each["service"] for each in status["services"]}
    deployed.inv("deploy.bed", "--no-build").expect()
    eventually(lambda: deployed.answers(server), 10, "the API answers")


def test_it_runs_from_a_folder_below(deployed: Project) -> None:
    below = Path(deployed.root, "migrations")
    done = subprocess.run(
        deployed.argv("deploy.status", "--json"),
        cwd=below,
        env=deployed.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["current"] == current(deployed)
