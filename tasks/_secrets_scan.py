"""`secrets.scan`: searches the project and its Git history for secrets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ._task import task

if TYPE_CHECKING:
    from windlass.environment.variables import Variables
    from windlass.events import Emit
    from windlass.secrets.scan.scanning import Report, Scope
    from windlass.shell import Sensitive

    from ._terminal import Terminal


@task(
    help={
        "env": "Whose secrets are looked for; without it those of every environment.",
        "history": "Search the history of the Git repository, too; --no-history for the files alone.",
        "staged": "Search only what is staged for the next commit, for a pre-commit hook.",
        "all_files": "Search files that Git ignores, too.",
        "json": "Write JSON instead of a table.",
    }
)
def scan(
    context: Context,
    env: str = "",
    history: bool = True,
    staged: bool = False,
    all_files: bool = False,
    json: bool = False,
) -> None:
    """Search the project and its Git history for the values of its secrets and for what looks like one.

    Known false ones are accepted in envs/scan-allow.txt, each with a reason. Exit code 1 when anything
    else is found, or when secrets cannot be had here and so are not looked for: --env leaves out the
    environments whose secrets are kept from this machine.
    """
    from windlass.environment.loading import find_root
    from windlass.errors import OperationFailed
    from windlass.secrets.scan import allowing
    from windlass.secrets.scan.scanning import Scope
    from windlass.secrets.scan.scanning import scan as search

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    root = find_root(Path.cwd())
    allowed = allowing.load(root)
    values, lacking = values_of(root, env, terminal.emit)
    scope = Scope(history=history, staged=staged, everything=all_files)
    report = search(root, values, scope, allowed, terminal.emit)
    warn(report, terminal.emit)
    show(report, scope, terminal, lacking)
    if report.findings:
        raise OperationFailed(
            f"{_count(len(report.findings), 'finding')} in what was searched{_not_had(lacking)}.",
            "Replace what is a secret where it is used (what Git has, others may have), then remove it; "
            f"accept what is none in {allowing.ALLOW_FILE}: `<fingerprint>  <reason>`.",
        )
    if lacking:
        raise OperationFailed(
            f"Nothing was found{_not_had(lacking)}.",
            "`inv secrets.check` says how each is mended; --env searches for those of one environment alone.",
        )


def values_of(root: Path, env: str, emit: Emit) -> tuple[dict[str, Sensitive], dict[str, str]]:
    """Return the secrets of one environment or of all by name and environments, and why others are not had.

    Args:
        root: the repository.
        env: the environment; empty for all.
        emit: told by name which secrets and environments cannot be had.

    Raises:
        ConfigurationError: the environment that is named does not exist.
    """
    from windlass.environment.inspection import variables_of
    from windlass.environment.loading import choose, names
    from windlass.events import Notice
    from windlass.shell import Sensitive

    found: dict[tuple[str, Sensitive], list[str]] = {}
    lacking: dict[str, str] = {}
    for name in [choose(root, env)] if env else names(root):
        variables = variables_of(root, name)
        for problem in variables.problems:
            what = f"{problem.key or 'what it sets'} of {name} is not looked for"
            emit(Notice("warning", f"{what}: {problem.place}: {problem.what}."))
            if problem.key not in variables.values:
                lacking[f"{problem.key or problem.place} ({name})"] = f"cannot be had: {problem.what}"
        _remember(root, name, variables)
        for key, variable in variables.values.items():
            if isinstance(variable.value, Sensitive):
                found.setdefault((key, variable.value), []).append(name)
    return {f"{key} ({', '.join(in_)})": value for (key, value), in_ in found.items()}, lacking


def _remember(root: Path, name: str, variables: Variables) -> None:
    """Keep the values out of errors and tracebacks."""
    from windlass.environment.inspection import without_variables
    from windlass.errors import ConfigurationError

    from . import _terminal

    with suppress(ConfigurationError):  # its settings are wrong: `env.check` tells that
        _terminal.opened(replace(without_variables(root, name), variables=variables.values))


def warn(report: Report, emit: Emit) -> None:
    """Tell what limits the result."""
    from windlass.events import Notice

    def say(text: str) -> None:
        emit(Notice("warning", text))

    for note in report.notes:
        say(note)
    for name, reason in report.unsearched.items():
        say(f"The value of {name} is not searched for: it {reason}.")
    for path, reason in report.unread.items():
        say(f"{path} could not be read: {reason}.")
    for entry in report.unused:
        say(f"envs/scan-allow.txt accepts {entry}, which is not found any more.")


def show(report: Report, scope: Scope, terminal: Terminal, lacking: Mapping[str, str]) -> None:
    """Write the findings, what was searched, and why secrets that are `lacking` were not looked for."""
    from ._terminal import human_seconds

    searched: Mapping[str, object] = {
        "files": report.files,
        "blobs": report.objects,
        "messages": report.commits,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
    }
    terminal.result(
        {
            "ok": not report.findings and not lacking,
            "findings": [asdict(each) for each in report.findings],
            "accepted": report.accepted,
            "searched": searched,
            "unsearched": {**report.unsearched, **lacking},
            "unread": report.unread,
            "notes": report.notes,
            "unused": report.unused,
        }
    )
    rows = [
        (each.place, each.what, _FORMS.get(each.how, each.how), each.times, each.excerpt, each.fingerprint)
        for each in report.findings
    ]
    if rows:
        terminal.table("secrets found", ("where", "what", "form", "times", "text", "fingerprint"), rows)
    what = _count(report.files, "staged file" if scope.staged else "file")
    if report.commits:
        older = f"{_count(report.objects, 'other version')} and {_count(report.commits, 'message')}"
        what += f", {older} of the history"
    size = f"{report.bytes / 1e6:.1f} MB in {human_seconds(report.seconds)}"
    accepted = f", {report.accepted} accepted" if report.accepted else ""
    count = _count(len(report.findings), "finding")
    terminal.say(f"Searched {what} ({size}): {count}{accepted}{_not_had(lacking)}.")


_FORMS = {"line": "a line of it", "split": "broken over lines", "shape": "looks like one"}


def _not_had(lacking: Mapping[str, str]) -> str:
    if not lacking:
        return ""
    were = "was" if len(lacking) == 1 else "were"
    return f"; {_count(len(lacking), 'secret')} could not be had and {were} not looked for"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
