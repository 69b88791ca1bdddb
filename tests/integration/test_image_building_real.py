"""Real builds with both builders: shared definitions once, secrets out of sight, one sentence for a fault."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks import environment
from tests.testbed.image import base_images
from windlass.environment.environment import Environment
from windlass.errors import CommandFailed
from windlass.events import Event, Output, StepChanged
from windlass.images import building
from windlass.images.building import build
from windlass.stack.reading import read

pytestmark = pytest.mark.integration
COMPOSE = """
services:
  api: {build: {context: ., args: {BASE: "${BASE}", TOKEN: "${TOKEN}"}}}
  worker: {build: {context: ., args: {BASE: "${BASE}", TOKEN: "${TOKEN}"}}, command: worker}
  other: {build: {dockerfile_inline: "FROM scratch\\nCOPY other /\\n", context: .}}
"""
# The digest of the secret proves that it arrived and shows nothing of it.
DOCKERFILE = """
ARG BASE
FROM $BASE
ARG TOKEN
RUN printf %s "$TOKEN" | sha256sum > /digest
COPY app /app
CMD ["sleep", "1"]
"""
TOKEN = "s3cr3t $x 'q' \"d\""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Environment]:
    app = f"b{os.getpid()}-{secrets.token_hex(3)}"
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "app").write_text("1")
    (tmp_path / "other").write_text("2")
    yield environment(
        tmp_path, public={"BASE": base_images()["BASE_IMAGE"]}, secret={"TOKEN": TOKEN}, app=app
    )
    found = docker("image", "ls", "--quiet", "--filter", f"label=windlass.app={app}").split()
    if found:
        docker("image", "rm", "--force", *sorted(set(found)))


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


def redact(text: str) -> str:
    return text.replace(TOKEN, "[REDACTED]")


@pytest.mark.parametrize("buildkit", [False, True])
def test_each_definition_is_built_once_and_a_second_build_is_cached(
    project: Environment, buildkit: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if buildkit and not building.has_buildkit():
        pytest.skip("no buildx on this machine")
    monkeypatch.setattr(building, "has_buildkit", lambda: buildkit)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    events: list[Event] = []
    stack = read(project)
    images = build(project, stack, "1a", events.append, redact, revision="1a2b")
    app = project.settings.app
    assert images["api"] == images["worker"]
    assert {name: each.reference for name, each in images.items()} == {
        "api": f"{app}-api:1a",
        "worker": f"{app}-api:1a",
        "other": f"{app}-other:1a",
    }
    done = [each for each in events if isinstance(each, StepChanged) and each.state == "done"]
    assert len(done) == 2
    assert [each for each in events if isinstance(each, Output) and each.source == "api"]
    assert not [each for each in events if "s3cr3t" in str(each)]

    said = json.loads(docker("image", "inspect", images["api"].reference))[0]
    assert said["Id"] == images["api"].image_id
    assert said["Config"]["Labels"]["org.opencontainers.image.revision"] == "1a2b"
    assert said["Config"]["Labels"]["windlass.app"] == app
    digest = docker("run", "--rm", "--network", "none", images["api"].reference, "cat", "/digest").split()[0]
    expected = subprocess.run(["sha256sum"], input=TOKEN.encode(), capture_output=True, check=True)
    assert digest == expected.stdout.decode().split()[0]

    assert list(temporary.iterdir()) == []

    again = build(project, stack, "1a", events.append, redact, revision="1a2b")
    assert {name: each.image_id for name, each in again.items()} == {
        name: each.image_id for name, each in images.items()
    }


def test_no_argv_holds_the_secret(
    project: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the Docker client writes down what it was called with."""
    record = tmp_path / "record"
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(record)!r}, 'a').write(json.dumps([sys.argv, os.environ.get('TOKEN')]) + '\\n')\n"
        "print('sha256:0')\n"
    )
    fake.chmod(0o755)
    stack = read(project)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    build(project, stack, "1a", lambda event: None, redact)
    calls = [json.loads(line) for line in record.read_text().splitlines()]
    assert not [argv for argv, _ in calls if "s3cr3t" in " ".join(argv)]
    assert [token for argv, token in calls if "TOKEN" in argv] == [TOKEN]


def test_a_failing_build_is_one_error_with_the_end_of_what_was_said(project: Environment) -> None:
    (project.root / "Dockerfile").write_text(DOCKERFILE + 'RUN echo "token: $TOKEN" && exit 7\n')
    events: list[Event] = []
    with pytest.raises(CommandFailed, match=r"building the image of api, worker failed") as raised:
        build(project, read(project), "1a", events.append, redact)
    assert "s3cr3t" not in str(raised.value)
    assert [each.state for each in events if isinstance(each, StepChanged) and "-api:" in each.step] == [
        "started",
        "failed",
    ]
