from __future__ import annotations

from pathlib import Path

import pytest

from windlass.secrets.providers.base import Failure, Resolved
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive


def value_of(tmp_path: Path, text: str, **process: str) -> Resolved:
    with Resolver(tmp_path, process) as resolver:
        return resolver.lookup(text)


def test_a_variable_of_the_process(tmp_path: Path) -> None:
    assert value_of(tmp_path, "${env:A}", A=" ä$x\n") == Sensitive(" ä$x\n")


@pytest.mark.parametrize(
    ("process", "reason"),
    [({}, "not set"), ({"A": ""}, "empty"), ({"A": " \n"}, "empty"), ({"A": "\udcff"}, "not valid UTF-8")],
)
def test_a_variable_that_gives_nothing(tmp_path: Path, process: dict[str, str], reason: str) -> None:
    result = value_of(tmp_path, "${env:A}", **process)
    assert isinstance(result, Failure)
    assert reason in result.reason
