"""Servers to deploy to: containers with their own sshd and Docker Engine, for tests and by hand.

>>> with Testbed.up(hosts=2, name="mine") as bed:  # doctest: +SKIP
...     bed.servers[0].exec(["docker", "ps"])

Needs a Docker Engine on this machine whose container addresses can be reached (Linux).
"""

from tests.testbed.bed import Testbed
from tests.testbed.docker import TestbedError
from tests.testbed.server import Server

__all__ = ["Server", "Testbed", "TestbedError"]
