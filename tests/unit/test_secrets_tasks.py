"""The tasks of `secrets` as they are typed, on files and on a store in memory; no value in any output."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke import Program

from tasks import namespace
from tasks._secrets_running import words_after_dashes
from tests.secretstores import Memory, Versioned, install
from windlass.secrets.providers import registry

SECRET = "hunter2-and-more"  # pragma: allowlist secret
OTHER = "Zq8vTn2kLw5x-other"  # pragma: allowlist secret
NEW = "new-Hd5tWq9zPb2n"  # pragma: allowlist secret


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Versioned:
    client = Versioned("kept")
    install(monkeypatch, client, Memory("plain"))
    return client


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Versioned) -> Path:
    """A repository whose environments keep secrets in files, in the store, and in envs/ itself."""
    envs = tmp_path / "envs"
    envs.mkdir()
    host = '[hosts.here]\ntransport = "local"\n'
    base = 'app = "shop"\ndirectory = "srv"\n'
    rotation = '[secrets.rotation.API_KEY]\ngenerate = "hex:16"\nprevious = "API_KEY_PREVIOUS"\n'
    (envs / "base.toml").write_text(base + rotation)
    (envs / "prod.toml").write_text(f"protected = true\n{host}")
    (envs / "staging.toml").write_text(host)
    (envs / "base.env").write_text(
        "API_KEY=${file:keys/API_KEY}\nAPI_KEY_PREVIOUS=${file:keys/API_KEY_PREVIOUS}\n"
        f"DB_PASSWORD=${{kept:shop/DB_PASSWORD}} ?? ${{file:keys/DB}}\nIN_FILE_TOKEN={SECRET}\nPLAIN=seen\n"
    )
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "API_KEY").write_text(f"{SECRET}\n")
    (tmp_path / "keys" / "API_KEY_PREVIOUS").write_text("before-that\n")
    store.write({"shop/DB_PASSWORD": _sensitive(OTHER)})
    store.writes.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINDLASS_ENV", "staging")
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def _sensitive(text: str) -> Any:
    from windlass.shell import Sensitive

    return Sensitive(text)


class Said:
    """How a task ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def without(self, *values: str) -> Said:
        for value in (SECRET, OTHER, NEW, "before-that", *values):
            assert value not in self.out + self.err
        return self


Inv = Callable[..., Said]


@pytest.fixture
def inv(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inv:
    def run(*words: str, stdin: str | bytes | None = None) -> Said:
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = 0
        try:
            Program(namespace=namespace).run(["inv", *words], exit=True)
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def rows(said: Said) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in said.json}


# --- list, check


def test_list_says_where_each_is_set_and_kept_and_which_place_gave_it(inv: Inv) -> None:
    found = rows(inv("secrets.list", "--json").without())
    assert found["DB_PASSWORD"]["kept"] == "${kept:shop/DB_PASSWORD} ?? ${file:keys/DB}"
    assert found["DB_PASSWORD"]["source"] == "kept:shop/DB_PASSWORD"
    assert found["DB_PASSWORD"]["length"] == "16 to 31"
    assert found["IN_FILE_TOKEN"]["kept"] == "in this file"
    assert found["IN_FILE_TOKEN"]["origin"] == "envs/base.env:4"
    assert "PLAIN" not in found
    table = inv("secrets.list").without()
    assert "kept:shop/DB_PASSWORD" in table.out


def test_check_says_all_that_cannot_be_had_at_once(inv: Inv, project: Path, store: Versioned) -> None:
    (project / "keys" / "API_KEY").unlink()
    store.refused.add("shop/DB_PASSWORD")
    said = inv("secrets.check", "--json").without()
    assert said.code == 10
    found = rows(said)
    assert {name for name, row in found.items() if not row["ok"]} == {"API_KEY", "DB_PASSWORD"}
    assert "the file keys/API_KEY cannot be read" in found["API_KEY"]["reason"]
    assert "ask for it" in found["DB_PASSWORD"]["reason"]
    assert said.err == "error: 2 of the secrets of staging cannot be had.\n"


