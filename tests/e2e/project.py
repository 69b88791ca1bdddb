"""A user's project: a git repository with the sample stack and `envs/`, driven by the real command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.testbed import Server, Testbed

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docker" / "sample"
API_PORT = 8080
# Of a host whose link is cut, so that this is noticed soon; not so soon that a busy machine is taken for one.
IMPATIENT = "keepalive = 2\nconnect_timeout = 6\n"
DATABASE_PASSWORD = """dB'pa"ss$w0rd-Zq7\\x%41#9"""  # pragma: allowlist secret
APP_SECRET = "S3cr3t-Hq8vTn2kLw5x"  # pragma: allowlist secret

TASKS = "from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n"

BASE_TOML = """\
app = "{app}"

[stack]
files = {files}

[deploy]
health_timeout = {health_timeout}
healthy_polls = 2
poll_interval = 0.5
min_free_disk_mb = 50
{deploy}

[deploy.migrate]
service = "api"
command = ["python3", "-m", "app.migrate"]

[databases.main]
service = "db"
name = "app"
user = "app"

[health.checks.api]
kind = "http"
service = "api"
url = "http://127.0.0.1:8080/health"
json_fields = {{ status = "ok" }}
smoke = true
"""

HOST_TOML = """\
[hosts.{name}]
address = "{address}"
port = {port}
user = "deploy"
identity_file = "{key}"
known_hosts = "{known_hosts}"
ssh_config = "envs/ssh_config"
{more}
"""


