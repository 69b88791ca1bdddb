"""Every writer against the program that reads it: thousands of awkward values come back byte for byte.

The seed is in the name of the tests: what fails once fails again.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from tests.oracles import COMPOSE, KUBECTL, fuzzed, program
from tests.testbed.image import base_images
from windlass.secrets.writers import (
    compose_env_file,
    compose_text,
    docker_env_file,
    docker_run_variables,
    dotenv_file,
    kubernetes_secret,
    shell_file,
)
from windlass.secrets.writers.docker import file_fault
from windlass.stack.compose import parse_version
from windlass.stack.files import keyed, ship_content
from windlass.stack.rendering import to_bytes

pytestmark = pytest.mark.integration

COUNT = 5000
KEY = b"a key of the test"
# As many mounts as one container is given at once.
MOUNTS = 600


@pytest.fixture(scope="module", params=[20261121], ids=lambda seed: f"seed={seed}")
def values(request: pytest.FixtureRequest) -> dict[str, str]:
    found = fuzzed(request.param, COUNT)
    assert len(found) >= COUNT
    return found


@pytest.fixture(scope="session")
def image() -> str:
    return base_images()["BASE_IMAGE"]


@pytest.fixture(params=["plugin", *COMPOSE])
def compose(request: pytest.FixtureRequest) -> list[str]:
    """The command line of each Compose: the one in use here, an old one, a new one."""
    return ["docker", "compose"] if request.param == "plugin" else [program(request.param)]


def environment(**more: str) -> dict[str, str]:
    """Return a process environment with nothing in it that a reader could expand to."""
    kept = {name: os.environ[name] for name in os.environ if name == "PATH" or name.startswith("DOCKER_")}
    return kept | {"HOME": str(Path.home()), "LC_ALL": "C.UTF-8"} | more


def said(argv: Sequence[str], folder: Path, stdin: bytes = b"", **more: str) -> bytes:
    done = subprocess.run(
        argv, cwd=folder, input=stdin, capture_output=True, env=environment(**more), check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout


def entries(text: bytes) -> dict[str, str]:
    """Return the variables of a process, as the kernel gives them."""
    pairs = (entry.decode().split("=", 1) for entry in text.split(b"\0") if entry)
    return {name: value for name, value in pairs if name.startswith("V") and name[1:].isdigit()}


def configured(compose: Sequence[str], folder: Path, model: bytes, *options: str) -> dict[str, str]:
    (folder / "compose.yaml").write_bytes(model)
    words = [*compose, *options, "--file", "compose.yaml", "config", "--format", "json"]
    found = json.loads(said(words, folder))["services"]["one"]["environment"]
    # `config` doubles each `$`, so that its output can be read as a Compose file.
    return {name: value.replace("$$", "$") for name, value in found.items()}


def differing(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    """Return what did not come back, so that a failure shows some lines and not thousands."""
    wrong = [(name, value, found.get(name)) for name, value in wanted.items() if found.get(name) != value]
    return wrong[:5] + [(name, "", found[name]) for name in found if name not in wanted][:5]


@pytest.mark.parametrize("names", [COMPOSE] if COMPOSE else [])
def test_there_are_an_old_and_a_newer_compose_to_compare_with(names: tuple[str, ...], tmp_path: Path) -> None:
    versions = [
        parse_version(said([program(name), "version", "--short"], tmp_path).decode()) for name in names
    ]
    assert versions[0][:2] == (2, 26)
    assert versions[1] > versions[0]


def test_a_services_env_file(values: dict[str, str], compose: list[str], tmp_path: Path) -> None:
    (tmp_path / "values.env").write_bytes(compose_env_file(values))
    model = b"services: {one: {image: 'x:1', env_file: [values.env]}}\n"
    assert not differing(configured(compose, tmp_path, model), values)


def test_the_env_file_of_a_project(values: dict[str, str], compose: list[str], tmp_path: Path) -> None:
    (tmp_path / "values.env").write_bytes(compose_env_file(values))
    used = {name: f"${{{name}}}" for name in values}
    model = json.dumps({"services": {"one": {"image": "x:1", "environment": used}}}).encode()
    assert not differing(configured(compose, tmp_path, model, "--env-file", "values.env"), values)


def test_the_environment_of_a_compose_file(
    values: dict[str, str], compose: list[str], tmp_path: Path
) -> None:
    # `to_bytes` writes a release's Compose file, with the same doubled `$`.
    written = {name: compose_text(value) for name, value in values.items()}
    model = to_bytes({"services": {"one": {"image": "x:1", "environment": values}}})
    assert json.loads(model)["services"]["one"]["environment"] == written
    assert not differing(configured(compose, tmp_path, model), values)


@pytest.mark.parametrize("newer", COMPOSE[1:])
def test_the_raw_env_file_of_a_newer_compose(values: dict[str, str], newer: str, tmp_path: Path) -> None:
    held = {name: value for name, value in values.items() if not file_fault(name, value)}
    (tmp_path / "values.env").write_bytes(docker_env_file(held))
    model = b"services: {one: {image: 'x:1', env_file: [{path: values.env, format: raw}]}}\n"
    assert not differing(configured([program(newer)], tmp_path, model), held)


def test_containers_of_compose_get_them(values: dict[str, str], image: str, tmp_path: Path) -> None:
    (tmp_path / "values.env").write_bytes(compose_env_file(values))
    service = {"image": image, "env_file": ["values.env"], "network_mode": "none"}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"one": service}}))
    project = ["docker", "compose", "--project-name", f"round-trip-{os.getpid()}"]
    command = ["run", "--rm", "-T", "--quiet-pull", "one", "cat", "/proc/self/environ"]
    try:
        assert not differing(entries(said([*project, *command], tmp_path)), values)
    finally:
        said([*project, "down", "--volumes"], tmp_path)


def test_docker_run(values: dict[str, str], image: str, tmp_path: Path) -> None:
    found = docker_run_variables(values)
    assert len(found.process) > 100
    (tmp_path / "values.env").write_text(found.file.reveal(), newline="")
    words = ["docker", "run", "--rm", "--network", "none", "--env-file", "values.env", *found.options]
    process = {name: value.reveal() for name, value in found.process.items()}
    text = said([*words, image, "cat", "/proc/self/environ"], tmp_path, **process)
    assert not differing(entries(text), values)


def test_python_dotenv(values: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(dotenv_file(values))
    assert not differing(read_dotenv(path, interpolate=False), values)
    plain = {name: value for name, value in values.items() if "${" not in value}
    assert len(plain) > COUNT * 0.9
    path.write_bytes(dotenv_file(plain, expands=True))
    assert not differing(read_dotenv(path, interpolate=True), plain)


def read_dotenv(path: Path, *, interpolate: bool) -> dict[str, str]:
    found = dotenv_values(path, interpolate=interpolate)
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_shells(values: dict[str, str], shell: str, tmp_path: Path) -> None:
    (tmp_path / "values.sh").write_bytes(shell_file(values))
    text = said([shell, "-c", ". ./values.sh && exec cat /proc/self/environ"], tmp_path)
    assert not differing(entries(text), values)


@pytest.mark.parametrize("kubectl", KUBECTL)
def test_kubernetes_own_client(values: dict[str, str], kubectl: str, tmp_path: Path) -> None:
    made = kubernetes_secret("round-trip", values, KEY)
    manifest = made.manifest.reveal().encode()
    # `--local` asks no server: the client decodes the manifest into its own type and writes it again.
    words = [program(kubectl), "label", "--local", "--filename", "-", "--output", "json", "read=yes"]
    read = json.loads(said(words, tmp_path, stdin=manifest, KUBECONFIG=os.devnull))
    assert (read["kind"], read["metadata"]["name"], read["immutable"]) == ("Secret", made.name, True)
    assert not differing(decoded(read["data"]), values)


def test_readers_of_yaml_take_a_kubernetes_manifest(values: dict[str, str]) -> None:
    manifest = kubernetes_secret("round-trip", values, KEY).manifest.reveal()
    assert not differing(decoded(yaml.safe_load(manifest)["data"]), values)


def decoded(data: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64decode(text, validate=True).decode() for name, text in data.items()}


def chunks(values: Mapping[str, str], size: int) -> Iterator[dict[str, str]]:
    names = list(values)
    for begin in range(0, len(names), size):
        yield {name: values[name] for name in names[begin : begin + size]}


def test_mounted_secrets_of_compose(values: dict[str, str], image: str, tmp_path: Path) -> None:
    digest = keyed(KEY)
    files = {name: ship_content(name, value.encode(), digest) for name, value in values.items()}
    for file in files.values():
        path = tmp_path / "files" / file.target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
    project = ["docker", "compose", "--project-name", f"round-trip-files-{os.getpid()}"]
    found: dict[str, str] = {}
    try:
        for part in chunks(values, MOUNTS):
            service = {"image": image, "network_mode": "none", "secrets": list(part)}
            secrets = {name: {"file": str(tmp_path / "files" / files[name].target)} for name in part}
            (tmp_path / "compose.yaml").write_bytes(
                to_bytes({"services": {"one": service}, "secrets": secrets})
            )
            command = ["run", "--rm", "-T", "--quiet-pull", "one", "tar", "-C", "/run/secrets", "-c", "."]
            with tarfile.open(fileobj=io.BytesIO(said([*project, *command], tmp_path))) as archive:
                for entry in archive:
                    if entry.isfile() and (content := archive.extractfile(entry)) is not None:
                        found[entry.name.removeprefix("./")] = content.read().decode()
    finally:
        said([*project, "down", "--volumes"], tmp_path)
    assert not differing(found, values)