def test_what_a_reference_holds_of_a_value_is_masked(inv: Inv, project: Path) -> None:
    word = "printf-9dQw2xZk"
    (project / "envs" / "base.env").write_text(f"A_TOKEN=${{command:printf {word}}}\n")
    (project / "envs" / "prod.env").write_text(f"A_TOKEN=${{command:echo {word}}}\n")
    for words in (("list",), ("check",), ("diff", "--first", "staging", "--second", "prod")):
        for form in ((), ("--json",)):
            said = inv(f"secrets.{words[0]}", *words[1:], *form).without(word)
            assert said.code == 0, said.err
            assert "command:" in said.out


@pytest.mark.parametrize("name", ["list", "check"])
def test_settings_that_are_wrong_are_no_empty_table(inv: Inv, project: Path, name: str) -> None:
    (project / "envs" / "staging.toml").write_text('protected = "maybe"\n[hosts.here]\ntransport = "local"\n')
    said = inv(f"secrets.{name}").without()
    assert (said.code, said.out) == (10, "")
    assert "envs/staging.toml:1" in said.err


def test_list_says_why_one_cannot_be_had(inv: Inv, project: Path) -> None:
    (project / "keys" / "API_KEY").unlink()
    said = inv("secrets.list", "--json").without()
    assert said.code == 0
    assert "No such file" in rows(said)["API_KEY"]["reason"]
    assert rows(said)["IN_FILE_TOKEN"]["reason"] == ""
    assert "No such file" in inv("secrets.list").without().out


# --- get


@pytest.mark.parametrize(
    ("name", "value"), [("API_KEY", SECRET), ("IN_FILE_TOKEN", SECRET), ("PLAIN", "seen")]
)
def test_get_gives_the_bytes_and_nothing_else(inv: Inv, name: str, value: str) -> None:
    said = inv("secrets.get", "--name", name, "--reveal")
    assert (said.code, said.out, said.err) == (0, value, "")
    assert inv("secrets.get", "--name", name, "--reveal", "--json").json == {"name": name, "value": value}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_get_is_refused_where_stdout_is_no_terminal(inv: Inv, form: tuple[str, ...]) -> None:
    said = inv("secrets.get", "--name", "API_KEY", *form).without()
    assert said.code == 14
    assert "--reveal" in said.err


def test_get_reads_other_versions(inv: Inv, store: Versioned, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write({"shop/DB_PASSWORD": _sensitive(NEW)})
    from windlass.environment import keeping

    monkeypatch.setattr(keeping, "_has_versions", lambda name: name == "kept")
    got = inv("secrets.get", "--name", "DB_PASSWORD", "--stage", "previous", "--reveal")
    assert got.out == OTHER
    assert inv("secrets.get", "--name", "DB_PASSWORD", "--version", "2", "--reveal").out == NEW
    said = inv("secrets.get", "--name", "API_KEY", "--version", "2", "--reveal").without()
    assert (said.code, said.out) == (10, "")
    assert "keeps no versions" in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Which variable is meant?"),
        (("--name", "API_KEI"), "Did you mean API_KEY?"),
    ],
)
def test_get_says_what_is_not_there(inv: Inv, words: tuple[str, ...], sentence: str) -> None:
    said = inv("secrets.get", *words, "--reveal")
    assert said.code == 10
    assert sentence in said.err


def test_get_says_why_a_secret_cannot_be_had(inv: Inv, project: Path) -> None:
    (project / "keys" / "API_KEY").write_text("\n")
    said = inv("secrets.get", "--name", "API_KEY", "--reveal")
    assert (said.code, said.out) == (1, "")
    assert "the value is empty" in said.err


