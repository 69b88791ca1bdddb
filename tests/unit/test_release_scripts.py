import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.releases import TOKEN, meta, work
from windlass.environment.model import DeploySettings, MigrateSettings
from windlass.errors import CommandFailed
from windlass.hosts.local import LocalHost
from windlass.release import scripts
from windlass.release.layout import Layout
from windlass.release.ledger import Entry, runs
from windlass.release.lock import DeployLock

HOSTILE = 'it\'s a "b" $HOME `id` $(id) \\ é*;&|'
DEPLOY = DeploySettings()
MIGRATE = MigrateSettings(service="api", command=["./migrate", HOSTILE, "two\nlines"], timeout=5)
HERE = LocalHost("here")
KEY = "ab" * 32


def archive(**files: str) -> bytes:
    """Return a release as it is sent."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o600
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def staged(job: scripts.Work, payload: bytes, **changes) -> scripts.Script:
    options = {
        "current": "",
        "directories": (),
        "files": (),
        "aliases": {},
        "key": KEY,
        "in_memory": False,
        "timeout": 30,
    } | changes
    return scripts.stage(job, payload, **options)


def every_script(job: scripts.Work) -> dict[str, scripts.Script]:
    name = meta("r1", images={"api": f"shop/{HOSTILE}:1"}, built=(f"shop/{HOSTILE}:1",))
    options = {"directories": [f"/srv/{HOSTILE}"], "aliases": name.aliases, "current": HOSTILE}
    return {
        "stage": staged(job, b"x", **options),
        "begin": scripts.begin(job, HOSTILE),
        "migrate": scripts.migrate(job, MIGRATE),
        "up": scripts.up(job, DEPLOY, name.aliases),
        "restore": scripts.restore(job, name, DEPLOY),
        "record": scripts.record(job, previous=HOSTILE, prune=[name], without_images=[name]),
        "pull": scripts.pull([f"shop/{HOSTILE}:1"], 5),
        "end": scripts.end(job, "failed", HOSTILE),
    }


@pytest.mark.parametrize("name", list(every_script(work("/srv/shop"))))
@pytest.mark.parametrize("directory", ["/srv/shop", f"/srv/{HOSTILE}"])
def test_every_script_is_bash_whatever_the_names(name, directory):
    script = every_script(work(directory, release=HOSTILE, who=HOSTILE))[name]
    subprocess.run(["bash", "-n"], input=script.text(), text=True, check=True)


@pytest.mark.parametrize("name", ["stage", "begin", "migrate", "up", "restore", "record"])
def test_what_changes_something_first_makes_sure_of_the_lock(name):
    lines = every_script(work("/srv/shop"))[name].text().splitlines()
    guard = next(n for n, line in enumerate(lines) if TOKEN in line)
    assert guard <= 5
    change = re.compile(r"\bdocker\b|>>/srv|\brm\b|\bmv\b|\bmkdir\b|\btar\b|\bln\b")
    assert not [line for line in lines[:guard] if change.search(line)]


@pytest.mark.parametrize("name", list(every_script(work("/srv/shop"))))
def test_what_is_shown_is_what_runs(name):
    """No secret is ever in a script, so `--dry` prints the very text."""
    script = every_script(work("/srv/shop"))[name]
    assert str(script) == script.text()


def test_the_payload_is_no_part_of_the_script():
    payload = archive(**{"release/secrets.env": 'PASSWORD="hunter2-hunter2"'})
    text = staged(work("/srv/shop"), payload).text()
    assert "hunter2" not in text
    assert hashlib.sha256(payload).hexdigest() in text


# --- for real, on this machine


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a `docker` on the PATH that writes down its arguments, and ends as its file `code` says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    said, code, word = folder / "said", folder / "code", folder / "word"
    said.write_text("")
    code.write_text("0")
    word.write_text("")
    (folder / "docker").write_text(
        f'#!/bin/bash\nprintf "%s\\0" "$@" "" >>{said}\ncat {word}\nexit "$(cat {code})"\n'
    )
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def asked(docker: Path) -> list[list[str]]:
    return [words.split("\0") for words in (docker / "said").read_text().split("\0\0") if words]


@pytest.fixture
def place(tmp_path):
    """Return a folder whose lock this deploy holds."""
    layout = Layout(str(tmp_path / HOSTILE))
    with DeployLock(HERE, layout, who="me", action="deploy", release="r2", since="now") as lock:
        yield layout.directory, lock.token


def journal(directory: str) -> list[str]:
    lines = (Path(directory) / "journal.jsonl").read_text().splitlines()
    return [f"{entry.phase} {entry.state}" for line in lines if (entry := Entry.from_json(line))]


def test_stage_puts_the_release_in_place_closed_to_others(place, docker):
    directory, token = place
    root = Path(directory)
    payload = archive(
        **{
            "release/stack.json": "{}",
            "release/secrets.env": 'A="b"',
            "release/meta.json": meta("r2").to_json(),
            "files/abc/etc/app.conf": "x",
        }
    )
    job = work(directory, token=token, release="r2")
    shared = str(root / "shared" / "data")
    aliases = {"shop-api:2": "shop-api:r2"}
    script = staged(job, payload, directories=[shared], files=["abc"], aliases=aliases)
    HERE.run(script, payload=payload)
    assert (root / "releases" / "r2" / "secrets.env").read_text() == 'A="b"'
    assert (root / "files" / "abc" / "etc" / "app.conf").read_text() == "x"
    assert (root / "key").read_text() == f"{KEY}\n"
    assert Path(shared).stat().st_mode & 0o777 == 0o777
    for path in (root, root / "releases", root / "shared", root / "files"):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (root / "key", root / "journal.jsonl", root / "releases" / "r2" / "secrets.env"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert asked(docker) == [["tag", "shop-api:2", "shop-api:r2"]]
    assert journal(directory) == ["begin started", "stage done"]
    assert not list((root / "releases").glob(".staging*"))


def test_staging_again_replaces_the_release_and_keeps_the_key(place, docker):
    directory, token = place
    job = work(directory, token=token, release="r2")
    for text in ("one", "two"):
        payload = archive(**{"release/stack.json": text, "release/meta.json": "{}"})
        HERE.run(staged(job, payload, key=KEY if text == "one" else "cd" * 32), payload=payload)
    root = Path(directory)
    assert (root / "releases" / "r2" / "stack.json").read_text() == "two"
    assert (root / "key").read_text() == f"{KEY}\n"


def test_services_that_come_first_come_by_name_and_one_that_fails_ends_it(place, docker):
    directory, token = place
    job = work(directory, token=token, release="r2")
    HERE.run(scripts.up(job, DEPLOY, first=("db", "redis")))
    ends = [words[words.index("up") :] for words in asked(docker)]
    assert [[word for word in end if not word.startswith("-")][-1] for end in ends[:2]] == ["db", "redis"]
    assert all("--remove-orphans" not in end for end in ends[:2])
    assert "--remove-orphans" in ends[2]
    assert len(ends) == 3
    (docker / "code").write_text("1")
    with pytest.raises(CommandFailed):
        HERE.run(scripts.up(job, DEPLOY, first=("db",)))
    assert len(asked(docker)) == 4


def test_a_key_that_was_cut_short_is_written_anew(place, docker):
    directory, token = place
    (Path(directory) / "key").write_text("abc")
    payload = archive(**{"release/stack.json": "{}"})
    HERE.run(staged(work(directory, token=token), payload), payload=payload)
    assert (Path(directory) / "key").read_text() == f"{KEY}\n"


def test_half_a_payload_changes_nothing(place, docker):
    directory, token = place
    payload = archive(**{"release/stack.json": "{}"})
    with pytest.raises(CommandFailed, match="the files did not arrive whole"):
        HERE.run(staged(work(directory, token=token), payload), payload=payload[:-1])
    assert not (Path(directory) / "releases" / "r2").exists()
    assert not list((Path(directory) / "releases").iterdir())


def test_what_a_killed_stage_left_is_removed(place, docker):
    directory, token = place
    left = Path(directory) / "releases" / ".staging.abc123"
    left.mkdir(parents=True)
    (left / "payload.tar").write_text("secret")
    payload = archive(**{"release/stack.json": "{}"})
    HERE.run(staged(work(directory, token=token), payload), payload=payload)
    assert not left.exists()


@pytest.mark.parametrize("kind", ["stage", "begin"])
def test_modes_are_set_again_and_half_a_key_goes(place, docker, kind):
    directory, token = place
    root = Path(directory)
    old = root / "releases" / "r1"
    old.mkdir(parents=True)
    private = [root / "key", *(old / name for name in ("stack.json", "secrets.env", "meta.json"))]
    for path in private:
        path.write_text("x")
        path.chmod(0o666)
    (root / "releases").chmod(0o777)
    (root / ".key.new").write_text(KEY)
    left = root / "releases" / ".staging.abc123"
    left.mkdir()
    job = work(directory, token=token, release="r2")
    payload = archive(**{"release/stack.json": "{}"})
    if kind == "stage":
        HERE.run(staged(job, payload), payload=payload)
    else:
        kept(directory, "r2")
        HERE.run(scripts.begin(job))
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert (root / "releases").stat().st_mode & 0o777 == 0o700
    assert not (root / ".key.new").exists()
    assert not left.exists()


def test_a_mounted_file_is_made_again_what_its_folder_is_named_after(place, docker):
    directory, token = place
    root = Path(directory)
    names = ("files/abc/etc/app.conf", f"files/abc/{HOSTILE}", "files/abc/.hidden/deep/x")
    payload = archive(**dict.fromkeys(names, "as sent"), **{"release/stack.json": "{}"})
    job = work(directory, token=token, release="r2")
    HERE.run(staged(job, payload, files=["abc"]), payload=payload)
    untouched = (root / names[0]).stat().st_ino
    folder = (root / "files" / "abc").stat().st_ino
    HERE.run(staged(job, payload, files=["abc"]), payload=payload)
    assert (root / names[0]).stat().st_ino == untouched, "what is as it should be is left alone"
    (root / names[0]).write_text("changed")
    (root / names[1]).chmod(0o666)
    (root / names[2]).unlink()
    with (root / names[0]).open() as mounted:
        HERE.run(staged(job, payload, files=["abc"]), payload=payload)
        assert mounted.read() == "changed", "who has it open keeps what it has: it was replaced whole"
    for name in names:
        assert (root / name).read_text() == "as sent"
        assert (root / name).stat().st_mode & 0o777 == 0o600
    assert (root / "files" / "abc").stat().st_ino == folder, "a container that mounts the folder keeps it"
    assert sorted(
        str(each.relative_to(root)) for each in root.glob("files/**/*") if each.is_file()
    ) == sorted(names)


@pytest.mark.parametrize("script", ["stage", "begin"])
def test_a_stale_plan_is_refused(place, docker, script):
    directory, token = place
    root = Path(directory)
    (root / "releases").mkdir()
    (root / "current").symlink_to("releases/r1")
    job, payload = work(directory, token=token), archive(**{"release/stack.json": "{}"})
    made = {"stage": staged(job, payload, current="r0"), "begin": scripts.begin(job, "r0")}[script]
    with pytest.raises(CommandFailed, match="another deploy ended after this one was planned") as caught:
        HERE.run(made, payload=payload)
    assert caught.value.code == scripts.STALE
    assert not (root / "journal.jsonl").exists()
    kept(directory, job.release)
    fresh = {"stage": staged(job, payload, current="r1"), "begin": scripts.begin(job, "r1")}[script]
    HERE.run(fresh, payload=payload)


def kept(directory: str, identity: str) -> None:
    """Put a release's secrets where they are kept."""
    folder = Path(directory) / "releases" / identity
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secrets.env").write_text("")


