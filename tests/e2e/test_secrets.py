"""No secret leaves the two places it belongs in: `secrets.env` and the containers' own environment."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tarfile
import threading
import urllib.parse
from collections.abc import Iterator

import pytest

from tests.e2e.project import APP_SECRET, DATABASE_PASSWORD, Project, eventually
from tests.testbed import Server

MULTILINE = "-----BEGIN PRIVATE KEY-----\nZm9vYmFyYmF6cXV4\nYXNkZmdoamtsMTIz\n-----END PRIVATE KEY-----\n"
IN_THE_PROJECT = "inline-pW9xK3vT7q"  # pragma: allowlist secret
SECRETS = {
    "POSTGRES_PASSWORD": DATABASE_PASSWORD,
    "APP_SECRET": APP_SECRET,
    "SIGNING_KEY": MULTILINE,
    "API_TOKEN": "tök€n'\"$-%s-9f8e7d",
}
COMPOSE = f"""\
services:
  api:
    environment:
      SIGNING_KEY: ${{SIGNING_KEY}}
      API_TOKEN: ${{API_TOKEN}}
      INLINE_PASSWORD: {IN_THE_PROJECT}
    secrets: [signing]
  worker:
    command: ["sh", "-c", "echo token is $$API_TOKEN and $$APP_SECRET; exec python3 -m app.worker"]
    environment:
      API_TOKEN: ${{API_TOKEN}}
secrets:
  signing:
    environment: SIGNING_KEY
