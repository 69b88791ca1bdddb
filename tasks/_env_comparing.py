"""The task `env.diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ._task import task

if TYPE_CHECKING:
    from windlass.environment.differing import Difference


@task(
    help={
        "first": "One environment.",
        "second": "The other.",
        "values": "Get all values of both and say which are the same; a secret is never shown.",
        "exit-code": "End with exit code 1 when they differ.",
        "json": "Write JSON instead of a table.",
    }
)
def diff(
    context: Context,
    first: str = "",
    second: str = "",
    values: bool = False,
    exit_code: bool = False,
    json: bool = False,
) -> None:
    """Compare two environments: variables, where each is kept, settings; values of secrets stay masked."""
    from windlass.environment.differing import compare
    from windlass.environment.loading import choose, find_root
    from windlass.errors import ConfigurationError, OperationFailed

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    root = find_root(Path.cwd())
    if not first or not second:
        raise ConfigurationError(
            "Two environments are compared.", "Name them: --first staging --second prod."
        )
    first, second = choose(root, first), choose(root, second)
    found = compare(root, first, second, values=values)
    terminal.result({"first": first, "second": second, "differences": [each.as_dict() for each in found]})
    if found:
        rows = [
            (each.part, each.name, each.what, _side(each.first), _side(each.second), _origins(each))
            for each in found
        ]
        terminal.table(f"{first} and {second}", ("part", "name", "difference", first, second, "from"), rows)
    else:
        terminal.say(f"{first} and {second} do not differ")
    if found and exit_code:
        raise OperationFailed(f"{first} and {second} differ in {len(found)} places.")


def _side(text: str) -> str:
    return text or "-"


def _origins(difference: Difference) -> str:
    origins = dict.fromkeys(each for each in (difference.first_origin, difference.second_origin) if each)
    return ", ".join(origins) or "-"
