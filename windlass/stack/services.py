"""From Compose's model of a service to ours: pure, apart from looking at what lies at a path."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from windlass.stack.model import ONE_SHOT_LABEL, Attachment, Bind, Port, Service

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HEALTHCHECK = re.compile(r"^[ \t]*HEALTHCHECK\s", re.IGNORECASE | re.MULTILINE)
_STAGE = re.compile(
    r"^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)(?:[ \t]+AS[ \t]+(\S+))?[ \t]*$", re.IGNORECASE | re.MULTILINE
)
COUNTED_FILES = 1000


def seconds(text: object, default: float) -> float:
    """Return a Go duration such as `1m30s` in seconds; `default` for anything else."""
    found = _DURATION.findall(text) if isinstance(text, str) else []
    return sum(float(number) * _SECONDS[unit] for number, unit in found) if found else default


def services_of(model: Mapping[str, Any], root: Path, generated: Collection[str] = ()) -> dict[str, Service]:
    """Return the services of a converted model.

    Args:
        model: the model.
        root: the repository.
        generated: absolute paths of files that count as there though they are made at a deploy.
    """
    raw: Mapping[str, Any] = model.get("services") or {}
    awaited = {
        name
        for each in raw.values()
        for name, how in (each.get("depends_on") or {}).items()
        if how.get("condition") == "service_completed_successfully"
    }
    return {name: _service(name, each, root, awaited, generated) for name, each in sorted(raw.items())}


def _service(
    name: str, raw: Mapping[str, Any], root: Path, awaited: set[str], generated: Collection[str]
) -> Service:
    deploy = raw.get("deploy") or {}
    restart = str(raw.get("restart") or "")
    labels = raw.get("labels") or {}
    runs_once = name in awaited and restart in {"", "no"}
    return Service(
        name=name,
        image=str(raw["image"]) if raw.get("image") else None,
        build=raw.get("build"),
        replicas=int(deploy.get("replicas", raw.get("scale", 1))),
        ports=tuple(_port(each) for each in raw.get("ports") or ()),
        has_healthcheck=bool(raw.get("healthcheck")) or dockerfile_has_healthcheck(raw.get("build")),
        restart=restart,
        depends_on={other: how.get("condition", "") for other, how in (raw.get("depends_on") or {}).items()},
        one_shot=runs_once or str(labels.get(ONE_SHOT_LABEL, "")).lower() == "true",
        stop_grace_period=seconds(raw.get("stop_grace_period"), 10.0),
        binds=tuple(
            bind(each, root, generated) for each in raw.get("volumes") or () if each.get("type") == "bind"
        ),
        secrets=_sources(raw.get("secrets")),
        configs=_sources(raw.get("configs")),
        container_name=str(raw["container_name"]) if raw.get("container_name") else None,
    )


def _port(raw: Mapping[str, Any]) -> Port:
    return Port(
        str(raw.get("host_ip", "")),
        str(raw.get("published", "")),
        int(raw.get("target", 0)),
        raw.get("protocol", "tcp"),
    )


def _sources(raw: Iterable[Mapping[str, Any]] | None) -> tuple[str, ...]:
    return tuple(sorted({str(each["source"]) for each in raw or ()}))


def bind(raw: Mapping[str, Any], root: Path, generated: Collection[str] = ()) -> Bind:
    """Return a bind mount, with what lies at its source on this machine, or is generated for it."""
    source = Path(str(raw["source"]))
    inside = source.is_relative_to(root) or source.resolve().is_relative_to(root.resolve())
    return Bind(
        source=str(source),
        target=str(raw["target"]),
        read_only=bool(raw.get("read_only")),
        kind=(
            "file"
            if source.is_file() or str(source) in generated
            else "directory"
            if source.is_dir()
            else "absent"
        ),
        inside=inside,
        holds=_count_files(source) if inside and source.is_dir() else 0,
        create=bool((raw.get("bind") or {}).get("create_host_path")),
    )


def _count_files(directory: Path) -> int:
    files = (name for _, _, names in os.walk(directory) for name in names if name != ".gitkeep")
    return sum(1 for _ in itertools.islice(files, COUNTED_FILES))


def attachments_of(
    model: Mapping[str, Any], variables: Iterable[str], generated: Collection[str] = ()
) -> tuple[Attachment, ...]:
    """Return the top-level secrets and configs.

    Args:
        model: the model.
        variables: the names the environment sets.
        generated: absolute paths of files that count as there though they are made at a deploy.
    """
    known = set(variables)
    return tuple(
        _attachment(kind, name, raw or {}, known, generated)
        for kind, key in (("secret", "secrets"), ("config", "configs"))
        for name, raw in sorted((model.get(key) or {}).items())
    )


def _attachment(
    kind: Any, name: str, raw: Mapping[str, Any], variables: set[str], generated: Collection[str]
) -> Attachment:
    if raw.get("file"):
        path = str(raw["file"])
        return Attachment(kind, name, "file", path, path in generated or Path(path).is_file())
    if raw.get("environment"):
        return Attachment(kind, name, "environment", str(raw["environment"]), raw["environment"] in variables)
    if "content" in raw:
        return Attachment(kind, name, "content", "", True)
    strange = "external" if raw.get("external") else next(iter(set(raw) - {"name"}), "nothing")
    return Attachment(kind, name, "other", strange, False)


def dockerfile_has_healthcheck(build: Mapping[str, Any] | None) -> bool:
    """Whether the Dockerfile of a local build declares a health check in what is built."""
    if not build:
        return False
    text = build.get("dockerfile_inline")
    if text is None:
        path = Path(str(build.get("context", "."))) / str(build.get("dockerfile", "Dockerfile"))
        text = path.read_text(errors="replace") if path.is_file() else ""
    return _stage_has_healthcheck(str(text), str(build.get("target") or "").lower())


def _stage_has_healthcheck(dockerfile: str, target: str) -> bool:
    """Look in the stage `target`, or in the last one, and in the stages it starts from."""
    heads = list(_STAGE.finditer(dockerfile))
    ends = [*(head.start() for head in heads[1:]), len(dockerfile)]
    found: dict[str, bool] = {}
    last = False
    for head, end in zip(heads, ends, strict=False):
        last = bool(_HEALTHCHECK.search(dockerfile, head.end(), end)) or found.get(head[1].lower(), False)
        found[(head[2] or "").lower()] = last
    return found.get(target, last) if target else last
