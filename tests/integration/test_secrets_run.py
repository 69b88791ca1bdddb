"""`secrets.run` with real processes: environment, pipes, signals, terminals, and nothing left anywhere."""

from __future__ import annotations

import base64
import os
import pty
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Of this run alone: other processes of this machine must not have it.
SECRET = f"s3cr3t-{secrets.token_hex(9)}"
MULTILINE = "-----BEGIN PRIVATE KEY-----\nZm9vYmFyYmF6cXV4\n-----END PRIVATE KEY-----"
MASK = "[REDACTED]"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "envs").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tasks.py").write_text("from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n")
    (root / "envs" / "prod.toml").write_text('app = "shop"\n[hosts.here]\ntransport = "local"\n')
    (root / "envs" / "prod.env").write_text(
        "API_KEY=${file:../key}\nSIGNING_KEY=${file:../signing}\nPLAIN='two  words'\nPATH_MARK=theirs\n"
    )
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "signing").write_text(MULTILINE)
    return root


def argv(*words: str, options: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", "invoke", "secrets.run", *options, "--", *words]


def environ(project: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WINDLASS", "CI"))}
    return {**kept, "TMPDIR": str(project / "tmp"), "PATH_MARK": "mine", "KEPT_MARK": "mine", **more}


def run(
    project: Path, *words: str, stdin: bytes = b"", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        argv(*words, options=options),
        cwd=project,
        env=environ(project),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def running(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that says when it is ready, its secret in a pipe, and waits."""
    script = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *a: print('got USR1', flush=True))\n"
        "print('ready', os.getpid(), os.environ['API_KEY'], flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )
    child = subprocess.Popen(
        argv(sys.executable, "-c", script),
        cwd=project,
        env=environ(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # `nohup` would have the tests, and so the command, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )
    yield child
    # Not KILL at once: it would leave the command behind.
    child.terminate()
    try:
        child.communicate(timeout=60)
    finally:
        child.kill()


def ready(child: subprocess.Popen[bytes]) -> int:
    """Wait until the command runs; return its process id."""
    assert child.stdout is not None
    word, number, shown = child.stdout.readline().decode().split()
    assert (word, shown) == ("ready", MASK)
    return int(number)


def test_words_variables_and_bytes_reach_the_command(project: Path) -> None:
    script = (
        "import os, sys; data = sys.stdin.buffer.read(); "
        "sys.stdout.buffer.write(data[::-1]); print(sys.argv[1:], os.environ['PLAIN'], "
        "len(os.environ['API_KEY']), os.environ['SIGNING_KEY'].count(chr(10)), "
        "os.environ['PATH_MARK'], os.environ['KEPT_MARK'])"
    )
    done = run(project, sys.executable, "-c", script, "a  b", "--", "", "--env", stdin=b"\0\xff\n1")
    assert done.stdout == b"1\n\xff\0['a  b', '--', '', '--env'] two  words 25 2 theirs mine\n"
    assert (done.stderr, done.returncode) == (b"", 0)


def test_pristine_gives_the_environments_variables_alone(project: Path) -> None:
    done = run(project, "env", "-0", options=("--pristine",))
    names = {each.partition(b"=")[0] for each in done.stdout.split(b"\0") if each}
    assert names == {b"API_KEY", b"SIGNING_KEY", b"PLAIN", b"PATH_MARK"}


def test_what_is_piped_is_redacted_whatever_its_pieces(project: Path) -> None:
    script = (
        "import base64, os, sys, time\n"
        "key = os.environ['API_KEY']\n"
        "for out in (sys.stdout, sys.stderr):\n"
        "    for letter in key: out.write(letter); out.flush()\n"
        "    encoded = base64.b64encode(key.encode()).decode()\n"
        "    print(' ', os.environ['SIGNING_KEY'], encoded, file=out, flush=True)\n"
    )
    done = run(project, sys.executable, "-c", script)
    for stream in (done.stdout, done.stderr):
        text = stream.decode()
        assert MASK in text
        assert SECRET not in text
        assert "Zm9vYmFy" not in text
        assert base64.b64encode(SECRET.encode()).decode()[:16] not in text


def test_a_prompt_without_a_newline_comes_at_once(project: Path) -> None:
    script = "import sys; print('name? ', end='', flush=True); print('hello', sys.stdin.readline())"
    child = subprocess.Popen(
        argv(sys.executable, "-c", script),
        cwd=project,
        env=environ(project),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.read(6) == b"name? "
    out, _ = child.communicate(b"ana\n", timeout=60)
    assert out == b"hello ana\n\n"


@pytest.mark.parametrize("code", [0, 1, 3, 10, 255])
def test_the_exit_code_is_the_commands(project: Path, code: int) -> None:
    done = run(project, "sh", "-c", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_the_signal_a_command_ends_by_is_ours(project: Path, number: signal.Signals) -> None:
    done = run(project, "sh", "-c", f"kill -{number.value} $$")
    assert done.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_us_ends_the_command(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    command = ready(running)
    running.send_signal(number)
    running.communicate(timeout=60)
    # Python ends by SIGINT through an exception, and then by the signal.
    assert running.returncode == -number
    assert not Path(f"/proc/{command}").exists()


def test_a_signal_the_command_knows_reaches_it(running: subprocess.Popen[bytes]) -> None:
    ready(running)
    running.send_signal(signal.SIGUSR1)
    assert running.stdout is not None
    assert running.stdout.readline() == b"got USR1\n"
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)


def test_the_value_is_in_the_commands_environment_and_nowhere_else(
    project: Path, running: subprocess.Popen[bytes]
) -> None:
    command = ready(running)
    with_it = [
        pid.name
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and SECRET.encode() in _read(pid / "environ")
    ]
    assert with_it == [str(command)]
    said = [pid.name for pid in Path("/proc").iterdir() if SECRET.encode() in _read(pid / "cmdline")]
    assert said == []
    files = [path for path in project.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert files == []
    assert list((project / "tmp").iterdir()) == []
    # Files that have no name any more, or pipes with something in them, would be open here.
    for pid in (running.pid, command):
        opened = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
        assert [each for each in opened if "memfd" in each or "deleted" in each] == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_reader_that_goes_away_ends_the_command_as_in_a_pipeline(project: Path) -> None:
    child = subprocess.Popen(
        argv("yes", "more and more"), cwd=project, env=environ(project), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"more and more\n"
    child.stdout.close()
    assert child.wait(timeout=60) == -signal.SIGPIPE


def shell(project: Path, line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which `$RUN` is `inv secrets.run --`."""
    return subprocess.run(
        ["sh", "-c", line.replace("$RUN", f"{sys.executable} -m invoke secrets.run --")],
        cwd=project,
        env=environ(project),
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_output_that_is_lost_is_no_success(project: Path) -> None:
    done = shell(project, "$RUN sh -c 'echo dumpdata' > /dev/full")
    assert done.returncode == 1
    sentence = "Not all that sh wrote could be passed on: No space left on device; it ended with exit code 0."
    assert done.stderr.decode() == f"error: {sentence}\n"
    assert shell(project, "$RUN sh -c 'echo oops >&2' 2> /dev/full").returncode != 0


@pytest.mark.parametrize(("closed", "name"), [(">&-", "stdout"), ("2>&-", "stderr")])
def test_an_output_that_is_closed_is_told_and_nothing_is_started(
    project: Path, closed: str, name: str
) -> None:
    done = shell(project, f"$RUN touch started {closed}")
    assert done.returncode == 1
    assert f"{name} is closed; nothing was done" in (done.stdout + done.stderr).decode()
    assert not (project / "started").exists()


def test_an_input_that_is_closed_is_no_hindrance(project: Path) -> None:
    done = shell(project, "$RUN echo seen <&-")
    assert (done.returncode, done.stdout) == (0, b"seen\n")


def test_much_output_passes_whole(project: Path) -> None:
    done = run(project, "head", "-c", "20000000", "/dev/zero")
    assert done.stdout == b"\0" * 20_000_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no-such-program-anywhere",), "There is no program no-such-program-anywhere here"),
        (("./tasks.py",), "There is no program ./tasks.py here, or it may not be run"),
        ((), "There is no command to run"),
    ],
)
def test_what_cannot_be_started_is_told(project: Path, words: tuple[str, ...], sentence: str) -> None:
    done = run(project, *words)
    assert done.returncode == 10
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_an_environment_that_is_not_whole_starts_nothing(project: Path) -> None:
    (project.parent / "key").unlink()
    done = run(project, "touch", "started")
    assert done.returncode == 10
    assert not (project / "started").exists()


def test_a_dry_run_names_the_variables_and_starts_nothing(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "--dry", "secrets.run", "--", "touch", "started"],
        cwd=project,
        env=environ(project),
        capture_output=True,
        check=True,
    )
    assert b"API_KEY" in done.stdout
    assert SECRET.encode() not in done.stdout + done.stderr
    assert not (project / "started").exists()


def on_a_terminal(project: Path, script: str) -> tuple[int, str]:
    """Run a shell script on a terminal through the task; return how it ended and what was shown."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        argv("sh", "-c", script),
        cwd=project,
        env=environ(project),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says the end of a terminal like this
        pass
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


def test_on_a_terminal_the_command_has_it_to_itself(project: Path) -> None:
    script = (
        "test -t 0 && test -t 1 && test -t 2 && echo all three; echo $$ $PPID; ps -o comm= -p $PPID; exit 7"
    )
    code, shown = on_a_terminal(project, script)
    assert code == 7
    assert "all three" in shown
    # Nothing of us is left above it: it has become our own process.
    assert str(os.getpid()) == shown.split()[3]


def test_on_a_terminal_a_broken_pipe_ends_a_program_as_ever(project: Path) -> None:
    """Python ignores SIGPIPE, and what is ignored would stay so in the command."""
    code, shown = on_a_terminal(project, "grep SigIgn /proc/self/status")
    assert code == 0
    ignored = int(shown.split()[-1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    # Ctrl-C stays as whoever started us has it: a shell lets what it runs in the background ignore it.
    assert bool(ignored & (1 << (signal.SIGINT - 1))) == (signal.getsignal(signal.SIGINT) is signal.SIG_IGN)


def test_only_the_output_that_is_piped_is_redacted(project: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        argv("sh", "-c", "echo out $API_KEY; echo err $API_KEY >&2; test -t 2"),
        cwd=project,
        env=environ(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout.decode() == f"out {MASK}\n"
    assert shown.strip() == f"err {SECRET}"
