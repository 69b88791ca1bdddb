"""First contact: ask a server for its host key, without logging in, before anybody trusts it."""

from __future__ import annotations

import contextlib
import hmac
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paramiko

from windlass.hosts.address import Address
from windlass.hosts.connection import connect, explain
from windlass.hosts.known_hosts import KnownHosts, lookup_name

PREFIX = "SHA256:"
# paramiko asks for RSA keys by the name of the signature.
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True)
class Link:
    """One SSH server on the way to a host, the host itself among them.

    Args:
        host: the host's key in `[hosts]`.
        label: what to call this server: the host, or its jump host.
        address: where it is.
    """

    host: str
    label: str
    address: Address


@dataclass(frozen=True)
class Offer:
    """The key a server shows, and what is known of it.

    Args:
        link: the server.
        key: its key.
        trusted: the keys trusted for it so far.
    """

    link: Link
    key: paramiko.PKey
    trusted: tuple[paramiko.PKey, ...]

    @property
    def name(self) -> str:
        """The name the key is filed under."""
        return lookup_name(self.link.address)

    @property
    def state(self) -> Literal["trusted", "unknown", "changed"]:
        """Whether the key is trusted, or the server is unknown, or known by another key."""
        if not self.trusted:
            return "unknown"
        return "trusted" if self.key in self.trusted else "changed"


def way(host: str, address: Address) -> tuple[Link, ...]:
    """Return the servers on the way to a host in the order they are passed, the host last."""
    link = Link(host, host, address)
    hops: list[Link] = []
    while link.address.jump is not None:
        link = Link(host, jump_label(link.label), link.address.jump)
        hops.insert(0, link)
    return (*hops, Link(host, host, address))


def jump_label(label: str) -> str:
    """Return what to call the server that another one is reached through."""
    return f"{label}'s jump host"


def ask(link: Link, known_hosts: Sequence[Path], timeout: float) -> Offer:
    """Ask a server for its host key: the kind that is trusted already, else ed25519 where it has one.

    Args:
        link: the server; the jump hosts before it must be trusted.
        known_hosts: files of trusted keys.
        timeout: longest wait in seconds for the connection.

    Raises:
        HostKeyError: a jump host's key is not trusted.
        HostUnreachable: no connection can be made.
    """
    trusted = KnownHosts.read(known_hosts).of(link.address)
    with ExitStack() as stack:
        stream = stack.enter_context(_stream(link, known_hosts, timeout))
        try:
            transport = paramiko.Transport(stream)
            stack.callback(transport.close)
            _prefer(transport, [key.get_name() for key in trusted])
            transport.start_client(timeout=timeout)
            return Offer(link, transport.get_remote_server_key(), trusted)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise explain(link.label, link.host, link.address, error, timeout) from None


@contextlib.contextmanager
def _stream(link: Link, known_hosts: Sequence[Path], timeout: float) -> Iterator[Any]:
    """Open the byte stream SSH is spoken on: TCP, a command, or a channel of the jump host."""
    address = link.address
    with ExitStack() as stack:
        try:
            if address.jump is not None:
                before = jump_label(link.label)
                through = connect(before, address.jump, known_hosts, timeout=timeout, host=link.host)
                stack.callback(through.close)
                stream: Any = through.transport.open_channel(
                    "direct-tcpip", (address.host, address.port), ("", 0), timeout=timeout
                )
            elif address.proxy_command:
                stream = paramiko.ProxyCommand(address.proxy_command)
            else:
                stream = socket.create_connection((address.host, address.port), timeout)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise explain(link.label, link.host, address, error, timeout) from None
        stack.callback(stream.close)
        yield stream


def _prefer(transport: paramiko.Transport, kinds: Sequence[str]) -> None:
    options = transport.get_security_options()
    first = [name for kind in kinds for name in _SIGNATURES.get(kind, (kind,)) if name in options.key_types]
    options.key_types = [*first, *(name for name in options.key_types if name not in first)]


def matches(key: paramiko.PKey, fingerprint: str) -> bool:
    """Whether a key has this fingerprint; `SHA256:` before it may be missing."""
    wanted = fingerprint.strip().removeprefix(PREFIX).rstrip("=")
    return hmac.compare_digest(key.fingerprint.removeprefix(PREFIX).encode(), wanted.encode())
