"""Secrets of Swarm against a real one: what a task of a service reads is what was written, byte for byte."""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from collections.abc import Iterator, Mapping, Sequence

import pytest

from tests.oracles import CHOSEN, fuzzed
from tests.testbed import Server, Testbed
from tests.testbed.image import base_images
from tests.testbed.server import wait_until
from windlass.errors import ConfigurationError
from windlass.secrets.writers.swarm import MAX_BYTES, SwarmSecret, swarm_secret

pytestmark = pytest.mark.integration

SEED = 20261121
KEY = b"a key of the test"
# As many secrets as one service is given at once.
MOUNTS = 1000
# One call of the engine for all of them; `docker secret create` posts the same.
REQUEST = """\
unix-socket = "/var/run/docker.sock"
url = "http://docker/secrets/create"
header = "Content-Type: application/json"
output = "/dev/null"
fail
data = {}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that is a Swarm of its own."""
    with Testbed.up(1, f"swarm-{secrets.token_hex(4)}") as bed:
        bed.load_image(base_images()["BASE_IMAGE"])
        bed.servers[0].exec(["docker", "swarm", "init", "--advertise-addr", "127.0.0.1"])
        yield bed.servers[0]


def mounted(server: Server, made: Sequence[SwarmSecret]) -> dict[str, str]:
    """Return what a task of a service with these secrets finds in /run/secrets."""
    found: dict[str, str] = {}
    for begin in range(0, len(made), MOUNTS):
        found |= _read(server, made[begin : begin + MOUNTS])
    return found


def _read(server: Server, made: Sequence[SwarmSecret]) -> dict[str, str]:
    name = f"reader-{secrets.token_hex(3)}"
    given = [word for each in made for word in ("--secret", f"source={each.name},target={each.target}")]
    options = ["--detach", "--quiet", "--name", name, "--restart-condition", "none", *given]
    # A log has lines, and no bytes that are no text.
    command = ["sh", "-c", "tar -C /run/secrets -cz . | base64 --wrap 0; echo; echo whole"]
    server.exec(["docker", "service", "create", *options, base_images()["BASE_IMAGE"], *command])
    logs = ["docker", "service", "logs", "--raw", name]
    wait_until(
        lambda: server.exec(logs, check=False).stdout.endswith("\nwhole\n"),
        180,
        lambda: server.exec(["docker", "service", "ps", "--no-trunc", name]).stdout,
    )
    text = server.exec(logs).stdout.removesuffix("\nwhole\n")
    server.exec(["docker", "service", "rm", name])
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as archive:
        return {
            entry.name.removeprefix("./"): content.read().decode()
            for entry in archive
            if entry.isfile() and (content := archive.extractfile(entry)) is not None
        }


def differing(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    return [(name, value, found.get(name)) for name, value in wanted.items() if found.get(name) != value][:5]


def test_thousands_of_values_come_back(server: Server) -> None:
    values = {name: value for name, value in fuzzed(SEED, 5000).items() if value}
    made = [swarm_secret(name, value, KEY) for name, value in values.items()]
    assert len({each.name for each in made}) == len(made)
    posts = (
        {"Name": each.name, "Data": base64.b64encode(each.data.reveal().encode()).decode()} for each in made
    )
    config = "next\n".join(REQUEST.format(json.dumps(json.dumps(post))) for post in posts)
    server.exec(["curl", "--silent", "--show-error", "--config", "-"], stdin=config, timeout=400)
    found = mounted(server, made)
    assert not differing(found, values)
    assert len(found) == len(values) > 4800


def test_the_command_makes_what_the_engine_holds(server: Server) -> None:
    values = {f"C{number}": value for number, value in enumerate(CHOSEN) if value}
    made = [swarm_secret(name, value, KEY) for name, value in values.items()]
    for each in made:
        server.exec(each.create("app=shop").words, stdin=each.data.reveal())
    assert not differing(mounted(server, made), values)
    shown = json.loads(server.exec(["docker", "secret", "inspect", *(each.name for each in made)]).stdout)
    assert [each["Spec"]["Labels"] for each in shown] == [
        {"windlass.secret": name, "app": "shop"} for name in values
    ]


def test_what_the_writer_refuses_the_engine_refuses_too(server: Server) -> None:
    for name, value, why in (
        ("empty", "", "larger than 0"),
        ("long", "x" * MAX_BYTES, "less than"),
        ("-dash", "x", "name"),
        ("a" * 65, "x", "name"),
    ):
        with pytest.raises(ConfigurationError):
            swarm_secret(name, value, KEY)
        said = server.exec(["docker", "secret", "create", "--", name, "-"], stdin=value, check=False)
        assert said.returncode != 0
        assert why in said.stderr
    longest = swarm_secret("n" * 55, "x" * (MAX_BYTES - 1), KEY)
    assert len(longest.name) == 64
    server.exec(longest.create().words, stdin=longest.data.reveal())