def piped(line: str, project: Path) -> tuple[int, str]:
    """Run a line of a shell in which `$INV` is `inv`: its exit code, and all it said."""
    (project / "tasks.py").write_text("from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n")
    (project / "envs" / "base.env").write_text("API_KEY=${file:keys/API_KEY}\n")
    line = line.replace("$INV", f"{sys.executable} -m invoke")
    done = subprocess.run(["sh", "-c", line], cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("$INV secrets.get --name API_KEY --reveal >&-", 1, "stdout is closed"),
        ("$INV secrets.get --name API_KEY --reveal --json >&-", 1, "stdout is closed"),
        ("$INV secrets.get --name API_KEY --reveal > /dev/full", 1, "No space left on device"),
        ("$INV secrets.get --name API_KEY --reveal --json > /dev/full", 1, "No space left on device"),
        ("$INV secrets.set --name API_KEY <&-", 14, "Nobody is there to type API_KEY"),
        ("$INV secrets.sync --source 'dotenv:x%00' --target dotenv:y", 10, "the path holds a NUL"),
        ("$INV secrets.sync --source dotenv:x --target 'dotenv:y%00'", 1, "the path holds a NUL"),
    ],
)
def test_what_is_closed_or_full_or_no_path_is_one_sentence(
    project: Path, line: str, code: int, sentence: str
) -> None:
    (project / "x").write_text("A=1\n")
    ended, said = piped(line, project)
    assert (ended, said.count("error: ")) == (code, 1), said
    assert sentence in said
    assert "defect" not in said
    assert SECRET not in said
    assert (project / "keys" / "API_KEY").read_text() == f"{SECRET}\n"


