"""The quickstart: a real project in `.windlass/quickstart`, driven by the same commands a user types."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
# A second quickstart on one machine needs a place and a name of its own: the tests run beside a user's.
PROJECT = Path(os.environ.get("WINDLASS_QUICKSTART_FOLDER") or ROOT / ".windlass" / "quickstart").absolute()
APP = os.environ.get("WINDLASS_QUICKSTART_APP") or "windlass-quickstart"
# Set where this run had to be given group docker, which the user's shell has not.
REGROUPED = bool(os.environ.get("WINDLASS_RERUN"))
FIRST_PORT = 8080
PAUSE_SECONDS = 0.02
IMAGES = ("BASE_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")

_BASE_TOML = f"""\
app = "{APP}"

[stack]
files = ["docker/compose.yaml"]

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
url = "http://127.0.0.1:PORT/health"
json_fields = {{ status = "ok", database = "ok", redis = "ok" }}
smoke = true
"""
_LOCAL_TOML = """\
default = true
directory = ".windlass/local"

[deploy]
poll_interval = 0.5

[hosts.here]
transport = "local"
"""
_TASKS = 'from windlass.tasks import namespace as ns\n\n__all__ = ["ns"]\n'


class Failed(Exception):
    """A step did not do what it should."""


@dataclass
class Step:
    """A step that was run: what it was, how long it took in seconds, and what came of it."""

    what: str
    seconds: float = 0.0
    came: str = ""


@dataclass
class Report:
    """Runs the steps and keeps what came of each."""

    console: Console
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """Announce a step, time it, and keep it."""
        step = Step(what)
        self.console.rule(f"[bold]{len(self.steps) + 1}. {what}", align="left")
        began = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = time.monotonic() - began
            self.steps.append(step)

    def table(self) -> None:
        """Print what every step did."""
        table = Table("step", "seconds", "result", box=None, pad_edge=False)
        for step in self.steps:
            table.add_row(step.what, f"{step.seconds:.1f}", step.came)
        self.console.print()
        self.console.print(table)


def main() -> int:
    """Run the quickstart, or remove it with `--down`."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    report = Report(console)
    try:
        with alone():
            if "--down" in sys.argv[1:]:
                down(console)
                return 0
            run(report)
    except (Failed, OSError, ValueError, subprocess.CalledProcessError) as error:
        if report.steps:
            report.table()
        console.print(f"\nerror: {sentence(error)}", style="bold red", markup=False)
        return 1
    report.table()
    console.print(_next_steps(), markup=False)
    return 0


def sentence(error: Exception) -> str:
    """Return what went wrong, for a person: a program, a request or a file that failed is no traceback."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"{shlex.join(map(str, error.cmd))} ended with exit code {error.returncode}"
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url} answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"the application does not answer: {error.reason}"
    return str(error) or type(error).__name__


@contextmanager
def alone() -> Iterator[None]:
    """Refuse to run beside another run of the same name: both would change the same containers."""
    lock = Path(tempfile.gettempdir()) / f"{APP}.{os.getuid()}.lock"
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Failed(f"another quickstart runs here ({file.read().strip()}): wait for its end") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} in {ROOT}\n")
        file.flush()
        yield


def run(report: Report) -> None:
    """Run every step of the main job, on a project that stays for the user to look at."""
    with report.step("make a project: the sample stack, envs/ and tasks.py") as step:
        port = make_project()
        step.came = f"{place()}, HTTP on 127.0.0.1:{port}"
    with report.step("deploy the first release: inv deploy.local") as step:
        release("one")
        step.came = outcome(inv_json("deploy.local"))
    with report.step("health: inv health.check") as step:
        inv("health.check")
        step.came = "every service is healthy"
    with report.step("write data") as step:
        compose_exec("api", "python3", "-m", "app.seed", "--rows", "2000")
        order = post(port, "/orders", {"item": "first", "quantity": 1})
        step.came = f"2,000 seeded orders and one by HTTP, id {order['id']}"
    with report.step("deploy a new release while requests run: inv deploy.local") as step:
        release("two")
        with load(port) as counted:
            text = outcome(inv_json("deploy.local"))
        step.came = f"{text}; {counted}"
    with report.step("back the database up: inv db.backup") as step:
        backup = inv_json("db.backup")
        tables = backup["tables"]
        assert isinstance(tables, dict)  # noqa: S101
        step.came = f"{backup['id']}, {sum(tables.values())} rows"
    with report.step("prove the backup readable: inv backup.verify --level read") as step:
        inv("backup.verify", "--level", "read")
        step.came = "SHA-256 and every byte of the archive"
    with report.step("restore it beside the live one: inv db.restore --into restored") as step:
        copy = f"restored_{secrets.token_hex(3)}"
        inv("db.restore", "--into", copy)
        compose_exec("db", "dropdb", "--username", "app", copy)
        step.came = "row counts equal those of the backup; the copy is removed again"
    with report.step("go back: inv deploy.rollback") as step:
        step.came = outcome(inv_json("deploy.rollback"))
    with report.step("what is true now: inv deploy.status") as step:
        inv("deploy.status")
        version = get(port, "/version")["version"]
        if get(port, f"/orders/{order['id']}")["id"] != order["id"]:
            raise Failed("the order written before the new release is gone")
        step.came = f"version {version} answers, the data is there"


def place() -> str:
    """Return the project's folder as a person types it."""
    return str(PROJECT.relative_to(ROOT) if PROJECT.is_relative_to(ROOT) else PROJECT)


