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
from dataclasses import dataclass

import pytest

from tests.e2e.project import APP_SECRET, DATABASE_PASSWORD, Project, eventually
from tests.testbed import Server

# The first test lives through some thirty commands before it begins.
pytestmark = pytest.mark.timeout(1200)

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
# The same secrets on other ways: a generated env file, a secret file, an environment, a secret of a variable.
WORKER_KEY = "wörk$er \"'key\\ 4h7Jq2"  # pragma: allowlist secret
PIN = "pin-Lw8$2xQv-\n-second-5tYb"  # pragma: allowlist secret
ROTATED = {
    "API_TOKEN": "rotated-'\"$-Xc5vN8mQ",  # pragma: allowlist secret
    "SIGNING_KEY": MULTILINE.replace("Zm9v", "YmFy"),
    "WORKER_KEY": "rotated $w \\ 9kT4zR1p",  # pragma: allowlist secret
    "PIN": "rotated-pin-6mHs3Fd",  # pragma: allowlist secret
}
ROTATING = """\
services:
  api:
    environment: {API_TOKEN: "${API_TOKEN}"}
    secrets: [signing]
  worker:
    env_file: generated/.env.worker
  redis:
    secrets: [pin]
secrets:
  signing: {environment: SIGNING_KEY}
  pin: {file: ./envs/pin.txt}
"""
GENERATED = """\
[stack.env_files."generated/.env.worker"]
variables = ["WORKER_*"]
renamed = { RENAMED_KEY = "WORKER_KEY" }
"""
# UTF-8, or ps would write question marks for half of a secret.
SAMPLE_ARGUMENTS = "export LC_ALL=C.UTF-8; while :; do ps -ww -e -o args; sleep 0.03; done"
# Of the server's own processes; those of containers are in namespaces of their own and have what they need.
SAMPLE_ENVIRONMENTS = """\
while :; do
  own=()
  for process in /proc/[0-9]*; do
    [ $process/ns/pid -ef /proc/$$/ns/pid ] && own+=($process/environ)
  done
  cat "${own[@]}" 2>/dev/null | tr '\\0' '\\n'
  sleep 0.03
done"""
# A part of the names of files that a test puts there to be found.
PLANTED = "planted-by-a-test"
SEARCHED = ("/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/var/log", "/run", "/etc")
# For some milliseconds the engine itself keeps here, for root alone, what a health check is to run with.
ENGINES_OWN = "/tmp/runc-process"


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
    everything = [*SECRETS.items(), *ROTATED.items()]
    everything += [("INLINE_PASSWORD", IN_THE_PROJECT), ("WORKER_KEY", WORKER_KEY), ("PIN", PIN)]
    return sorted({name for name, value in everything for form in forms(value) if form in text})


@pytest.fixture(scope="module")
def server(project: Project) -> Server:
    return project.bed.servers[0]


class Sampler:
    """Collects what a script on a server says in a loop, each line once."""

    def __init__(self, server: Server, script: str) -> None:
        # The loop tells its own process, so that it alone is ended.
        argv = ["docker", "exec", server.container, "bash", "-c", f"echo $$; {script}"]
        self._server = server
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._id = self._process.stdout.readline().decode().strip()
        self._seen: set[bytes] = set()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen.add(line)

    def stop(self) -> set[bytes]:
        self._server.exec(["kill", self._id], check=False)
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._seen


@dataclass(frozen=True)
class Seen:
    """The arguments and the variables of a server's processes, each once."""

    arguments: set[bytes]
    variables: set[bytes]


class Watch:
    """Looks at a server's processes for as long as it is open."""

    def __init__(self, server: Server) -> None:
        self._samplers = [Sampler(server, script) for script in (SAMPLE_ARGUMENTS, SAMPLE_ENVIRONMENTS)]
        self.seen = Seen(set(), set())

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.seen = Seen(*(sampler.stop() for sampler in self._samplers))

    def assert_clean(self) -> None:
        """Nothing seen holds a secret, and the scripts and Compose of a deploy were seen."""
        assert any(b"docker compose" in line for line in self.seen.arguments)
        assert any(line.startswith(b"SSH_CONNECTION=") for line in self.seen.variables)
        for line in self.seen.arguments | self.seen.variables:
            assert not leaks(line)