def typed(words: list[str], answers: Mapping[str, str], project: Path, **environ: str) -> tuple[int, str]:
    """Run a task on a terminal of its own, answer its questions in order, and return all that was shown."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        # The terminal is to be this process's own: `getpass` opens /dev/tty.
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from invoke import Program\nfrom tasks import namespace\n"
        f"Program(namespace=namespace).run({['inv', *words]!r})\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    left = list(answers.items())
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
            if left and left[0][0].encode() in shown:
                os.write(ours, left.pop(0)[1].encode())
    except OSError:  # Linux says the end of a terminal like this
        pass
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


def test_get_on_a_terminal_asks_and_shows_only_after_a_yes(project: Path) -> None:
    (project / "envs" / "base.env").write_text("API_KEY=${file:keys/API_KEY}\n")
    code, shown = typed(["secrets.get", "--name", "API_KEY"], {"terminal? ": "n\n"}, project)
    assert (code, SECRET in shown) == (14, False)
    assert "Show API_KEY on this terminal? " in shown
    code, shown = typed(["secrets.get", "--name", "API_KEY"], {"terminal? ": "y\n"}, project)
    assert (code, SECRET in shown) == (0, True)
    code, shown = typed(["secrets.get", "--name", "API_KEY"], {}, project, CI="true")
    assert (code, SECRET in shown) == (14, False)


# --- set


def test_set_takes_a_value_from_a_pipe(inv: Inv, project: Path) -> None:
    said = inv("secrets.set", "--name", "API_KEY", stdin=f"{NEW}\n").without()
    assert said.code == 0
    assert (project / "keys" / "API_KEY").read_text() == f"{NEW}\n"
    assert "API_KEY is written to file:keys/API_KEY" in said.out
    assert "inv deploy.staging" in said.out


def test_set_takes_a_file_byte_for_byte_and_says_the_version(
    inv: Inv, project: Path, store: Versioned
) -> None:
    (project / "key.pem").write_text(f"{NEW}\nline two\n\n")
    said = inv("secrets.set", "--name", "DB_PASSWORD", "--from-file", "key.pem", "--json").without("line two")
    assert said.json == {
        "name": "DB_PASSWORD",
        "written": "kept:shop/DB_PASSWORD",
        "version": "2",
        "note": "",
    }
    assert store.now("shop/DB_PASSWORD") == f"{NEW}\nline two\n\n"


def test_set_makes_a_value(inv: Inv, project: Path, store: Versioned) -> None:
    assert inv("secrets.set", "--name", "DB_PASSWORD", "--generate", "hex:16").code == 0
    assert len(bytes.fromhex(store.now("shop/DB_PASSWORD"))) == 16
    assert inv("secrets.set", "--name", "DB_PASSWORD", "--generate", "uuid").code == 0
    assert store.now("shop/DB_PASSWORD").count("-") == 4
    # Without a kind, as [secrets.rotation] says.
    said = inv("secrets.set", "--generate", "--name", "API_KEY")
    made = (project / "keys" / "API_KEY").read_text().strip()
    assert len(bytes.fromhex(made)) == 16
    said.without(made)
    wrong = inv("secrets.set", "--name", "DB_PASSWORD", "--generate", "nonsense")
    assert wrong.code == 10


def test_set_writes_to_the_choice_asked_for(inv: Inv, project: Path, store: Versioned) -> None:
    assert inv("secrets.set", "--name", "DB_PASSWORD", "--to", "file", stdin=NEW).code == 0
    assert (project / "keys" / "DB").read_text() == f"{NEW}\n"
    assert store.writes == []
    said = inv("secrets.set", "--name", "DB_PASSWORD", "--to", "aws", stdin=NEW).without()
    assert said.code == 10
    assert "They are: kept:shop/DB_PASSWORD, file:keys/DB." in said.err


@pytest.mark.parametrize(
    ("words", "stdin", "sentence"),
    [
        (("--name", "IN_FILE_TOKEN"), NEW, "The value of IN_FILE_TOKEN stands in envs/base.env:4 itself"),
        (("--name", "API_KEY"), "", "The value for API_KEY is empty"),
        (("--name", "API_KEY"), "  \n", "The value for API_KEY is empty"),
        (("--name", "API_KEY"), f"{NEW}\0".encode(), "holds a NUL byte"),
        (("--name", "API_KEY"), b"\xff\xfe", "What was piped in is not UTF-8 text"),
        (("--name", "API_KEY", "--from-file", "nowhere"), "", "The file nowhere cannot be read"),
        (("--name", "API_KEY", "--from-file", "a", "--generate", "uuid"), "", "are two values"),
        (("--name", "NOT_THERE"), NEW, "sets NOT_THERE"),
    ],
)
def test_set_refuses(
    inv: Inv, project: Path, words: tuple[str, ...], stdin: str | bytes, sentence: str
) -> None:
    said = inv("secrets.set", *words, stdin=stdin).without()
    assert said.code == 10
    assert sentence in said.err
    assert (project / "keys" / "API_KEY").read_text() == f"{SECRET}\n"


def test_set_in_a_protected_environment_must_be_confirmed(inv: Inv, project: Path) -> None:
    said = inv("secrets.set", "--env", "prod", "--name", "API_KEY", stdin=NEW).without()
    assert said.code == 14
    assert (project / "keys" / "API_KEY").read_text() == f"{SECRET}\n"
    assert inv("secrets.set", "--env", "prod", "--name", "API_KEY", "--yes", stdin=NEW).code == 0
    assert (project / "keys" / "API_KEY").read_text() == f"{NEW}\n"


def test_set_writes_nothing_on_a_dry_run(inv: Inv, store: Versioned) -> None:
    said = inv("--dry", "secrets.set", "--name", "DB_PASSWORD", stdin=NEW).without()
    assert (said.code, store.writes) == (0, [])
    assert "would write DB_PASSWORD to kept:shop/DB_PASSWORD" in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--generate", "nonsense"), "no kind of key material"),
        (("--generate", "hex:1"), "the size of a hex is"),
        (("--generate", "uuid", "--from-file", "keys/API_KEY"), "are two values"),
        (("--from-file", "nowhere"), "The file nowhere cannot be read"),
        (("--from-file", "empty"), "is empty"),
    ],
)
def test_set_promises_nothing_that_it_would_refuse(
    inv: Inv, project: Path, store: Versioned, words: tuple[str, ...], sentence: str
) -> None:
    (project / "empty").touch()
    for dry in (("--dry",), ()):
        said = inv(*dry, "secrets.set", "--name", "DB_PASSWORD", *words).without()
        assert (said.code, store.writes) == (10, [])
        assert sentence in said.err


def test_set_says_what_a_provider_says(inv: Inv, store: Versioned) -> None:
    store.refused.add("shop/DB_PASSWORD")
    said = inv("secrets.set", "--name", "DB_PASSWORD", stdin=NEW).without()
    assert said.code == 1
    assert "kept:shop/DB_PASSWORD could not be written: shop/DB_PASSWORD is closed; ask for it" in said.err


def test_set_on_a_terminal_asks_twice_and_shows_nothing(project: Path) -> None:
    (project / "envs" / "base.env").write_text("API_KEY=${file:keys/API_KEY}\n")
    words = ["secrets.set", "--name", "API_KEY"]
    code, shown = typed(words, {"New value of": f"{NEW}\n", "again": f"{OTHER}\n"}, project)
    assert (code, NEW in shown, OTHER in shown) == (10, False, False)
    assert "differ" in shown
    assert (project / "keys" / "API_KEY").read_text() == f"{SECRET}\n"
    code, shown = typed(words, {"New value of": f"{NEW}\n", "again": f"{NEW}\n"}, project)
    assert (code, NEW in shown) == (0, False)
    assert "New value of API_KEY: " in shown
    assert (project / "keys" / "API_KEY").read_text() == f"{NEW}\n"


# --- diff, history


def test_diff_compares_two_environments_without_values(inv: Inv, project: Path) -> None:
    (project / "envs" / "prod.env").write_text(
        f"API_KEY={NEW}\nDB_PASSWORD=${{kept:shop/DB_PASSWORD}}\nONLY_PROD_TOKEN={NEW}\n"
    )
    said = inv("secrets.diff", "--first", "staging", "--second", "prod", "--json").without()
    assert said.code == 0
    found = rows(said)
    assert {name: row["state"] for name, row in found.items()} == {
        "API_KEY": "differs",
        "API_KEY_PREVIOUS": "same",
        "DB_PASSWORD": "same",
        "IN_FILE_TOKEN": "same",
        "ONLY_PROD_TOKEN": "only in prod",
    }
    assert found["API_KEY"]["first"] == "${file:keys/API_KEY}"
    assert found["API_KEY"]["second"] == "envs/prod.env:1"
    assert "only in prod" in inv("secrets.diff", "--first", "staging", "--second", "prod").without().out


def test_diff_compares_places_and_says_what_it_cannot_know(inv: Inv, project: Path, store: Versioned) -> None:
    store.write({"prod/API_KEY": _sensitive(SECRET), "prod/CLOSED": _sensitive(NEW)})
    store.refused.add("prod/CLOSED")
    said = inv("secrets.diff", "--first", "file:keys", "--second", "kept:prod", "--json").without()
    assert said.code == 1
    states = {name: row["state"] for name, row in rows(said).items()}
    assert states == {"API_KEY": "same", "API_KEY_PREVIOUS": "only in file:keys", "CLOSED": "unknown"}
    assert "CLOSED" in said.err
    assert inv("secrets.diff", "--first", "staging").code == 10


def test_history_lists_versions(inv: Inv, store: Versioned) -> None:
    store.write({"shop/DB_PASSWORD": _sensitive(NEW)})
    said = inv("secrets.history", "--name", "DB_PASSWORD", "--json").without()
    assert [(each["version"], each["stages"]) for each in said.json] == [
        ("2", ["current"]),
        ("1", ["previous"]),
    ]
    assert "current" in inv("secrets.history", "--name", "DB_PASSWORD").out
    said = inv("secrets.history", "--name", "API_KEY").without()
    assert said.code == 10
    assert "cannot tell versions of files" in said.err


# --- copy, sync


def test_copy_copies_one(inv: Inv, store: Versioned) -> None:
    words = ("secrets.copy", "--source", "file:keys/API_KEY", "--target", "kept:prod/API_KEY")
    said = inv(*words).without()
    assert (said.code, store.writes) == (14, [])
    assert "create" in said.out
    said = inv(*words, "--yes", "--json").without()
    assert (said.code, store.now("prod/API_KEY")) == (0, SECRET)
    assert [(each["state"], each["version"]) for each in said.json["secrets"]] == [("written", "1")]
    assert "Nothing was to be written." in inv(*words).without().out


def test_sync_shows_a_plan_and_writes_it(inv: Inv, project: Path, store: Versioned) -> None:
    store.write({"prod/MORE": _sensitive(NEW), "prod/API_KEY": _sensitive(OTHER)})
    store.writes.clear()
    words = ("secrets.sync", "--source", "file:keys", "--target", "kept:prod")
    dry = inv("--dry", *words, "--json").without()
    assert (dry.code, store.writes) == (0, [])
    assert {each["name"]: each["state"] for each in dry.json["secrets"]} == {
        "API_KEY": "change",
        "API_KEY_PREVIOUS": "create",
        "MORE": "only in target",
    }
    said = inv(*words, "--only", "API_*S", "--yes").without()
    assert store.writes == ["prod/API_KEY_PREVIOUS"]
    assert "1 written." in said.out
    assert inv(*words, "--yes").without().code == 0
    assert (store.now("prod/API_KEY"), store.now("prod/MORE")) == (SECRET, NEW)


def test_sync_that_fails_in_part_names_each_and_has_its_own_exit_code(
    inv: Inv, project: Path, store: Versioned
) -> None:
    (project / "keys" / "NO_WAY").write_text(NEW)
    words = ("secrets.sync", "--source", "file:keys", "--target", "kept:prod", "--yes")
    said = inv(*words, "--json").without()
    assert said.code == 2
    assert said.json["ok"] is False
    assert "Not copied: NO_WAY; 2 written." in said.err
    assert inv(*words).without().code == 1


def test_sync_to_a_protected_environment_must_be_confirmed(inv: Inv, store: Versioned) -> None:
    said = inv("secrets.sync", "--source", "file:keys", "--target", "kept:prod", "--env", "prod")
    assert (said.without().code, store.writes) == (14, [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--source", "file:keys"), "--target is missing"),
        (("--source", "file:keys", "--target", "keptt:prod"), "names no known provider"),
        (("--source", "file:keys", "--target", "env:X"), "cannot write to"),
        (("--source", "nothing", "--target", "kept:x"), "--source nothing: an address is a provider"),
        (("--source", "file:nowhere", "--target", "kept:x"), "cannot be listed"),
    ],
)
def test_sync_refuses(inv: Inv, words: tuple[str, ...], sentence: str) -> None:
    said = inv("secrets.sync", *words, "--yes")
    assert said.code == 10
    assert sentence in said.err


# --- run


@pytest.mark.parametrize(
    "words",
    [
        ("copy", "--source", "file:keys/API_KEY", "--target", "file:plain/API_KEY", "--yes"),
        ("sync", "--source", "file:keys", "--target", "dotenv:plain/.env", "--yes"),
        ("set", "--name", "A_TOKEN", "--yes"),
    ],
)
def test_no_secret_is_written_into_what_git_would_take(
    inv: Inv, project: Path, words: tuple[str, ...]
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    with (project / "envs" / "base.env").open("a") as file:
        file.write("A_TOKEN=${file:plain/A_TOKEN}\n")
    said = inv(f"secrets.{words[0]}", *words[1:], stdin=NEW).without()
    assert said.code == 10
    assert "git does not ignore it; nothing was written" in said.err
    assert not (project / "plain").exists()
    (project / ".gitignore").write_text("plain/\n")
    assert inv(f"secrets.{words[0]}", *words[1:], stdin=NEW).without().code == 0
    assert list((project / "plain").iterdir())


def test_the_words_of_a_command_keep_their_borders() -> None:
    words = ["inv", "secrets.run", "--env", "prod", "--", "sh", "-c", "echo  a   b", "--", ""]
    assert words_after_dashes(words) == ("sh", "-c", "echo  a   b", "--", "")
    assert words_after_dashes(["inv", "secrets.run"]) == ()


def test_run_without_a_command_says_how(inv: Inv) -> None:
    said = inv("secrets.run")
    assert said.code == 10
    assert "inv secrets.run -- env" in said.err


# --- rotate


def record(project: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((project / "srv" / "rotation.json").read_text())
    return data


def key(project: Path, name: str = "API_KEY") -> str:
    return (project / "keys" / name).read_text().removesuffix("\n")


def test_rotate_makes_a_value_and_keeps_the_one_before(inv: Inv, project: Path) -> None:
    said = inv("secrets.rotate", "--name", "API_KEY", "--json").without()
    assert said.code == 0
    new = key(project)
    assert len(bytes.fromhex(new)) == 16
    assert key(project, "API_KEY_PREVIOUS") == SECRET
    assert (said.json["outcome"], said.json["previous"]) == ("rotated", "file:keys/API_KEY_PREVIOUS")
    written = (project / "srv" / "rotation.json").read_text()
    assert (project / "srv" / "rotation.json").stat().st_mode & 0o777 == 0o600
    said.without(new)
    assert not [value for value in (new, SECRET) if value in written]
    assert record(project)["old"] == ""


def test_rotate_takes_a_value_from_a_file(inv: Inv, project: Path) -> None:
    (project / "new").write_text(NEW)
    said = inv("secrets.rotate", "--name", "API_KEY", "--value-from-file", "new").without()
    assert (said.code, key(project)) == (0, NEW)
    assert "API_KEY has a new value at file:keys/API_KEY" in said.out
    (project / "new").write_text("")
    assert inv("secrets.rotate", "--name", "API_KEY", "--value-from-file", "new").without().code == 10


def test_an_interrupted_rotation_is_found_told_and_finished_or_undone(
    inv: Inv, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ("--finish", "--undo"):
        (project / "keys" / "API_KEY").write_text(f"{SECRET}\n")
        (project / "keys").chmod(0o700)
        _interrupt(inv, monkeypatch)
        assert key(project, "API_KEY_PREVIOUS") == SECRET
        said = inv("secrets.rotate", "--name", "API_KEY").without()
        assert said.code == 1
        assert "was interrupted after the step `kept`" in said.err
        assert "file:keys/API_KEY holds the new value." in said.err
        assert "--finish" in said.err
        other = inv("secrets.rotate", "--name", "DB_PASSWORD").without()
        assert other.code == 1
        assert "A rotation of API_KEY in staging" in other.err
        new = key(project)
        assert inv("secrets.rotate", "--name", "API_KEY", way).without(new).code == 0
        assert key(project) == (new if way == "--finish" else SECRET)
        if way == "--undo":
            assert key(project, "API_KEY_PREVIOUS") == new
            assert key(project, "API_KEY_UNDONE") == new
        assert inv("secrets.rotate", "--name", "API_KEY", way).code == 10


def _interrupt(inv: Inv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a rotation just after the new value was written, as `kill -9` does: nothing is said any more."""
    from windlass.secrets.rotating import Store

    write = Store.write

    def stops(self: Store, address: Any, value: Any) -> Any:
        write(self, address, value)
        if address.target == "keys/API_KEY":
            raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", stops)
        assert inv("secrets.rotate", "--name", "API_KEY").code == 9


