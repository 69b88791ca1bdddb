"""A server behind SSH: control through one Fabric connection, bulk data through the OpenSSH client.

paramiko moves data at about half the speed and 2.6 times the CPU of the OpenSSH client, so bulk
streams use that where it is installed, and a raw paramiko channel where it is not.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import paramiko

from windlass.environment.model import HostSettings
from windlass.errors import HostUnreachable, LinkDropped
from windlass.hosts import address as addresses
from windlass.hosts.base import Completed, OnLine, Payload, Process, Redact
from windlass.hosts.channels import GONE, SIGNALLED, ChannelProcess, bridge, end, is_alive
from windlass.hosts.connection import VerifiedConnection, connect
from windlass.hosts.files import put_script
from windlass.hosts.framing import Background, LineSplitter, checked, collect, frame, shell_words
from windlass.hosts.processes import ChildProcess
from windlass.shell import Command, Script

_OPEN_TIMEOUT = 15.0
# ssh(1) ends with 255 for its own errors and for every signal; only a shell there can tell these apart.
_HONEST = '"$@"; c=$?; [ $c -ne 255 ] || c=254; exit $c'


class SshHost:
    """A server.

    Args:
        name: the host's key in `[hosts]`.
        settings: how to reach it.
        root: the repository, for relative paths in the settings.
        redact: takes secrets out of a text before anyone sees it.
    """

    def __init__(self, name: str, settings: HostSettings, root: Path, redact: Redact) -> None:
        self._name = name
        self._settings = settings
        self._root = root
        self._redact = redact
        self._connection: VerifiedConnection | None = None
        self._lock = threading.Lock()
        self.address = addresses.resolve(name, settings, root)
        self.known_hosts = known_hosts_files(settings, root)

    @property
    def name(self) -> str:
        """The host's key in `[hosts]`."""
        return self._name

    def _transport(self) -> paramiko.Transport:
        """Return the open transport, connecting first when there is none."""
        with self._lock:
            if self._connection is None or not self._connection.is_connected:
                self._connection = connect(
                    self._name,
                    self.address,
                    self.known_hosts,
                    timeout=self._settings.connect_timeout,
                    keepalive=self._settings.keepalive,
                )
            transport: paramiko.Transport = self._connection.transport
            return transport

    def _channel(self, words: list[str]) -> paramiko.Channel:
        """Start a command in a new channel; reconnects once when an idle link turns out to be dead."""
        line = shlex.join(words)
        for attempt in (1, 2):
            transport = self._transport()
            try:
                channel = transport.open_session(timeout=_OPEN_TIMEOUT)
                channel.exec_command(line)
                return channel
            except (paramiko.SSHException, EOFError, OSError) as error:
                transport.close()
                if attempt == 2:
                    raise HostUnreachable(f"{self._name}: no command can be started: {error}") from None
        raise AssertionError("unreachable")

    def run(
        self,
        script: Script,
        *,
        payload: Payload = b"",
        on_line: OnLine | None = None,
        check: bool = True,
        keep: bool = True,
    ) -> Completed:
        """Run a script with bash; see `hosts.base.Host.run`."""
        timeout = script.limit(self._settings.command_timeout)
        channel = self._channel(shell_words(timeout))
        try:
            # No end of input after an error: the script would take half a payload for the whole.
            feeder = Background(lambda: _feed(channel, script, payload), on_error=lambda: end(channel))
            errors = Background(lambda: collect(channel.recv_stderr))
            out = collect(channel.recv, LineSplitter(on_line, self._redact), keep=keep)
            err = errors.result()
            if feeder.failed:
                feeder.result()  # the payload broke off: that, not the end of the channel, is what happened
            code = self._exit_code(channel, script.what)
        finally:
            end(channel)
        completed = Completed(self._name, code, out, err)
        return checked(completed, script, self._redact, timeout) if check else completed

    def _exit_code(self, channel: paramiko.Channel, what: str) -> int:
        code = channel.recv_exit_status()
        transport = channel.get_transport()
        if code == SIGNALLED and (transport is None or not is_alive(transport)):
            raise LinkDropped(
                f"{self._name}: the link was lost while it was to {what}; it may still run there.",
                "See what is true with `inv deploy.status`.",
            )
        return code

    def open(self, command: Command, *, bulk: bool = True) -> Process:
        """Start a command with data streams; see `hosts.base.Host.open`."""
        words = ["sh", "-c", _HONEST, "windlass", *command.words]
        if bulk and shutil.which("ssh"):
            argv = [*self._ssh_argv("-T", "-o", "BatchMode=yes"), shlex.join(words)]
            return ChildProcess(argv, self._name, self._redact, over_ssh=True)
        return ChannelProcess(self._channel(words), self._name, self._redact)

    def interactive_argv(self, command: Command) -> list[str]:
        """Return the argv that runs a command on the user's own terminal."""
        return [*self._ssh_argv("-t"), command.quoted()]

    def _ssh_argv(self, *options: str) -> list[str]:
        return ssh_argv(
            self.address,
            self.known_hosts,
            config=addresses.config_path(self._settings, self._root),
            connect_timeout=self._settings.connect_timeout,
            keepalive=self._settings.keepalive,
            options=options,
        )

    def put(self, path: str, data: bytes, mode: int) -> None:
        """Write a file whole or not at all; see `hosts.base.Host.put`."""
        self.run(put_script(path, len(data), mode), payload=data)

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        """Connect from the host to a TCP address; see `hosts.base.Host.dial`."""
        transport = self._transport()
        try:
            channel = transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout
            )
        except paramiko.ChannelException as error:
            raise ConnectionRefusedError(f"{address}:{port} from {self._name}: {error.text}") from None
        except (paramiko.SSHException, EOFError) as error:
            raise TimeoutError(f"{address}:{port} from {self._name}: {error}") from None
        return bridge(channel)

    def close(self) -> None:
        """Close the control connection, if any."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def known_hosts_files(settings: HostSettings, root: Path) -> tuple[Path, ...]:
    """Return the files of trusted keys: the repository's, then the user's."""
    return (root / Path(settings.known_hosts).expanduser(), Path("~/.ssh/known_hosts").expanduser())


def ssh_argv(
    address: addresses.Address,
    known_hosts: tuple[Path, ...],
    *,
    config: Path,
    connect_timeout: float,
    keepalive: float,
    options: tuple[str, ...] = (),
) -> list[str]:
    """Return the argv of an OpenSSH client for this address, with verified host keys, up to the command."""
    trusted = " ".join(f'"{_percent(str(path))}"' for path in known_hosts)
    argv = ["ssh", *options, *(["-F", str(config)] if config.is_file() else [])]
    settings = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": trusted,
        "ConnectTimeout": f"{max(1, round(connect_timeout))}",
        "ServerAliveInterval": f"{math.ceil(keepalive)}",
        "ServerAliveCountMax": "3",
        "ClearAllForwardings": "yes",
        # A shared connection of the user's was verified by other rules, and outlives us with our stderr open.
        "ControlMaster": "no",
        "ControlPath": "none",
        "RemoteCommand": "none",
        "LogLevel": "ERROR",
        # "none" keeps a jump host away that the ssh_config has for this address, but not for its alias.
        "ProxyCommand": address.proxy_command or "none",
    }
    if address.jump is not None:
        # Written out rather than -J, whose own client would not get these options.
        hop = ssh_argv(
            address.jump,
            known_hosts,
            config=config,
            connect_timeout=connect_timeout,
            keepalive=keepalive,
            options=("-W", _place(address)),
        )
        settings["ProxyCommand"] = _percent(shlex.join(hop))
    for key, value in settings.items():
        argv += ["-o", f"{key}={value}"]
    for path in address.identity_files:
        argv += ["-i", _percent(path)]
    return [*argv, "-p", str(address.port), "-l", address.user, address.host]


def _place(address: addresses.Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _percent(text: str) -> str:
    """Return the text as OpenSSH reads it where it expands `%` signs."""
    return text.replace("%", "%%")


def _feed(channel: paramiko.Channel, script: Script, payload: Payload) -> None:
    send: Callable[[bytes], None] = channel.sendall
    for chunk in frame(script, payload):
        try:
            send(chunk)
        except GONE:
            return  # the script did not read everything, or the link is gone: the exit code tells
    with contextlib.suppress(*GONE):
        channel.shutdown_write()
