"""Builds each distinct build definition of a stack once, with `docker build`."""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from windlass.environment.environment import Environment
from windlass.environment.model import VariablesSettings
from windlass.environment.variables import is_secret
from windlass.errors import ConfigurationError, WindlassError
from windlass.events import Emit, Event, Output, StepChanged
from windlass.images.docker import Redact, Running, call, failure
from windlass.images.naming import reference
from windlass.stack.checks import build_faults
from windlass.stack.model import Stack
from windlass.stack.rendering import APP_LABEL, secret_values
from windlass.stack.texts import SecretText, template

PARALLEL_BUILDS = 2
_REMOTE = re.compile(r"^(https?://|git://|ssh://|git@|github\.com/)")
LOCAL = "local"


@dataclass(frozen=True)
class Built:
    """An image that was built.

    Args:
        reference: its name and tag.
        image_id: its id in the local Engine.
        seconds: how long the build took.
    """

    reference: str
    image_id: str
    seconds: float


@dataclass(frozen=True)
class Definition:
    """A build that one or more services share.

    Args:
        services: the services, sorted; the first one gives the image its name.
        build: the `build:` of the Compose file.
        reference: the image to make.
    """

    services: tuple[str, ...]
    build: Mapping[str, Any]
    reference: str


@dataclass(frozen=True)
class BuildCommand:
    """A `docker build` as values.

    Args:
        words: the command.
        variables: the values of secret arguments, for the process's environment: argv is public.
        stdin: the Dockerfile, when the Compose file holds it.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False, default_factory=dict)
    stdin: str | None = None


def definitions(stack: Stack, tag: str, registry: str | None = None) -> tuple[Definition, ...]:
    """Return the distinct builds of a stack, each with the services that share it.

    Raises:
        ConfigurationError: the tag or the registry prefix is not valid.
    """
    groups: dict[str, list[str]] = {}
    for name, service in sorted(stack.services.items()):
        if service.build is not None:
            shape = json.dumps(service.build, sort_keys=True, default=template)
            groups.setdefault(shape, []).append(name)
    return tuple(
        Definition(
            tuple(names), stack.services[names[0]].build or {}, reference(stack.name, names[0], tag, registry)
        )
        for names in groups.values()
    )


def build_command(
    definition: Definition,
    *,
    labels: Mapping[str, str],
    build_args: Mapping[str, str],
    values: Mapping[str, str],
    rules: VariablesSettings,
    buildkit: bool,
) -> BuildCommand:
    """Return the `docker build` of a definition.

    Args:
        definition: what to build.
        labels: labels to add to those of the definition.
        build_args: arguments to add to those of the definition, which win.
        values: the values of the stack's secrets, by placeholder name.
        rules: which arguments are secret by their name.
        buildkit: whether BuildKit builds; else the classic builder.

    Raises:
        ConfigurationError: the definition asks for something that is not supported, by name.
    """
    build = definition.build
    _refuse(definition)
    # buildx by its own name: a client as old as Debian 12's has another builder behind `docker build`.
    words = ["docker", *(["buildx"] if buildkit else []), "build", "--tag", definition.reference]
    if buildkit:
        # No attestations: they make an image differ from build to build, and a plain Engine cannot hold them.
        words += ["--load", "--provenance=false", "--progress", "plain"]
    inline = build.get("dockerfile_inline")
    words += ["--file", "-" if inline else _dockerfile(build)]
    words += _options(build)
    for name, value in sorted({**(build.get("labels") or {}), **labels}.items()):
        words += ["--label", f"{name}={_public(value, definition, 'labels')}"]
    secret: dict[str, str] = {}
    for name, value in sorted({**build_args, **(build.get("args") or {})}.items()):
        if isinstance(value, SecretText):
            secret[name] = value.exact(values)
        elif value is not None and is_secret(name, str(value), rules):
            secret[name] = str(value)
        words += ["--build-arg", name if name in secret or value is None else f"{name}={value}"]
    return BuildCommand((*words, str(build["context"])), secret, str(inline) if inline else None)


def _refuse(definition: Definition) -> None:
    faults = build_faults(definition.build)
    if faults:
        raise ConfigurationError(
            f"{' and '.join(faults)} of {definition.services[0]} cannot be honoured.",
            "Remove it from what this environment deploys, or name an image built elsewhere.",
        )


def _dockerfile(build: Mapping[str, Any]) -> str:
    context, dockerfile = str(build["context"]), str(build.get("dockerfile") or "Dockerfile")
    return dockerfile if _REMOTE.match(context) else str(PurePosixPath(context) / dockerfile)


def _options(build: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for key, option in (("target", "--target"), ("network", "--network"), ("shm_size", "--shm-size")):
        if build.get(key):
            words += [option, str(build[key])]
    for key, option in (("platforms", "--platform"), ("cache_from", "--cache-from"), ("tags", "--tag")):
        for each in build.get(key) or ():
            words += [option, str(each)]
    for each in build.get("extra_hosts") or ():
        name, _, address = str(each).partition("=")
        words += ["--add-host", f"{name}:{address}" if address else str(each)]
    words += ["--pull"] if build.get("pull") else []
    return words + (["--no-cache"] if build.get("no_cache") else [])


def _public(value: Any, definition: Definition, key: str) -> str:
    if isinstance(value, SecretText):
        raise ConfigurationError(
            f"`build.{key}` of {definition.services[0]} holds a secret variable, and every image shows it.",
            "Pass it when the container runs, through `environment:` or `secrets:`.",
        )
    return str(value)


def labels_for(stack: Stack, tag: str, revision: str) -> dict[str, str]:
    """Return the labels of every image; none holds a time, which would make each build differ."""
    labels = {APP_LABEL: stack.name, "org.opencontainers.image.version": tag}
    return labels | ({"org.opencontainers.image.revision": revision} if revision else {})


def has_buildkit() -> bool:
    """Whether the local Docker client can build with BuildKit."""
    try:
        call(["docker", "buildx", "version"], "asking for buildx")
    except WindlassError:
        return False
    return True


def build(
    environment: Environment, stack: Stack, tag: str, emit: Emit, redact: Redact, *, revision: str = ""
) -> dict[str, Built]:
    """Build the images of a stack, at most two at a time.

    Args:
        environment: registry, build arguments and the values of secrets.
        stack: the services.
        tag: the tag of the images.
        emit: gets every line as `Output` of host `local`; called from other threads, one at a time.
        redact: takes secrets out of those lines and of errors.
        revision: the commit, for a label; empty: no label.

    Returns:
        The image of every service that has a `build:`; services with the same definition share one.

    Raises:
        CommandFailed: a build failed; the others were ended.
        ConfigurationError: a build asks for something that is not supported.
        PreflightFailed: there is no Docker client, or no Engine answers it.
    """
    settings = environment.settings.images
    buildkit = has_buildkit()
    commands = [
        (
            each,
            build_command(
                each,
                labels=labels_for(stack, tag, revision),
                build_args=settings.build_args,
                values=secret_values(stack, environment),
                rules=environment.settings.variables,
                buildkit=buildkit,
            ),
        )
        for each in definitions(stack, tag, settings.registry)
    ]
    worker = _Worker(_one_at_a_time(emit), redact, buildkit)
    images = _in_parallel(worker, commands)
    return {name: image for (each, _), image in zip(commands, images, strict=True) for name in each.services}


def _in_parallel(worker: _Worker, commands: Sequence[tuple[Definition, BuildCommand]]) -> list[Built]:
    with ThreadPoolExecutor(PARALLEL_BUILDS) as pool:
        futures = [pool.submit(worker.build, *each) for each in commands]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            worker.running.end()
            raise


def _one_at_a_time(emit: Emit) -> Emit:
    lock = threading.Lock()

    def locked(event: Event) -> None:
        with lock:
            emit(event)

    return locked


class _Worker:
    """Runs builds, several at a time."""

    def __init__(self, emit: Emit, redact: Redact, buildkit: bool) -> None:
        self.running = Running()
        self._emit = emit
        self._redact = redact
        self._buildkit = "1" if buildkit else "0"

    def build(self, definition: Definition, command: BuildCommand) -> Built:
        """Run one build and return its image."""
        step = f"build {definition.reference}"
        what = f"building the image of {', '.join(definition.services)}"
        start = time.monotonic()
        self._emit(StepChanged(LOCAL, step, "started"))
        # Docker leaves a Dockerfile it read from stdin behind in its folder for temporary files.
        with tempfile.TemporaryDirectory(prefix="windlass-build-") as folder:
            code, last = self.running.stream(
                command.words,
                lambda line: self._emit(Output(LOCAL, definition.services[0], line)),
                redact=self._redact,
                variables={"TMPDIR": folder, **command.variables, "DOCKER_BUILDKIT": self._buildkit},
                stdin=command.stdin,
            )
        seconds = time.monotonic() - start
        if code != 0:
            self._emit(StepChanged(LOCAL, step, "failed", seconds=seconds))
            raise failure(what, code, last)
        image_id = call(
            ["docker", "image", "inspect", "--format", "{{.Id}}", definition.reference], what, self._redact
        ).strip()
        self._emit(StepChanged(LOCAL, step, "done", image_id, seconds))
        return Built(definition.reference, image_id, seconds)