def test_rotate_of_what_has_versions_needs_no_second_place(inv: Inv, project: Path, store: Versioned) -> None:
    said = inv("secrets.rotate", "--name", "DB_PASSWORD", "--json").without()
    assert said.code == 0
    assert (said.json["old_version"], said.json["new_version"]) == ("1", "2")
    assert store.kept["shop/DB_PASSWORD"][0] == OTHER


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--name", "IN_FILE_TOKEN"), "stands in envs/base.env:4 itself"),
        (("--name", "API_KEY", "--finish", "--undo"), "are opposites"),
        (("--name", "API_KEY", "--finish"), "No rotation of staging is unfinished"),
        (("--name", "API_KEY_PREVIOUS"), "keeps no versions"),
    ],
)
def test_rotate_refuses(inv: Inv, project: Path, words: tuple[str, ...], sentence: str) -> None:
    said = inv("secrets.rotate", *words).without()
    assert said.code == 10
    assert sentence in said.err
    assert key(project) == SECRET


def test_rotate_says_what_it_would_do_and_changes_nothing(inv: Inv, project: Path) -> None:
    said = inv("--dry", "secrets.rotate", "--name", "API_KEY").without()
    assert said.code == 0
    assert "would keep the value before at file:keys/API_KEY_PREVIOUS" in said.out
    assert key(project) == SECRET
    assert not (project / "srv" / "rotation.json").exists()