def release(directory: str, identity: str, *, mounts: str = "") -> None:
    folder = Path(directory) / "releases" / identity
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(f'{{"source": "{directory}/files/{mounts}/x"}}')
    (folder / "meta.json").write_text(meta(identity).to_json())


def test_record_switches_the_links_and_prunes(place, docker):
    directory, token = place
    root = Path(directory)
    for number, mounts in (("r0", "old"), ("r1", "both"), ("r2", "both")):
        release(directory, number, mounts=mounts)
    for name in ("old", "both"):
        (root / "files" / name).mkdir(parents=True)
    (root / "current").symlink_to("releases/r1")
    own = ("shop-api:r0",)
    script = scripts.record(
        work(directory, token=token, release="r2"),
        previous="r1",
        prune=[meta("r0", built=own)],
        keep_images=["postgres:17"],
    )
    HERE.run(script)
    assert (root / "current").readlink() == Path("releases/r2")
    assert (root / "previous").readlink() == Path("releases/r1")
    assert sorted(path.name for path in (root / "releases").iterdir()) == ["r1", "r2"]
    assert [path.name for path in (root / "files").iterdir()] == ["both"]
    assert ["image", "rm", "shop-api:r0"] in asked(docker)
    assert ["image", "rm", "postgres:17"] not in asked(docker)
    assert journal(directory) == ["record done"]