@pytest.fixture(scope="module")
def lived(project: Project, server: Server) -> tuple[Project, Watch]:
    """Give the project after a life with everything in it, and the processes seen meanwhile."""
    mark = server.mark()
    assert mark >= 0
    (project.root / "compose.secrets.yaml").write_text(COMPOSE)
    project.configure(files=["compose.yaml", "compose.secrets.yaml"])
    project.set(SIGNING_KEY=MULTILINE, API_TOKEN=SECRETS["API_TOKEN"])
    with Watch(server) as watch:
        live(project, server)
    return project, watch


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


def test_no_command_says_a_secret(lived: tuple[Project, Watch]) -> None:
    project, _ = lived
    assert len(project.said) > 20
    for done in project.said:
        found = leaks((done.out + done.err).encode())
        assert not found, f"inv {' '.join(done.argv[1:])} says {found}"


def test_no_process_has_a_secret_in_its_arguments_or_variables(lived: tuple[Project, Watch]) -> None:
    _, watch = lived
    watch.assert_clean()


def test_the_watch_sees_what_it_looks_for(server: Server) -> None:
    def seen(sampler: Sampler, wanted: bytes) -> bool:
        return any(wanted in line for line in set(sampler._seen))

    secret = SECRETS["APP_SECRET"]
    with Watch(server) as watch:
        held = ["docker", "exec", "--env", f"HELD={secret}", server.container, "sleep", "30"]
        process = subprocess.Popen([*held[:-1], "3600.25"])
        try:
            arguments, variables = watch._samplers
            eventually(lambda: seen(variables, f"HELD={secret}".encode()), 30, "the variable was seen")
            eventually(lambda: seen(arguments, b"sleep 3600.25"), 30, "the argument was seen")
        finally:
            server.exec(["pkill", "--full", "^sleep 3600.25"], check=False)
            process.wait()


def test_no_file_on_the_host_but_the_private_ones_has_a_secret(
    lived: tuple[Project, Watch], server: Server
) -> None:
    project, _ = lived
    assert_only_private_files_have_secrets(project, server)


def assert_only_private_files_have_secrets(project: Project, server: Server) -> None:
    """Search everything a deploy could have written to on a server."""
    found = dict(files(server, project.folder(), *SEARCHED))
    assert any(name.endswith("/journal.jsonl") for name in found)
    assert any(name.endswith("/sshd.log") for name in found)
    private = {name: mode for name, (mode, data) in found.items() if leaks(data)}
    assert any(name.endswith("/secrets.env") for name in private), "the search looks at the right files"
    # What a service mounts as a secret is a file that any user of its container may read.
    mounted = project.folder("files") + "/"
    for name, mode in private.items():
        if name.startswith(ENGINES_OWN):
            assert mode == 0o600, name
            continue
        assert name.startswith((project.folder("releases"), mounted)), name
        assert name.endswith("/secrets.env") or name.startswith(mounted), name
        assert name.startswith(mounted) or mode == 0o600, name
    closed = {project.folder(), project.folder("files")}
    closed |= {name.rpartition("/")[0] for name in private if not name.startswith((mounted, ENGINES_OWN))}
    for folder in closed:
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


def test_the_search_reads_the_histories_of_shells_and_the_logs_of_the_system(server: Server) -> None:
    places = [f"{home}/.bash_history" for home in ("/root", "/home/deploy")]
    places += ["/var/log/syslog", "/var/log/journal/planted", "/run/log/journal/planted"]
    planted = [f"{place}.{PLANTED}" for place in places]
    write = 'for each; do mkdir -p "$(dirname "$each")"; printf %s "$0" > "$each"; done'
    try:
        server.exec(["bash", "-c", write, SECRETS["APP_SECRET"], *planted])
        found = {name for name, (_, data) in files(server, *SEARCHED) if leaks(data)}
        assert set(planted) <= found
    finally:
        server.exec(["rm", "--force", *planted])


