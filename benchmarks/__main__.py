"""Run benchmarks: `python -m benchmarks [NAME…]`; exit code 1 when one misses its goal."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from difflib import get_close_matches

from benchmarks import find, run
from benchmarks.report import Result, number


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is named, or everything."""
    available = find()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure and compare with the goals."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run; all of them when none is named"
    )
    parser.add_argument("--list", action="store_true", help="print the benchmarks and end")
    options = parser.parse_args(argv)
    if options.list:
        for name, about in available.items():
            print(f"{name:24} {about}")
        return 0
    for name in options.names:
        if name not in available:
            near = get_close_matches(name, available, 1)
            parser.error(
                f"no benchmark {name!r}"
                + (f": did you mean {near[0]}?" if near else f"; there are {', '.join(available)}")
            )
    return measure(options.names or list(available))


def measure(names: Sequence[str]) -> int:
    """Run each benchmark; one that breaks fails, and the others still run."""
    results: list[Result] = []
    broken: list[str] = []
    for name in names:
        print(f"{name}: measuring", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            for result in run(name):
                results.append(result)
                print(result.line(), flush=True)
        except Exception:  # noqa: BLE001 - one defect must not hide the other figures
            traceback.print_exc()
            broken.append(name)
        print(f"{name}: took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print("\n" + table(results))
    for name in broken:
        print(f"{name}: did not finish")
    return 1 if broken or not all(result.passed for result in results) else 0


def table(results: Sequence[Result]) -> str:
    """Return the results as columns."""
    rows = [("benchmark", "value", "baseline", "ratio", "goal", "")]
    for result in results:
        rows.append(
            (
                result.name,
                f"{number(result.value)}{result.unit}",
                "-" if result.baseline is None else f"{number(result.baseline)}{result.unit}",
                "-" if result.ratio is None else number(result.ratio),
                result.goal,
                "pass" if result.passed else "FAIL",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
