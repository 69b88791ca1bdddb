import shlex
import subprocess
import time

import pytest

from windlass.engines.compose import compose, limited, limited_together, logs, outliving, run_once, up
from windlass.shell import Command

BASE = compose("shop", "/srv/shop/releases/r1/stack.json", "/srv/shop/releases/r1/secrets.env")
HEAD = (
    *("docker", "compose", "--ansi", "never", "-p", "shop"),
    *("-f", "/srv/shop/releases/r1/stack.json", "--env-file", "/srv/shop/releases/r1/secrets.env"),
)


def bash(*lines: str, **options) -> subprocess.CompletedProcess[str]:
    script = "set -euo pipefail\n" + "\n".join(lines)
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, **options)


def test_every_command_names_project_stack_and_secrets():
    assert BASE.words == HEAD


def test_up_neither_builds_nor_pulls_and_removes_what_is_gone():
    options = ("up", "--detach", "--no-build", "--pull", "never", "--quiet-pull")
    assert up(BASE).words == (*HEAD, *options, "--remove-orphans")


def test_up_of_some_services_leaves_the_others():
    words = up(BASE, ["db"], recreate=False).words
    assert words[-2:] == ("--no-recreate", "db")
    assert "--remove-orphans" not in words


def test_something_runs_once():
    words = run_once(BASE, "shop-migrate-r1", "api", ["./migrate", "--to", "a b"]).words
    assert words == (
        *(*HEAD, "run", "--rm", "-T", "--quiet-pull", "--name", "shop-migrate-r1"),
        *("api", "./migrate", "--to", "a b"),
    )
    alone = run_once(BASE, "n", "api", ["x"], dependencies=False).words
    assert alone[-3:] == ("--no-deps", "api", "x")


def test_logs_are_found_without_a_file():
    words = logs("shop", ["api"], tail=5, follow=True, since="10m").words
    assert "-f" not in words
    assert words[-7:] == ("--tail", "5", "--follow", "--since", "10m", "api")[-7:] or words[-1] == "api"
    assert ("--follow" in words, "--since" in words) == (True, True)
    assert "--follow" not in logs("shop", [], tail=5, follow=False).words


def test_a_command_in_time_is_left_alone():
    done = bash(*limited(Command.of("echo", "it's $HOME"), 60))
    assert (done.returncode, done.stdout) == (0, "it's $HOME\n")


def test_a_command_that_takes_too_long_is_ended():
    began = time.monotonic()
    assert bash(*limited(Command.of("sleep", "60"), 0.2)).returncode == 124
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(
    ("seconds", "limit", "code", "removed"), [("0", 60, 0, False), ("60", 0.5, 124, True)]
)
def test_a_container_is_removed_when_its_client_is_ended(tmp_path, seconds, limit, code, removed):
    """The client of `docker compose run` ends at the limit; what it started would run on."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >>{shlex.quote(str(tmp_path / "said"))}\n')
    docker.chmod(0o755)
    lines = limited(Command.of("sleep", seconds), limit, "shop-migrate-r1")
    done = bash(f"PATH={shlex.quote(str(tmp_path))}:$PATH", *lines)
    assert done.returncode == code
    assert (tmp_path / "said").exists() is removed
    if removed:
        assert (tmp_path / "said").read_text() == "rm -f shop-migrate-r1\n"


def test_a_command_that_fails_keeps_its_code():
    assert bash(*limited(Command.of("sh", "-c", "exit 7"), 60, "name"), "echo no").returncode == 7
    done = bash(*outliving(limited(Command.of("sh", "-c", "echo why >&2; exit 7"), 60)), "echo no")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "why\n")


def test_lines_outlive_whoever_reads_them(tmp_path):
    """As when the link is lost: both pipes break, and the next word would be the last."""
    word = "for n in 1 2 3 4 5; do echo $n; sleep 0.1; done"
    script = "\n".join(
        ["set -euo pipefail", *outliving([word]), f"touch {shlex.quote(str(tmp_path / 'end'))}"]
    )
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stderr.read(1) == b"1"
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == 0
    assert (tmp_path / "end").exists()


def test_several_commands_share_one_limit() -> None:
    words = [Command.of("echo", "one"), Command.of("sleep", "60"), Command.of("echo", "never")]
    # Not 1: bash counts whole seconds, and the first may be over before the first command begins.
    done = bash(*limited_together(words, 3))
    assert (done.returncode, done.stdout) == (124, "one\n")
    assert bash(*limited_together([Command.of("echo", "a"), Command.of("echo", "b")], 60)).stdout == "a\nb\n"


def test_no_command_begins_once_the_limit_is_over() -> None:
    late = [Command.of("sleep", "1"), Command.of("echo", "never")]
    done = bash(
        *(
            line.replace("SECONDS +", "SECONDS - 5 +") if "ends=" in line else line
            for line in limited_together(late, 5)
        )
    )
    assert (done.returncode, done.stdout) == (124, "")