def make_project() -> int:
    """Write the project, or reuse the one that is there; return its HTTP port."""
    if not PROJECT.exists() and (left := ours("volume")):
        # Its database has a password that only the lost folder knew.
        raise Failed(
            f"{' and '.join(left)} are left of a quickstart in another folder: "
            "`scripts/quickstart --down`, there or here, removes them with all their data"
        )
    PROJECT.mkdir(parents=True, exist_ok=True)
    port = _port()
    shutil.rmtree(PROJECT / "docker", ignore_errors=True)
    shutil.copytree(
        ROOT / "docker" / "sample", PROJECT / "docker", ignore=shutil.ignore_patterns("__pycache__")
    )
    (PROJECT / "envs").mkdir(exist_ok=True)
    (PROJECT / "tasks.py").write_text(_TASKS)
    (PROJECT / "envs" / "base.toml").write_text(_BASE_TOML.replace("PORT", str(port)))
    (PROJECT / "envs" / "local.toml").write_text(_LOCAL_TOML)
    (PROJECT / ".gitignore").write_text(".windlass/\nsecrets/\n")
    lines = [f"{name}={os.environ[name]}" for name in IMAGES if os.environ.get(name)]
    for name in ("POSTGRES_PASSWORD", "APP_SECRET"):
        lines.append(f"{name}=${{file:{_secret(name).relative_to(PROJECT)}}}")
    lines += [f"API_PORT={port}"]
    (PROJECT / "envs" / "base.env").write_text("\n".join(lines) + "\n")
    if not (PROJECT / ".git").is_dir():
        git("init", "--quiet")
    return port


def _secret(name: str) -> Path:
    """Return the 0600 file of a secret, made on the first run and kept: the database remembers it."""
    path = PROJECT / "secrets" / name.lower()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path


def _port() -> int:
    """Return the port of an earlier run, or the first free one."""
    kept = PROJECT / ".windlass" / "port"
    if kept.is_file():
        return int(kept.read_text())
    port = next(port for port in range(FIRST_PORT, FIRST_PORT + 1000) if _is_free(port))
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def release(name: str) -> None:
    """Change the sample application and commit it, so that there is a new release to deploy."""
    note = f"# release {name} of {time.strftime('%Y-%m-%d %H:%M:%S')}, {secrets.token_hex(4)}\n"
    module = PROJECT / "docker" / "app" / "__init__.py"
    module.write_text((ROOT / "docker" / "sample" / "app" / "__init__.py").read_text() + note)
    with_version = PROJECT / "envs" / "local.env"
    with_version.write_text(f"APP_VERSION={name}\n")
    git("add", "--all")
    git(
        "-c", "user.name=quickstart", "-c", "user.email=quickstart@localhost", "commit", "--quiet", "-m", name
    )


def git(*words: str) -> None:
    """Run git in the project."""
    subprocess.run(["git", "-C", str(PROJECT), *words], check=True)


def inv(*words: str) -> None:
    """Run a task as a user does, its output as it is."""
    print(f"$ inv {' '.join(words)}", flush=True)  # noqa: T201
    if subprocess.run(_argv(*words), cwd=PROJECT, env=_environ(), check=False).returncode:
        raise Failed(f"inv {' '.join(words)} failed; its own words are above")


