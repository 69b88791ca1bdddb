"""What a benchmark found, and whether that is good enough."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_GOAL = re.compile(r"(<=|>=|<|>)(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Result:
    """One figure beside the one it is compared with.

    `baseline` and `ratio` are None where a goal is a plain number and nothing stands beside it. The benchmark
    itself says whether it `passed`: a goal may be about the value, the ratio or the difference.
    """

    name: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    goal: str
    passed: bool

    def __post_init__(self) -> None:
        parse_goal(self.goal)

    def line(self) -> str:
        """Return the line that programs read."""
        baseline = "-" if self.baseline is None else f"{number(self.baseline)}{self.unit}"
        ratio = "-" if self.ratio is None else number(self.ratio)
        return (
            f"BENCH {self.name} value={number(self.value)}{self.unit} baseline={baseline} ratio={ratio} "
            f"goal={self.goal} {'PASS' if self.passed else 'FAIL'}"
        )


def number(value: float) -> str:
    """Return a number as people write it: four digits that matter, no exponent, no trailing zeros."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{float(f'{value:.4g}'):.6f}"
    return text.rstrip("0").rstrip(".")


def parse_goal(goal: str) -> tuple[str, float]:
    """Return a goal such as `<=1.5` as its comparison and its number."""
    found = _GOAL.fullmatch(goal)
    if found is None:
        raise ValueError(
            f"a goal is one of {' '.join(_COMPARISONS)} and a number, such as <=1.5, not {goal!r}"
        )
    return found[1], float(found[2])


def meets(goal: str, value: float) -> bool:
    """Whether a value reaches a goal."""
    comparison, limit = parse_goal(goal)
    return _COMPARISONS[comparison](value, limit)
