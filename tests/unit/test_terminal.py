"""How tasks speak: a closed output ends no work, and what comes from elsewhere controls no terminal."""

import json
import sys
from pathlib import Path

import pytest

from tasks import namespace
from tasks._terminal import Terminal, harmless
from tests.unit.test_tasks import python, run
from windlass.events import Notice, Output


class Closed:
    """An output whose other end is gone."""

    encoding = "utf-8"

    def __init__(self, error: OSError) -> None:
        self.error = error
        self.tried = 0

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise ValueError("none")

    def write(self, text: str) -> int:
        self.tried += 1
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(5, "I/O error")])
def test_a_closed_output_reaches_nobody(
    error: OSError, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Closed(error), Closed(error)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal = Terminal(as_json=as_json)
    for _ in range(3):
        terminal.emit(Notice("info", "text"))
        terminal.say("text")
        terminal.result({})
        terminal.table("", ("a",), [("b",)])
    assert (out.tried, err.tried) == (1, 1)


@pytest.mark.parametrize("words", [(), ("json",)])
def test_work_goes_on_when_a_pipe_is_closed_early(words: tuple[str, ...], tmp_path: Path) -> None:
    done = python(
        """
        import os, sys
        from pathlib import Path
        from invoke import Collection, Program
        from tasks._task import task
        from windlass.errors import MixedState

        @task()
        def work(context):
            "Work."
            from tasks._terminal import Terminal, harmless
            from windlass.events import Notice
            terminal = Terminal(as_json="json" in sys.argv)
            for number in (1, 2):
                reader, writer = os.pipe()
                os.dup2(writer, number)
                os.close(reader)
                os.close(writer)
            for _ in range(1000):
                terminal.emit(Notice("info", "x" * 100))
                terminal.say("x" * 100)
                terminal.result(["x" * 100])
            Path("finished").touch()
            raise MixedState("hosts differ")

        Program(namespace=Collection(work)).run(["inv", "work"])
        """,
        *words,
        cwd=tmp_path,
    )
    assert (tmp_path / "finished").exists()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb é 漢\nc", "a\tb é 漢\nc"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2K\x1b[1;1Hhome", "home"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;https://example.com\x1b\\link", "link"),
        ("\x1b(Bset", "set"),
        ("\x1bcreset", "reset"),
        ("bell\x07 back\x08 cr\r del\x7f csi\x9b2J", "bell back cr del csi2J"),
        ("lone\x1b", "lone"),
    ],
)
def test_what_comes_from_elsewhere_controls_no_terminal(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harmless(text) == shown
    Terminal().say(text)
    Terminal().emit(Output("server1", "api", text))
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    done = python(
        """
        import os, sys
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        os.close(writer)
        sys.argv = ["windlass", "--list"]
        from tasks.program import main
        main()
        """,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_that_is_not_from_its_first_place_is_told(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "prod.toml").write_text('app = "shop"\n[hosts.here]\ntransport = "local"\n')
    (tmp_path / "envs" / "prod.env").write_text("A=${env:NOT_THERE} ?? ${file:key}\n")
    (tmp_path / "key").write_text("the-secret")
    monkeypatch.chdir(tmp_path)
    assert run("env.show", *(["--json"] if as_json else []), collection=namespace) == 0
    said = capsys.readouterr()
    text = json.loads(said.err)["text"] if as_json else said.err
    assert "A (envs/prod.env:1) is taken from file:key, since env:NOT_THERE: the variable" in text
    assert "the-secret" not in said.out + said.err
