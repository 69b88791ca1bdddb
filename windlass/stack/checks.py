"""What is wrong with a stack before anything is built or sent: pure, from the stack and the settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from windlass.environment.environment import Environment
from windlass.environment.model import Settings
from windlass.environment.variables import is_secret
from windlass.fields import Severity
from windlass.secrets.shapes import value_is_secret
from windlass.stack.model import Attachment, Bind, Service, Stack
from windlass.stack.reading import missing_hint
from windlass.stack.texts import LITERAL_PREFIX, SECRET_PREFIX, SecretText, secret_texts

# What `docker build` is asked for; anything else in a `build:` is refused by name.
BUILD_KEYS = frozenset(
    (
        *("context", "dockerfile", "dockerfile_inline", "args", "target", "labels", "platforms"),
        *("cache_from", "network", "extra_hosts", "shm_size", "pull", "no_cache", "tags"),
    )
)
_UNSUPPORTED_KEYS = {
    "provider": "a provider needs its own program on every host",
    "credential_spec": "its file would not be shipped",
    "use_api_socket": "it hands the Docker API to a container without a mount anyone can see",
    "models": "models are not run by Docker Engine",
    "volumes_from": "a named volume says the same in a way that survives a release",
}
# Docker itself leaves these out of an image's history, in either case.
_PROXY_ARGUMENTS = frozenset(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "FTP", "NO", "ALL"))
_NO_SECRET_HERE = ("image", "container_name", "hostname", "user", "platform")


@dataclass(frozen=True)
class Finding:
    """Something about the stack a person should know or must change.

    Args:
        severity: `error` stops a deploy.
        rule: the rule's name; those of `[stack.checks]` can be made `error`, `warning` or `off` there.
        service: the service it is about; empty for the whole stack.
        message: what is wrong, one sentence.
        fix: what to do about it.
    """

    severity: Literal["error", "warning"]
    rule: str
    service: str
    message: str
    fix: str


def check(stack: Stack, environment: Environment) -> tuple[Finding, ...]:
    """Check a stack for an environment.

    Args:
        stack: as `reading.read` gives it.
        environment: its settings say how severe each finding is.

    Returns:
        The findings, errors first, then in the order of the services.
    """
    found = [
        *_missing_variables(stack, environment),
        *_unknown_services(stack, environment.settings),
        *_attachments(stack),
        *_common_arguments(stack, environment.settings),
    ]
    for service in stack.services.values():
        raw = stack.model["services"][service.name]
        found += _by_severity(service, raw, environment.settings)
        found += _service_errors(service, raw)
        found += _binds(service)
        found += _optional_variables(service.name, raw)
    found += _volumes(stack)
    return tuple(sorted(found, key=lambda each: each.severity != "error"))


def _level(severity: Severity | None, settings: Settings) -> Literal["error", "warning"] | None:
    if severity is None:
        return "error" if settings.protected else "warning"
    return None if severity == "off" else severity


def _missing_variables(stack: Stack, environment: Environment) -> Iterator[Finding]:
    level = _level(environment.settings.stack.checks.missing_variable, environment.settings)
    if level is None:
        return
    for each in stack.missing:
        users = (
            f", which {' and '.join(each.services)} use{'' if len(each.services) > 1 else 's'}"
            if each.services
            else ""
        )
        there = {each.name} if each.in_dotenv else set()
        yield Finding(
            level,
            "missing_variable",
            each.services[0] if len(each.services) == 1 else "",
            f"No file sets the variable {each.name}{users}: it would be empty.",
            missing_hint([each.name], there, environment.name),
        )


def _by_severity(service: Service, raw: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    checks = settings.stack.checks
    rules: tuple[tuple[str, Severity | None, Iterable[tuple[str, str]]], ...] = (
        ("untagged_image", checks.untagged_image, _untagged(service)),
        ("public_port", checks.public_port, _public_ports(service, settings)),
        ("missing_healthcheck", checks.missing_healthcheck, _no_healthcheck(service)),
        ("secret_build_argument", checks.secret_build_argument, _secret_arguments(service, settings)),
        ("exposed_secret", checks.exposed_secret, _exposed_secrets(service, raw)),
    )
    for rule, severity, faults in rules:
        level = _level(severity, settings)
        if level is not None:
            for message, fix in faults:
                yield Finding(level, rule, service.name, message, fix)


def _untagged(service: Service) -> Iterator[tuple[str, str]]:
    if service.build is not None or not service.image or "@" in service.image:
        return
    name, _, tag = service.image.rpartition("/")[2].partition(":")
    if not tag or tag == "latest":
        what = "has the tag `latest`" if tag else "has no tag"
        yield (
            f"The image {service.image} of {service.name} {what}: what runs changes without a release.",
            f"Name a version, such as `{name}:1.2`, or a digest.",
        )


def _public_ports(service: Service, settings: Settings) -> Iterator[tuple[str, str]]:
    if service.name in settings.stack.public_services:
        return
    for port in service.ports:
        if port.public:
            number = f"{port.published or 'any free port'}->{port.target}/{port.protocol}"
            form = f"{port.published}:{port.target}" if port.published else str(port.target)
            yield (
                f"{service.name} publishes {number} on all interfaces, and Docker's own rules let it past a "
                "firewall such as ufw.",
                f'Write `"127.0.0.1:{form}"`, or name {service.name} in [stack] public_services.',
            )


def _no_healthcheck(service: Service) -> Iterator[tuple[str, str]]:
    if not service.has_healthcheck and not service.one_shot:
        yield (
            f"{service.name} has no health check, so a deploy can only see that it runs.",
            "Add a `healthcheck:` to the service; `disable: true` says that there is none on purpose.",
        )


def _common_arguments(stack: Stack, settings: Settings) -> Iterator[Finding]:
    """Look at the arguments that the settings add to every build."""
    level = _level(settings.stack.checks.secret_build_argument, settings)
    if level is None or all(service.build is None for service in stack.services.values()):
        return
    for name, value in settings.images.build_args.items():
        if _secret_argument(name, value, settings):
            message, fix = _argument_fault(f"images.build_args.{name}")
            yield Finding(level, "secret_build_argument", "", message, fix)


def _secret_arguments(service: Service, settings: Settings) -> Iterator[tuple[str, str]]:
    for name, value in ((service.build or {}).get("args") or {}).items():
        if _secret_argument(name, value, settings):
            yield _argument_fault(f"The build argument {name} of {service.name}")


def _secret_argument(name: str, value: object, settings: Settings) -> bool:
    if value is None or name.upper() in _PROXY_ARGUMENTS:
        return False
    return isinstance(value, SecretText) or is_secret(name, str(value), settings.variables)


def _argument_fault(what: str) -> tuple[str, str]:
    return (
        f"{what} is a secret: the image keeps it, and `docker history` shows it.",
        "Mount it in the Dockerfile with `RUN --mount=type=secret`, or give it at run time.",
    )


def _exposed_secrets(service: Service, raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    places = {
        "command": raw.get("command"),
        "entrypoint": raw.get("entrypoint"),
        "healthcheck.test": (raw.get("healthcheck") or {}).get("test"),
        "labels": raw.get("labels"),
    }
    for key, node in places.items():
        what = _secret_in(node)
        if what:
            who = "`docker inspect` shows" if key == "labels" else "`ps` and `docker inspect` show"
            yield (
                f"`{key}` of {service.name} holds {what}, which {who} on every host.",
                "Pass it through `environment:` or `secrets:`, and let the container read it there.",
            )


def _secret_in(node: object) -> str:
    """Return what secret stands in a part of a service, without showing it; empty for none."""
    names = {name for text in secret_texts(node) for name in text.names}
    if names:
        bare = sorted(name.removeprefix(SECRET_PREFIX).removeprefix(LITERAL_PREFIX) for name in names)
        return f"the secret{'s' if len(bare) > 1 else ''} {', '.join(bare)}"
    return "a secret" if any(map(_says_secret, _plain_texts(node))) else ""


def _says_secret(text: str) -> bool:
    # With a `$` the password is likely a variable that the container's own shell puts in.
    return "$" not in text and value_is_secret(text)


def _plain_texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for each in node.values():
            yield from _plain_texts(each)
    elif isinstance(node, list | tuple):
        for each in node:
            yield from _plain_texts(each)


def _error(rule: str, service: str, message: str, fix: str) -> Finding:
    return Finding("error", rule, service, message, fix)


def _unknown_services(stack: Stack, settings: Settings) -> Iterator[Finding]:
    named = [(f"databases.{key}.service", each.service) for key, each in settings.databases.items()]
    if settings.deploy.migrate is not None:
        named.append(("deploy.migrate.service", settings.deploy.migrate.service))
    named += [
        (f"health.checks.{key}.service", c.service) for key, c in settings.health.checks.items() if c.service
    ]
    named += [("stack.public_services", name) for name in settings.stack.public_services]
    for key, name in named:
        if name not in stack.services:
            near = difflib.get_close_matches(name, stack.services, n=1, cutoff=0.5)
            known = f"Did you mean {near[0]}?" if near else f"Services: {', '.join(stack.services)}."
            yield _error(
                "unknown_service",
                "",
                f"{key} names {name}, which is no service of the stack.",
                f"{known} A service of a profile is there once [stack] profiles enables it.",
            )


def _attachments(stack: Stack) -> Iterator[Finding]:
    for each in stack.attachments:
        if not each.present:
            message, fix = _attachment_fault(each)
            rule = "unsupported" if each.origin == "other" else "missing_file"
            yield _error(rule, "", message, fix)


def _attachment_fault(each: Attachment) -> tuple[str, str]:
    what = f"The {each.kind} {each.name}"
    if each.origin == "file":
        return f"{what} is the file {each.detail}, which does not exist.", "Create it, or correct its path."
    if each.origin == "environment":
        return f"{what} takes the variable {each.detail}, which no file sets.", "Set it in envs/."
    return (
        f"{what} uses `{each.detail}`, which Compose cannot give a container outside a Swarm.",
        "Use `file:` or `environment:`.",
    )


def _service_errors(service: Service, raw: Mapping[str, Any]) -> Iterator[Finding]:
    if service.container_name and service.replicas > 1:
        yield _error(
            "container_name",
            service.name,
            f"{service.name} has a container_name and {service.replicas} replicas: a name belongs to one.",
            "Remove `container_name`.",
        )
    if not service.image and service.build is None:
        yield _error("no_image", service.name, f"{service.name} has neither image nor build.", "Give it one.")
    for key, why in _UNSUPPORTED_KEYS.items():
        if raw.get(key):
            yield _unsupported(service.name, f"`{key}` of {service.name} cannot be honoured: {why}.")
    for fault in build_faults(service.build or {}):
        yield _unsupported(service.name, f"{fault} of {service.name} cannot be honoured.")
    for key in _NO_SECRET_HERE:
        if isinstance(raw.get(key), SecretText):
            yield _error(
                "secret_in_name",
                service.name,
                f"`{key}` of {service.name} holds a secret variable, and it is public on every host.",
                "List the variable in the environment file: [variables] public.",
            )


def build_faults(build: Mapping[str, Any]) -> list[str]:
    """Return what of a build definition `images.building` does not do, by name."""
    faults = [f"`build.{key}`" for key in sorted(set(build) - BUILD_KEYS) if build[key] and key[:2] != "x-"]
    if len(build.get("platforms") or ()) > 1:
        faults.append("`build.platforms` with more than one platform")
    return faults


def _unsupported(service: str, message: str) -> Finding:
    return _error("unsupported", service, message, "Remove it from what this environment deploys.")


def _binds(service: Service) -> Iterator[Finding]:
    for each in service.binds:
        mount = f"{service.name} mounts {each.source}"
        if each.inside and each.kind == "absent" and (each.read_only or not each.create):
            yield _error(
                "missing_file",
                service.name,
                f"{mount}, which does not exist.",
                "Create it, or correct its path.",
            )
        elif each.persistent and each.holds:
            yield _kept_on_host(service, each)


def _kept_on_host(service: Service, each: Bind) -> Finding:
    return Finding(
        "warning",
        "writable_bind",
        service.name,
        f"{service.name} may write to {each.source}, so the host keeps its own directory for it: the "
        f"{each.holds} file{'s' if each.holds > 1 else ''} in it here are not sent.",
        f"Mount it with `:ro` to send what the repository has, or use a named volume for {each.target}.",
    )


def _optional_variables(name: str, raw: Mapping[str, Any]) -> Iterator[Finding]:
    for key, value in (raw.get("environment") or {}).items():
        if value is None:
            yield Finding(
                "warning",
                "missing_variable",
                name,
                f"{name} passes the variable {key} on, which no file sets: it will not be there.",
                "Set it in envs/, or remove the line.",
            )


def _volumes(stack: Stack) -> Iterator[Finding]:
    for name, raw in (stack.model.get("volumes") or {}).items():
        device = str(((raw or {}).get("driver_opts") or {}).get("device", ""))
        if device.startswith(f"{stack.root}/"):
            yield _error(
                "unsupported",
                "",
                f"The volume {name} is bound to {device}, a folder of this machine.",
                "Use a bind mount in the service, or a volume without a device.",
            )