def test_a_second_rotation_waits_until_what_runs_has_the_first(inv: Inv, project: Path) -> None:
    (project / "srv").mkdir()
    (project / "srv" / "current").symlink_to("releases/20260301T120000Z-1a2b3c4")
    assert inv("secrets.rotate", "--name", "API_KEY", "--no-deploy").code == 0
    new = key(project)
    for words in ((), ("--dry",)):
        said = inv(*words, "secrets.rotate", "--name", "API_KEY", "--no-deploy").without(new)
        assert said.code == 1
        assert "First give it the value of now with `inv deploy.staging`" in said.err
        assert (key(project), key(project, "API_KEY_PREVIOUS")) == (new, SECRET)
    (project / "srv" / "current").unlink()
    (project / "srv" / "current").symlink_to("releases/29990301T120000Z-1a2b3c4")
    assert inv("secrets.rotate", "--name", "API_KEY", "--no-deploy").code == 0
    assert key(project, "API_KEY_PREVIOUS") == new


@pytest.mark.parametrize(
    ("previous", "more", "words", "sentence"),
    [
        ("${file:./keys/API_KEY}", "", (), "the value before would be lost"),
        ("${file:keys/before}", 'generate = "hex:1"', (), "the size of a hex is"),
        ("${file:keys/before}", "", ("--value-from-file", "same"), "is the one API_KEY has already"),
        ("${file:keys/before}", "", ("--value-from-file", "empty"), "is empty"),
    ],
)
def test_rotate_promises_nothing_that_it_would_refuse(
    inv: Inv, project: Path, previous: str, more: str, words: tuple[str, ...], sentence: str
) -> None:
    (project / "empty").touch()
    (project / "same").write_text(SECRET)
    with (project / "envs" / "base.env").open("a") as file:
        file.write(f"BEFORE={previous}\n")
    text = (project / "envs" / "base.toml").read_text().replace("API_KEY_PREVIOUS", "BEFORE")
    (project / "envs" / "base.toml").write_text(text.replace('generate = "hex:16"', more) if more else text)
    for dry in (("--dry",), ()):
        said = inv(*dry, "secrets.rotate", "--name", "API_KEY", *words).without()
        assert said.code == 10
        assert sentence in said.err
        assert "would" not in said.out
        assert key(project) == SECRET
        assert not (project / "srv" / "rotation.json").exists()


