"""What holds for every task: its options, its help, how fast it loads, and how it fails."""

import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Collection, Context, Program
from invoke.exceptions import Exit

from tasks import namespace
from tasks._task import EnvironmentTask, GuardedTask, task
from windlass.errors import EXIT_CODES, ConfigurationError, WindlassError

ROOT = Path(__file__).resolve().parents[2]
CORE_FLAGS = {"dry", "echo", "hide", "list", "help", "config", "debug", "pty", "warn_only"}
SECRET = "hunter2-and-more"  # pragma: allowlist secret
HEAVY = ("fabric", "paramiko", "boto3", "azure", "pydantic", "rich", "dotenv", "zstandard", "nox")


def walk(collection: Collection, prefix: str = "") -> Iterator[tuple[str, GuardedTask]]:
    for name, each in collection.tasks.items():
        yield f"{prefix}{name}", each
    for name, inner in collection.collections.items():
        yield from walk(inner, f"{prefix}{name}.")


TASKS = dict(walk(namespace))
every_task = pytest.mark.parametrize("name", sorted(TASKS))


def parameters(name: str) -> list[inspect.Parameter]:
    return list(inspect.signature(TASKS[name].body).parameters.values())[1:]


def test_all_namespaces_are_there() -> None:
    assert set(namespace.collections) - {"testbed"} == {
        *("env", "build", "deploy", "db", "backup", "secrets", "host", "health"),
    }
    wanted = {
        "env.list",
        "env.show",
        "env.check",
        "secrets.list",
        "secrets.check",
        "build.images",
        "build.list",
    }
    assert wanted | {"host.list", "host.trust", "host.check", "deploy.plan", "health.check"} <= set(TASKS)


@every_task
def test_no_option_is_without_a_default(name: str) -> None:
    """Invoke would take `--help` and `--dry` for its value, and run."""
    assert [each.name for each in parameters(name) if each.default is each.empty] == []
    assert not list(TASKS[name].positional or ())


@every_task
def test_no_option_is_a_number_to_invoke(name: str) -> None:
    """It would answer `--limit abc` with a traceback."""
    kinds = {each.name: type(each.default) for each in parameters(name)}
    assert [key for key, kind in kinds.items() if kind in (int, float)] == []


@every_task
def test_no_option_has_the_name_of_a_core_flag(name: str) -> None:
    assert not {each.name for each in parameters(name)} & CORE_FLAGS


@every_task
def test_every_task_says_in_one_line_what_it_does(name: str) -> None:
    lines = (TASKS[name].__doc__ or "").strip().splitlines()
    assert lines
    assert lines[0].endswith(".")
    assert lines[0][0].isupper()
    assert len(lines) == 1 or lines[1] == ""


@every_task
def test_every_option_is_explained(name: str) -> None:
    explained = {key.replace("-", "_") for key in TASKS[name].help or {}}
    assert explained == {each.name for each in parameters(name)}


@every_task
def test_every_task_is_guarded_and_knows_its_name(name: str) -> None:
    assert isinstance(TASKS[name], GuardedTask)
    assert TASKS[name].name.replace("_", "-") == name.rpartition(".")[2]


# --- loading


