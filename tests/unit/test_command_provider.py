from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from windlass.secrets.providers.base import Failure, Resolved
from windlass.secrets.providers.command import PROVIDER, CommandClient
from windlass.secrets.references import parse
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import SecretsSettings
from windlass.shell import Sensitive

PATH = os.environ["PATH"]
SECRET = "Zq7-hidden-5xK"  # pragma: allowlist secret


def settings(timeout: float = 60.0) -> SecretsSettings:
    return SecretsSettings.model_validate({"command": {"timeout": timeout}})


def value_of(
    root: Path, command: str, timeout: float = 60.0, process: Mapping[str, str] | None = None
) -> Resolved:
    with Resolver(root, {"PATH": PATH, **(process or {})}, settings(timeout)) as resolver:
        return resolver.lookup(f"${{command:{command}}}")


def failure_of(root: Path, command: str, timeout: float = 60.0, **process: str) -> Failure:
    found = value_of(root, command, timeout, process)
    assert isinstance(found, Failure)
    return found


def shell(script: str) -> str:
    return shlex.join(["sh", "-c", script])


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("op read op://shop/db/password", ""),
        ("op read 'op://shop/db?attribute=otp&x'", ""),
        ("sh -c 'a | b'", ""),
        ('sh -c "a; b"', ""),
        (r"echo \| \$HOME", ""),
        ("pass show shop#1", ""),
        ("get 'open", "not closed"),
        ("get \\", "not closed"),
        ("", "names no program"),
        ("  ", "names no program"),
        ("'' a", "names no program"),
        ("get a | head", "`|`"),
        ("get a&", "`&`"),
        ("get $HOME/a", "`$`"),
        ("get `id`", "```"),
        ("get > file", "`>`"),
        ("a; b", "`;`"),
        ("~/bin/get a", "`~`"),
    ],
)
def test_a_target_is_words_and_nothing_a_shell_would_do(command: str, fault: str) -> None:
    assert fault in PROVIDER.fault(command)
    assert bool(fault) == bool(PROVIDER.fault(command))


@pytest.mark.parametrize(
    ("printed", "value"), [("a", "a"), ("a\\n", "a"), ("a\\n\\n", "a\n"), (" a\\r\\n", " a\r"), ("é", "é")]
)
def test_a_command_gives_what_it_prints_less_one_newline(tmp_path: Path, printed: str, value: str) -> None:
    assert value_of(tmp_path, f"printf '{printed}'") == Sensitive(value)


def test_a_command_gets_its_words_as_a_shell_would_part_them(tmp_path: Path) -> None:
    assert value_of(tmp_path, r"""printf '%s|' a 'b  c' "d'e" f\ g '$HOME' '#'""") == Sensitive(
        "a|b  c|d'e|f g|$HOME|#|"
    )


def test_a_command_runs_in_the_repository_with_the_process_variables_and_nothing_to_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "get").write_text("#!/bin/sh\npwd\necho $SEEN\ncat\n")
    (tmp_path / "get").chmod(0o755)
    assert value_of(tmp_path, "./get", process={"SEEN": "yes"}) == Sensitive(f"{tmp_path}\nyes")


def test_a_command_has_no_terminal_to_ask_on(tmp_path: Path) -> None:
    assert value_of(tmp_path, shell("(: </dev/tty) 2>/dev/null && echo asks || echo cannot")) == Sensitive(
        "cannot"
    )


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    (tmp_path / "not-for-running").write_text(SECRET)
    assert "the program no-such-program was not found" in str(failure_of(tmp_path, "no-such-program x"))
    assert "cannot be started: Permission denied" in str(failure_of(tmp_path, "./not-for-running"))
    assert "cannot be started" in str(failure_of(tmp_path, "true", BROKEN="a\0b"))


def test_the_exit_code_and_the_last_complaint_are_told(tmp_path: Path) -> None:
    script = "echo first >&2; printf '\\033[31mnot signed in\\033[0m\\n\\n' >&2; exit 3"
    failure = failure_of(tmp_path, shell(script))
    assert str(failure) == "sh ended with exit code 3: not signed in"
    assert not failure.missing
    assert str(failure_of(tmp_path, shell("kill -9 $$"))) == "sh ended by signal 9".replace(
        "ended", "was ended"
    )


@pytest.mark.parametrize(
    "complaint",
    [
        f"bad value {SECRET}",
        f"bad value {SECRET[:-3]}",
        f"bad value {SECRET[4:]}",
        "bad value WnE3LWhpZGRlbi01eEs=",
        "see https://user:other-hidden@host/",  # pragma: allowlist secret
        "ghp_0123456789abcdefghijkl refused",  # pragma: allowlist secret
    ],
)
def test_a_complaint_that_may_hold_a_secret_is_not_shown(tmp_path: Path, complaint: str) -> None:
    script = f"printf %s {SECRET}; echo {shlex.quote(complaint)} >&2; exit 1"
    assert str(failure_of(tmp_path, shell(script))) == "sh ended with exit code 1"