def inv_json(*words: str) -> dict[str, object]:
    """Run a task with `--json`, its progress as it is, and return its result."""
    print(f"$ inv {' '.join(words)}", flush=True)  # noqa: T201
    child = subprocess.Popen(
        _argv(*words, "--json"),
        cwd=PROJECT,
        env=_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stderr is not None  # noqa: S101
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(child.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    for line in child.stderr:
        _show(line)
    reader.join()
    if child.wait() != 0:
        raise Failed(f"inv {' '.join(words)} ended with exit code {child.returncode}")
    result: dict[str, object] = json.loads("".join(said))
    return result


def _show(line: str) -> None:
    """Show an event of a task shortly: phases, warnings and errors."""
    try:
        event = json.loads(line)
    except ValueError:
        sys.stderr.write(line)
        return
    if event.get("event") == "PhaseChanged" and event["state"] != "started":
        detail = f": {event['detail']}" if event["detail"] else ""
        sys.stderr.write(f"  {event['phase']} {event['state']}{detail} ({event['seconds']:.1f} s)\n")
    elif event.get("event") == "Notice" and event["level"] != "info":
        sys.stderr.write(f"  {event['level']}: {event['text']}\n")


def compose_exec(service: str, *words: str) -> None:
    """Run a command in a running container of the stack."""
    argv = ["docker", "compose", "-p", APP, "exec", "-T", service, *words]
    if subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode:
        raise Failed(f"{' '.join(words)} failed in {service}")


def _argv(*words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "inv"), *words]


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}


def outcome(result: dict[str, object]) -> str:
    """Return what a deploy did, from its JSON result."""
    hosts = result["hosts"]
    assert isinstance(hosts, list)  # noqa: S101
    return ", ".join(f"{row['host']} runs {row['now']}" for row in hosts)


@dataclass
class Counted:
    """Requests counted while a deploy ran, and the longest time without an answer, in seconds."""

    answered: int = 0
    failed: int = 0
    longest: float = 0.0

    def __str__(self) -> str:
        total = self.answered + self.failed
        return (
            f"{self.failed} of {total} requests failed, longest gap {self.longest:.1f} s (recreate in place)"
        )


@contextmanager
def load(port: int) -> Iterator[Counted]:
    """Ask for the version again and again until the block ends, and count the answers."""
    counted, stop = Counted(), threading.Event()

    def ask() -> None:
        last = time.monotonic()
        while not stop.is_set():
            try:
                get(port, "/version", timeout=2)
                counted.answered += 1
                counted.longest = max(counted.longest, time.monotonic() - last)
                last = time.monotonic()
            except (OSError, ValueError, http.client.HTTPException):
                # The last: a container that is stopped may break off in the middle of an answer.
                counted.failed += 1
            stop.wait(PAUSE_SECONDS)
        counted.longest = max(counted.longest, time.monotonic() - last)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        stop.set()
        thread.join()


def get(port: int, path: str, timeout: float = 10) -> dict[str, object]:
    """Ask the sample application and return its JSON answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
        data: dict[str, object] = json.load(answer)
    return data


def post(port: int, path: str, body: dict[str, object]) -> dict[str, object]:
    """Send JSON to the sample application and return its JSON answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            data: dict[str, object] = json.load(answer)
    except urllib.error.URLError as error:
        raise Failed(f"POST {path} failed: {error}") from None
    return data


def down(console: Console) -> None:
    """Remove everything the quickstart made: containers, volumes, network, images, and its folder."""
    removals = {
        "container": ["rm", "--force", "--volumes"],
        "volume": ["volume", "rm", "--force"],
        "network": ["network", "rm"],
        "image": ["image", "rm", "--force"],
    }
    for kind, removal in removals.items():
        found = ours(kind)
        if found:
            subprocess.run(["docker", *removal, *found], check=True, stdout=subprocess.DEVNULL)
        console.print(f"removed {len(found)} {kind}{'' if len(found) == 1 else 's'}")
    shutil.rmtree(PROJECT, ignore_errors=True)
    console.print(f"removed {place()}")


def ours(kind: str) -> list[str]:
    """Return what Docker has of the quickstart: containers, volumes, networks or images."""
    label = "windlass.app" if kind == "image" else "com.docker.compose.project"
    every = ["--all"] if kind == "container" else []
    argv = ["docker", kind, "ls", *every, "--quiet", "--filter", f"label={label}={APP}"]
    return sorted(set(subprocess.check_output(argv, text=True).split()))


def _next_steps() -> str:
    inv_path = os.path.relpath(_argv()[0], PROJECT)
    tries = ("--list", "deploy.history", "deploy.plan", "deploy.logs --service api", "backup.list")
    return "\n".join(
        [
            "",
            "What to try next:",
            *(["  newgrp docker      this login is older than your membership"] if REGROUPED else []),
            f"  cd {place()}",
            *(f"  {inv_path} {words}" for words in tries),
            "  cd - && scripts/quickstart --down      remove all of this",
            "Your own stack: docs/tutorial.md, or `windlass init` in its repository.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
