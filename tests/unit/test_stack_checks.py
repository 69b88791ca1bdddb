"""Each finding, how severe it is where, and what it says to do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stacks import environment
from windlass.stack.checks import Finding, check
from windlass.stack.model import Attachment, Missing, Stack
from windlass.stack.services import services_of
from windlass.stack.texts import SecretRef, SecretText

ROOT = Path("/repo")
GOOD = {"image": "acme/a:1", "healthcheck": {"test": ["CMD", "true"]}}


def stack(services: Mapping[str, Mapping[str, Any]], **parts: Any) -> Stack:
    model = {"services": services, **parts.pop("model", {})}
    return Stack(
        "app", parts.pop("root", ROOT), ROOT, model, services_of(model, parts.pop("at", ROOT)), **parts
    )


def found(what: Stack, **tables: Any) -> tuple[Finding, ...]:
    return check(what, environment(ROOT, **tables))


def rules(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(each.rule, each.severity) for each in findings]


def test_a_sound_stack_has_no_findings() -> None:
    assert found(stack({"a": GOOD, "b": {**GOOD, "ports": [{"target": 80, "host_ip": "127.0.0.1"}]}})) == ()


@pytest.mark.parametrize(
    ("image", "bad"),
    [
        ("nginx", True),
        ("nginx:latest", True),
        ("localhost:5000/nginx", True),
        ("localhost:5000/nginx:1", False),
        ("ghcr.io/a/b@sha256:" + "0" * 64, False),
    ],
)
def test_images_without_a_version(image: str, bad: bool) -> None:
    findings = found(stack({"a": {**GOOD, "image": image}}))
    assert rules(findings) == ([("untagged_image", "warning")] if bad else [])


def test_an_image_that_is_built_needs_no_tag() -> None:
    assert found(stack({"a": {**GOOD, "image": "a", "build": {"context": "/x"}}})) == ()


def test_public_ports_say_why_and_how_to_write_it() -> None:
    service = {**GOOD, "ports": [{"target": 80, "published": "8080", "protocol": "tcp"}]}
    (finding,) = found(stack({"web": service}))
    assert "firewall such as ufw" in finding.message
    assert '"127.0.0.1:8080:80"' in finding.fix
    assert found(stack({"web": service}), stack={"public_services": ["web"]}) == ()


def test_missing_health_checks() -> None:
    plain = {"image": "a:1"}
    once = {"image": "a:1", "labels": {"windlass.one-shot": "true"}}
    off = {"image": "a:1", "healthcheck": {"disable": True}}
    findings = found(stack({"a": plain, "b": once, "c": off}))
    assert [(each.rule, each.service) for each in findings] == [("missing_healthcheck", "a")]


def test_severity_follows_the_setting_then_the_protection() -> None:
    what = stack({"a": {"image": "a"}})
    assert {each.severity for each in found(what)} == {"warning"}
    assert {each.severity for each in found(what, protected=True)} == {"error"}
    checks = {"untagged_image": "error", "missing_healthcheck": "off"}
    assert rules(found(what, stack={"checks": checks})) == [("untagged_image", "error")]


def test_missing_variables_are_errors_unless_said_otherwise() -> None:
    what = stack({"a": GOOD}, missing=(Missing("X", ("a", "b")), Missing("Y", (), True)))
    findings = found(what)
    assert rules(findings) == [("missing_variable", "error")] * 2
    assert "X, which a and b use:" in findings[0].message
    assert "move the line to envs/prod.env" in findings[1].fix
    assert found(what, stack={"checks": {"missing_variable": "off"}}) == ()


def test_a_variable_passed_on_that_nothing_sets_is_a_warning() -> None:
    assert rules(found(stack({"a": {**GOOD, "environment": {"X": None}}}))) == [
        ("missing_variable", "warning")
    ]


def test_services_named_in_the_environment_must_exist() -> None:
    tables = {
        "databases": {"main": {"service": "databse", "name": "x"}},
        "deploy": {"migrate": {"service": "zzz", "command": ["x"]}},
        "health": {"checks": {"up": {"kind": "tcp", "port": 1, "service": "databas"}}},
        "stack": {"public_services": ["nope"]},
    }
    findings = found(stack({"database": GOOD}), **tables)
    assert {each.rule for each in findings} == {"unknown_service"}
    assert [each.message.split(" names ")[0] for each in findings] == [
        "databases.main.service",
        "deploy.migrate.service",
        "health.checks.up.service",
        "stack.public_services",
    ]
    assert "Did you mean database?" in findings[0].fix
    assert "Services: database." in findings[1].fix


def test_contradictions_and_what_cannot_be_honoured_are_errors() -> None:
    secret = SecretText((SecretRef("S"),))
    bad: dict[str, dict[str, Any]] = {
        "name": {**GOOD, "container_name": "x", "deploy": {"replicas": 2}},
        "nothing": {"healthcheck": {"disable": True}},
        "provider": {**GOOD, "provider": {"type": "x"}},
        "ssh": {**GOOD, "build": {"context": ".", "ssh": ["default"], "secrets": []}},
        "two": {**GOOD, "build": {"context": ".", "platforms": ["linux/amd64", "linux/arm64"]}},
        "secret": {**GOOD, "container_name": secret},
    }
    findings = found(stack(bad))
    assert {each.severity for each in findings} == {"error"}
    assert [(each.rule, each.service) for each in findings] == [
        ("container_name", "name"),
        ("no_image", "nothing"),
        ("unsupported", "provider"),
        ("secret_in_name", "secret"),
        ("unsupported", "ssh"),
        ("unsupported", "two"),
    ]
    assert "`build.ssh`" in findings[4].message


def test_attachments_that_are_not_there() -> None:
    what = stack(
        {"a": GOOD},
        attachments=(
            Attachment("secret", "a", "file", "/repo/a", False),
            Attachment("secret", "b", "environment", "B", False),
            Attachment("config", "c", "other", "external", False),
            Attachment("config", "d", "content", "", True),
        ),
    )
    assert [each.rule for each in found(what)] == ["missing_file", "missing_file", "unsupported"]


def test_binds_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").touch()
    mounts = [
        {"type": "bind", "source": f"{tmp_path}/code", "target": "/code"},
        {"type": "bind", "source": f"{tmp_path}/gone", "target": "/gone", "read_only": True},
        {"type": "bind", "source": f"{tmp_path}/new", "target": "/new", "bind": {"create_host_path": True}},
    ]
    findings = found(stack({"a": {**GOOD, "volumes": mounts}}, at=tmp_path))
    assert rules(findings) == [("missing_file", "error"), ("writable_bind", "warning")]
    assert "1 file in it here are not sent" in findings[1].message


def test_a_volume_bound_to_a_folder_of_this_machine_is_refused() -> None:
    options = {"driver_opts": {"o": "bind", "type": "none", "device": "/repo/data"}}
    model = {"volumes": {"data": options, "nfs": {"driver_opts": {"device": ":/x"}}, "plain": None}}
    (finding,) = found(stack({"a": GOOD}, model=model))
    assert "volume data is bound to /repo/data" in finding.message


def secret(*parts: str) -> SecretText:
    """Return a text whose parts in capitals are secret variables."""
    return SecretText(tuple(SecretRef(f"WINDLASS_SECRET_{p}") if p.isupper() else p for p in parts))


def test_a_secret_build_argument_is_named() -> None:
    arguments = {
        "NPM_TOKEN": secret("X"),
        "SITE": secret("https://", "Y"),
        "API_KEY": "literal",
        "PORT": "80",
    }
    what = stack({"a": {**GOOD, "build": {"context": ".", "args": arguments}}})
    findings = found(what)
    assert rules(findings) == [("secret_build_argument", "warning")] * 3
    for finding, name in zip(findings, ("NPM_TOKEN", "SITE", "API_KEY"), strict=True):
        assert f"argument {name} of a" in finding.message
        assert "`docker history` shows it" in finding.message
        assert "RUN --mount=type=secret" in finding.fix
    assert "literal" not in str(findings)
    assert {each.severity for each in found(what, protected=True)} == {"error"}
    assert found(what, stack={"checks": {"secret_build_argument": "off"}}) == ()
    assert len(found(what, variables={"public": ["API_KEY"]})) == 2


def test_proxies_and_arguments_without_a_value_are_in_no_history() -> None:
    arguments = {"HTTPS_PROXY": "http://u:hush@proxy", "http_proxy": secret("X"), "API_KEY": None}
    assert found(stack({"a": {**GOOD, "build": {"context": ".", "args": arguments}}})) == ()


def test_a_secret_argument_of_every_build_is_named() -> None:
    tables = {"images": {"build_args": {"API_KEY": "literal", "PORT": "80"}}}
    assert found(stack({"a": GOOD}), **tables) == ()
    (finding,) = found(stack({"a": {**GOOD, "build": {"context": "."}}}), protected=True, **tables)
    assert (finding.severity, finding.service) == ("error", "")
    assert "images.build_args.API_KEY is a secret" in finding.message


@pytest.mark.parametrize(
    ("key", "node", "who"),
    [
        ("command", ["redis-server", "--requirepass", secret("X")], "`ps` and"),
        ("entrypoint", [secret("--key=", "X")], "`ps` and"),
        ("healthcheck", {"test": ["CMD-SHELL", secret("curl -u a:", "X", " web")]}, "`ps` and"),
        ("labels", {"a.b": secret("X")}, "`docker inspect` shows"),
    ],
)
def test_a_secret_that_docker_inspect_shows_is_named(key: str, node: Any, who: str) -> None:
    what = stack({"a": {**GOOD, key: node}})
    (finding,) = found(what)
    assert (finding.rule, finding.severity) == ("exposed_secret", "warning")
    assert finding.message.startswith(
        f"`{key}{'.test' if key == 'healthcheck' else ''}` of a holds the secret X,"
    )
    assert who in finding.message
    assert "`environment:` or `secrets:`" in finding.fix
    assert {each.severity for each in found(what, protected=True)} == {"error"}


def test_a_password_that_stands_in_a_command_is_found_and_not_shown() -> None:
    (finding,) = found(stack({"a": {**GOOD, "command": ["app", "--db", "postgres://u:hush@db/a"]}}))
    assert finding.message.startswith("`command` of a holds a secret,")
    assert "hush" not in str(finding)
    own = ["CMD-SHELL", "psql postgres://u:$PASSWORD@localhost/a -c 'select 1'"]
    assert found(stack({"a": {**GOOD, "healthcheck": {"test": own}}})) == ()


def test_secrets_of_the_environment_are_where_they_belong() -> None:
    assert found(stack({"a": {**GOOD, "environment": {"PASSWORD": secret("X")}}})) == ()
