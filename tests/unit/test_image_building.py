"""`docker build` as values: what is built once, and that no secret is in argv."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from windlass.environment.model import VariablesSettings
from windlass.errors import CommandFailed, ConfigurationError, PreflightFailed
from windlass.images.building import BuildCommand, Definition, build_command, definitions, labels_for
from windlass.images.docker import call, failure
from windlass.images.pushing import digest_of, push_failure, registry_of
from windlass.stack.model import Stack
from windlass.stack.services import services_of
from windlass.stack.texts import SecretRef, SecretText

TOKEN = SecretText((SecretRef("WINDLASS_SECRET_TOKEN"),))


def stack(services: Mapping[str, Any]) -> Stack:
    model = {"services": services}
    return Stack("shop", Path("/r"), Path("/r"), model, services_of(model, Path("/r")))


def command(build: Mapping[str, Any], **changes: Any) -> BuildCommand:
    options: dict[str, Any] = {
        "labels": {},
        "build_args": {},
        "values": {"WINDLASS_SECRET_TOKEN": "s3cr3t"},
        "rules": VariablesSettings(),
        "buildkit": True,
    }
    definition = Definition(("api",), {"context": "/r/api", **build}, "shop-api:1")
    return build_command(definition, **(options | changes))


def test_services_with_the_same_definition_share_one_image() -> None:
    same = {"context": "/r", "args": {"A": "1", "T": TOKEN}}
    found = definitions(
        stack(
            {
                "worker": {"build": dict(same)},
                "api": {"build": dict(reversed(same.items()))},
                "other": {"build": {**same, "target": "x"}},
                "db": {"image": "postgres:17"},
            }
        ),
        "1a",
        "ghcr.io/acme",
    )
    assert [(each.services, each.reference) for each in found] == [
        (("api", "worker"), "ghcr.io/acme/shop-api:1a"),
        (("other",), "ghcr.io/acme/shop-other:1a"),
    ]


def test_a_plain_build() -> None:
    assert command({"dockerfile": "Dockerfile"}, buildkit=False).words == (
        *("docker", "build", "--tag", "shop-api:1", "--file", "/r/api/Dockerfile", "/r/api"),
    )
    with_buildkit = command({}).words
    assert with_buildkit[:5] == ("docker", "buildx", "build", "--tag", "shop-api:1")
    assert with_buildkit[5:9] == ("--load", "--provenance=false", "--progress", "plain")


def test_every_supported_key_is_in_the_command() -> None:
    words = command(
        {
            "dockerfile": "../deploy/api.Dockerfile",
            "target": "prod",
            "args": {"A": "1 2"},
            "labels": {"b": "x=y"},
            "platforms": ["linux/arm64"],
            "cache_from": ["acme/api:cache"],
            "network": "host",
            "extra_hosts": ["a=1.2.3.4"],
            "shm_size": "64m",
            "tags": ["acme/api:extra"],
            "pull": True,
            "no_cache": True,
        },
        labels={"a": "1"},
        build_args={"A": "ignored", "Z": "9"},
        buildkit=False,
    ).words
    assert words[4:] == (
        *("--file", "/r/api/../deploy/api.Dockerfile", "--target", "prod", "--network", "host"),
        *("--shm-size", "64m", "--platform", "linux/arm64", "--cache-from", "acme/api:cache"),
        *("--tag", "acme/api:extra", "--add-host", "a:1.2.3.4", "--pull", "--no-cache"),
        *("--label", "a=1", "--label", "b=x=y", "--build-arg", "A=1 2", "--build-arg", "Z=9", "/r/api"),
    )


def test_a_secret_argument_is_in_the_environment_alone() -> None:
    found = command(
        {"args": {"TOKEN": TOKEN, "PLAIN": "x"}}, build_args={"NPM_PASSWORD": "pw", "INHERIT": None}
    )
    assert "s3cr3t" not in " ".join(found.words)
    assert "pw" not in found.words
    assert found.variables == {"TOKEN": "s3cr3t", "NPM_PASSWORD": "pw"}
    for name in ("TOKEN", "NPM_PASSWORD", "INHERIT"):
        assert found.words[found.words.index(name) - 1] == "--build-arg"
    assert "s3cr3t" not in repr(found)


def test_a_dockerfile_of_the_compose_file_goes_to_stdin() -> None:
    found = command({"dockerfile_inline": "FROM scratch\n"})
    assert found.stdin == "FROM scratch\n"
    assert found.words[found.words.index("--file") + 1] == "-"


def test_a_remote_context_keeps_its_relative_dockerfile() -> None:
    words = command({"context": "https://example.com/a.git#main", "dockerfile": "x/Dockerfile"}).words
    assert words[words.index("--file") + 1] == "x/Dockerfile"
    assert words[-1] == "https://example.com/a.git#main"


@pytest.mark.parametrize(
    ("build", "named"),
    [
        ({"ssh": ["default"]}, "`build.ssh`"),
        (
            {"secrets": [{"source": "a"}], "additional_contexts": {"a": "b"}},
            "`build.additional_contexts` and",
        ),
        ({"platforms": ["a", "b"]}, "more than one platform"),
        ({"labels": {"a": TOKEN}}, "`build.labels` of api holds a secret"),
    ],
)
def test_what_is_not_supported_is_named(build: Mapping[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        command(build)


def test_labels_hold_no_time() -> None:
    found = labels_for(stack({}), "1a", "1a2b")
    assert found == {
        "windlass.app": "shop",
        "org.opencontainers.image.version": "1a",
        "org.opencontainers.image.revision": "1a2b",
    }
    assert "org.opencontainers.image.revision" not in labels_for(stack({}), "1a", "")


def test_a_silent_engine_is_told_apart_from_a_failed_build() -> None:
    said = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
    assert isinstance(failure("building", 1, said), PreflightFailed)
    assert isinstance(failure("building", 1, "no such file"), CommandFailed)


def test_a_failed_command_is_redacted_and_a_missing_docker_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailed, match=r"trying failed with exit code 3: \[X\]"):
        call(["sh", "-c", "echo s3cr3t >&2; exit 3"], "trying", lambda text: text.replace("s3cr3t", "[X]"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightFailed, match="not installed"):
        call(["docker", "version"], "trying")


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            "The push refers to repository [r.example:5000/a]\ndial tcp: connection refused\n",
            "The registry r.example:5000 does not answer: dial tcp: connection refused",
            "Nothing was changed",
        ),
        (
            "denied: requested access to the resource is denied",
            "The registry r.example:5000 refuses r.example:5000/a:1: denied: requested access",
            "docker login r.example:5000",
        ),
        ("blob upload invalid", "pushing r.example:5000/a:1 failed", "docker login r.example:5000"),
        ("Cannot connect to the Docker daemon at x", "The Docker Engine of this machine", "Start it"),
    ],
    ids=["silent", "refusing", "other", "no engine"],
)
def test_a_failed_push_says_who_failed(said: str, message: str, hint: str) -> None:
    error = push_failure("r.example:5000/a:1", 1, said)
    assert error.message.startswith(message)
    assert hint in str(error.hint)


def test_the_registry_of_a_name() -> None:
    names = {
        "ghcr.io/acme/api:1": "ghcr.io",
        "localhost/api:1": "localhost",
        "r:5000/api:1": "r:5000",
        "acme/api:1": "docker.io",
        "api:1": "docker.io",
    }
    assert {name: registry_of(name) for name in names} == names


def test_the_digest_of_a_push() -> None:
    digests = ["other/a@sha256:1", "ghcr.io/acme/a@sha256:2"]
    assert digest_of("ghcr.io/acme/a:1", digests) == "ghcr.io/acme/a@sha256:2"
    assert digest_of("ghcr.io/acme/b:1", digests) == "ghcr.io/acme/b:1"
