"""With a registry: images are pushed from here and pulled by each host, this machine and servers alike."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.project import Done, Project

INSTALLED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "windlass" / "bin"
CONFIGURATION = """\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {folder}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
"""
LOCAL_TOML = """\
directory = "{folder}"

[health.checks.api]
url = "http://127.0.0.1:{port}/health"

[hosts.here]
transport = "local"
"""


class Registry:
    """A real registry on this machine's loopback address, which Docker takes without TLS."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry") or INSTALLED / "docker-registry"
        if not Path(program).exists():
            pytest.skip("needs docker-registry: scripts/setup-machine --with-tests")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        configuration = folder / "registry.yaml"
        configuration.write_text(CONFIGURATION.format(folder=folder / "data", port=self.port))
        self._argv = [str(program), "serve", str(configuration)]
        self._log = folder / "registry.log"

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while not self.is_up():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def get(self, path: str) -> object:
        with urllib.request.urlopen(f"http://{self.address}/v2/{path}", timeout=5) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            return self.get("") == {}
        except OSError:
            return False

    def tags(self, repository: str) -> list[str]:
        """Return the tags a repository has, none where there is no such repository."""
        try:
            found = self.get(f"{repository}/tags/list")
        except urllib.error.HTTPError:
            return []
        assert isinstance(found, dict)
        return list(found["tags"] or [])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def docker(*words: str, check: bool = True) -> str:
    """Run Docker on this machine."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=check).stdout.strip()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def shop(registry: Registry, project: Project) -> Iterator[Project]:
    """Give the module's project with the registry; its environment `here` is this machine."""
    port = free_port()
    project.configure(more=f'[images]\nregistry = "{registry.address}"\n')
    here = LOCAL_TOML.format(folder=project.root.parent / "here", port=port)
    (project.root / "envs" / "here.toml").write_text(here)
    (project.root / "envs" / "here.env").write_text(f"API_PORT={port}\n")
    yield project
    for kind, removal in (
        ("container", ["rm", "--force", "--volumes"]),
        ("volume", ["volume", "rm", "--force"]),
        ("network", ["network", "rm"]),
    ):
        every = ["--all"] if kind == "container" else []
        mine = f"label=com.docker.compose.project={project.app}"
        found = docker(kind, "ls", *every, "--quiet", "--filter", mine).split()
        if found:
            docker(*removal, *found)


def state(shop: Project) -> dict[str, str]:
    """Return the image each service runs on this machine."""
    mine = f"label=com.docker.compose.project={shop.app}"
    form = '{{.Label "com.docker.compose.service"}} {{.Image}}'
    return dict(line.split() for line in docker("ps", "--filter", mine, "--format", form).splitlines())


def forget(reference: str) -> None:
    """Take an image off this machine, as one that another machine built and pushed."""
    docker("image", "rm", "--force", reference, check=False)
    assert not docker("image", "ls", "--quiet", reference)


def said_once(done: Done, *words: str) -> None:
    """The error is one sentence that names all the words."""
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert all(word in line for word in words), done


def test_a_deploy_here_pushes_and_runs(registry: Registry, shop: Project) -> None:
    tag = shop.git("rev-parse", "--short=12", "HEAD")
    done = shop.inv("deploy.here", "--json").expect()
    assert done.json["hosts"][0]["state"] == "live"
    assert registry.tags(f"{shop.app}-api") == [tag]
    image = f"{registry.address}/{shop.app}-api:{tag}"
    assert {name: run for name, run in state(shop).items() if name in ("api", "worker")} == {
        "api": image,
        "worker": image,
    }
    steps = [each["step"] for each in done.events if each["event"] == "StepChanged"]
    assert f"push {image}" in steps
    assert any(each.startswith("pull ") and image in each for each in steps)


def test_a_tag_that_only_the_registry_has(registry: Registry, shop: Project) -> None:
    old = shop.git("rev-parse", "--short=12", "HEAD")
    new = shop.commit()
    shop.inv("deploy.here").expect()
    assert sorted(registry.tags(f"{shop.app}-api")) == sorted([old, new])
    image = f"{registry.address}/{shop.app}-api:{old}"
    forget(image)
    done = shop.inv("deploy.here", "--no-build", "--tag", old, "--json").expect()
    assert "build" not in {each.get("phase") for each in done.events}
    assert state(shop)["api"] == image
    assert docker("image", "ls", "--quiet", image)


def test_a_tag_nobody_has(shop: Project) -> None:
    before = state(shop)
    said_once(shop.inv("deploy.here", "--no-build", "--tag", "never-built").expect(1), "never-built")
    assert state(shop) == before


def test_a_server_pulls_what_was_pushed_here(registry: Registry, shop: Project, tmp_path: Path) -> None:
    server = shop.bed.servers[0]
    tag = shop.commit()
    image = f"{registry.address}/{shop.app}-api:{tag}"
    # The registry is on the server's loopback address as well, so its Engine needs no configuration for it.
    with tunnel(shop, registry.port, tmp_path):
        done = shop.inv("deploy.bed", "--json").expect()
    steps = {each["step"]: each for each in done.events if "step" in each and each["host"] == "server1"}
    assert "send image layers" not in steps
    pulled = next(each for name, each in steps.items() if name.startswith("pull ") and image in name)
    assert pulled["state"] == "done", pulled
    assert shop.containers(server)["api"]["image"] == image
    form = ["--format", "{{json .RepoDigests}}"]
    digests = json.loads(server.exec(["docker", "image", "inspect", *form, image]).stdout)
    assert digests[0].startswith(f"{registry.address}/{shop.app}-api@sha256:"), "it was pulled"


def test_a_server_without_a_way_to_the_registry_gets_copies(registry: Registry, shop: Project) -> None:
    server = shop.bed.servers[0]
    tag = shop.commit()
    done = shop.inv("deploy.bed", "--json").expect()
    image = f"{registry.address}/{shop.app}-api:{tag}"
    assert registry.tags(f"{shop.app}-api").count(tag) == 1
    assert shop.containers(server)["api"]["image"] == image
    assert any("could not pull" in str(each.get("detail", "")) for each in done.events)


class tunnel:  # noqa: N801 - used as a function
    """The registry's port on the first server's loopback address, over SSH."""

    def __init__(self, shop: Project, port: int, folder: Path) -> None:
        forward = f"{port}:127.0.0.1:{port}"
        self._argv = ["ssh", "-F", str(shop.bed.ssh_config), "-N", "-o", "ExitOnForwardFailure=yes"]
        self._argv += ["-R", forward, "server1"]
        self._probe = ["curl", "--silent", "--fail", f"http://127.0.0.1:{port}/v2/"]
        self._server = shop.bed.servers[0]
        self._log = folder / "tunnel.log"

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while self._server.exec(self._probe, check=False).returncode != 0:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


# Last: it takes the registry away.
def test_a_registry_that_is_down(registry: Registry, shop: Project) -> None:
    registry.__exit__()
    try:
        before, status = state(shop), shop.inv("deploy.status", "--env", "here", "--json").expect().json
        newest = shop.commit()
        done = shop.inv("deploy.here").expect(1)
        said_once(done, registry.address, "does not answer")
        assert state(shop) == before
        assert shop.inv("deploy.status", "--env", "here", "--json").expect().json == status
        # What is here already needs no registry.
        shop.inv("deploy.here", "--no-build").expect()
        assert state(shop)["api"].endswith(newest)
        forget(f"{registry.address}/{shop.app}-api:{before['api'].rpartition(':')[2]}")
    finally:
        registry.__enter__()