def test_recording_what_is_current_keeps_the_previous(place, docker):
    directory, token = place
    root = Path(directory)
    release(directory, "r2")
    (root / "previous").symlink_to("releases/r1")
    HERE.run(scripts.record(work(directory, token=token, release="r2"), previous="r2"))
    assert (root / "current").readlink() == Path("releases/r2")
    assert (root / "previous").readlink() == Path("releases/r1")


def test_up_runs_compose_with_the_releases_own_files(place, docker):
    directory, token = place
    HERE.run(scripts.up(work(directory, token=token), DEPLOY))
    (words,) = asked(docker)
    assert words[:5] == ["compose", "--ansi", "never", "-p", "shop"]
    assert words[6] == f"{directory}/releases/r2/stack.json"
    assert words[8] == f"{directory}/releases/r2/secrets.env"
    assert "--remove-orphans" in words
    assert journal(directory) == ["up started", "up done"]


def test_up_that_fails_says_why_and_is_not_done(place, docker):
    directory, token = place
    (docker / "code").write_text("17")
    (docker / "word").write_text("port is already allocated")
    with pytest.raises(CommandFailed, match="port is already allocated") as caught:
        HERE.run(scripts.up(work(directory, token=token), DEPLOY))
    assert caught.value.code == 17
    assert journal(directory) == ["up started"]


