"""The maintainers' namespace: servers in containers to deploy to. Not shipped."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Collection, Context
from invoke.exceptions import Exit

from .._task import task

if TYPE_CHECKING:
    from tests.testbed import Testbed

ROOT = Path(__file__).resolve().parents[2]
NAME_HELP = "Name of the bed; several may be up at once."


@contextmanager
def _testbed() -> "Iterator[type[Testbed]]":
    """Lend the test bed's class; its errors become a sentence and exit code 1."""
    # The bed belongs to the tests, which are no part of what is installed.
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from tests.testbed import Testbed, TestbedError

    try:
        yield Testbed
    except TestbedError as error:
        raise Exit(f"error: {error}", 1) from None


def _say(text: str) -> None:
    from .._terminal import Terminal

    Terminal().say(text)


@task(help={"hosts": "How many servers.", "name": NAME_HELP})
def up(_: Context, hosts: str = "1", name: str = "default") -> None:
    """Start servers with their own sshd and Docker Engine."""
    from .._terminal import whole_number

    count = whole_number("--hosts", hosts, least=1)
    with _testbed() as testbed:
        bed = testbed.up(count, name)
    for server in bed.servers:
        _say(f"ssh -F {shlex.quote(str(bed.ssh_config))} {server.name}  # {server.user}@{server.address}")


@task(help={"name": NAME_HELP})
def down(_: Context, name: str = "default") -> None:
    """Remove a bed's servers with everything on them."""
    with _testbed() as testbed:
        testbed.remove(name)
    _say(f"bed {name} is gone")


def list_(_: Context) -> None:
    """Show the beds that are up and how to reach their servers."""
    with _testbed() as testbed:
        beds = [testbed.load(name) for name in testbed.names()]
    for bed in beds:
        for server in bed.servers:
            _say(f"{bed.name}  {server.name}  {server.user}@{server.address}:{server.port}")


@task(help={"host": "Which server.", "name": NAME_HELP})
def ssh(_: Context, host: str = "server1", name: str = "default") -> None:
    """Open a shell on a server of the bed."""
    with _testbed() as testbed:
        bed = testbed.load(name)
        server = bed.server(host)
    raise Exit(code=subprocess.call(["ssh", "-F", str(bed.ssh_config), server.name]))


namespace = Collection("testbed", up, down, ssh)
namespace.add_task(task()(list_), name="list")
