"""Figures and their goals: every module here with a `run` is a benchmark, named as its file with dashes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

from benchmarks.report import Result


def find() -> dict[str, str]:
    """Return the benchmarks by name, with the first line of what each says of itself."""
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{name}")
        if callable(getattr(module, "run", None)):
            found[name.replace("_", "-")] = (module.__doc__ or "").partition("\n")[0]
    return found


def run(name: str) -> Iterator[Result]:
    """Run one benchmark."""
    body: Callable[[], Result | list[Result]] = importlib.import_module(
        f"{__name__}.{name.replace('-', '_')}"
    ).run
    results = body()
    yield from [results] if isinstance(results, Result) else results
