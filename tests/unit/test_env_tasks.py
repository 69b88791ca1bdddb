"""The tasks of `env`: what they write and where, and that no secret is in anything they say."""

from __future__ import annotations

import base64
import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from invoke import Program

from tasks import namespace
from tests.secretstores import Memory, install
from windlass.doctor.machine import OLDEST_PYTHON
from windlass.environment import example
from windlass.environment.differing import compare

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "Wq7-planted-Zk3-value-Xv9"
IN_BASE = "planted-in-Base-8fJq2"
KEPT = "planted-in-File-3Rt6y"
OF_PROCESS = "planted-in-Process-5Tz1"
SECRETS = (PLANTED, IN_BASE, KEPT, OF_PROCESS)
SCHEMA = f"""\
# Header of the file.

# Connection of the application.
# @required(staging, prod) @sensitive @type=url(schemes=postgres|postgresql)
# @example=postgres://user:pass@host/db
DATABASE_URL=
# @required @sensitive @type=base64(bytes=32)
APP_KEY=
# @required(prod) @type=hex(bytes=16) @sensitive
SIGNING=
# @sensitive @type=password(min=40)
OPTIONAL_PASSWORD=
# Leaks {IN_BASE} in its words, and what it's #1 in.
# @sensitive @example={IN_BASE}
BASE_TOKEN=
# @type=enum(debug|info)
LOG_LEVEL=info
# @deprecated="use LOG_LEVEL"
LEVEL=
"""


@dataclass
class Answer:
    """What a task said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with three environments, prod protected; secrets of four origins."""
    files = {
        "envs/base.toml": 'app = "shop"\n[hosts.here]\ntransport = "local"\n',
        "envs/dev.toml": "default = true\n",
        "envs/staging.toml": "[deploy]\nkeep_releases = 3\n",
        "envs/prod.toml": "protected = true\n",
        "envs/schema.env": SCHEMA,
        "envs/base.env": f"BASE_TOKEN={IN_BASE}\n",
        "envs/dev.env": f"LOG_LEVEL=debug\nDEV_SECRET={PLANTED}\n",
        "envs/staging.env": (
            "DATABASE_URL=${env:STAGING_URL}\nAPP_KEY=${file:keys/staging}\nEXTRA=staging-only\n"
        ),
        "envs/prod.env": (
            "DATABASE_URL=${env:PROD_URL}\nAPP_KEY=${file:keys/prod}\n"
            f"SIGNING=${{dotenv:keys/prod.env#SIGNING}}\nDEV_SECRET={PLANTED}\n"
        ),
        "compose.yaml": "services: {web: {image: 'web:1', healthcheck: {disable: true}}}\n",
        ".gitignore": "envs/*.local.env\nkeys/\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINDLASS_ENV", raising=False)
    monkeypatch.setenv("STAGING_URL", f"postgres://app:{OF_PROCESS}@db/app")
    return tmp_path


