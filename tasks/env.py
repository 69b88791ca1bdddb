"""The environments in envs/: which there are, what they say, whether they are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Collection, Context

from ._env_comparing import diff
from ._env_doctor import doctor
from ._env_making import example, generate
from ._task import task

if TYPE_CHECKING:
    from windlass.environment.environment import Environment

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
JSON_HELP = "Write JSON instead of a table."


@task(help={"json": JSON_HELP})
def list_(context: Context, json: bool = False) -> None:
    """List the environments, their hosts, and which is protected or the default."""
    from windlass.environment.loading import find_root, names

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    root = find_root(Path.cwd())
    found = [_summary(root, name) for name in names(root)]
    terminal.result(found)
    columns = ("name", "app", "protected", "default", "hosts")
    rows = [
        (
            each["name"],
            each["app"] or "-",
            *(_yes(each[key]) for key in ("protected", "default")),
            _hosts(each),
        )
        for each in found
    ]
    terminal.table("", columns, rows)


def _summary(root: Path, name: str) -> dict[str, Any]:
    """Return what `env.list` says of an environment; one with problems is listed all the same."""
    from windlass.environment.inspection import settings_of

    settings, problems = settings_of(root, name)
    if settings is None:
        empty = dict.fromkeys(("app", "protected", "default"))
        return {"name": name, **empty, "hosts": [], "problems": len(problems)}
    return {
        "name": name,
        "app": settings.app,
        "protected": settings.protected,
        "default": settings.default,
        "hosts": list(settings.hosts),
        "problems": len(problems),
    }


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def _hosts(summary: dict[str, Any]) -> str:
    if summary["problems"]:
        return f"invalid: see `inv env.check --env {summary['name']}`"
    return ", ".join(summary["hosts"])


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def show(context: Context, env: str = "", json: bool = False) -> None:
    """Show an environment's settings and variables and where each comes from; secrets stay masked."""
    from windlass.environment.inspection import flat
    from windlass.environment.variables import declared

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env or None)
    redact = _terminal.redactor_of(environment).redact_value
    settings = redact(environment.settings.model_dump(mode="json"))
    types = declared(environment.root, environment.name).schema
    variables = [
        {
            "name": each.name,
            "value": str(each.value),
            "secret": each.secret,
            "type": types.type_of(each.name),
            "origin": each.origin,
            "reference": str(each.reference or ""),
            "source": str(each.source or ""),
        }
        for each in environment.variables.values()
    ]
    terminal.result({"name": environment.name, "settings": settings, "variables": redact(variables)})
    terminal.table(f"settings of {environment.name}", ("key", "value"), flat(settings))
    rows = [
        [redact(each[column]) or "-" for column in ("name", "value", "type", "origin", "source")]
        for each in variables
    ]
    terminal.table(f"variables of {environment.name}", ("name", "value", "type", "from", "kept in"), rows)


@task(help={"env": "Only this environment; without it, all.", "json": JSON_HELP})
def check(context: Context, env: str = "", json: bool = False) -> None:
    """Check environments: files, variables, references and the Compose project; say every problem."""
    from windlass.environment.loading import choose, find_root, names
    from windlass.errors import ConfigurationError

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    root = find_root(Path.cwd())
    chosen = (choose(root, env),) if env else names(root)
    found = {name: _findings(root, name) for name in chosen}
    terminal.result(found)
    for name, findings in found.items():
        for each in findings:
            terminal.say(_line(name, each))
        if not findings:
            terminal.say(f"{name}: no problem found")
    bad = [name for name, findings in found.items() if any(each["severity"] == "error" for each in findings)]
    if not chosen:
        raise ConfigurationError("There is no environment in envs/.", "Write envs/<name>.toml for the first.")
    if bad:
        raise ConfigurationError(f"Not valid: {', '.join(bad)}.")


def _line(name: str, finding: dict[str, str]) -> str:
    text = f"{name}: {finding['severity']}: {finding['message']}"
    return f"{text}\n  {finding['fix']}" if finding["fix"] else text


def _findings(root: Path, name: str) -> list[dict[str, str]]:
    """Return all that is wrong with an environment and its stack."""
    from windlass.environment.inspection import examine, with_stand_ins
    from windlass.errors import WindlassError

    from . import _terminal

    try:
        examined = examine(root, name)
        environment = with_stand_ins(root, name, examined)
    except WindlassError as error:
        return [_finding("error", error.message, error.hint)]
    found = [_finding("error", str(problem)) for problem in examined.problems]
    found += [_finding("warning", str(problem)) for problem in examined.variables.warnings]
    return found if environment is None else found + _stack_findings(_terminal.opened(environment))


def _stack_findings(environment: Environment) -> list[dict[str, str]]:
    from windlass.errors import WindlassError
    from windlass.stack.checks import check as check_stack
    from windlass.stack.reading import read

    try:
        found = check_stack(read(environment), environment)
    except WindlassError as error:
        return [_finding("error", error.message, error.hint)]
    return [_finding(each.severity, each.message, each.fix) for each in found]


def _finding(severity: str, message: str, fix: str = "") -> dict[str, str]:
    return {"severity": severity, "message": message, "fix": fix}


namespace = Collection("env", list_, show, check, diff, generate, example, doctor)
