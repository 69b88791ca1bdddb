"""A Fabric connection that verifies host keys, notices a dead link, and says why it failed."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paramiko
from fabric.config import Config
from fabric.connection import Connection
from paramiko.packet import Packetizer
from paramiko.ssh_exception import NoValidConnectionsError

from windlass.errors import HostKeyError, HostUnreachable, WindlassError
from windlass.hosts.address import Address
from windlass.hosts.channels import GONE
from windlass.hosts.known_hosts import KnownHosts

logging.getLogger("paramiko").addHandler(logging.NullHandler())

# paramiko re-keys every 512 MiB and can deadlock when a channel closes meanwhile (paramiko#822); the
# server still re-keys at its own limit.
Packetizer.REKEY_BYTES = 1 << 40
Packetizer.REKEY_PACKETS = 1 << 40

_AUTH_TIMEOUT = 15.0
_MISSED_KEEPALIVES = 3
_TRUST_HINT = (
    "If that is right, run `inv host.trust --host {name}`: it shows the key and asks before it is trusted."
)
_DOWN_HINT = "Check its address and port in envs/, that it runs, and that no firewall drops SSH."
# What paramiko says when a connection opens and nothing, or nothing of SSH, comes.
_SILENCE = ("No existing session", "Error reading SSH protocol banner", "Timeout opening channel")


class VerifiedConnection(Connection):  # type: ignore[misc]
    """Fabric's connection, with the host keys it lacks: Fabric itself trusts any key (fabric#1804)."""

    def trust(self, known: KnownHosts) -> None:
        """Accept only these keys."""
        self.client._host_keys = known

    def open(self) -> Any:
        """Connect; Fabric's own constructor has set a policy that trusts all, so make sure it is gone."""
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        return super().open()

    def open_gateway(self) -> Any:
        """Open the way through the jump host; Fabric's own would wait for an hour."""
        if not isinstance(self.gateway, VerifiedConnection):
            return super().open_gateway()
        return self.gateway.transport.open_channel(
            "direct-tcpip", (self.host, int(self.port)), ("", 0), timeout=self.connect_timeout
        )

    def close(self) -> None:
        """Close it, half open ones too, and the jump hosts before it, which Fabric leaves open."""
        super().close()
        self.client.close()
        if isinstance(self.gateway, VerifiedConnection):
            self.gateway.close()


def connect(
    name: str,
    address: Address,
    known_hosts: Sequence[Path],
    *,
    timeout: float,
    keepalive: float = 0,
    host: str = "",
) -> VerifiedConnection:
    """Open a verified connection, through its jump hosts.

    Args:
        name: what to call the server in errors.
        address: where to and how.
        known_hosts: files of trusted keys.
        timeout: longest wait in seconds for the connection.
        keepalive: seconds between keepalives; after three without an answer the link is closed. 0: none.
        host: the host's key in `[hosts]`; empty: `name`.

    Raises:
        HostKeyError: the key is unknown or another one.
        HostUnreachable: anything else that keeps it from being opened.
    """
    connection = _open(name, host or name, address, KnownHosts.read(known_hosts), timeout)
    if keepalive:
        _Watchdog(connection.transport, keepalive)
    return connection


def _open(name: str, host: str, address: Address, known: KnownHosts, timeout: float) -> VerifiedConnection:
    # One server after the other, so that an error names the one it is about.
    gateway: VerifiedConnection | str | None = address.proxy_command
    if address.jump is not None:
        gateway = _open(f"{name}'s jump host", host, address.jump, known, timeout)
    connection = _prepare(address, gateway, known, timeout)
    try:
        connection.open()
    except Exception as error:  # noqa: BLE001 - paramiko raises bare Exception for some host keys
        connection.close()
        raise explain(name, host, address, error, timeout) from None
    return connection


