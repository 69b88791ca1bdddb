"""Runs every command of README.md, docs/tutorial.md and docs/operations.md, in order, on a real server."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.project import DATABASE_PASSWORD, SAMPLE, dotenv
from tests.pages import NORMAL, ROOT, Block, Step, blocks, steps, unprinted
from tests.testbed import Server, Testbed

EXAMPLE_ADDRESS = "203.0.113.10"
EXAMPLE_RELEASE = "20260301T120000Z-1a2b3c4d5e6f"
EXAMPLE_FINGERPRINT = "SHA256:…"
SECRETS_FOLDER = "~/.shop"
# These two have tests of their own: test_quickstart.py, and the run that this test is a part of.
ELSEWHERE = {
    "./scripts/quickstart": "./scripts/quickstart --help",
    "./scripts/test": "bash -n ./scripts/test",
}
# The bed's /srv is small.
SMALL_DISK = "\n[deploy]\nmin_free_disk_mb = 50\n"
COMMAND_SECONDS = 400


class Shell:
    """A bash that runs one command after another, as a person's does; its folder and variables stay."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._mark = f"@@{secrets.token_hex(8)}"
        self._child = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str, *, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Return the exit code of a command and all it printed."""
        assert self._child.stdin is not None
        text = f"{{\n{command}\n}} </dev/null\nprintf '\\n{self._mark} %d\\n' $?\n"
        self._child.stdin.write(text.encode())
        self._child.stdin.flush()
        said = self._read_to_mark(time.monotonic() + seconds, command)
        output, _, code = said.rpartition(self._mark)
        return int(code), output

    def _read_to_mark(self, deadline: float, command: str) -> str:
        assert self._child.stdout is not None
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while re.search(rb"@@[0-9a-f]{16} \d+\n\Z", found) is None:
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"{command}: still running\n{found.decode(errors='replace')}")
                chunk = os.read(self._child.stdout.fileno(), 65536)
                if not chunk:
                    raise AssertionError(f"{command}: failed\n{found.decode(errors='replace')}")
                found += chunk
        return found.decode(errors="replace")

    def close(self) -> None:
        """End it and all it started."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


