"""This machine as a host, with real processes."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.errors import CommandFailed
from windlass.hosts.local import LocalHost
from windlass.secrets.redaction import Redactor
from windlass.shell import Command, Script, Sensitive, assign

DATA = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    return LocalHost("here", lambda text: text.replace("hush", "[REDACTED]"), tmp_path)


def test_a_payload_goes_through_byte_for_byte(host: LocalHost) -> None:
    assert host.run(Script.of("echo", "cat"), payload=DATA).stdout == DATA


def test_without_a_payload_stdin_is_empty(host: LocalHost) -> None:
    assert host.run(Script.of("read", "cat; echo end")).text == "end\n"


def test_a_script_starts_in_the_folder(host: LocalHost, tmp_path: Path) -> None:
    assert host.run(Script.of("where", "pwd")).text.strip() == str(tmp_path)


def test_a_script_that_reads_nothing_of_its_payload_is_fine(host: LocalHost) -> None:
    assert host.run(Script.of("ignore", "exec <&-; echo done"), payload=DATA).text == "done\n"


@pytest.mark.parametrize(("body", "code"), [("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", -9)])
def test_exit_codes_are_real(host: LocalHost, body: str, code: int) -> None:
    assert host.run(Script.of("end", body), check=False).code == code
    with pytest.raises(CommandFailed) as caught:
        host.run(Script.of("end", body))
    assert caught.value.code == code


def test_lines_and_errors_are_redacted(host: LocalHost) -> None:
    lines: list[str] = []
    with pytest.raises(CommandFailed) as caught:
        host.run(Script.of("talk", "echo a hush", "echo the hush >&2", "exit 1"), on_line=lines.append)
    assert lines == ["a [REDACTED]"]
    assert caught.value.message.endswith("the [REDACTED]")


@pytest.mark.parametrize(
    "body",
    ["sleep 60", "trap '' TERM; sleep 60 & sleep 60", "sleep 60 & exit 0"],
    ids=["plain", "deaf", "left in the background"],
)
def test_a_script_that_takes_too_long_is_ended_with_all_it_started(host: LocalHost, body: str) -> None:
    mark = secrets.token_hex(8)
    start = time.monotonic()
    with pytest.raises(CommandFailed, match=r"took longer than 0\.5 s"):
        host.run(Script.of("wait", f"export MARK={mark}", body, timeout=0.5))
    assert time.monotonic() - start < 40
    assert not processes(mark)


def processes(mark: str) -> list[str]:
    """Return the programs that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_nothing_of_a_script_is_in_any_argv_or_environment(host: LocalHost) -> None:
    secret = secrets.token_hex(12)
    ready = threading.Event()
    nap = f"sleep\0{600 + secrets.randbelow(10**9) / 10**9:.9f}"
    script = Script.of(
        "use", assign("password", Sensitive(secret)), "echo go", nap.replace("\0", " "), ': "$password"'
    )
    options = {"on_line": lambda _: ready.set(), "check": False}
    running = threading.Thread(target=host.run, args=(script,), kwargs=options)
    running.start()
    try:
        assert ready.wait(60)
        limit = time.monotonic() + 60
        while nap.encode() not in (seen := all_argv_and_environments()):
            assert time.monotonic() < limit, "the script's own program is not seen"
            time.sleep(0.01)
    finally:
        host.close()
        running.join()
    assert secret.encode() not in seen


def all_argv_and_environments() -> bytes:
    seen = b""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                seen += (folder / name).read_bytes()
            except OSError:
                continue
    return seen


def test_an_interrupt_of_the_reader_ends_the_script(host: LocalHost) -> None:
    mark = secrets.token_hex(8)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.run(Script.of("wait", f"export MARK={mark}", "echo go", "sleep 60"), on_line=interrupt)
    assert not processes(mark)


def test_a_payload_that_breaks_off_ends_the_script_and_is_the_error(host: LocalHost, tmp_path: Path) -> None:
    def payload() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        host.run(Script.of("keep", "cat >half; mv half whole"), payload=payload())
    assert not (tmp_path / "whole").exists()


# --- uploads


def test_put_is_whole_with_exactly_the_mode(host: LocalHost, tmp_path: Path) -> None:
    target = tmp_path / "it's a $file"
    target.write_bytes(b"old")
    target.chmod(0o777)
    host.put(str(target), DATA, 0o640)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]
    host.put(str(target), b"", 0o600)
    assert target.read_bytes() == b""


def test_a_truncated_upload_is_refused_and_leaves_nothing(host: LocalHost, tmp_path: Path) -> None:
    from windlass.hosts.files import put_script

    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(CommandFailed, match="only 4 of 10 bytes arrived"):
        host.run(put_script(str(target), 10, 0o600), payload=b"half")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_put_into_no_folder_or_over_a_folder_is_an_error(host: LocalHost, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        host.put(str(tmp_path / "none" / "file"), b"x", 0o600)
    with pytest.raises(CommandFailed, match="is a folder"):
        host.put(str(tmp_path), b"x", 0o600)
    assert list(tmp_path.iterdir()) == []


def test_put_replaces_a_link_and_not_what_it_points_to(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"real")
    (tmp_path / "link").symlink_to("real")
    host.put(str(tmp_path / "link"), b"new", 0o600)
    assert (tmp_path / "real").read_bytes() == b"real"
    assert not (tmp_path / "link").is_symlink()


# --- streams


def test_open_streams_both_ways(host: LocalHost) -> None:
    with host.open(Command.of("tr", "a", "b")) as process:
        process.stdin.write(b"banana")
        process.stdin.close()
        assert process.stdout.read() == b"bbnbnb"
        assert process.wait() == 0


def test_open_gives_the_exit_code_and_the_redacted_error(host: LocalHost) -> None:
    with host.open(Command.of("sh", "-c", "echo the hush >&2; exit 255")) as process:
        assert process.wait() == 255
        assert process.error_text() == "the [REDACTED]"


def test_the_error_of_a_process_is_redacted_before_it_is_cut(tmp_path: Path) -> None:
    secret = "".join(f"{number:04x}" for number in range(400))
    host = LocalHost("here", Redactor([secret]).redact, tmp_path)
    body = f"printf '%s' {secret} >&2; printf 'x%.0s' {{1..1500}} >&2; exit 3"
    with host.open(Command.of("bash", "-c", body)) as process:
        assert process.wait() == 3
        assert process.error_text() == "[REDACTED]" + "x" * 1500


def test_leaving_ends_what_runs(host: LocalHost) -> None:
    start = time.monotonic()
    with host.open(Command.of("sleep", "60")):
        pass
    assert time.monotonic() - start < 40


def test_dial_connects(host: LocalHost) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with server, host.dial("127.0.0.1", port, 30) as stream:
        assert stream.getpeername()[1] == port
    with pytest.raises(OSError, match="refused"):
        host.dial("127.0.0.1", port, 30)


def test_interactive_commands_run_as_they_are(host: LocalHost) -> None:
    assert host.interactive_argv(Command.of("psql", "a b")) == ["psql", "a b"]
