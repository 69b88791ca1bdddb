"""A bed: some servers on one network of their own, with a folder that says how to reach them."""

import contextlib
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed.docker import TestbedError, docker, run
from tests.testbed.image import ROOT, isolation, server_image
from tests.testbed.server import Server

LABEL = "windlass.testbed"
BEDS = ROOT / ".testbed"
SRV_SIZE = "512m"
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Testbed:
    """A bed that is up. Use it as a context manager to take it down at the end."""

    __test__ = False

    name: str
    servers: tuple[Server, ...]

    @classmethod
    def up(cls, hosts: int = 1, name: str = "default") -> Self:
        """Start `hosts` servers called server1, server2, … and return when all of them are ready.

        A bed that cannot be started leaves nothing behind. A name in use is a TestbedError.
        """
        _check_name(name, hosts)
        folder = BEDS / name
        if folder.exists() or _objects("container", name):
            raise TestbedError(f"a bed called {name} is there already: take it down, or choose another name")
        image = server_image()
        options = isolation(image)
        try:
            _make_folder(folder)
            public_key = _make_key(folder)
            docker("network", "create", "--label", f"{LABEL}={name}", _full_name(name))
            with ThreadPoolExecutor(max_workers=min(hosts, 8)) as pool:
                starts = [
                    pool.submit(_start, name, f"server{number}", image, options, public_key)
                    for number in range(1, hosts + 1)
                ]
                bed = cls(name, tuple(start.result() for start in starts))
            bed._write()
        except BaseException:
            _remove(name)
            raise
        return bed

    @classmethod
    def load(cls, name: str = "default") -> Self:
        """Return a bed that this checkout started earlier; a TestbedError when there is none."""
        file = BEDS / name / "bed.json"
        if not file.exists():
            known = ", ".join(cls.names()) or "none"
            raise TestbedError(f"no bed called {name} is up here (up: {known})")
        entries = json.loads(file.read_text())
        servers = (Server(**{**entry, "key_path": Path(entry["key_path"])}) for entry in entries)
        return cls(name, tuple(servers))

    @staticmethod
    def names() -> list[str]:
        """Return the names of the beds this checkout has up."""
        return sorted(file.parent.name for file in BEDS.glob("*/bed.json"))

    @property
    def folder(self) -> Path:
        """Where the bed keeps its files."""
        return BEDS / self.name

    @property
    def ssh_config(self) -> Path:
        """The file for `ssh -F FILE server1`: strict host keys, the bed's own key, nothing of the user's."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The servers' host keys, by address and by name."""
        return self.folder / "known_hosts"

    @property
    def key_path(self) -> Path:
        """The private key that logs in to every server, as deploy and as root."""
        return self.folder / "id_ed25519"

    def server(self, name: str) -> Server:
        """Return one server by its name; a TestbedError when there is none."""
        for server in self.servers:
            if server.name == name:
                return server
        names = ", ".join(server.name for server in self.servers)
        raise TestbedError(f"bed {self.name} has no {name}: there is {names}")

    def load_image(self, *references: str) -> None:
        """Copy images of this machine's engine into every server's engine."""
        for reference in references:
            for server in self.servers:
                server.load_image(reference)

    def down(self) -> None:
        """Remove the bed with all it holds: containers, volumes, network, folder; harmless when gone."""
        _remove(self.name)

    @staticmethod
    def remove(name: str) -> None:
        """Take down a bed by its name, also one that was started half or whose folder is lost."""
        _check_name(name)
        _remove(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def _write(self) -> None:
        self.known_hosts.write_text(
            "".join(f"{server.name},{server.address} {server.host_key}\n" for server in self.servers)
        )
        self.ssh_config.write_text("\n".join(_ssh_config_entry(self, server) for server in self.servers))
        entries = [{**asdict(server), "key_path": str(server.key_path)} for server in self.servers]
        (self.folder / "bed.json").write_text(json.dumps(entries, indent=2) + "\n")


def _ssh_config_entry(bed: Testbed, server: Server) -> str:
    return f"""Host {server.name}
    HostName {server.address}
    Port {server.port}
    User {server.user}
    IdentityFile "{bed.key_path}"
    IdentitiesOnly yes
    UserKnownHostsFile "{bed.known_hosts}"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
"""


def _check_name(name: str, hosts: int = 1) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise TestbedError(f"{name!r} cannot name a bed: use a-z, 0-9 and '-', 41 characters at most")
    if hosts < 1:
        raise TestbedError(f"a bed needs at least one server, not {hosts}")


def _full_name(name: str, *parts: str) -> str:
    return "-".join(("windlass-testbed", name, *parts))


def _make_key(folder: Path) -> str:
    private = folder / "id_ed25519"
    comment = _full_name(folder.name)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(private)])
    return private.with_suffix(".pub").read_text().strip()


def _start(bed: str, name: str, image: str, options: tuple[str, ...], public_key: str) -> Server:
    container, volume, label = _full_name(bed, name), _full_name(bed, name, "docker"), f"{LABEL}={bed}"
    docker("volume", "create", "--label", label, volume)
    command = ["run", "--detach", "--name", container, "--hostname", name, "--label", label]
    command += ["--network", _full_name(bed), "--env", f"AUTHORIZED_KEY={public_key}"]
    command += ["--volume", f"{volume}:/var/lib/docker", "--tmpfs", "/run"]
    command += ["--tmpfs", f"/srv:size={SRV_SIZE},exec,mode=0755", *options, image]
    docker(*command)
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = docker("inspect", "--format", form, container)
    server = Server(name, address, BEDS / bed / "id_ed25519", "", container)
    server.wait_until_ready(READY_SECONDS)
    kind, key = server.exec(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()[:2]
    return Server(name, address, server.key_path, f"{kind} {key}", container)


def _objects(kind: str, name: str) -> list[str]:
    every = ["--all"] if kind == "container" else []
    return docker(kind, "ls", *every, "--quiet", "--filter", f"label={LABEL}={name}").split()


def _remove(name: str) -> None:
    for kind, options in (("container", ["--force", "--volumes"]), ("volume", ["--force"]), ("network", [])):
        found = _objects(kind, name)
        if found:
            docker(kind, "rm", *options, *found)
    shutil.rmtree(BEDS / name, ignore_errors=True)
    # Not asked first whether it is empty: another process may start or remove a bed meanwhile.
    with contextlib.suppress(OSError):
        BEDS.rmdir()


def _make_folder(folder: Path) -> None:
    while True:
        BEDS.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileNotFoundError:
            continue  # the last bed of another process took the folder of all beds with it
        return