@dataclass(frozen=True)
class Done:
    """How a command line ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON Lines of stderr."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    @property
    def outcome(self) -> list[tuple[str, ...]]:
        """The rows of the table at the end of a deploy: host, was, is, state."""
        lines = self.out.splitlines()
        head = next(n for n, line in enumerate(lines) if line.split() == ["host", "was", "is", "state"])
        return [tuple(re.split(r"\s{2,}", line.strip())) for line in lines[head + 1 :] if line.strip()]

    def expect(self, code: int = 0) -> Self:
        """Return this if it ended with the code, and never with a traceback or a defect."""
        assert "Traceback" not in self.out + self.err, f"{self}"
        assert self.code == code, f"{self}"
        return self

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}: exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass
class Project:
    """The repository and the servers it deploys to."""

    root: Path
    bed: Testbed = field(repr=False)
    app: str
    images: Mapping[str, str] = field(repr=False)
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    said: list[Done] = field(default_factory=list, repr=False)
    commits: int = 0

    def __post_init__(self) -> None:
        shutil.copytree(SAMPLE, self.root, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "envs").mkdir()
        self.temporary.mkdir()
        (self.root / "tasks.py").write_text(TASKS)
        # The tag says the commit, whatever variables a test tries.
        (self.root / ".gitignore").write_text("/envs/\n/.windlass/\n/secret.txt\n__pycache__/\n")
        # Empty: nothing of the ssh_config of whoever runs the tests.
        (self.root / "envs" / "ssh_config").write_text("")
        (self.root / "secret.txt").write_text(APP_SECRET)
        self.set(
            POSTGRES_PASSWORD=DATABASE_PASSWORD,
            APP_SECRET="${file:secret.txt}",
            ENABLE_ENV_ENDPOINT="1",
            **self.images,
        )
        self.configure()
        self.environment("bed", self.bed.servers[:1])
        self.git("init", "--quiet")
        self.commit()

    def git(self, *words: str) -> str:
        """Run git in the repository."""
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        argv = ["git", "-C", str(self.root), *identity, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        """Change one line of the application, commit it and return the tag images get."""
        self.commits += 1
        file = self.root / "app" / "__init__.py"
        text = (SAMPLE / "app" / "__init__.py").read_text()
        file.write_text(f"{text}\n# change {self.commits} of {self.app}\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", f"Change {self.commits}")
        return self.git("rev-parse", "--short=12", "HEAD")

    def configure(
        self,
        files: Sequence[str] = ("compose.yaml",),
        more: str = "",
        deploy: str = "",
        health_timeout: int = 40,
    ) -> None:
        """Write `envs/base.toml`; `deploy` are lines of its `[deploy]`, `more` is appended."""
        text = BASE_TOML.format(
            app=self.app, files=json.dumps(list(files)), deploy=deploy, health_timeout=health_timeout
        )
        (self.root / "envs" / "base.toml").write_text(f"{text}\n{more}")

    def environment(self, name: str, servers: Sequence[Server], top: str = "", **more: str) -> None:
        """Write `envs/<name>.toml` for some servers; `more` are lines for each host."""
        options = {"known_hosts": str(self.bed.known_hosts), **more}
        extra = options.pop("extra", "")
        hosts = [
            HOST_TOML.format(
                name=server.name,
                address=options.get("address", server.address),
                port=server.port,
                key=server.key_path,
                known_hosts=options["known_hosts"],
                more=extra,
            )
            for server in servers
        ]
        (self.root / "envs" / f"{name}.toml").write_text("\n".join([top, *hosts]))

    def set(self, **variables: str) -> None:
        """Set variables of the stack; an empty value takes one away."""
        self.variables |= variables
        lines = [f"{name}={dotenv(value)}\n" for name, value in self.variables.items() if value]
        (self.root / "envs" / "base.env").write_text("".join(lines))

    def argv(self, *words: str) -> list[str]:
        """Return the command line a user types as `inv …`."""
        return [sys.executable, "-m", "invoke", *words]

    def process_environment(self, **more: str) -> dict[str, str]:
        """Return the process environment of a user who has set nothing up for Windlass or CI."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WINDLASS", "CI"))}
        return kept | {"TMPDIR": str(self.temporary)} | more

    @property
    def temporary(self) -> Path:
        """The temporary folder of all commands."""
        return self.root.parent / "tmp"

    def inv(self, *words: str, timeout: float = 240, before: Sequence[str] = (), **variables: str) -> Done:
        """Run `inv …` in the repository, through another command if one is given."""
        done = subprocess.run(
            [*before, *self.argv(*words)],
            cwd=self.root,
            env=self.process_environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return self.heard(words, done.returncode, done.stdout, done.stderr)

    def heard(self, words: Sequence[str], code: int, out: str, err: str) -> Done:
        """Keep what a command said, for the test that looks for secrets in all of it."""
        done = Done(("inv", *words), code, out, err)
        self.said.append(done)
        return done

    def start(self, *words: str) -> Running:
        """Start `inv …` and return at once."""
        return Running(self, words)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what `deploy.status --json` says, by host."""
        return {each["host"]: each for each in self.inv("deploy.status", "--json").expect().json}

    def folder(self, *names: str) -> str:
        """Return a path below the application's folder on the servers."""
        return "/".join((f"/srv/{self.app}", *names))

    def containers(self, server: Server) -> dict[str, dict[str, str]]:
        """Return id, image and state of each service's container, as the server's own engine says."""
        form = (
            '{"service": {{json (.Label "com.docker.compose.service")}},'
            ' "id": {{json .ID}}, "image": {{json .Image}}, "state": {{json .State}}}'
        )
        filters = ["--filter", f"label=com.docker.compose.project={self.app}"]
        filters += ["--filter", "label=com.docker.compose.oneoff=False"]
        said = server.exec(["docker", "ps", "--all", "--no-trunc", *filters, "--format", form]).stdout
        return {each["service"]: each for each in map(json.loads, said.splitlines())}

    def get(self, server: Server, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        """Ask the API on a server's own loopback address."""
        url = f"http://127.0.0.1:{API_PORT}{path}"
        argv = ["docker", "exec", server.container, "curl", "--silent", "--show-error", "--max-time", "10"]
        return subprocess.run([*argv, *options, url], capture_output=True, check=False)

    def answers(self, server: Server) -> bool:
        """Whether the API says that it is healthy."""
        return b'"ok"' in self.get(server, "/health", "--fail").stdout

    def locked(self, server: Server) -> bool:
        """Whether anything of the deploy lock is left on a server."""
        lock, owner = self.folder("lock"), self.folder("lock.json")
        check = f"test -e {owner} || ! {{ test ! -e {lock} || flock --nonblock {lock} true; }}"
        return server.exec(["bash", "-c", check], check=False).returncode == 0

    def working(self, server: Server) -> bool:
        """Whether a script of a deploy still runs on a server."""
        work = self.folder("work.lock")
        check = f"test -e {work} && ! flock --nonblock {work} true"
        return server.exec(["bash", "-c", check], check=False).returncode == 0

    def reset(self, server: Server) -> None:
        """Take the application off a server, its data too; its images stay."""
        mine = f"label=com.docker.compose.project={self.app}"
        script = (
            f"docker ps --all --quiet --filter {mine} | xargs --no-run-if-empty docker rm --force --volumes\n"
            f"docker volume ls --quiet --filter {mine} | xargs --no-run-if-empty docker volume rm --force\n"
            f"docker network ls --quiet --filter {mine} | xargs --no-run-if-empty docker network rm\n"
            f"rm -rf {self.folder()}\n"
        )
        server.exec(["bash", "-c", script])

    def close(self) -> None:
        """Take everything away that the project made: on its servers and among this machine's images."""
        for server in self.bed.servers:
            server.heal_network()
            server.free_disk()
            self.reset(server)
        own = ["docker", "image", "ls", "--quiet", "--filter", f"label=windlass.app={self.app}"]
        found = set(subprocess.run(own, capture_output=True, text=True, check=True).stdout.split())
        if found:
            subprocess.run(["docker", "image", "rm", "--force", *found], capture_output=True, check=False)
        shutil.rmtree(self.root.parent)


class Running:
    """A command that runs, its events read as they come."""

    def __init__(self, project: Project, words: Sequence[str]) -> None:
        self._project = project
        self._words = tuple(words)
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            project.argv(*words),
            cwd=project.root,
            env=project.process_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first event that fits; the command must run with `--json`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if line.startswith("{") and wanted(event := json.loads(line)):
                return dict(event)
        raise AssertionError(f"it ended without the event: {self.finish()}")

    def wait_for_phase(self, phase: str, state: str = "started") -> None:
        """Return as soon as a phase began (or ended)."""
        self.wait_for(lambda event: event.get("phase") == phase and event.get("state") == state)

    def kill(self) -> Done:
        """End it as `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        return self.finish()

    def finish(self, timeout: float = 240) -> Done:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=timeout)
        return self._project.heard(self._words, self.process.returncode, out, "".join(self._lines) + err)


def dotenv(value: str) -> str:
    """Write a value as `envs/*.env` reads it back byte for byte; a reference stays one."""
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until something holds and return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"after {seconds:g} s still not: {what}"
        time.sleep(0.1)
    return time.monotonic() - began