@dataclass
class Reader:
    """Somebody who reads a page and types what it says: a machine with a login on a server."""

    home: Path
    server: Server
    app: str
    images: Mapping[str, str]
    environ: dict[str, str]
    shell: Shell = field(init=False)

    def __post_init__(self) -> None:
        self.shell = Shell(self.home, self.environ)

    @property
    def project(self) -> Path:
        return self.home / self.app

    def fingerprint(self) -> str:
        said = self.server.exec(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
        return said.split()[1]

    def adapted(self, text: str) -> str:
        """Return a text of a page with the reader's own names in place of the example's."""
        text = text.replace(SECRETS_FOLDER, str(self.home / "secrets")).replace(
            EXAMPLE_ADDRESS, self.server.address
        )
        text = re.sub(r"\bshop\b", self.app, text)
        text = text.replace(EXAMPLE_FINGERPRINT, self.fingerprint())
        for words, others in ELSEWHERE.items():
            text = re.sub(rf"^{re.escape(words)}$", others, text, flags=re.MULTILINE)
        if f"--to {EXAMPLE_RELEASE}" in text:
            text = text.replace(f"--to {EXAMPLE_RELEASE}", f"--to {self.current()}")
        return text

    def current(self) -> str:
        link = self.server.exec(["readlink", f"/srv/{self.app}/current"]).stdout.strip()
        return Path(link).name

    def run(self, block: Block) -> None:
        """Do what a block says, and check that it does what the page says."""
        for step in steps(block.language, self.adapted(block.text)):
            code, output = self.type(block, step)
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            assert "Traceback" not in output, said
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"
            if "windlass init" in step.command:
                self.fit()

    def type(self, block: Block, step: Step) -> tuple[int, str]:
        if block.place == "server":
            done = self.server.exec(["bash", "-ec", step.command], check=False)
            return done.returncode, done.stdout + done.stderr
        if block.place == "checkout":
            return self.shell.run(f"( set -e; cd {self.home}/windlass\n{step.command}\n)")
        if block.language == "sh":
            # Not in a shell below it: `cd` and what is activated stay. A failure ends the shell.
            return self.shell.run(f"set -e\n{step.command}\nset +e")
        return self.shell.run(step.command)

    def fit(self) -> None:
        """Name the images this machine has, which may have no registry, and ask for less disk."""
        with (self.project / "envs" / "base.env").open("a") as file:
            file.writelines(f"{name}={image}\n" for name, image in self.images.items())
        with (self.project / "envs" / "prod.toml").open("a") as file:
            file.write(SMALL_DISK)

    def close(self) -> None:
        """Take away all that was deployed, there and here."""
        self.shell.close()
        mine = f"--quiet --filter label=com.docker.compose.project={self.app}"
        removals = [f"docker ps --all {mine} | xargs --no-run-if-empty docker rm --force --volumes"]
        removals += [
            f"docker {kind} ls {mine} | xargs --no-run-if-empty docker {kind} rm"
            for kind in ("volume", "network")
        ]
        self.server.exec(["bash", "-c", "\n".join([*removals, f"rm -rf /srv/{self.app}"])])
        listing = ["docker", "image", "ls", "--quiet", "--filter", f"label=windlass.app={self.app}"]
        found = set(subprocess.check_output(listing, text=True).split())
        if found:
            subprocess.run(["docker", "image", "rm", "--force", *found], capture_output=True, check=False)


@contextmanager
def agent(key: Path) -> Iterator[dict[str, str]]:
    """Run an ssh-agent that holds a key, as a person's does."""
    said = subprocess.check_output(["ssh-agent", "-s"], text=True)
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", said))
    try:
        subprocess.run(["ssh-add", "-q", str(key)], env=os.environ | found, check=True)
        yield found
    finally:
        subprocess.run(["ssh-agent", "-k"], env=os.environ | found, capture_output=True, check=False)


MakeReader = Callable[[], Reader]


@pytest.fixture
def make_reader(bed: Testbed, images: dict[str, str], tmp_path: Path) -> Iterator[MakeReader]:
    made: list[Reader] = []
    with agent(bed.key_path) as sockets:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WINDLASS", "CI", "VIRTUAL_ENV", "NOX", "PYTHON", "PYTEST", "GIT_"))
        }
        identity = {"AUTHOR_NAME": "Test", "AUTHOR_EMAIL": "t@example.org"}
        identity |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in identity.items()}
        environ = kept | sockets | {f"GIT_{name}": value for name, value in identity.items()}

        def make() -> Reader:
            app = f"shop-{secrets.token_hex(3)}"
            made.append(Reader(tmp_path, bed.servers[0], app, images, environ))
            return made[-1]

        yield make
        for reader in made:
            reader.close()