def test_a_short_value_hides_the_complaint_too(tmp_path: Path) -> None:
    assert str(failure_of(tmp_path, shell("echo 123; echo the PIN is 123 >&2; exit 1"))) == (
        "sh ended with exit code 1"
    )


def test_a_login_of_the_process_is_taken_out_of_the_complaint(tmp_path: Path) -> None:
    script = 'echo "refused: $OP_SERVICE_ACCOUNT_TOKEN" >&2; exit 1'
    failure = failure_of(tmp_path, shell(script), OP_SERVICE_ACCOUNT_TOKEN=SECRET)
    assert "refused" in str(failure)
    assert "hidden" not in str(failure)


def test_a_long_complaint_is_cut(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, shell("printf '%05000d' 1 >&2; printf '%090000d\\nend' 1 >&2; exit 1"))
    assert str(failure) == "sh ended with exit code 1: end"
    assert len(str(failure_of(tmp_path, shell("printf '%05000d' 1 >&2; exit 1")))) < 300


def test_output_that_is_no_text_or_too_much_is_refused_without_showing_it(tmp_path: Path) -> None:
    assert "not UTF-8" in str(failure_of(tmp_path, "printf 'hidden\\377'"))
    assert "256 KiB" in str(failure_of(tmp_path, "yes hidden"))
    assert "hidden" not in str(failure_of(tmp_path, "yes hidden"))
    assert "empty" in str(failure_of(tmp_path, "true"))


def test_a_long_value_comes_whole_while_stderr_is_loud(tmp_path: Path) -> None:
    script = "import sys; sys.stderr.write('x' * 999999); sys.stdout.write('v' * 65536)"
    command = shlex.join([sys.executable, "-c", script])
    assert value_of(tmp_path, command) == Sensitive("v" * 65536)


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "pid"
    yield file
    if file.exists() and alive(int(file.read_text())):
        os.kill(int(file.read_text()), signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        time.sleep(0.01)


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path, pid_file: Path) -> None:
    failure = failure_of(tmp_path, shell("sleep 600 & echo $! > pid; echo unlock me >&2; wait"), timeout=5.0)
    assert failure.reason.startswith("sh was ended after 5 s")
    assert "[secrets.command] timeout" in failure.fix
    until(lambda: not alive(int(pid_file.read_text())))


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path, pid_file: Path) -> None:
    script = "sleep 600 & echo $! > pid; echo value"
    assert value_of(tmp_path, shell(script), timeout=500.0) == Sensitive("value")
    assert alive(int(pid_file.read_text()))


def test_an_interrupt_ends_the_command(tmp_path: Path, pid_file: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from windlass.secrets.providers.command import CommandClient\n"
        f"CommandClient(Path({str(tmp_path)!r}), {{}}, 600).fetch(['sh -c \"echo $$ > pid; sleep 600\"'])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    until(lambda: pid_file.exists() and pid_file.read_text().strip())
    child.send_signal(signal.SIGINT)
    assert child.communicate()[1]
    until(lambda: not alive(int(pid_file.read_text())))


def test_one_that_fails_hides_no_other_and_each_runs_once(tmp_path: Path) -> None:
    commands = {
        shell(f"echo {number} >> ran; echo v{number}; exit {number % 2}"): number for number in range(12)
    }
    found = CommandClient(tmp_path, {"PATH": PATH}, 60.0).fetch(list(commands))
    assert {commands[target] for target, value in found.items() if isinstance(value, Sensitive)} == {
        0, 2, 4, 6, 8, 10
    }  # fmt: skip
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(12))


def test_the_first_of_a_program_runs_alone_and_then_a_few_at_a_time(tmp_path: Path) -> None:
    script = "mkdir $0.on; ls -d *.on | wc -l > $0.most; sleep 0.2; rmdir $0.on; echo done"
    client = CommandClient(tmp_path, {"PATH": PATH}, 60.0)
    found = client.fetch([shlex.join(["sh", "-c", script, f"c{number:02}"]) for number in range(9)])
    assert set(found.values()) == {Sensitive("done")}
    most = [int((tmp_path / f"c{number:02}.most").read_text()) for number in range(9)]
    assert most[0] == 1
    assert max(most) <= 4
    assert not list(tmp_path.glob("*.on"))


def test_no_value_is_on_a_command_line_or_in_the_reference(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    command = shell("cat secret; ps -eww -o args > ps; true")
    assert value_of(tmp_path, command) == Sensitive(SECRET)
    assert SECRET not in (tmp_path / "ps").read_text()
    assert "cat secret" in (tmp_path / "ps").read_text()
    assert SECRET not in str(parse(f"${{command:{command}}}"))
