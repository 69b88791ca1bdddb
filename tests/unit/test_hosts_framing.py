"""How a script and its payload reach bash on stdin."""

import subprocess
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import CommandFailed
from windlass.hosts.base import Completed
from windlass.hosts.framing import (
    BOOTSTRAP,
    Background,
    LastWords,
    LineSplitter,
    checked,
    collect,
    frame,
    shell_words,
    tail,
)
from windlass.secrets.redaction import Redactor
from windlass.shell import Script

ECHO = Script.of("echo", "cat")


def bash(data: bytes, words: list[str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words or shell_words(None), input=data, capture_output=True, check=False)


@settings(deadline=None)  # a process each: how long it takes says nothing
@given(st.binary(max_size=2000))
def test_a_payload_arrives_byte_for_byte(payload: bytes) -> None:
    assert bash(b"".join(frame(ECHO, payload))).stdout == payload


def test_a_payload_of_pieces_is_one_stream() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one\n"
        yield b""
        yield b"\0two"

    assert bash(b"".join(frame(ECHO, pieces()))).stdout == b"one\n\0two"


def test_without_a_payload_stdin_is_empty() -> None:
    assert bash(b"".join(frame(Script.of("count", "wc -c"), b""))).stdout.strip() == b"0"


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
def test_a_script_of_any_text_is_exact(text: str) -> None:
    script = Script.of("print", f"cat <<'@windlass-here'\n{text}\n@windlass-here")
    assert bash(b"".join(frame(script, b""))).stdout == f"{text}\n".encode()


def test_a_script_stops_at_its_first_failure_and_gives_its_code() -> None:
    for body, code in (
        ("false\necho on", 1),
        ("false | cat\necho on", 1),
        ('echo "$unset"', 1),
        ("exit 7", 7),
    ):
        done = bash(b"".join(frame(Script.of("fail", body), b"")))
        assert (done.returncode, done.stdout) == (code, b"")


def test_no_beginning_of_a_script_runs() -> None:
    whole = b"".join(frame(Script.of("two", "echo first", "echo second"), b""))
    for size in range(len(whole)):
        done = bash(whole[:size])
        assert done.stdout == b""
        assert done.returncode == 1


def test_the_words_hold_nothing_of_the_script() -> None:
    assert shell_words(None) == ["bash", "-c", BOOTSTRAP, "windlass"]
    assert shell_words(2.5) == ["timeout", "-k", "5", "2.5", "bash", "-c", BOOTSTRAP, "windlass"]


def test_the_script_is_in_no_programs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("s", "n"):
        monkeypatch.setenv(name, "exported")
    done = bash(b"".join(frame(Script.of("look", ": private", "env"), b"")))
    assert b"PATH=" in done.stdout
    assert b"private" not in done.stdout


def test_a_script_sees_none_of_the_bootstraps_variables() -> None:
    assert (
        bash(b"".join(frame(Script.of("look", 'echo "${s-unset} ${n-unset}"'), b""))).stdout
        == b"unset unset\n"
    )


@given(st.binary(max_size=200), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_bytes_come(data: bytes, size: int) -> None:
    whole: list[str] = []
    pieces: list[str] = []
    feed_all(data, whole, len(data) or 1)
    feed_all(data, pieces, size)
    assert pieces == whole


def feed_all(data: bytes, into: list[str], size: int) -> None:
    chunks = iter([data[at : at + size] for at in range(0, len(data), size)] + [b""])
    assert collect(lambda _: next(chunks), LineSplitter(into.append, str)) == data


def test_lines_are_redacted_whole() -> None:
    lines: list[str] = []
    splitter = LineSplitter(lines.append, lambda text: text.replace("hush", "***"))
    for chunk in (b"one hu", b"sh\r\ntwo", b" \xc3", b"\xa9\nend hush"):
        splitter.feed(chunk)
    splitter.feed(b"", final=True)
    assert lines == ["one ***", "two \u00e9", "end ***"]


def test_background_gives_the_value_or_the_error() -> None:
    assert Background(lambda: 3).result() == 3
    broken = Background(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        broken.result()
    assert broken.failed


def test_whoever_an_error_wakes_sees_it() -> None:
    woken = threading.Event()
    seen: list[bool] = []

    def wake() -> None:
        woken.wait(10)
        seen.append(broken.failed)

    broken = Background(lambda: 1 // 0, on_error=wake)
    woken.set()
    with pytest.raises(ZeroDivisionError):
        broken.result()
    assert seen == [True]


def test_a_failure_holds_the_redacted_end_of_what_was_said() -> None:
    def fail(stderr: bytes, stdout: bytes = b"", code: int = 2, timeout: float | None = 9) -> str:
        done = Completed("server1", code, stdout, stderr)
        with pytest.raises(CommandFailed) as caught:
            checked(done, ECHO, lambda text: text.replace("hush", "***"), timeout)
        return caught.value.message

    assert fail(b"a hush\n") == "server1: echo failed with exit code 2: a ***"
    assert fail(b"", b"on stdout") == "server1: echo failed with exit code 2: on stdout"
    assert "took longer than 9 s" in fail(b"", code=124)
    assert "took longer" not in fail(b"", code=124, timeout=None)
    assert len(fail(b"line\n" * 10_000)) < 2100


def test_the_tail_begins_with_a_whole_line() -> None:
    assert tail("first\nsecond\nthird", 10) == "third"
    assert tail("x" * 30, 10) == "x" * 10
    assert tail(" short \n") == "short"


LONG_SECRET = "".join(f"{number:04x}" for number in range(400))  # 1,600 characters, one line


def test_an_error_is_redacted_before_it_is_cut() -> None:
    said = f"before\n{LONG_SECRET}{'x' * 1500}".encode()
    for streams in ((b"", said), (said, b"")):
        with pytest.raises(CommandFailed) as caught:
            checked(Completed("web1", 1, *streams), ECHO, Redactor([LONG_SECRET]), None)
        assert "[REDACTED]xxx" in str(caught.value)
        assert LONG_SECRET[-8:] not in str(caught.value)


@pytest.mark.parametrize("chunk", [1000, 65536, 1 << 20])
def test_half_a_secret_where_the_kept_part_begins_is_not_shown(chunk: int) -> None:
    kept = 256 * 1024
    for after in ("end", "\nend"):
        shown = LONG_SECRET[800:] + "\n" + "." * (kept - 801 - len(after)) + after
        data = ("first\n" + LONG_SECRET[:800] + shown).encode()
        words = LastWords()
        for at in range(0, len(data), chunk):
            words.feed(data[at : at + chunk])
        text = words.text(Redactor([LONG_SECRET]))
        assert text.endswith("end")
        assert len(text) <= 2000
        assert LONG_SECRET[-8:] not in text


def test_a_last_line_too_long_to_be_redacted_is_not_shown() -> None:
    words = LastWords(LONG_SECRET[800:].encode() * 400)
    assert words.text(Redactor([LONG_SECRET])) == "(its last line is longer than 256 KiB and is not shown)"


def test_what_is_kept_whole_is_shown_from_its_first_line() -> None:
    assert LastWords(b" one\ntwo \n").text(str.upper) == "ONE\nTWO"
    assert LastWords().text(str.upper) == ""