def copy_checkout(target: Path) -> None:
    """Copy the checkout as a clone has it; installing it leaves files behind."""
    listed = subprocess.check_output(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def copy_sample(target: Path) -> None:
    shutil.copytree(SAMPLE, target, ignore=shutil.ignore_patterns("__pycache__"))


def all_blocks(page: str) -> list[Block]:
    return list(blocks(page, (ROOT / page).read_text()))


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(make_reader: MakeReader) -> None:
    reader = make_reader()
    copy_checkout(reader.home / "windlass")
    copy_sample(reader.project)
    reader.shell.run(f"cd {reader.project} && git init --quiet && git add . && git commit --quiet -m One")
    reader.shell.run(f"export APP_SECRET=Vn3kq8Tz2LwHd7x POSTGRES_PASSWORD={dotenv(DATABASE_PASSWORD)}")
    for block in all_blocks("README.md"):
        reader.run(block)


@pytest.mark.timeout(1200)
def test_every_command_of_the_tutorial_runs(make_reader: MakeReader) -> None:
    reader = make_reader()
    copy_checkout(reader.home / "windlass")
    for block in all_blocks("docs/tutorial.md"):
        reader.run(block)
    left = reader.server.exec(["docker", "volume", "ls", "--quiet", "--filter", f"name={reader.app}"]).stdout
    assert left == ""


# --- docs/operations.md: one situation after another, on a stack that runs

Situation = Callable[[Reader], AbstractContextManager[None]]

TASKS = "from windlass.tasks import namespace as ns\n\n__all__ = ['ns']\n"


def deploy_first(reader: Reader) -> None:
    """Bring the stack of the tutorial to the server, with the tutorial's own `envs/base.toml`."""
    copy_sample(reader.project)
    (reader.project / "envs").mkdir()
    (reader.project / "tasks.py").write_text(TASKS)
    (reader.project / ".gitignore").write_text(".windlass/\n")
    (wanted,) = (block for block in all_blocks("docs/tutorial.md") if "cat > envs/base.toml" in block.text)
    folder = Path(sys.executable).parent
    reader.shell.run(f"export PATH={folder}:$PATH; cd {reader.project}")
    reader.run(wanted)
    (reader.project / "envs" / "prod.toml").write_text(
        f'protected = true\n\n[hosts.server1]\naddress = "{reader.server.address}"\nuser = "deploy"\n'
    )
    (reader.project / "envs" / "base.env").write_text(
        f"POSTGRES_PASSWORD={dotenv(DATABASE_PASSWORD)}\nAPP_SECRET=Vn3kq8Tz2LwHd7x\n"
    )
    reader.fit()
    for command in (
        "git init --quiet && git add . && git commit --quiet -m One",
        f"inv host.trust --fingerprint {reader.fingerprint()}",
        "inv deploy.prod --yes",
    ):
        code, output = reader.shell.run(command)
        assert code == 0, output


@contextmanager
def variable(reader: Reader, line: str) -> Iterator[None]:
    """Have a line in `envs/prod.env`."""
    file = reader.project / "envs" / "prod.env"
    before = file.read_text() if file.exists() else ""
    file.write_text(f"{before}{line}\n")
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def deploying(reader: Reader, until: str) -> Iterator[subprocess.Popen[str]]:
    """Run a deploy of a change until it has printed something; in the end all of it is killed."""
    with variable(reader, f"GREETING={secrets.token_hex(4)}"):
        child = subprocess.Popen(
            [sys.executable, "-m", "invoke", "deploy.prod", "--yes"],
            cwd=reader.project,
            env=reader.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stderr is not None
        try:
            assert any(until in line for line in child.stderr), f"the deploy never printed {until}"
            yield child
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stderr.close()


@contextmanager
def killed(reader: Reader) -> Iterator[None]:
    with deploying(reader, "… health"):
        pass
    yield


@contextmanager
def held(reader: Reader) -> Iterator[None]:
    with deploying(reader, "✓ lock") as child:
        os.killpg(child.pid, signal.SIGSTOP)
        yield


@contextmanager
def unreachable(reader: Reader) -> Iterator[None]:
    reader.server.stop_sshd()
    try:
        yield
    finally:
        reader.server.start_sshd()


@contextmanager
def other_key(reader: Reader) -> Iterator[None]:
    other = reader.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    kind, key, *_ = other.with_suffix(".pub").read_text().split()
    (reader.project / "envs" / "known_hosts").write_text(f"{reader.server.address} {kind} {key}\n")
    yield


@contextmanager
def failing_migration(reader: Reader) -> Iterator[None]:
    with variable(reader, "FAIL_MIGRATION=1"):
        yield


@contextmanager
def full_disk(reader: Reader) -> Iterator[None]:
    reader.server.fill_disk("/srv", leave=30 << 20)
    try:
        yield
    finally:
        reader.server.free_disk("/srv")


@contextmanager
def a_backup(reader: Reader) -> Iterator[None]:
    code, output = reader.shell.run("inv db.backup")
    assert code == 0, output
    yield


SITUATIONS: dict[str, Situation] = {
    "killed": killed,
    "held": held,
    "unreachable": unreachable,
    "other key": other_key,
    "failing migration": failing_migration,
    "full disk": full_disk,
    "a backup": a_backup,
}


@pytest.mark.timeout(1200)
def test_every_command_of_the_operations_page_runs_in_its_situation(make_reader: MakeReader) -> None:
    reader = make_reader()
    deploy_first(reader)
    section = ""
    with ExitStack() as situation:
        for block in all_blocks("docs/operations.md"):
            # A situation lasts until another one is given, or to the end of its section.
            if block.given or block.section != section:
                situation.close()
            section = block.section
            if block.given and block.given != NORMAL:
                situation.enter_context(SITUATIONS[block.given](reader))
            reader.run(block)
