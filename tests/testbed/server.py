"""One server of a bed: how to reach it, what to ask it, and how to break it."""

import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.docker import TestbedError, docker, pipe, run

SSHD_LOG = "/var/log/sshd.log"
BALLAST = ".windlass-testbed-ballast"
# Forwarded packets (published ports) pass these two chains as well as the server's own: nothing slips by.
CUT_RULES = (("PREROUTING", "-i"), ("POSTROUTING", "-o"))


@dataclass(frozen=True)
class Server:
    """A server: `ssh -i key_path -p port user@address`; root may log in with the same key."""

    name: str
    address: str
    key_path: Path
    host_key: str
    container: str
    port: int = 22
    user: str = "deploy"

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` on the server, not over SSH, and return what it said; works while the network is cut.

        `timeout` is in seconds. With `check`, an exit code other than 0 is a TestbedError.
        """
        head = ["docker", "exec", "--interactive", "--user", user, self.container]
        return run([*head, *argv], stdin=stdin or "", check=check, timeout=timeout)

    def load_image(self, reference: str) -> None:
        """Copy an image of this machine's engine into the server's engine, under the same name."""
        pipe(["docker", "save", reference], ["docker", "exec", "-i", self.container, "docker", "load"])

    # --- what happened

    def sshd_log(self, since: int = 0) -> str:
        """Return the sshd log (LogLevel VERBOSE) from byte `since` on; see `mark`."""
        return self.exec(["tail", "--bytes", f"+{since + 1}", SSHD_LOG]).stdout

    def mark(self) -> int:
        """Return the sshd log's size in bytes: everything logged from now on is past it."""
        return int(self.exec(["stat", "--format", "%s", SSHD_LOG]).stdout)

    def count_ssh_commands(self, since: int = 0) -> int:
        """Count the commands, shells and subsystems clients asked sshd for since the mark `since`."""
        return self.sshd_log(since).count("Starting session:")

    def count_ssh_connections(self, since: int = 0) -> int:
        """Count the connections that logged in since the mark `since`."""
        return self.sshd_log(since).count("Accepted publickey for")

    def log(self) -> str:
        """Return the last lines of all the server's logs, for the message of a failure."""
        said = run(["docker", "logs", "--tail", "20", self.container], check=False)
        files = "/var/log/dockerd.log /var/log/sshd.log"
        tails = self.exec(["sh", "-c", f"tail -n 20 {files} 2>&1"], check=False)
        return "\n".join((said.stdout + said.stderr, tails.stdout)).strip()

    # --- faults

    def pause(self) -> None:
        """Freeze every process on the server, sshd included: connections stay open and nothing answers."""
        docker("pause", self.container)

    def unpause(self) -> None:
        """Let the server run on."""
        docker("unpause", self.container)

    def cut_network(self) -> None:
        """Drop every packet to and from the server in silence, as a pulled cable does; `exec` still works."""
        # In one go, what comes in first: each `docker exec` takes a moment in which the server goes on.
        rules = [*_rules("--delete", " 2>/dev/null || true"), *_rules("--insert")]
        self.exec(["bash", "-ec", "; ".join(rules)])

    def heal_network(self) -> None:
        """Undo `cut_network`; harmless when nothing is cut."""
        self.exec(["bash", "-c", "; ".join(_rules("--delete"))], check=False)

    def fill_disk(self, path: str = "/srv", leave: int = 0) -> None:
        """Fill the file system that holds the folder `path` until `leave` bytes are free.

        /srv is a small file system in memory; anything that is not of a limited size is refused.
        """
        kind = self.exec(["stat", "--file-system", "--format", "%T", path]).stdout.strip()
        if kind != "tmpfs":
            raise TestbedError(
                f"{self.name}:{path} is on {kind}, which may be this machine's own disk: fill /srv instead"
            )
        self.free_disk(path)
        free = int(
            self.exec(
                ["sh", "-c", f"df --output=avail --block-size=1 {shlex.quote(path)} | tail -n 1"]
            ).stdout
        )
        # fallocate on tmpfs takes whole pages only from what is really free.
        self.exec(["fallocate", "--length", str(max(free - leave, 1)), f"{path}/{BALLAST}"])

    def free_disk(self, path: str = "/srv") -> None:
        """Undo `fill_disk`; harmless when nothing is filled."""
        self.exec(["rm", "--force", f"{path}/{BALLAST}"])

    def drop_ssh_connections(self) -> None:
        """Kill every open SSH session at once; sshd listens on, and what the sessions started may live on."""
        self.exec(["pkill", "--signal", "KILL", "--exact", "sshd-session"], check=False)

    def stop_sshd(self) -> None:
        """Stop listening for SSH: new connections are refused, open ones live on."""
        self.exec(["pkill", "--exact", "sshd"])
        wait_until(
            lambda: self.exec(["pgrep", "--exact", "sshd"], check=False).returncode != 0,
            60,
            lambda: "sshd goes on",
        )

    def start_sshd(self) -> None:
        """Listen for SSH again."""
        self.exec(["/usr/sbin/sshd", "-E", SSHD_LOG])
        # It goes to the background before it listens.
        wait_until(self._listens, 60, lambda: f"sshd does not listen:\n{self.log()}")

    def restart_sshd(self) -> None:
        """Restart the listening sshd; open sessions live on, as on a real server."""
        self.stop_sshd()
        self.start_sshd()

    def restart(self, seconds: float = 60) -> None:
        """Reboot the server in order and wait until it is ready, for `seconds` at most; /srv survives."""
        self.exec(["tar", "-C", "/", "-cpf", "/var/lib/srv.tar", "srv"])
        docker("restart", "--time", "30", self.container)
        self.wait_until_ready(seconds)

    def is_ready(self) -> bool:
        """Whether the server's engine answers and sshd listens."""
        probe = "docker info >/dev/null 2>&1"
        return self._listens() and self.exec(["bash", "-c", probe], check=False).returncode == 0

    def _listens(self) -> bool:
        probe = "exec 3<>/dev/tcp/127.0.0.1/22 && read -t 2 banner <&3"
        return self.exec(["bash", "-c", probe], check=False).returncode == 0

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until `is_ready`, for `seconds` at most; then a TestbedError with the server's logs."""
        wait_until(
            self.is_ready, seconds, lambda: f"{self.name} is not ready after {seconds:g} s:\n{self.log()}"
        )


def _rules(action: str, end: str = "") -> list[str]:
    return [
        f"iptables --wait --table mangle {action} {chain} {direction} eth0 --jump DROP{end}"
        for chain, direction in CUT_RULES
    ]


def wait_until(condition: Callable[[], bool], seconds: float, message: Callable[[], str]) -> None:
    """Poll `condition` until it holds; after `seconds`, a TestbedError with `message`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TestbedError(message())
        time.sleep(0.1)