def python(program: str, *words: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import this checkout."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_list_of_tasks_loads_nothing_heavy() -> None:
    done = python(
        """
        import json, sys
        import tasks
        print(json.dumps(sorted(sys.modules)))
        """
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & set(HEAVY) == set()


def test_the_standard_librarys_secrets_is_still_there_after_invoke_loads_the_tasks(tmp_path: Path) -> None:
    """Invoke puts the folder of the tasks on the path, where `secrets.py` would be found first."""
    copy = tmp_path / "tasks"
    copy.mkdir()
    for file in (ROOT / "tasks").glob("*.py"):
        (copy / file.name).write_text(file.read_text())
    (copy / "__init__.py").write_text(
        (ROOT / "tasks" / "__init__.py").read_text()
        + textwrap.dedent(
            """
            for _name in ("secrets", "build"):
                sys.modules.pop(_name, None)
            import secrets as _standard
            sys.stderr.write(f"token {len(_standard.token_hex(4))} from {_standard.__file__}\\n")
            """
        )
    )
    done = python("from invoke.main import program; program.run()", "--list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "token 8" in done.stderr
    assert str(tmp_path) not in done.stderr
    assert "secrets.check" in done.stdout


def test_every_task_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked once for each task in this one process: Invoke itself forgets the help it has shown."""
    for name in TASKS:
        Program(namespace=namespace).run(["inv", "--help", name], exit=False)
    shown = capsys.readouterr()
    assert shown.out.count("Docstring:") == len(TASKS)
    assert shown.err == ""
    assert shown.out.count("--env") > len(TASKS) // 2
    assert all(argument.help for each in TASKS.values() for argument in each.get_arguments())


# --- per environment


def test_tasks_of_two_environments_both_run_in_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Invoke drops the second of two equal calls, and tasks of one factory share their code."""

    def made(action: str, environment: str) -> EnvironmentTask:
        def body(context: Context) -> None:
            """Say what was asked."""
            print(f"{action} {environment}")

        return EnvironmentTask(body, action=action, environment=environment)

    collection = Collection()
    for action in ("deploy", "logs"):
        inner = Collection(action)
        for environment in ("prod", "staging"):
            inner.add_task(made(action, environment))
        collection.add_collection(inner)
    calls = ["deploy.prod", "deploy.staging", "logs.prod", "deploy.prod"]
    Program(namespace=collection).run(["inv", *calls], exit=False)
    assert capsys.readouterr().out.split("\n")[:-1] == ["deploy prod", "deploy staging", "logs prod"]


# --- failing


def run(*words: str, collection: Collection) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        Program(namespace=collection).run(["inv", *words], exit=True)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def failing(error: BaseException) -> Collection:
    @task()
    def fail(context: Context) -> None:
        """Fail."""
        raise error

    return Collection(fail)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (WindlassError("It failed.", "Try again."), 1, "error: It failed.\n  Try again.\n"),
        (ConfigurationError("The file is wrong."), 10, "error: The file is wrong.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Exit("done early", 3), 3, "done early\n"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fail", collection=failing(error)) == code
    assert capsys.readouterr().err == sentence


def test_a_defect_names_its_place_and_shows_nothing_of_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail", collection=failing(ValueError(f"cannot use {SECRET}"))) == 70
    said = capsys.readouterr().err
    assert said.startswith("error: a defect in Windlass: ValueError in fail (test_tasks.py:")
    assert "WINDLASS_DEBUG=1" in said
    assert "Traceback" not in said
    assert SECRET not in said
    assert 70 in EXIT_CODES


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigurationError("It is wrong.", "Change it."), 10, "It is wrong.\n  Change it."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("x"), 70, "a defect in Windlass: ValueError in fail"),
    ],
)
@pytest.mark.parametrize("written", [False, True])
def test_with_json_an_error_is_json_too_unless_the_result_says_it(
    written: bool, error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @task()
    def fail(context: Context, json: bool = False) -> None:
        """Fail, after the result or before it."""
        from tasks._terminal import Terminal

        if written:
            Terminal(as_json=json).result({"own": "result"})
        raise error

    assert run("fail", "--json", collection=Collection(fail)) == code
    said = capsys.readouterr()
    data = json.loads(said.out)
    if written:
        assert data == {"own": "result"}
    else:
        assert (data["ok"], data["exit_code"]) == (False, code)
        assert data["error"].startswith(text)
    assert said.err.startswith("interrupted" if code == 130 else "error: ")
    assert run("fail", collection=Collection(fail)) == code
    assert capsys.readouterr().out == ""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "prod.toml").write_text('app = "shop"\n[hosts.here]\ntransport = "local"\n')
    (tmp_path / "envs" / "prod.env").write_text(f"API_KEY={SECRET}\nPLAIN=seen\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINDLASS_ENV", raising=False)
    return tmp_path


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("kind", [ValueError, WindlassError])
def test_no_secret_is_in_an_error_or_a_traceback(
    kind: type[Exception],
    debug: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WINDLASS_DEBUG", debug)

    @task()
    def fail(context: Context) -> None:
        """Fail with a secret, and with one in the error it came from."""
        from tasks import _terminal

        secret = _terminal.open_environment(None).secrets["API_KEY"]
        raise kind(f"cannot use {secret}") from KeyError(secret)

    assert run("fail", collection=Collection(fail)) == (70 if kind is ValueError else 1)
    said = capsys.readouterr()
    assert ("Traceback" in said.err) == bool(debug)
    assert SECRET not in said.out + said.err
    assert ("[REDACTED]" in said.err) == (bool(debug) or kind is WindlassError)


def test_what_a_redactor_learns_later_is_in_no_traceback_either(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINDLASS_DEBUG", "1")

    @task()
    def fail(context: Context) -> None:
        """Fail with a secret of the Compose project."""
        from tasks import _terminal

        _terminal.redactor_of(_terminal.open_environment(None)).learn(["learnt-from-the-stack"])
        raise ValueError("learnt-from-the-stack")

    assert run("fail", collection=Collection(fail)) == 70
    said = capsys.readouterr().err
    assert "ValueError: [REDACTED]" in said


@pytest.mark.parametrize("name", ["env.show", "env.check", "secrets.list", "secrets.check"])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_no_secret_is_in_what_the_tasks_print(
    name: str, form: tuple[str, ...], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, *form, collection=namespace)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    if form:
        json.loads(said.out)


# --- env, secrets, host


def test_environments_are_listed_also_when_one_is_wrong(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "envs" / "broken.toml").write_text("app = 3\n")
    assert run("env.list", "--json", collection=namespace) == 0
    broken, prod = json.loads(capsys.readouterr().out)
    assert (broken["name"], prod["name"]) == ("broken", "prod")
    assert broken["problems"] > 0
    assert prod == {
        "name": "prod",
        "app": "shop",
        "protected": False,
        "default": False,
        "hosts": ["here"],
        "problems": 0,
    }
    assert run("env.list", collection=namespace) == 0
    said = capsys.readouterr().out
    assert "invalid: see `inv env.check --env broken`" in said
    assert "None" not in said
    assert next(line.split()[:2] for line in said.splitlines() if "broken" in line) == ["broken", "-"]


def test_show_masks_secrets_and_names_origins(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("env.show", collection=namespace) == 0
    said = capsys.readouterr().out
    assert "envs/prod.env:1" in said
    assert "[REDACTED]" in said
    assert "seen" in said
    assert "hosts.here.transport" in said


def test_check_says_every_problem_of_every_environment(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "envs" / "broken.toml").write_text('app = 3\nnonsense = 1\n[hosts.a]\nport = "x"\n')
    (repository / "envs" / "prod.env").write_text("API_KEY=${env:NOT_SET_ANYWHERE}\nOTHER=${file:missing}\n")
    assert run("env.check", collection=namespace) == 10
    said = capsys.readouterr()
    for words in ("broken: error: envs/broken.toml:1: app", "nonsense", "hosts.a.port", "NOT_SET_ANYWHERE"):
        assert words in said.out
    assert "the file missing cannot be read" in said.out
    # The stack is looked at all the same.
    assert "prod: error: The Compose file compose.yaml does not exist" in said.out
    assert said.err == "error: Not valid: broken, prod.\n"


def test_check_of_secrets_names_those_that_cannot_be_had(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "envs" / "prod.env").write_text(f"API_KEY={SECRET}\nOTHER_KEY=${{env:NOT_SET_ANYWHERE}}\n")
    assert run("secrets.check", "--json", collection=namespace) == 10
    said = capsys.readouterr()
    good, bad = json.loads(said.out)
    assert (good["name"], good["ok"]) == ("API_KEY", True)
    assert (bad["name"], bad["ok"]) == ("OTHER_KEY", False)
    assert "NOT_SET_ANYWHERE" in bad["reason"]
    assert run("secrets.list", "--json", collection=namespace) == 0
    assert [each["length"] for each in json.loads(capsys.readouterr().out)] == ["16 to 31", "none"]


def test_hosts_are_listed_without_a_secret_at_hand(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(repository))
    (repository / "envs" / "prod.env").write_text("API_KEY=${env:NOT_SET_ANYWHERE}\n")
    (repository / "envs" / "prod.toml").write_text(
        'app = "shop"\n[hosts.here]\ntransport = "local"\n'
        '[hosts.web]\naddress = "192.0.2.1"\nuser = "deploy"\nport = 2222\njump = "me@192.0.2.2"\n'
    )
    assert run("host.list", "--json", collection=namespace) == 0
    here, web = json.loads(capsys.readouterr().out)
    assert here["transport"] == "local"
    assert web == {
        "name": "web",
        "transport": "ssh",
        "address": "192.0.2.1",
        "user": "deploy",
        "port": 2222,
        "jump": "me@192.0.2.2:22",
        "trusted": False,
    }
    assert run("host.check", "--host", "here", collection=namespace) == 0
    assert run("host.trust", "--host", "her", collection=namespace) == 10
    assert "Did you mean here?" in capsys.readouterr().err


def test_a_dry_run_connects_to_nobody(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "envs" / "prod.toml").write_text('app = "shop"\n[hosts.web]\naddress = "192.0.2.1"\n')
    for name in ("host.check", "host.trust"):
        assert run("--dry", name, collection=namespace) == 0
        assert "would" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("deploy.history", "--limit", "abc"),
        ("deploy.history", "--limit", "0"),
        ("deploy.history", "--limit", "-1"),
        ("deploy.logs", "--tail", "1.5"),
        ("deploy.logs", "--tail", "٣"),
        ("testbed.up", "--hosts", "many"),
    ],
)
def test_what_is_no_number_is_one_sentence(
    words: tuple[str, ...], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, collection=namespace) == 10
    assert capsys.readouterr().err.startswith(f"error: {words[1]} {words[2]}: not a whole number")


@pytest.mark.parametrize("name", ["deploy.unlock", "host.check"])
def test_a_dry_run_says_it_in_json_too(
    name: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--dry", name, "--json", collection=namespace) == 0
    assert list(json.loads(capsys.readouterr().out).values()) == [["here"]]


@pytest.mark.parametrize(
    "name", [name for name in sorted(TASKS) if "json" in {each.name for each in parameters(name)}]
)
def test_with_json_no_refusal_leaves_stdout_empty(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(name, "--json", collection=namespace) == 10
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert said.err == f"error: {data['error']}\n"
    assert data == {"ok": False, "error": data["error"], "exit_code": 10}


@pytest.mark.parametrize(("name", "hint"), [("wbe", "Did you mean web?"), ("--help", "Services: db, web.")])
def test_logs_of_an_unknown_service_are_refused(name: str, hint: str) -> None:
    from types import SimpleNamespace

    from tasks.deploy import _require_services
    from windlass.engines.compose import logs

    class Machines:
        def map(self, ask: object) -> list[SimpleNamespace]:
            host = SimpleNamespace(run=lambda script: SimpleNamespace(text="web\ndb\nweb\n"))
            return [SimpleNamespace(unwrap=lambda: ask(host))]  # type: ignore[operator]

    _require_services(Machines(), "shop", ["web", "db"])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as caught:
        _require_services(Machines(), "shop", ["web", name])  # type: ignore[arg-type]
    assert caught.value.hint == hint
    assert logs("shop", [name], tail=1, follow=False).words[-2:] == ("--", name)
