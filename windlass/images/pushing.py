"""Pushes images to a registry; the login is the user's own `docker login`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from windlass.errors import CommandFailed, OperationFailed, WindlassError
from windlass.events import Emit, Output, StepChanged, ignore
from windlass.images.docker import Redact, Running, call, failure, unredacted

LOCAL = "local"
_SILENT = re.compile(
    r"connection refused|no such host|i/o timeout|no route to host|network is unreachable|connection reset|"
    r"TLS handshake timeout|context deadline exceeded|Client\.Timeout|server misbehaving"
)
_REFUSED = re.compile(r"unauthorized|denied|authentication required|no basic auth credentials|403 Forbidden")


def push(references: Iterable[str], emit: Emit = ignore, redact: Redact = unredacted) -> dict[str, str]:
    """Push images to the registry in their names.

    Args:
        references: the images; each is pushed once.
        emit: gets the lines Docker prints.
        redact: takes secrets out of them.

    Returns:
        For each reference the one by digest, which cannot be moved; itself where Docker knows no digest.

    Raises:
        WindlassError: a push failed; those before it are in the registry.
    """
    return {each: _push(each, emit, redact) for each in sorted(set(references))}


def _push(reference: str, emit: Emit, redact: Redact) -> str:
    step = f"push {reference}"
    emit(StepChanged(LOCAL, step, "started"))
    code, last = Running().stream(
        ["docker", "push", reference], lambda line: emit(Output(LOCAL, step, line)), redact=redact
    )
    if code != 0:
        emit(StepChanged(LOCAL, step, "failed"))
        raise push_failure(reference, code, last)
    emit(StepChanged(LOCAL, step, "done"))
    digests = call(
        ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", reference], step, redact
    )
    return digest_of(reference, json.loads(digests) or [])


def push_failure(reference: str, code: int, said: str) -> WindlassError:
    """Return the error for a push that failed, which tells a silent registry from one that refuses."""
    registry = registry_of(reference)
    if _SILENT.search(said):
        return OperationFailed(
            f"The registry {registry} does not answer: {_last_line(said)}",
            "Nothing was changed on any host. Check that it runs and that this machine reaches it.",
        )
    if _REFUSED.search(said):
        return OperationFailed(
            f"The registry {registry} refuses {reference}: {_last_line(said)}",
            f"Run `docker login {registry}` with an account that may push there.",
        )
    error = failure(f"pushing {reference}", code, said)
    if isinstance(error, CommandFailed):
        error.hint = f"Run `docker login {registry}` if the registry refused you."
    return error


def registry_of(reference: str) -> str:
    """Return the registry in an image's name; Docker Hub's is not written there."""
    first, slash, _ = reference.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def _last_line(said: str) -> str:
    return said.strip().rpartition("\n")[2].strip()


def digest_of(reference: str, digests: Iterable[str]) -> str:
    """Return the one of an image's digests that is in the reference's own repository, else the reference."""
    repository = reference.rpartition(":")[0]
    return next((each for each in digests if each.partition("@")[0] == repository), reference)