def test_containers_show_secrets_in_their_environment_alone(
    lived: tuple[Project, Watch], server: Server
) -> None:
    project, _ = lived
    assert_containers_show_secrets_in_their_environment_alone(project, server)
    images = server.exec(
        ["docker", "image", "ls", "--quiet", "--filter", f"label=windlass.app={project.app}"]
    )
    for image in set(images.stdout.split()):
        assert not leaks(server.exec(["docker", "image", "inspect", image]).stdout.encode())
        assert not leaks(server.exec(["docker", "history", "--no-trunc", image]).stdout.encode())


def assert_containers_show_secrets_in_their_environment_alone(project: Project, server: Server) -> None:
    """Labels, commands, mounts and the rest of what the engine tells of the containers hold none."""
    ids = [each["id"] for each in project.containers(server).values()]
    held = False
    for container in json.loads(server.exec(["docker", "inspect", *ids]).stdout):
        environment = container["Config"].pop("Env")
        held = held or bool(leaks("\n".join(environment).encode()))
        assert "windlass.config" in container["Config"]["Labels"]
        assert not leaks(json.dumps(container).encode())
        assert not leaks(json.dumps(container, ensure_ascii=False).encode())
    assert held


def test_nothing_is_left_in_this_machines_temporary_folder(
    lived: tuple[Project, Watch], server: Server
) -> None:
    project, _ = lived
    stray = [path for path in project.temporary.rglob("*") if path.is_file()]
    assert not [path.name for path in stray if leaks(path.read_bytes())]


@pytest.mark.parametrize("phase", ["stage", "up"])
def test_a_killed_deploy_leaves_no_secret_where_it_should_not_be(
    lived: tuple[Project, Watch], server: Server, phase: str
) -> None:
    project, _ = lived
    project.set(API_TOKEN=SECRETS["API_TOKEN"] if phase == "up" else ROTATED["API_TOKEN"])
    with Watch(server) as watch:
        running = project.start("deploy.bed", "--no-build", "--json")
        running.wait_for_phase(phase)
        running.kill()
        # First the lock: a script that comes after it is gone does nothing, one that came before is at work.
        eventually(lambda: not project.locked(server), 60, "the lock is free")
        eventually(lambda: not project.working(server), 120, "the last script ended")
        assert_only_private_files_have_secrets(project, server)
        stray = [path for path in project.temporary.rglob("*") if path.is_file()]
        assert not [path.name for path in stray if leaks(path.read_bytes())]
        project.inv("deploy.bed", "--no-build").expect()
    watch.assert_clean()
    staging = server.exec(["find", project.folder("releases"), "-name", ".staging*"]).stdout
    assert staging == ""
    assert_only_private_files_have_secrets(project, server)
    project.set(API_TOKEN=SECRETS["API_TOKEN"])


def test_what_docker_says_of_a_secret_is_masked(lived: tuple[Project, Watch], server: Server) -> None:
    project, _ = lived
    compose = project.root / "compose.secrets.yaml"
    # Docker names the program it cannot start, and in its message quotes it.
    compose.write_text(COMPOSE.replace('command: ["sh",', 'entrypoint: ["$API_TOKEN"]\n    command: ["sh",'))
    failed = project.inv("deploy.bed").expect(1)
    assert "[REDACTED]" in failed.err
    assert "executable file not found" in failed.err
    assert not leaks((failed.out + failed.err).encode())
    compose.write_text(COMPOSE)


