"""The images of the stack: build them, or see what would be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._task import is_dry, task

if TYPE_CHECKING:
    from windlass.environment.environment import Environment
    from windlass.images.building import Definition
    from windlass.stack.model import Stack

    from ._terminal import Terminal

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
TAG_HELP = "Tag of the images; without it, made from the commit."
JSON_HELP = "Write the result as JSON to stdout and events as JSON Lines to stderr."


@task(default=True, help={"env": ENV_HELP, "tag": TAG_HELP, "json": JSON_HELP})
def images(context: Context, env: str = "", tag: str = "", json: bool = False) -> None:
    """Build the image of every service that has a `build:` in the Compose files."""
    from windlass.images.building import build
    from windlass.images.naming import default_tag
    from windlass.release.preparing import commit, project_secrets

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env or None)
    stack = _checked(environment, terminal)
    tag = tag or default_tag(environment.root)
    if is_dry(context):
        _show(terminal, "would be built", _definitions(environment, stack, tag))
        return
    # Secrets that stand in the project itself are passed to builds too.
    redactor = _terminal.redactor_of(environment)
    redactor.learn(project_secrets(stack))
    # The label a deploy gives it: the same image is built once, whoever asks first.
    revision = commit(environment.root)
    built = build(environment, stack, tag, terminal.emit, redactor.redact, revision=revision)
    terminal.result({service: vars(image) for service, image in built.items()})
    rows = [
        (service, image.reference, image.image_id.removeprefix("sha256:")[:12], f"{image.seconds:.1f} s")
        for service, image in built.items()
    ]
    terminal.table(f"images of {environment.name}", ("service", "image", "id", "time"), rows)


@task(help={"env": ENV_HELP, "tag": TAG_HELP, "json": "Write JSON instead of a table."})
def list_(context: Context, env: str = "", tag: str = "", json: bool = False) -> None:
    """List the images a build would make, with their tags; builds nothing."""
    from windlass.images.naming import default_tag

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_environment(env or None)
    stack = _checked(environment, terminal)
    definitions = _definitions(environment, stack, tag or default_tag(environment.root))
    _show(terminal, f"images of {environment.name}", definitions)


def _checked(environment: Environment, terminal: Terminal) -> Stack:
    """Read the stack and say what its check found; an error of it stops the build."""
    from windlass.errors import ConfigurationError
    from windlass.events import Notice
    from windlass.stack.checks import check
    from windlass.stack.reading import read

    stack = read(environment)
    findings = check(stack, environment)
    for each in findings:
        terminal.emit(Notice(each.severity, f"{each.message} {each.fix}"))
    errors = sum(each.severity == "error" for each in findings)
    if errors:
        raise ConfigurationError(
            f"The Compose project has {errors} error{'s' if errors > 1 else ''}; nothing was built."
        )
    return stack


def _definitions(environment: Environment, stack: Stack, tag: str) -> tuple[Definition, ...]:
    from windlass.images.building import definitions

    return definitions(stack, tag, environment.settings.images.registry)


def _show(terminal: Terminal, title: str, definitions: tuple[Definition, ...]) -> None:
    rows = [
        {
            "services": list(each.services),
            "image": each.reference,
            "context": str(each.build.get("context", "")),
            "dockerfile": str(each.build.get("dockerfile") or "Dockerfile"),
        }
        for each in definitions
    ]
    terminal.result(rows)
    if not rows:
        terminal.say("No service has a `build:`; there is nothing to build.")
        return
    columns = ("services", "image", "context", "dockerfile")
    table = [
        (", ".join(each.services), *(row[key] for key in columns[1:]))
        for each, row in zip(definitions, rows, strict=True)
    ]
    terminal.table(title, columns, table)


namespace = Collection("build", images, list_)