def _prepare(
    address: Address, gateway: VerifiedConnection | str | None, known: KnownHosts, timeout: float
) -> VerifiedConnection:
    keys = [path for path in address.identity_files if Path(path).expanduser().is_file()]
    options: dict[str, Any] = {"banner_timeout": timeout, "auth_timeout": _AUTH_TIMEOUT}
    if keys:
        options["key_filename"] = [str(Path(path).expanduser()) for path in keys]
    connection = VerifiedConnection(
        host=address.host,
        user=address.user,
        port=address.port,
        gateway=gateway,
        connect_timeout=max(1, round(timeout)),
        connect_kwargs=options,
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
    )
    connection.trust(known)
    return connection


def explain(name: str, host: str, address: Address, error: Exception, timeout: float) -> WindlassError:
    """Return the error a failed connection is for the user.

    Args:
        name: what to call the server.
        host: the host's key in `[hosts]`, for the command in the hint.
        address: where it was looked for.
        error: what the libraries raised.
        timeout: how long was waited, in seconds.
    """
    match error:
        case paramiko.BadHostKeyException():
            return HostKeyError(
                f"{name} ({address.host}) shows another host key than the trusted one:"
                f" {fingerprint(error.key)}, not {fingerprint(error.expected_key)}.",
                "Somebody may stand in between, or the server was rebuilt. "
                + _TRUST_HINT.format(name=f"{host} --replace"),
            )
        case _ if "not found in known_hosts" in str(error):
            return HostKeyError(
                f"{name} ({address.host}) has no trusted host key yet.", _TRUST_HINT.format(name=host)
            )
        case paramiko.AuthenticationException() | paramiko.PasswordRequiredException():
            return HostUnreachable(
                f"{name} ({address}) refuses the login: {error}",
                "Check `user` and `identity_file` in envs/, or add the key to your agent (`ssh-add`).",
            )
    return _unreachable(f"{name} ({address.host}:{address.port})", error, timeout)


def _unreachable(place: str, error: Exception, timeout: float) -> HostUnreachable:
    match error:
        case NoValidConnectionsError() | ConnectionRefusedError():
            return HostUnreachable(
                f"{place} refuses the connection or is down.",
                "Check its address and port in envs/, that it runs, and that its firewall lets SSH in.",
            )
        case socket.gaierror():
            return HostUnreachable(f"{place}: the name cannot be resolved.")
        case TimeoutError():
            return HostUnreachable(f"{place} did not answer within {timeout:g} s.", _DOWN_HINT)
        case paramiko.ChannelException():
            return HostUnreachable(f"{place} cannot be reached through its jump host: {error.text}")
    said = str(error)
    if not said or any(words in said for words in _SILENCE):
        return HostUnreachable(f"{place} did not answer as an SSH server within {timeout:g} s.", _DOWN_HINT)
    return HostUnreachable(f"{place} cannot be reached: {said}")


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as OpenSSH shows it, such as `ssh-ed25519 SHA256:…`."""
    return f"{key.get_name()} {key.fingerprint}"


class _Watchdog:
    """Closes a transport whose peer answers no keepalives: paramiko sends them but never counts answers."""

    def __init__(self, transport: paramiko.Transport, interval: float) -> None:
        self._transport = transport
        self._interval = interval
        self._answered = time.monotonic()
        for work in (self._ask, self._watch):
            threading.Thread(target=work, name="windlass-keepalive", daemon=True).start()

    def _ask(self) -> None:
        while self._transport.is_active():
            time.sleep(self._interval)
            # Any answer will do; OpenSSH refuses the unknown request, which is one (RFC 4254, 4).
            try:
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except GONE:
                continue  # a link that ends while it is asked is no defect, and no answer
            if self._transport.is_active():
                self._answered = time.monotonic()

    def _watch(self) -> None:
        limit = self._interval * (_MISSED_KEEPALIVES + 1)
        while self._transport.is_active():
            if time.monotonic() - self._answered > limit:
                self._transport.close()
                return
            time.sleep(min(self._interval, 1.0))
