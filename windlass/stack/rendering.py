"""Turns a stack into the files a release runs: the user's meaning is kept, and no secret is in the file."""

from __future__ import annotations

import copy
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.environment.environment import Environment
from windlass.errors import ConfigurationError
from windlass.shell import reveal
from windlass.stack.files import (
    Digest,
    ShippedFile,
    check_size,
    keyed,
    ship_content,
    ship_directory,
    ship_file,
)
from windlass.stack.generating import content
from windlass.stack.model import Bind, Service, Stack
from windlass.stack.parts import parts_of
from windlass.stack.services import bind as bind_of
from windlass.stack.texts import SECRET_PREFIX, exact, secret_texts, template

APP_LABEL = "windlass.app"
CONFIG_LABEL = "windlass.config"
# Read by the local Compose alone: what they say is in the rest of the model, or is the build's.
_DROPPED = ("build", "profiles", "env_file", "develop", "extends")
# YAML has no place for these as they are; JSON leaves them unescaped.
_NOT_YAML = re.compile("[\x7f-\x84\x86-\x9f\u2028\u2029\ufeff\ufffe\uffff\x85]")


@dataclass(frozen=True)
class RenderedStack:
    """What a release needs of a stack.

    Args:
        compose: the Compose file, as JSON, which Compose reads as YAML; it holds no secret.
        secrets: the variables that file takes, each with its exact value: for a 0600 env file.
        files: the files to put below `files_root`. Its own mode has to be `files.FOLDER_MODE`; folders
            below it are 0755, as containers walk through them.
        directories: absolute paths of directories to make on the host if they are not there.
        hashes: service to the value of its `windlass.config` label: changes when its configuration,
            its secrets or its files do.
        notes: what differs from the user's own files and why, for the plan.
        services: the services, by name.
        parts: service to a keyed digest of each thing it is made of, by what that is in words.
    """

    compose: bytes
    secrets: Mapping[str, str] = field(repr=False)
    files: tuple[ShippedFile, ...]
    directories: tuple[str, ...]
    hashes: Mapping[str, str]
    notes: tuple[str, ...]
    services: Mapping[str, Service]
    parts: Mapping[str, Mapping[str, str]]


def render(
    stack: Stack,
    environment: Environment,
    *,
    images: Mapping[str, str],
    release: str,
    files_root: str,
    shared_root: str,
    key: bytes,
) -> RenderedStack:
    """Render the Compose file of a release, with all it refers to.

    Args:
        stack: as `reading.read` gives it.
        environment: the variables' values.
        images: service to image reference, for every service with a `build:` and any other to be pinned.
        release: the release's id, for the file's own record; no service changes by it.
        files_root: absolute folder on the host for shipped files; the same for every release, as the
            paths below it are part of a service's configuration.
        shared_root: absolute folder on the host for directories that outlive releases.
        key: a secret of the app that stays the same; digests are keyed with it.

    Returns:
        The rendered stack; the same bytes for the same input.

    Raises:
        ConfigurationError: a file cannot be read, is too big, or a built service has no image.
    """
    values = secret_values(stack, environment)
    digest = keyed(key)
    work = _Rendering(
        stack,
        environment,
        values=values,
        files_root=files_root,
        shared_root=shared_root,
        digest=digest,
    )
    model = work.model(images)
    parts = {name: parts_of(name, model, values, digest) for name in model["services"]}
    hashes = {name: work.label(name, model) for name in model["services"]}
    model["x-windlass"] = {"app": stack.name, "environment": environment.name, "release": release}
    used = {name for text in secret_texts(model) for name in text.names}
    files = tuple(sorted({file.target: file for file in work.files}.values(), key=lambda each: each.target))
    check_size(sum(len(file.data) for file in files), "this stack")
    return RenderedStack(
        compose=to_bytes(model),
        secrets={name: values[name] for name in sorted(used)},
        files=files,
        directories=tuple(sorted(set(work.directories))),
        hashes=hashes,
        notes=tuple(work.notes),
        services=stack.services,
        parts=parts,
    )


def secret_values(stack: Stack, environment: Environment) -> dict[str, str]:
    """Return every value a `SecretText` of the stack may need, by variable name."""
    own = {SECRET_PREFIX + name: value for name, value in environment.secrets.items()}
    return own | {name: value.reveal() for name, value in stack.literals.items()}


