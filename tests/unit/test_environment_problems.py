from __future__ import annotations

from windlass.environment.problems import InvalidEnvironment, Problem, in_order, nearest


def test_a_problem_reads_as_one_line() -> None:
    problem = Problem(
        "envs/prod.toml", "hosts.web.prot", "is no known key", 12, 3, "22", "port, user", "port"
    )
    assert str(problem) == (
        "envs/prod.toml:12:3: hosts.web.prot: is no known key; found 22; allowed: port, user; "
        "did you mean `port`?"
    )
    assert str(Problem("envs/x.env", "", "is not UTF-8 text")) == "envs/x.env: is not UTF-8 text"


def test_problems_are_sorted_by_file_and_line_and_told_once() -> None:
    first, second, third = Problem("a", "z", "x", 2), Problem("a", "b", "x", 10), Problem("b", "a", "x", 1)
    assert in_order([third, second, first, second]) == (first, second, third)


def test_the_error_names_all_and_keeps_them_as_data() -> None:
    problems = [Problem("b", "k", "is missing"), Problem("a", "k", "is missing", 3)]
    error = InvalidEnvironment("prod", problems)
    assert error.exit_code == 10
    assert str(error) == "The environment `prod` has 2 problems:\n  a:3: k: is missing\n  b: k: is missing"
    assert error.problems[0].as_dict()["line"] == 3


def test_the_nearest_name() -> None:
    assert nearest("prdo", ["local", "prod"]) == "prod"
    assert nearest("zzz", ["local", "prod"]) == ""
