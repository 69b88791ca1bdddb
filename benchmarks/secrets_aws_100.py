"""100 secrets of AWS Secrets Manager with 30 ms to the service, against asking for one after another."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.report import Result, meets
from tests.aws import AwsServer, aws_server
from windlass.secrets.providers.aws import PROVIDER
from windlass.secrets.providers.base import Context
from windlass.shell import Sensitive

COUNT = 100
LATENCY = 0.03
RUNS = 5
CALLS_GOAL = "<=6"
TIME_GOAL = "<=0.15"
NAMES = [f"shop/prod/SECRET_{number:03}" for number in range(COUNT)]


def timed(action: Callable[[], None]) -> float:
    gc.collect()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def ours(aws: AwsServer) -> None:
    """Ask as a deploy does: a new client, all secrets in one call of the provider."""
    client = PROVIDER.connect(Context(Path(), aws.environ))
    found = client.fetch(NAMES)
    client.close()
    assert found == {name: Sensitive(f"value of {name}") for name in NAMES}


def one_by_one(aws: AwsServer) -> None:
    client = aws.through()
    for name in NAMES:
        assert client.get_secret_value(SecretId=name)["SecretString"] == f"value of {name}"
    client.close()


def run() -> Iterator[Result]:
    """Measure both in turn, each with a client of its own; the first pair loads what later ones have."""
    with aws_server() as aws:
        aws.put(**{name.replace("/", "__"): f"value of {name}" for name in NAMES})
        aws.latency = LATENCY
        pairs = []
        for warm in range(RUNS + 1):
            aws.calls.clear()
            mine = timed(lambda: ours(aws))
            calls = aws.calls.total()
            pair = mine, timed(lambda: one_by_one(aws))
            if warm:
                pairs.append(pair)
    value, baseline = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    yield Result(
        "secrets-aws-100-calls", calls, "", COUNT, calls / COUNT, CALLS_GOAL, meets(CALLS_GOAL, calls)
    )
    yield Result("secrets-aws-100", value, "s", baseline, ratio, TIME_GOAL, meets(TIME_GOAL, ratio))