def to_bytes(model: Mapping[str, Any]) -> bytes:
    """Return a model as JSON text that a YAML parser reads to the same texts."""
    text = json.dumps(_templates(model), ensure_ascii=False, sort_keys=True, indent=2)
    return (_NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n").encode()


def _templates(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _templates(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_templates(each) for each in node]
    return node if node is None or isinstance(node, bool | int | float) else template(node)


class _Rendering:
    """One rendering: collects files, directories and notes while the model is rewritten."""

    def __init__(
        self,
        stack: Stack,
        environment: Environment,
        *,
        values: Mapping[str, str],
        files_root: str,
        shared_root: str,
        digest: Digest,
    ) -> None:
        self._stack = stack
        self._environment = environment
        self._values = values
        self._files_root = files_root
        self._shared_root = shared_root
        self._digest = digest
        self.files: list[ShippedFile] = []
        self.directories: list[str] = []
        self.notes: list[str] = []

    def model(self, images: Mapping[str, str]) -> dict[str, Any]:
        """Return the rewritten model, without the labels' hashes."""
        source = self._stack.model
        model = {name: copy.deepcopy(part) for name, part in source.items() if not name.startswith("x-")}
        model["name"] = self._stack.name
        model["services"] = {
            name: self._service(name, raw, images) for name, raw in model["services"].items()
        }
        for kind in ("secrets", "configs"):
            for name, raw in (model.get(kind) or {}).items():
                model[kind][name] = self._attachment(kind, name, raw or {})
        return model

    def label(self, name: str, model: dict[str, Any]) -> str:
        """Label a service with a keyed digest of all it depends on, and return the digest."""
        service = model["services"][name]
        mounted = [
            (kind, model[kind][each["source"]])
            for kind in ("secrets", "configs")
            for each in service.get(kind, ())
        ]
        needed = sorted({each for text in secret_texts(service) for each in text.names})
        seed = [json.loads(to_bytes(service)), mounted, {each: self._values[each] for each in needed}]
        found = self._digest(json.dumps(seed, sort_keys=True).encode())
        service["labels"][CONFIG_LABEL] = found
        return found

    def _service(self, name: str, raw: dict[str, Any], images: Mapping[str, str]) -> dict[str, Any]:
        built = raw.get("build") is not None
        service = {
            key: value
            for key, value in raw.items()
            if key not in _DROPPED
            and not key.startswith("x-")
            and not (key in {"command", "entrypoint"} and value is None)
        }
        if name in images:
            service["image"] = images[name]
        elif built:
            raise ConfigurationError(f"The service {name} has a build, but no image of it was made.")
        if built:
            service["pull_policy"] = "never"
        if service.get("environment"):
            service["environment"] = self._variables(name, service["environment"])
        service["volumes"] = [self._mount(name, each) for each in service.get("volumes") or ()]
        for kind in ("secrets", "configs"):
            if service.get(kind):
                service[kind] = [self._reference(name, kind, each) for each in service[kind]]
        service["labels"] = {**(service.get("labels") or {}), APP_LABEL: self._stack.name}
        return {key: value for key, value in service.items() if value != []}

    def _variables(self, name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        unset = sorted(key for key, value in variables.items() if value is None)
        if unset:
            # The host's own variables must not leak into containers.
            self.notes.append(f"{name}: {', '.join(unset)} not passed on, as no file of envs/ sets it.")
        return {key: value for key, value in variables.items() if value is not None}

    def _reference(self, name: str, kind: str, each: Mapping[str, Any]) -> dict[str, Any]:
        ignored = [key for key in ("uid", "gid", "mode") if key in each]
        if ignored:
            self.notes.append(
                f"{name}: {', '.join(ignored)} of {kind[:-1]} {each['source']} left out: Compose mounts the "
                "file as it is, readable by every user of the container and by none of the host."
            )
        return {key: value for key, value in each.items() if key not in ignored}

    def _attachment(self, kind: str, name: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        kept = {"name": raw["name"]} if raw.get("name") else {}
        if raw.get("file"):
            return {**kept, "file": self._ship(self._file(Path(str(raw["file"]))))}
        if raw.get("environment"):
            variable = self._environment.variables.get(str(raw["environment"]))
            if variable is None:
                raise ConfigurationError(
                    f"The {kind[:-1]} {name} takes the variable {raw['environment']}, which no file sets."
                )
            data = reveal(variable.value).encode()
        elif "content" in raw:
            data = exact(raw["content"], self._values).encode()
        else:
            raise ConfigurationError(f"The {kind[:-1]} {name} has no file, content or variable to ship.")
        return {**kept, "file": self._ship(ship_content(re.sub(r"[^\w.-]", "_", name), data, self._digest))}

    def _mount(self, name: str, raw: dict[str, Any]) -> dict[str, Any]:
        if raw.get("type") != "bind":
            return raw
        found = bind_of(raw, self._stack.root, self._stack.generated)
        if not found.inside:
            if not found.source.startswith(("/var/run/", "/run/", "/etc/", "/proc", "/sys", "/dev")):
                self.notes.append(
                    f"{name}: {found.source} is outside the repository and must be on the host."
                )
            return raw
        if found.persistent:
            return {**raw, "source": self._keep(name, found)}
        return {**raw, "source": self._send(name, found)}

    def _keep(self, name: str, found: Bind) -> str:
        path = posixpath.join(self._shared_root, self._relative(found))
        self.directories.append(path)
        self.notes.append(f"{name}: {found.target} is kept on the host in {path}, whatever release runs.")
        return path

    def _send(self, name: str, found: Bind) -> str:
        source = Path(found.source)
        if found.kind == "file":
            if not found.read_only:
                self.notes.append(
                    f"{name}: {found.target} is sent with each release; what is written to it is not kept."
                )
            return self._ship(self._file(source))
        if found.kind == "absent":
            raise ConfigurationError(f"The service {name} mounts {source}, which does not exist.")
        folder, files = ship_directory(source, self._digest)
        self.files += files
        path = posixpath.join(self._files_root, folder)
        if not files:
            self.directories.append(path)
        return path

    def _file(self, path: Path) -> ShippedFile:
        """Return a file of the project, or the one that is generated in its place."""
        if (made := self._stack.generated.get(str(path))) is None:
            return ship_file(path, self._digest)
        return ship_content(path.name, content(made, self._environment), self._digest)

    def _relative(self, found: Bind) -> str:
        source, root = Path(found.source), self._stack.root
        if not source.is_relative_to(root):
            source, root = source.resolve(), root.resolve()
        relative = source.relative_to(root).as_posix()
        return "repository" if relative == "." else relative

    def _ship(self, file: ShippedFile) -> str:
        self.files.append(file)
        return posixpath.join(self._files_root, file.target)