@pytest.fixture
def run(project: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a task in this process; no secret may be in anything it says."""
    del project

    def ran(*words: str) -> Answer:
        capfd.readouterr()
        code = 0
        try:
            Program(namespace=namespace).run(["inv", *words], exit=True)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        for secret in SECRETS:
            assert secret not in out + err, words
        return Answer(code, out, err)

    return ran


def values_of(path: Path) -> dict[str, str | None]:
    return dotenv_values(path, interpolate=False)


# --- list, show, check


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_no_task_shows_a_secret(run: Run, project: Path, env: str, json_too: bool) -> None:
    (project / "keys").mkdir()
    (project / "keys" / "staging").write_text(KEPT)
    more = ["--json"] if json_too else []
    said = [
        run("env.list", *more),
        run("env.show", "--env", env, *more),
        run("env.check", "--env", env, *more),
        run("env.check", *more),
        run("env.diff", "--first", env, "--second", "staging", *more),
        run("env.diff", "--first", "dev", "--second", "prod", "--values", *more),
        run("env.generate", "--env", env, "--name", "OPTIONAL_PASSWORD", "--yes", *more),
        run("env.generate", "--env", env, "--yes", *more),
        run("env.show", "--env", env, *more),
        run("env.example"),
        run("env.doctor", "--env", env, *more),
    ]
    assert "Traceback" not in "".join(each.out + each.err for each in said)
    assert 70 not in [each.code for each in said]
    made = values_of(project / "envs" / f"{env}.local.env")["OPTIONAL_PASSWORD"]
    assert made
    assert len(made) == 40
    assert made not in "".join(each.out + each.err for each in said)
    assert not any(secret in (project / ".env.example").read_text() for secret in SECRETS)


def test_show_says_where_each_value_came_from(run: Run, project: Path) -> None:
    (project / "keys").mkdir()
    (project / "keys" / "staging").write_text(base64.b64encode(bytes(range(32))).decode())
    shown = {each["name"]: each for each in run("env.show", "--env", "staging", "--json").data["variables"]}
    assert shown["LOG_LEVEL"] == {
        "name": "LOG_LEVEL",
        "value": "info",
        "secret": False,
        "type": "enum(debug|info)",
        "origin": "envs/schema.env:17",
        "reference": "",
        "source": "",
    }
    key = shown["APP_KEY"]
    assert (key["origin"], key["reference"], key["source"], key["secret"]) == (
        "envs/staging.env:2",
        "${file:keys/staging}",
        "file:keys/staging",
        True,
    )


def test_check_says_what_the_schema_finds_in_every_environment(run: Run) -> None:
    answer = run("env.check", "--json")
    assert answer.code == 10
    found = {
        name: [(each["severity"], each["message"].split(" ")[0]) for each in findings]
        for name, findings in answer.data.items()
    }
    assert found["dev"][:2] == [("error", "envs/schema.env:8:"), ("warning", "envs/dev.env:2:")]
    assert ("error", "envs/staging.env:2:") in found["staging"]
    assert ("warning", "envs/staging.env:3:") in found["staging"]
    assert {
        ("error", "envs/prod.env:1:"),
        ("error", "envs/prod.env:2:"),
        ("error", "envs/prod.env:3:"),
    } <= set(found["prod"])


def test_a_broken_file_is_said_by_every_task_and_not_shown(run: Run, project: Path) -> None:
    (project / "envs" / "dev.env").write_text(f"A='{PLANTED}\n{PLANTED}\nB={PLANTED}'x\n# @type={PLANTED}\n")
    for words in (
        ["env.show"],
        ["env.check"],
        ["env.diff", "--first", "dev", "--second", "prod"],
        ["env.generate"],
        ["env.example"],
    ):
        answer = run(*words)
        assert answer.code == 10, words
        assert "envs/dev.env:" in answer.out + answer.err


# --- diff


def differences(answer: Answer) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        (each["name"], each["what"]): (each["first"], each["second"]) for each in answer.data["differences"]
    }


def test_diff_needs_no_secret(run: Run) -> None:
    answer = run("env.diff", "--first", "staging", "--second", "prod", "--json")
    assert answer.code == 0
    assert differences(answer) == {
        ("APP_KEY", "kept in another place"): ("${file:keys/staging}", "${file:keys/prod}"),
        ("DATABASE_URL", "kept in another place"): ("${env:STAGING_URL}", "${env:PROD_URL}"),
        ("EXTRA", "only in one"): ("staging-only", ""),
        ("SIGNING", "required in one only"): ("optional", "required"),
        ("SIGNING", "only in one"): ("", "${dotenv:keys/prod.env#SIGNING}"),
        ("DEV_SECRET", "only in one"): ("", "[REDACTED]"),
        ("protected", "another value"): ("false", "true"),
        ("deploy.keep_releases", "another value"): ("3", "5"),
    }


def test_diff_compares_values_only_when_asked(run: Run, project: Path) -> None:
    (project / "envs" / "prod.env").write_text(f"DEV_SECRET={PLANTED}\nLOG_LEVEL=info\nBASE_TOKEN={KEPT}\n")
    words = ("env.diff", "--first", "dev", "--second", "prod", "--json")
    plain = differences(run(*words))
    assert plain["DEV_SECRET", "not compared"] == ("[REDACTED]", "[REDACTED]")
    assert plain["BASE_TOKEN", "not compared"] == ("[REDACTED]", "[REDACTED]")
    assert plain["LOG_LEVEL", "another value"] == ("debug", "info")
    compared = differences(run(*words, "--values"))
    assert not [name for name, _ in compared if name == "DEV_SECRET"]
    assert compared["BASE_TOKEN", "another value"] == ("[REDACTED]", "[REDACTED]")


def test_diff_says_what_cannot_be_compared(run: Run) -> None:
    answer = run("env.diff", "--first", "staging", "--second", "prod", "--values")
    assert "cannot be had: the variable PROD_URL is not set" in answer.out
    assert answer.code == 0


def test_diff_masks_a_value_that_a_reference_holds(run: Run, project: Path) -> None:
    word = "printf-9dQw2xZk"
    for name, program in (("dev", "printf"), ("prod", "echo")):
        (project / "envs" / f"{name}.env").write_text(f"A_TOKEN=${{command:{program} {word}}}\n")
    answer = run("env.diff", "--first", "dev", "--second", "prod", "--values")
    assert answer.code == 0
    assert "command:echo" in answer.out
    assert word not in answer.out + answer.err


def test_the_exit_code_of_a_difference(run: Run) -> None:
    assert run("env.diff", "--first", "dev", "--second", "prod", "--exit-code").code == 1
    assert run("env.diff", "--first", "dev", "--second", "dev", "--exit-code").code == 0
    assert run("env.diff", "--first", "dev").code == 10
    assert "Did you mean 'prod'?" in run("env.diff", "--first", "dev", "--second", "prd").err


def test_a_value_that_is_secret_on_one_side_is_shown_on_neither(run: Run, project: Path) -> None:
    (project / "envs" / "dev.toml").write_text('default = true\n[variables]\nsecret = ["EXTRA"]\n')
    (project / "envs" / "dev.env").write_text(f"EXTRA={PLANTED}\nAPP_KEY=x\n")
    (project / "envs" / "staging.env").write_text(f"EXTRA={PLANTED}-2\n")
    said = run("env.diff", "--first", "dev", "--second", "staging", "--json")
    assert differences(said)["EXTRA", "not compared"] == ("[REDACTED]", "[REDACTED]")
    assert differences(said)["EXTRA", "secret in one only"] == ("[REDACTED]", "[REDACTED]")


def test_comparing_is_the_same_both_ways(project: Path) -> None:
    one = {(each.name, each.first, each.second) for each in compare(project, "dev", "prod")}
    other = {(each.name, each.second, each.first) for each in compare(project, "prod", "dev")}
    assert one == other
    assert one


# --- generate


def test_what_is_required_and_missing_is_made_where_it_is_kept(run: Run, project: Path) -> None:
    answer = run("env.generate", "--env", "prod", "--yes", "--json")
    assert [(each["name"], each["kind"], each["place"], each["state"]) for each in answer.data] == [
        ("APP_KEY", "base64:32", "file:keys/prod", "written"),
        ("SIGNING", "hex:16", "dotenv:keys/prod.env#SIGNING", "written"),
    ]
    key = (project / "keys" / "prod").read_text().strip()
    assert len(base64.b64decode(key)) == 32
    assert len(bytes.fromhex(values_of(project / "keys" / "prod.env")["SIGNING"] or "")) == 16
    assert (project / "keys" / "prod").stat().st_mode & 0o777 == 0o600
    again = run("env.generate", "--env", "prod", "--yes", "--json").data
    assert {each["state"] for each in again} == {"left"}
    assert (project / "keys" / "prod").read_text().strip() == key


def test_a_variable_without_a_place_gets_one_in_the_local_file(run: Run, project: Path) -> None:
    local = project / "envs" / "dev.local.env"
    local.write_text("# mine\nLOG_LEVEL=info # note\nAPP_KEY=\n")
    assert run("env.generate").code == 0
    made = values_of(local)
    assert made["LOG_LEVEL"] == "info"
    assert len(base64.b64decode(made["APP_KEY"] or "")) == 32
    assert local.read_text().startswith("# mine\nLOG_LEVEL=info # note\nAPP_KEY=")
    assert run("env.check", "--env", "dev").code == 0


def test_a_value_is_replaced_only_when_that_is_asked_for(run: Run, project: Path) -> None:
    words = ("env.generate", "--name", "DEV_SECRET", "--kind", "password:20")
    answer = run(*words)
    assert "it has a value in envs/dev.env:2; --overwrite replaces it" in answer.out
    assert not (project / "envs" / "dev.local.env").exists()
    assert run(*words, "--overwrite").code == 0
    assert len(values_of(project / "envs" / "dev.local.env")["DEV_SECRET"] or "") == 20
    assert PLANTED in (project / "envs" / "dev.env").read_text()


def test_a_value_that_cannot_be_asked_for_is_not_replaced(run: Run, project: Path) -> None:
    (project / "keys" / "staging").mkdir(parents=True)
    answer = run("env.generate", "--env", "staging")
    assert "keys/staging cannot be read" in answer.out
    assert (project / "keys" / "staging").is_dir()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--name", "LOG_LEVEL"], "does not say what to make"),
        (["--name", "LOG_LEVL"], "Did you mean LOG_LEVEL?"),
        (["--name", "APP_KEY", "--kind", "password:32"], "A password:32 for APP_KEY stands for 24 bytes"),
        (["--name", "APP_KEY", "--kind", "base64:16"], "stands for 16 bytes and not for 32"),
        (["--name", "NEW", "--kind", "pasword"], "did you mean `password`?"),
        (["--name", "A B", "--kind", "hex"], "no name of a variable"),
        (["--kind", "hex"], "Which variable is meant?"),
        (["--reveal"], "on a terminal only"),
    ],
)
def test_what_makes_no_sense_writes_nothing(run: Run, project: Path, words: list[str], part: str) -> None:
    answer = run("env.generate", *words)
    assert answer.code == 10
    assert part in answer.err
    assert not (project / "envs" / "dev.local.env").exists()


def test_nothing_is_written_into_a_file_that_git_takes_in(run: Run, project: Path) -> None:
    (project / ".gitignore").write_text("")
    answer = run("env.generate")
    assert answer.code == 10
    assert "git does not ignore it" in answer.err
    assert not (project / "envs" / "dev.local.env").exists()


def test_a_protected_environment_asks_first(run: Run, project: Path) -> None:
    assert run("env.generate", "--env", "prod").code == 14
    assert not (project / "keys").exists()


def test_a_dry_run_writes_nothing(run: Run, project: Path) -> None:
    assert "would be written" in run("--dry", "env.generate").out
    assert "would write" in run("--dry", "env.example").out
    assert "would look at" in run("--dry", "env.doctor").out
    assert not (project / "envs" / "dev.local.env").exists()
    assert not (project / ".env.example").exists()


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ("${env:NOT_SET}", "it is the variable NOT_SET of whoever starts Windlass: set it there"),
        ("${command:false}", "it is what command:false prints: set it where that command has it from"),
        ("${variable:OTHER}", "it is the value of OTHER: `inv env.generate --name OTHER` makes that"),
        ("${kept:shop/KEY}", "it is kept in kept:shop/KEY: `inv secrets.set --name APP_KEY` writes there"),
        (
            "${env:NOT_SET} ?? ${kept:shop/KEY}",
            "it is kept in kept:shop/KEY: `inv secrets.set --name APP_KEY --to kept` writes there",
        ),
    ],
)
def test_a_secret_kept_elsewhere_is_left_alone(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, places: str, told: str
) -> None:
    install(monkeypatch, Memory("kept"))
    (project / "envs" / "dev.env").write_text(f"APP_KEY={places}\n")
    (left,) = run("env.generate", "--json").data
    assert (left["state"], left["why"]) == ("left", told)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("file:keys/one", "file:keys/one"),
        ("file:keys/one", "file:./keys/../keys/one"),
        ("dotenv:keys/all.env#KEY", "dotenv:keys//all.env#KEY"),
        ("env:NOT_SET} ?? ${file:keys/one", "file:keys/one"),
        ("dotenv:envs/prod.local.env#SIGNING", ""),
    ],
)
def test_two_variables_at_one_place_are_refused(run: Run, project: Path, one: str, other: str) -> None:
    other = f"SIGNING=${{{other}}}\n" if other else ""
    (project / "envs" / "prod.env").write_text(f"APP_KEY=${{{one}}}\n{other}")
    answer = run("env.generate", "--env", "prod", "--yes")
    assert answer.code == 10
    assert "APP_KEY and SIGNING are kept at one place" in answer.err
    assert not (project / "keys").exists()
    assert not (project / "envs" / "prod.local.env").exists()
    assert run("env.generate", "--env", "prod", "--yes", "--name", "APP_KEY").code == 0


def test_two_fields_of_one_file_are_two_places(run: Run, project: Path) -> None:
    places = "APP_KEY=${dotenv:keys/all.env#A}\nSIGNING=${dotenv:keys/all.env#B}\n"
    (project / "envs" / "prod.env").write_text(places)
    assert run("env.generate", "--env", "prod", "--yes").code == 0
    assert len(set(values_of(project / "keys" / "all.env").values())) == 2


def test_a_value_is_revealed_on_a_terminal(project: Path) -> None:
    main, side = pty.openpty()
    words = [sys.executable, "-m", "invoke", "env.generate", "--reveal"]
    (project / "tasks.py").write_text("from tasks_of_checkout import ns\n")
    (project / "tasks_of_checkout.py").write_text("from windlass.tasks import namespace as ns\n")
    done = subprocess.Popen(words, stdout=side, stderr=side, stdin=side, cwd=project)
    os.close(side)
    said = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:
            break
        said += chunk
        if not chunk:
            break
    assert done.wait() == 0, said
    made = values_of(project / "envs" / "dev.local.env")["APP_KEY"] or "?"
    assert made in said.decode()


# --- example


def test_the_example_holds_names_and_examples_and_no_secret(run: Run, project: Path) -> None:
    assert run("env.example").code == 0
    text = (project / ".env.example").read_text()
    assert values_of(project / ".env.example") == {
        "DATABASE_URL": "postgres://user:pass@host/db",
        "APP_KEY": "",
        "SIGNING": "",
        "OPTIONAL_PASSWORD": "",
        "BASE_TOKEN": "",
        "LOG_LEVEL": "info",
        "DEV_SECRET": "",
        "EXTRA": "",
    }
    assert text.startswith(example.MARK)
    assert "# Connection of the application.\n# Required in prod and staging. Type: url(" in text
    assert "# Leaks [REDACTED] in its words, and what it's #1 in.\n" in text


def test_the_example_is_checked_and_does_not_depend_on_the_laptop(run: Run, project: Path) -> None:
    assert run("env.example", "--check").code == 1
    run("env.example")
    before = (project / ".env.example").read_bytes()
    (project / "envs" / "dev.local.env").write_text("MINE=1\nLOG_LEVEL=debug\n")
    assert run("env.example", "--check").code == 0
    (project / "envs" / "base.env").write_text("NEW=1\n")
    assert run("env.example", "--check").code == 1
    assert (project / ".env.example").read_bytes() == before
    assert run("env.example").code == 0
    assert "NEW=1" in (project / ".env.example").read_text()


def test_a_file_of_somebody_else_is_not_overwritten(run: Run, project: Path) -> None:
    (project / ".env.example").write_text("MINE=1\n")
    answer = run("env.example")
    assert (answer.code, (project / ".env.example").read_text()) == (10, "MINE=1\n")
    assert run("env.example", "--output", "other.example").code == 0
    assert run("env.example", "--overwrite").code == 0
    assert (project / ".env.example").read_text() == (project / "other.example").read_text()


def test_the_example_is_put_in_place_all_at_once(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / ".env.example"
    run("env.example")
    before = path.read_bytes()
    path.chmod(0o640)
    # Who has the file open, or linked, keeps the whole of the one before.
    (project / "linked").hardlink_to(path)
    (project / "envs" / "base.env").write_text("NEW=1\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        answer = run("env.example")
    assert answer.code == 10
    assert "cannot be written: No space left" in answer.err
    assert path.read_bytes() == before
    names = {each.name for each in project.iterdir() if "example" in each.name}
    assert names == {".env.example"}
    assert run("env.example").code == 0
    assert "NEW=1" in path.read_text()
    assert (project / "linked").read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "output", ["../outside", "/tmp/../{outside}", "link/outside", "out", "envs/../../outside"]
)
def test_the_example_stays_inside_the_repository(
    run: Run, project: Path, tmp_path_factory: pytest.TempPathFactory, output: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (project / "link").symlink_to(elsewhere)
    (project / "out").symlink_to(elsewhere / "outside")
    answer = run("env.example", "--overwrite", "--output", output.format(outside=elsewhere / "outside"))
    assert answer.code == 10
    assert "is outside the repository" in answer.err
    assert not list(elsewhere.iterdir())
    assert not (project.parent / "outside").exists()


def test_an_environment_that_does_not_exist_makes_no_file(run: Run, project: Path) -> None:
    before = sorted(project.rglob("*"))
    assert run("env.generate", "--env", "nowhere", "--name", "APP_KEY", "--yes").code == 10
    assert run("env.example", "--env", "nowhere").code == 1
    assert sorted(project.rglob("*")) == before


def test_hostile_descriptions_stay_comments(run: Run, project: Path) -> None:
    (project / "envs" / "schema.env").write_text(
        "# a\x1b[31m red\u2028NEXT=1\x85AND=2\n# @example='x # y $HOME `id`'\nA=\n"
        "# @type=enum('a b'|\"c'd\")\nB=c'd\n"
    )
    assert run("env.example").code == 0
    found = values_of(project / ".env.example")
    assert {name: found[name] for name in ("A", "B")} == {"A": "x # y $HOME `id`", "B": "c'd"}
    assert not {"NEXT", "AND"} & set(found)
    assert "\x1b" not in (project / ".env.example").read_text()


# --- doctor


def test_the_doctor_says_how_to_mend_what_is_missing(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = project / "tools"
    tools.mkdir()
    (tools / "docker").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "  *Client*) echo 27.0.1 ;;\n"
        '  "version"*) echo "permission denied while trying to connect"; exit 1 ;;\n'
        '  "compose version"*) echo 2.24.3 ;;\n'
        "  *) exit 1 ;;\n"
        "esac\n"
    )
    (tools / "docker").chmod(0o755)
    for name in ("bash", "cat", "head", "date", "id", "df", "awk", "dirname", "tail", "timeout", "sleep"):
        (tools / name).symlink_to(Path("/usr/bin") / name)
    monkeypatch.setenv("PATH", str(tools))
    (project / "envs" / "dev.env").write_text("APP_KEY=${file:keys/none}\nB=${env:NOT_SET}\n")
    answer = run("env.doctor", "--json")
    assert answer.code == 1
    found = {(each["where"], each["what"]): each for each in answer.data}
    here = "this machine"
    assert found[here, "git"]["found"] == "it is not installed"
    assert "usermod -aG docker" in found[here, "Docker"]["fix"]
    assert found[here, "Compose"]["found"] == "2.24.3 is too old"
    assert "2.24.4" in found[here, "Compose"]["fix"]
    assert "flock, tar" in found["here", "tools"]["found"]
    assert "util-linux tar" in found["here", "tools"]["fix"]
    assert found["file", "login"]["state"] == "failed"
    assert "APP_KEY from file:keys/none" in found["file", "login"]["found"]
    assert found["env", "login"]["state"] == "failed"
    assert (here, "ssh") not in found
    assert all(each["fix"] for each in answer.data if each["state"] != "ok")


def test_the_oldest_python_is_that_of_the_package() -> None:
    wanted = f'requires-python = ">={".".join(map(str, OLDEST_PYTHON))}"'
    assert wanted in (ROOT / "pyproject.toml").read_text()
