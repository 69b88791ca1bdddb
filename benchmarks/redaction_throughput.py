"""MB/s at which a hundred secrets are taken out of the logs of containers, against a loop of `bytes.replace`.

The loop is what one writes by hand; it looks for the values as they are, while the redactor also looks for
their base64, hex, URL, JSON and shell forms and for the lines of keys.
"""

from __future__ import annotations

import base64
import json
import random
import string
import time
from collections.abc import Callable

from benchmarks.report import Result, meets
from windlass.secrets.redaction import Redactor
from windlass.shell import MASK

SECRETS = 100
MEGABYTES = 16
# What a pipe gives at once.
CHUNK = 65536
ROUNDS = 5
GOAL = ">=10"
KIND = "PRIVATE KEY"
SERVICES = ("web-1", "worker-1", "db-1", "cache-1")
PATHS = ("/", "/api/orders", "/api/orders/4711/items", "/static/app.3f9a61c0.js", "/healthz", "/login")


def secrets(source: random.Random) -> list[str]:
    """Return passwords, tokens, URLs and private keys as environments have them."""
    letters = string.ascii_letters + string.digits
    tokens = ["".join(source.choices(letters + "+/-_", k=source.randint(16, 64))) for _ in range(70)]
    short = ["".join(source.choices(letters, k=source.randint(8, 12))) for _ in range(15)]
    urls = [f"postgres://app{at}:{tokens[at][:20]}@db-{at}.internal:5432/app" for at in range(10)]
    keys = []
    for _ in range(5):
        body = base64.b64encode(source.randbytes(1200)).decode()
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        keys.append("\n".join([f"-----BEGIN {KIND}-----", *lines, f"-----END {KIND}-----", ""]))
    return [*tokens, *short, *urls, *keys]


def line(source: random.Random, number: int) -> str:
    """Return one line of an access log, an application's JSON log, or PostgreSQL's."""
    service = source.choice(SERVICES)
    stamp = f"2031-05-04T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.{number % 1000:03}Z"
    kind = source.randrange(3)
    if kind == 0:
        address = ".".join(str(source.randrange(256)) for _ in range(4))
        what = (
            f'{address} - - "GET {source.choice(PATHS)}?page={number} HTTP/1.1" 200 {source.randrange(9999)}'
        )
    elif kind == 1:
        entry = {
            "time": stamp,
            "level": "info",
            "request_id": f"{source.getrandbits(64):016x}",
            "msg": "done",
        }
        what = json.dumps({**entry, "path": source.choice(PATHS), "duration_ms": source.randrange(900)})
    else:
        what = f"LOG:  duration: {source.random() * 90:.3f} ms  execute orders: parameters: $1 = '{number}'"
    return f"{service}  | {stamp} {what}\n"


def log(source: random.Random, values: list[str]) -> bytes:
    """Return the log, with a secret in one line of five thousand."""
    lines: list[str] = []
    size = 0
    while size < MEGABYTES * 1_000_000:
        text = line(source, len(lines))
        if len(lines) % 5000 == 0:
            text = f"{text[:-1]} dsn={source.choice(values[:70])}\n"
        lines.append(text)
        size += len(text)
    return "".join(lines).encode()


def streamed(redactor: Redactor, content: bytes) -> bytes:
    """Return the log as a stream of chunks gives it."""
    stream = redactor.stream()
    shown = [stream.feed(content[at : at + CHUNK]) for at in range(0, len(content), CHUNK)]
    return b"".join([*shown, stream.flush()])


def replaced(values: list[bytes], content: bytes) -> bytes:
    """Return the log as a loop makes it."""
    shown = []
    for at in range(0, len(content), CHUNK):
        chunk = content[at : at + CHUNK]
        for value in values:
            chunk = chunk.replace(value, MASK.encode())
        shown.append(chunk)
    return b"".join(shown)


def rate(work: Callable[[], bytes], size: int) -> float:
    """Return MB (10^6 bytes) per second of processor time: the machine's other work does not count."""
    began = time.process_time()
    work()
    return size / 1e6 / (time.process_time() - began)


def run() -> list[Result]:
    """Measure all in turn, and take the best of each."""
    source = random.Random(4)  # noqa: S311 - the same log every time
    values = secrets(source)
    assert len(values) == SECRETS
    content = log(source, values)
    redactor = Redactor(values)
    plain = sorted((value.encode() for value in values), key=len, reverse=True)
    shown = redactor.redact_bytes(content)
    assert MASK.encode() in shown
    assert not any(value in shown for value in plain)
    assert streamed(redactor, content) == shown
    works: list[Callable[[], bytes]] = [
        lambda: redactor.redact_bytes(content),
        lambda: streamed(redactor, content),
        lambda: replaced(plain, content),
    ]
    rates: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for found, work in zip(rates, works, strict=True):
            found.append(rate(work, len(content)))
    whole, stream, loop = map(max, rates)
    return [
        Result("redaction-throughput", whole, "MB/s", loop, whole / loop, GOAL, meets(GOAL, whole)),
        Result("redaction-throughput-stream", stream, "MB/s", loop, stream / loop, GOAL, meets(GOAL, stream)),
    ]