def test_restore_brings_the_previous_release_back_with_its_own_images(place, docker):
    directory, token = place
    before = meta("r1", built=("shop-api:latest",))
    kept(directory, "r1")
    HERE.run(scripts.restore(work(directory, token=token), before, DEPLOY))
    said = asked(docker)
    assert ["tag", "shop-api:r1", "shop-api:latest"] in said
    assert said[-1][6] == f"{directory}/releases/r1/stack.json"


def test_restore_needs_no_journal(place, docker):
    """A disk that is full cannot be written to, and the old release comes back all the same."""
    directory, token = place
    (Path(directory) / "journal.jsonl").mkdir()
    kept(directory, "r1")
    HERE.run(scripts.restore(work(directory, token=token), meta("r1"), DEPLOY))
    assert "up" in asked(docker)[-1]


def migration(place: tuple[str, str]) -> tuple[scripts.Work, Path]:
    directory, token = place
    (Path(directory) / "releases" / "r2").mkdir(parents=True)
    return work(directory, token=token), Path(directory) / "releases" / "r2" / "migrate.log"


def test_migrate_runs_once_and_keeps_its_log(place, docker):
    job, log = migration(place)
    (docker / "word").write_text("applied 0001\n")
    lines: list[str] = []
    HERE.run(scripts.migrate(job, MIGRATE), on_line=lines.append)
    assert lines == ["applied 0001"]
    assert log.read_text() == "applied 0001\n"
    words = asked(docker)[-1]
    assert words[-4:] == ["api", "./migrate", HOSTILE, "two\nlines"]
    assert "--no-deps" not in words
    assert journal(place[0]) == ["migrate started", "migrate done"]


def test_migrate_leaves_what_runs_alone_when_told(place, docker):
    job, _ = migration(place)
    HERE.run(scripts.migrate(job, MIGRATE, dependencies=False))
    assert "--no-deps" in asked(docker)[-1]


def test_a_migration_that_fails_says_its_last_words(place, docker):
    job, log = migration(place)
    (docker / "word").write_text("".join(f"line {n}\n" for n in range(50)))
    (docker / "code").write_text("3")
    with pytest.raises(CommandFailed, match="line 49") as caught:
        HERE.run(scripts.migrate(job, MIGRATE))
    assert "line 20" not in caught.value.message
    assert len(log.read_text().splitlines()) == 50
    assert journal(place[0]) == ["migrate started"]


def test_the_end_is_written_down_without_a_lock(tmp_path):
    job = work(tmp_path / "new")
    HERE.run(scripts.end(job, "failed", "no 'space'\nleft"))
    text = (tmp_path / "new" / "journal.jsonl").read_text()
    (run,) = runs([entry for line in text.splitlines() if (entry := Entry.from_json(line))])
    assert (run.state, run.detail) == ("failed", "no 'space'\nleft")
    assert json.loads(text)["who"] == "me@here"


def test_pull_names_what_it_cannot_have(docker):
    (docker / "code").write_text("1")
    text = HERE.run(scripts.pull([f"shop/{HOSTILE}:1", "redis:7"], 5)).text
    assert text.splitlines() == [f"missing shop/{HOSTILE}:1", "missing redis:7"]
