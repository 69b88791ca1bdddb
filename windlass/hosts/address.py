"""How to reach a server: the environment's settings over the user's ssh_config, resolved once.

Fabric resolves ssh_config by itself, but makes the jump hosts of a ProxyJump without checking their
keys; so this is done here, and every connection on the way is a verified one.
"""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path

import paramiko

from windlass.environment.model import HostSettings
from windlass.errors import ConfigurationError

DEFAULT_PORT = 22
_MOST_JUMPS = 8
_PLACE = re.compile(
    r"(?:(?P<user>[^@]+)@)?(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class Address:
    """Where a server is and how to log in.

    Args:
        host: name or IP address to connect to.
        port: TCP port.
        user: login name.
        identity_files: private keys to try, in order; empty: agent and usual names.
        jump: the server to go through first.
        proxy_command: a command whose stdin and stdout are the connection (ssh_config's ProxyCommand).
    """

    host: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    jump: Address | None = None
    proxy_command: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def resolve(name: str, settings: HostSettings, root: Path) -> Address:
    """Return the address of a host of the environment.

    Raises:
        ConfigurationError: the ssh_config named does not exist, or its jump hosts form a ring.
    """
    config = _ssh_config(settings, root)
    alias = settings.address or name
    found = config.lookup(alias)
    jump = settings.jump or (None if found.get("proxyjump") in (None, "none") else found["proxyjump"])
    identities = [str((root / settings.identity_file).expanduser())] if settings.identity_file else []
    return Address(
        host=found.get("hostname", alias).lower(),  # known_hosts has names in small letters
        port=settings.port or int(found.get("port", str(DEFAULT_PORT))),
        user=settings.user or found.get("user") or getpass.getuser(),
        identity_files=tuple(identities or found.get("identityfile", [])),
        jump=_jump(jump, config, tuple(identities)) if jump else None,
        proxy_command=None if jump else found.get("proxycommand"),
    )


def _ssh_config(settings: HostSettings, root: Path) -> paramiko.SSHConfig:
    path = config_path(settings, root)
    if path.is_file():
        return paramiko.SSHConfig.from_path(str(path))
    if settings.ssh_config:
        raise ConfigurationError(f"The ssh_config {settings.ssh_config} does not exist.")
    return paramiko.SSHConfig()


def config_path(settings: HostSettings, root: Path) -> Path:
    """Return the ssh_config file in use; it need not exist."""
    named = settings.ssh_config
    return (root / Path(named).expanduser()) if named else Path("~/.ssh/config").expanduser()


def _jump(text: str, config: paramiko.SSHConfig, identities: tuple[str, ...], depth: int = 0) -> Address:
    """Resolve `[user@]host[:port]`, or the last of a comma-separated chain of them."""
    if depth > _MOST_JUMPS:
        raise ConfigurationError(f"The jump hosts of {text} form a ring.")
    before, _, last = text.rpartition(",")
    user, host, port = _split(last.strip())
    found = config.lookup(host)
    further = before or found.get("proxyjump")
    return Address(
        host=found.get("hostname", host).lower(),
        port=int(port or found.get("port", str(DEFAULT_PORT))),
        user=user or found.get("user") or getpass.getuser(),
        # The environment file has one key for the host and the way to it.
        identity_files=tuple(found.get("identityfile", identities)),
        jump=_jump(further, config, identities, depth + 1) if further and further != "none" else None,
    )


def _split(text: str) -> tuple[str, str, str]:
    """Return user, host and port; empty where not given."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is no jump host.", "Write `[user@]host[:port]`, an IPv6 address in `[ ]`."
        )
    return found["user"] or "", found["six"] or found["host"], found["port"] or ""