@pytest.fixture(scope="module")
def rotating(lived: tuple[Project, Watch], server: Server) -> Project:
    """Give the project with a secret for each way to a service, each of one service alone."""
    project, _ = lived
    (project.root / "compose.secrets.yaml").write_text(ROTATING)
    (project.root / "envs" / "pin.txt").write_text(PIN)
    project.configure(files=["compose.yaml", "compose.secrets.yaml"], more=GENERATED)
    project.set(WORKER_KEY=WORKER_KEY)
    project.commit()
    project.inv("deploy.bed").expect()
    assert_arrived(project, server, SECRETS | {"WORKER_KEY": WORKER_KEY, "PIN": PIN})
    assert not (project.root / "generated").exists(), "nothing is written in the repository"
    return project


def assert_arrived(project: Project, server: Server, values: dict[str, str]) -> None:
    """Every service has exactly its own secrets, byte for byte."""
    ids = {name: each["id"] for name, each in project.containers(server).items()}

    def read(service: str, path: str) -> bytes:
        argv = ["docker", "exec", server.container, "docker", "exec", ids[service], "cat", path]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    def variables(service: str) -> dict[bytes, bytes]:
        entries = read(service, "/proc/self/environ").split(b"\0")
        return dict(entry.split(b"=", 1) for entry in entries if entry)

    assert variables("api")[b"API_TOKEN"] == values["API_TOKEN"].encode()
    assert read("api", "/run/secrets/signing") == values["SIGNING_KEY"].encode()
    assert read("redis", "/run/secrets/pin") == values["PIN"].encode()
    worker = variables("worker")
    assert worker[b"WORKER_KEY"] == worker[b"RENAMED_KEY"] == values["WORKER_KEY"].encode()
    assert b"API_TOKEN" not in worker


@pytest.mark.parametrize(
    ("secret", "service", "reason"),
    [
        ("API_TOKEN", "api", "secret API_TOKEN changed"),
        ("SIGNING_KEY", "api", "secret file signing changed"),
        ("WORKER_KEY", "worker", "secret WORKER_KEY changed"),
        ("PIN", "redis", "secret file pin changed"),
        ("", "", ""),
    ],
)
def test_a_rotated_secret_recreates_exactly_the_services_that_use_it(
    rotating: Project, server: Server, secret: str, service: str, reason: str
) -> None:
    before = {name: each["id"] for name, each in rotating.containers(server).items()}
    if secret == "PIN":
        (rotating.root / "envs" / "pin.txt").write_text(ROTATED[secret])
    elif secret:
        rotating.set(**{secret: ROTATED[secret]})
    (changes,) = rotating.inv("deploy.plan", "--json").expect().json["changes"].values()
    said = {each["service"]: each["reason"] for each in changes if each["kind"] != "unchanged"}
    assert said == ({service: reason} if secret else {})
    rotating.inv("deploy.bed", "--no-build").expect()
    after = {name: each["id"] for name, each in rotating.containers(server).items()}
    assert {name for name in after if after[name] != before[name]} == ({service} if secret else set())


def test_after_all_rotations_every_secret_is_where_it_belongs_and_nowhere_else(
    rotating: Project, server: Server
) -> None:
    rotating.set(**{name: value for name, value in ROTATED.items() if name != "PIN"})
    (rotating.root / "envs" / "pin.txt").write_text(ROTATED["PIN"])
    rotating.inv("deploy.bed", "--no-build").expect()
    assert_arrived(rotating, server, ROTATED)
    assert_only_private_files_have_secrets(rotating, server)
    assert_containers_show_secrets_in_their_environment_alone(rotating, server)
    for done in rotating.said:
        assert not leaks((done.out + done.err).encode()), " ".join(done.argv[1:])
    # Values of releases that are no longer kept are gone with them.
    kept = server.exec(["ls", rotating.folder("releases")]).stdout.split()
    mounted = "".join(
        server.exec(["cat", rotating.folder("releases", each, "stack.json")]).stdout for each in kept
    )
    for folder in server.exec(["ls", rotating.folder("files")]).stdout.split():
        assert f"/files/{folder}/" in mounted