def test_what_failed_says_what_both_places_hold(inv: Inv, project: Path) -> None:
    (project / "keys" / "API_KEY_PREVIOUS").unlink()
    (project / "keys" / "API_KEY_PREVIOUS").mkdir()
    said = inv("secrets.rotate", "--name", "API_KEY").without()
    assert said.code == 1
    told = " ".join(said.err.split())
    assert "file:keys/API_KEY holds the value before. file:keys/API_KEY_PREVIOUS cannot be read" in told
    assert "--name API_KEY` with --finish or --undo" in told
    assert "lost" not in told


def test_a_dry_undo_is_refused_where_there_is_no_way_back(
    inv: Inv, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(inv, monkeypatch)
    assert (
        "would put the value before back" in inv("--dry", "secrets.rotate", "--name", "API_KEY", "--undo").out
    )
    (project / "keys" / "API_KEY_PREVIOUS").write_text(f"{OTHER}\n")
    before = (project / "srv" / "rotation.json").read_text()
    for dry in (("--dry",), ()):
        said = inv(*dry, "secrets.rotate", "--name", "API_KEY", "--undo").without()
        assert said.code == 1
        assert "no longer at file:keys/API_KEY_PREVIOUS" in said.err
    assert (project / "srv" / "rotation.json").read_text() == before


def test_rotate_in_a_protected_environment_must_be_confirmed(inv: Inv, project: Path) -> None:
    assert inv("secrets.rotate", "--env", "prod", "--name", "API_KEY").without().code == 14
    assert key(project) == SECRET


@pytest.mark.parametrize(
    "words",
    [
        ("secrets.set", "--name", "DB_PASSWORD", "--generate", "uuid"),
        ("secrets.copy", "--source", "file:keys/API_KEY", "--target", "kept:shop/DB_PASSWORD", "--yes"),
        ("secrets.rotate", "--name", "DB_PASSWORD"),
    ],
)
def test_what_was_written_is_in_no_cache(
    inv: Inv, project: Path, store: Versioned, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A deploy right after it would bring the old value back."""
    from windlass.environment.loading import load

    find = registry.find
    monkeypatch.setattr(registry, "find", lambda name: replace(find(name), is_remote=name == "kept"))
    with (project / "envs" / "base.toml").open("a") as file:
        file.write('[secrets.cache]\nttl = 600\ndirectory = "cache"\nkey = "${file:cache.key}"\n')
    (project / "cache.key").write_text("0123456789abcdef0123456789abcdef")
    (project / "cache.key").chmod(0o600)
    assert load(project, "staging").secrets["DB_PASSWORD"] == OTHER
    assert list((project / "cache").iterdir())
    assert inv(*words).code == 0
    assert load(project, "staging").secrets["DB_PASSWORD"] == store.now("shop/DB_PASSWORD") != OTHER
