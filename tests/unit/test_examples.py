from __future__ import annotations

from pathlib import Path

import pytest

from windlass.environment.loading import load, names
from windlass.stack.checks import check
from windlass.stack.reading import read

EXAMPLES = sorted(path.parent for path in (Path(__file__).parents[2] / "examples").glob("*/tasks.py"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_environment_of_an_example_can_be_deployed(example: Path) -> None:
    assert names(example)
    for name in names(example):
        environment = load(example, name)
        findings = check(read(environment), environment)
        assert [finding for finding in findings if finding.severity == "error"] == []