"""
# UTF-8, or ps would write question marks for half of a secret.
SAMPLE_PROCESSES = "export LC_ALL=C.UTF-8; while :; do ps -ww -e -o args; sleep 0.03; done"


def forms(value: str) -> set[bytes]:
    """Return the ways a value could be written down: as it is, encoded, escaped, line by line."""
    raw = value.encode()
    found = {
        raw,
        base64.b64encode(raw),
        base64.urlsafe_b64encode(raw),
        urllib.parse.quote(value).encode(),
        urllib.parse.quote(value, safe="").encode(),
        urllib.parse.quote_plus(value).encode(),
        json.dumps(value)[1:-1].encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        repr(value)[1:-1].encode(),
        value.replace("$", "$$").encode(),
        value.replace("'", "'\"'\"'").encode(),
        raw.hex().encode(),
    }
    # A line of a key is as secret as the whole; its frame is not.
    lines = [line for line in value.splitlines() if len(line) >= 8 and not line.startswith("-----")]
    found |= {line.encode() for line in lines}
    # Base64 of a longer text that holds it: three alignments, without the ends that neighbours change.
    for shift in range(3):
        found.add(base64.b64encode(b"\0" * shift + raw)[4:-4])
    return {form for form in found if len(form) >= 8}


def leaks(text: bytes) -> list[str]:
    """Return the names of secrets a text holds, with the form found; never the values."""
    everything = {**SECRETS, "INLINE_PASSWORD": IN_THE_PROJECT}
    return sorted({name for name, value in everything.items() for form in forms(value) if form in text})


@pytest.fixture(scope="module")
def server(project: Project) -> Server:
    return project.bed.servers[0]


class Sampler:
    """Collects the command lines of all processes of a server in a loop."""

    def __init__(self, server: Server) -> None:
        argv = ["docker", "exec", server.container, "bash", "-c", SAMPLE_PROCESSES]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self.seen: set[bytes] = set()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.add(line)

    def stop(self, server: Server) -> set[bytes]:
        server.exec(["pkill", "--full", "while :; do ps"], check=False)
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self.seen


@pytest.fixture(scope="module")
def lived(project: Project, server: Server) -> Iterator[tuple[Project, set[bytes]]]:
    """Give the project after a life with everything in it, and the command lines seen meanwhile."""
    mark = server.mark()
    assert mark >= 0
    (project.root / "compose.secrets.yaml").write_text(COMPOSE)
    project.configure(files=["compose.yaml", "compose.secrets.yaml"])
    project.set(SIGNING_KEY=MULTILINE, API_TOKEN=SECRETS["API_TOKEN"])
    sampler = Sampler(server)
    try:
        live(project, server)
    finally:
        seen = sampler.stop(server)
    yield project, seen


def live(project: Project, server: Server) -> None:
    """Run every command that could say too much, the failing ones above all."""
    project.inv("--dry", "deploy.bed").expect()
    project.inv("deploy.plan", "--scripts").expect()
    project.inv("deploy.plan", "--json").expect()
    project.inv("deploy.bed").expect()
    project.commit()
    project.inv("--debug", "deploy.bed", WINDLASS_DEBUG="1")
    assert project.said[-1].code == 0, f"{project.said[-1].code}"
    logs = project.inv("deploy.logs").expect()
    assert "token is [REDACTED]" in logs.out
    for words in (
        ["deploy.status"],
        ["deploy.status", "--json"],
        ["deploy.history"],
        ["deploy.history", "--json"],
        ["env.show"],
        ["env.list"],
        ["env.check"],
        ["health.check"],
        ["health.check", "--json"],
        ["db.status"],
        ["db.backup"],
        ["backup.list"],
        ["secrets.list"],
        ["secrets.check"],
        ["host.check"],
        ["build.list"],
    ):
        assert "No idea" not in project.inv(*words).err, words
    project.set(FAIL_START="1", FAIL_MIGRATION="")
    assert "FAIL_START is set" in project.inv("deploy.bed", "--no-build", "--json").expect(1).err
    project.set(FAIL_START="", FAIL_MIGRATION="1")
    assert "FAIL_MIGRATION is set" in project.inv("deploy.bed", "--no-build").expect(1).err
    project.set(FAIL_MIGRATION="")
    # The application itself says its secrets at its end: its last words are shown, masked.
    worker = project.root / "compose.secrets.yaml"
    worker.write_text(COMPOSE.replace("exec python3 -m app.worker", "exit 3"))
    failed = project.inv("deploy.bed").expect(1)
    assert "token is [REDACTED] and [REDACTED]" in failed.err
    worker.write_text(COMPOSE)
    project.inv("deploy.bed", "--no-build").expect()
    project.inv("deploy.rollback").expect()
    project.inv("deploy.rollback", "--to", "none", WINDLASS_DEBUG="1")
    assert "Traceback" in project.said[-1].err


def test_the_search_finds_what_it_looks_for() -> None:
    for name, value in SECRETS.items():
        assert name in leaks(f"password={value}".encode())
        assert name in leaks(base64.b64encode(f"xy{value}z, and more".encode()))
        assert name in leaks(json.dumps({"x": value}).encode())
        assert name in leaks(urllib.parse.urlencode({"x": value}).encode())
    assert not leaks(b"-----BEGIN PRIVATE KEY----- [REDACTED]")


def test_no_command_says_a_secret(lived: tuple[Project, set[bytes]]) -> None:
    project, _ = lived
    assert len(project.said) > 20
    for done in project.said:
        found = leaks((done.out + done.err).encode())
        assert not found, f"inv {' '.join(done.argv[1:])} says {found}"


def test_no_process_has_a_secret_in_its_arguments(lived: tuple[Project, set[bytes]]) -> None:
    _, seen = lived
    commands = b"\n".join(seen)
    assert b"docker compose" in commands, "the sampler saw the deploys"
    for line in seen:
        assert not leaks(line)


def test_no_file_on_the_host_but_the_private_ones_has_a_secret(
    lived: tuple[Project, set[bytes]], server: Server
) -> None:
    project, _ = lived
    found = dict(files(server, project.folder(), "/tmp", "/home", "/root", "/var/log", "/run"))
    assert any(name.endswith("/journal.jsonl") for name in found)
    assert any(name.endswith("/sshd.log") for name in found)
    private = {name: mode for name, (mode, data) in found.items() if leaks(data)}
    assert any(name.endswith("/secrets.env") for name in private), "the search looks at the right files"
    # What a service mounts as a secret is a file that any user of its container may read.
    mounted = project.folder("files") + "/"
    for name, mode in private.items():
        assert name.endswith("/secrets.env") or name.startswith(mounted), name
        assert name.startswith(mounted) or mode == 0o600, name
    for folder in {project.folder(), *(name.rpartition("/")[0] for name in private)}:
        if not folder.startswith(mounted):
            assert server.exec(["stat", "--format", "%a", folder]).stdout.strip() == "700", folder


def files(server: Server, *folders: str) -> Iterator[tuple[str, tuple[int, bytes]]]:
    """Yield every file below some folders of a server: its name, mode and content."""
    tar = ["tar", "--create", "--absolute-names", "--ignore-failed-read", "--exclude=/run/docker", *folders]
    argv = ["docker", "exec", server.container, *tar]
    said = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    with tarfile.open(fileobj=io.BytesIO(said)) as archive:
        for entry in archive:
            if entry.isfile() and (content := archive.extractfile(entry)) is not None:
                yield f"/{entry.name.lstrip('/')}", (entry.mode, content.read())


def test_containers_show_secrets_in_their_environment_alone(
    lived: tuple[Project, set[bytes]], server: Server
) -> None:
    project, _ = lived
    inspected = json.loads(
        server.exec(
            ["docker", "inspect", *(each["id"] for each in project.containers(server).values())]
        ).stdout
    )
    held = False
    for container in inspected:
        environment = container["Config"].pop("Env")
        held = held or bool(leaks("\n".join(environment).encode()))
        assert not leaks(json.dumps(container).encode())
    assert held
    images = server.exec(
        ["docker", "image", "ls", "--quiet", "--filter", f"label=windlass.app={project.app}"]
    )
    for image in set(images.stdout.split()):
        assert not leaks(server.exec(["docker", "image", "inspect", image]).stdout.encode())
        assert not leaks(server.exec(["docker", "history", "--no-trunc", image]).stdout.encode())


def test_nothing_is_left_in_this_machines_temporary_folder(
    lived: tuple[Project, set[bytes]], server: Server
) -> None:
    project, _ = lived
    stray = [path for path in project.temporary.rglob("*") if path.is_file()]
    assert not [path.name for path in stray if leaks(path.read_bytes())]


def test_a_killed_deploy_leaves_no_secret_behind(lived: tuple[Project, set[bytes]], server: Server) -> None:
    project, _ = lived
    running = project.start("deploy.bed", "--no-build", "--json")
    running.wait_for_phase("stage")
    running.kill()
    eventually(lambda: not project.working(server), 30, "the last script ended")
    project.inv("deploy.bed", "--no-build").expect()
    staging = server.exec(["find", project.folder("releases"), "-name", ".staging*"]).stdout
    assert staging == ""
