"""Benchmarks are found by name, say what they found in one line each, and fail when a goal is missed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks
from benchmarks import __main__ as command
from benchmarks.report import Result, meets, number, parse_goal

GOOD = Result("inv-list", 0.1234, "s", 0.1, 1.234, "<=1.5", True)
BAD = Result("throughput", 80.0, "MB/s", 100.0, 0.8, ">=0.9", False)
ALONE = Result("commands", 9, "", None, None, "<=12", True)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (GOOD, "BENCH inv-list value=0.1234s baseline=0.1s ratio=1.234 goal=<=1.5 PASS"),
        (BAD, "BENCH throughput value=80MB/s baseline=100MB/s ratio=0.8 goal=>=0.9 FAIL"),
        (ALONE, "BENCH commands value=9 baseline=- ratio=- goal=<=12 PASS"),
    ],
)
def test_a_result_is_one_line(result: Result, line: str) -> None:
    assert result.line() == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (12, "12"), (12.0, "12"), (1.50, "1.5"), (100, "100"), (0.123456, "0.1235"),
        (1 / 3, "0.3333"), (123456.7, "123457"), (1234.5, "1234"),
        (0.00001, "0.00001"), (-2.5, "-2.5"), (1000, "1000"),
    ],
)  # fmt: skip
def test_numbers_have_no_exponent_and_no_noise(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        ("<=1.5", 1.5, True),
        ("<=1.5", 1.51, False),
        (">=0.9", 0.9, True),
        (">=0.9", 0.89, False),
        ("<8", 8, False),
        (">8", 8.1, True),
    ],
)
def test_goals_compare(goal: str, value: float, met: bool) -> None:
    assert meets(goal, value) is met


@pytest.mark.parametrize("goal", ["", "1.5", "==1", "<= 1.5", "<=x", "<=1.5s", "=<1"])
def test_a_goal_that_says_nothing_is_refused(goal: str) -> None:
    with pytest.raises(ValueError, match="a goal is"):
        parse_goal(goal)
    with pytest.raises(ValueError, match="a goal is"):
        Result("x", 1, "s", 1, 1, goal, True)


def test_benchmarks_are_named_as_their_files_with_dashes() -> None:
    found = benchmarks.find()
    assert "inv-list" in found
    assert "report" not in found
    assert all("_" not in name and about for name, about in found.items())


def test_one_result_and_several_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    head = "from benchmarks.report import Result\nRESULT = Result('x', 1, 's', 1, 1, '<=1', True)\n"
    (tmp_path / "zz_single.py").write_text(f'"""One."""\n{head}def run():\n    return RESULT\n')
    (tmp_path / "zz_several.py").write_text(f'"""Two."""\n{head}def run():\n    return [RESULT, RESULT]\n')
    try:
        assert {"zz-single", "zz-several"} <= set(benchmarks.find())
        assert len(list(benchmarks.run("zz-single"))) == 1
        assert len(list(benchmarks.run("zz-several"))) == 2
    finally:
        for name in ("zz_single", "zz_several"):
            sys.modules.pop(f"benchmarks.{name}", None)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def these(**bodies: Result | Exception) -> None:
        def run(name: str) -> list[Result]:
            if isinstance(bodies[name], Exception):
                raise bodies[name]
            return [bodies[name]]

        monkeypatch.setattr(command, "find", lambda: dict.fromkeys(bodies, "says something"))
        monkeypatch.setattr(command, "run", run)

    return these


def test_all_goals_reached_is_success(offer: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    offer(one=GOOD, two=ALONE)
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == [GOOD.line(), ALONE.line()]
    assert "benchmark  value    baseline  ratio  goal" in out


def test_a_missed_goal_is_failure(offer: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    offer(one=GOOD, two=BAD)
    assert command.main([]) == 1
    assert command.main(["one"]) == 0
    assert BAD.line() in capsys.readouterr().out


def test_one_that_breaks_fails_and_the_others_still_run(
    offer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offer(one=RuntimeError("no engine"), two=GOOD)
    assert command.main([]) == 1
    shown = capsys.readouterr()
    assert GOOD.line() in shown.out
    assert "one: did not finish" in shown.out
    assert "no engine" in shown.err


def test_a_mistyped_name_gets_the_nearest_one(
    offer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offer(**{"inv-list": GOOD})
    with pytest.raises(SystemExit) as ended:
        command.main(["inv-lst"])
    assert ended.value.code == 2
    assert "did you mean inv-list?" in capsys.readouterr().err


def test_list_names_them_and_runs_nothing(
    offer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offer(one=RuntimeError("must not run"))
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["one", "says", "something"]
