"""From the repository to a release: stack read and checked, images named, files rendered and packed."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from windlass.environment.environment import Environment
from windlass.errors import ConfigurationError
from windlass.identity import own_version, who
from windlass.images.building import definitions
from windlass.images.naming import release_id
from windlass.release.layout import META_FILE, SECRETS_FILE, STACK_FILE
from windlass.release.ledger import Meta
from windlass.secrets.writers import compose_env_file
from windlass.stack.checks import Finding, check
from windlass.stack.model import Stack
from windlass.stack.reading import read
from windlass.stack.rendering import RenderedStack, render

PRIVATE = 0o600


@dataclass(frozen=True)
class Candidate:
    """A release before it is rendered for a host.

    Args:
        id: `<UTC time>-<tag>`.
        tag: the image tag.
        commit: the commit; empty outside git.
        stack: the user's project.
        references: image reference of every service.
        warnings: findings that do not stop a deploy.
    """

    id: str
    tag: str
    commit: str
    stack: Stack
    references: Mapping[str, str]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class Bundle:
    """A release rendered for one host: its record and the archive that holds its files."""

    meta: Meta
    archive: bytes
    folders: tuple[str, ...]
    directories: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(environment: Environment, tag: str, now: datetime) -> Candidate:
    """Read and check the stack.

    Args:
        environment: the environment.
        tag: tag of the images that are built.
        now: the time, for the release's id.

    Raises:
        ConfigurationError: the project is invalid, or a check found an error.
    """
    stack = read(environment)
    findings = check(stack, environment)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = [f"{each.service or 'stack'}: {each.message}\n    {each.fix}".rstrip() for each in errors]
        raise ConfigurationError(
            f"The Compose project cannot be deployed to {environment.name}:\n  " + "\n  ".join(lines)
        )
    return Candidate(
        id=release_id(tag, now),
        tag=tag,
        commit=commit(environment.root),
        stack=stack,
        references=references(stack, environment, tag),
        warnings=tuple(finding for finding in findings if finding.severity == "warning"),
    )


def references(stack: Stack, environment: Environment, tag: str) -> dict[str, str]:
    """Return the image reference each service will run."""
    registry = environment.settings.images.registry
    built = {name: each.reference for each in definitions(stack, tag, registry) for name in each.services}
    return {name: built.get(name) or service.image or "" for name, service in stack.services.items()}


def project_secrets(stack: Stack) -> list[str]:
    """Return the secrets that stand in the Compose project itself: its env files and its secret files."""
    files = [each.detail for each in stack.attachments if each.kind == "secret" and each.origin == "file"]
    texts = [Path(path).read_bytes().decode(errors="replace") for path in files if Path(path).is_file()]
    return [*(value.reveal() for value in stack.literals.values()), *texts, *(text.strip() for text in texts)]


def commit(root: Path) -> str:
    """Return the commit checked out; empty outside git."""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def bundle(environment: Environment, candidate: Candidate, directory: str, key: bytes) -> Bundle:
    """Render a release for a host whose application folder is `directory` (absolute)."""
    rendered = render(
        candidate.stack,
        environment,
        images=candidate.references,
        release=candidate.id,
        files_root=f"{directory}/files",
        shared_root=f"{directory}/shared",
        key=key,
    )
    meta = _meta(environment, candidate, rendered)
    return Bundle(
        meta=meta,
        archive=_archive(rendered, meta),
        folders=tuple(sorted({file.target.split("/")[0] for file in rendered.files})),
        directories=rendered.directories,
        notes=rendered.notes,
    )


def _meta(environment: Environment, candidate: Candidate, rendered: RenderedStack) -> Meta:
    services = rendered.services
    return Meta(
        id=candidate.id,
        app=environment.settings.app,
        environment=environment.name,
        tag=candidate.tag,
        commit=candidate.commit,
        images=dict(candidate.references),
        hashes=dict(rendered.hashes),
        parts={name: dict(each) for name, each in rendered.parts.items()},
        replicas={name: service.replicas for name, service in services.items()},
        one_shots=tuple(sorted(name for name, service in services.items() if service.one_shot)),
        built=tuple(sorted({candidate.references[name] for name, each in services.items() if each.build})),
        who=who(),
        version=own_version(),
    )


def _archive(rendered: RenderedStack, meta: Meta) -> bytes:
    """Pack a release: its own files under `release/`, what it mounts under `files/`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, f"release/{STACK_FILE}", rendered.compose, PRIVATE)
        _add(archive, f"release/{SECRETS_FILE}", compose_env_file(rendered.secrets), PRIVATE)
        _add(archive, f"release/{META_FILE}", meta.to_json().encode(), PRIVATE)
        for folder in sorted({parent for file in rendered.files for parent in _parents(file.target)}):
            _add_folder(archive, f"files/{folder}")
        for file in rendered.files:
            _add(archive, f"files/{file.target}", file.data, file.mode)
    return buffer.getvalue()


def _parents(target: str) -> list[str]:
    parts = target.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, int(time.time())
    archive.addfile(entry, io.BytesIO(data))


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    # Containers of any user read what they mount; the folder above all of them is closed to others.
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)
