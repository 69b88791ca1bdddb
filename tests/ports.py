"""Ports for servers that cannot be told to take any free one."""

import secrets
import socket

# Below the ports Linux gives to connections and to who asks for any (ip_local_port_range): one of those may
# be another's by the time it is used.
_FIRST, _LAST = 20_000, 32_767


def free_port() -> int:
    """Return a port of this machine nobody listens on."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
