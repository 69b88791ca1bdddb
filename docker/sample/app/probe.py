"""The container's health check: `python3 -m app.probe api` or `worker`.

It runs every two seconds, so it imports next to nothing.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from http import HTTPStatus
from pathlib import Path

HEARTBEAT = Path("/tmp/worker-heartbeat")  # noqa: S108  the container's own, and only its time is read
HEARTBEAT_SECONDS = 15.0


def api(port: int) -> str | None:
    """Return what is wrong with the API, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        answer = response.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    return None if response.status == HTTPStatus.OK else f"{response.status} {answer}"


def worker(heartbeat: Path, now: float) -> str | None:
    """Return what is wrong with the worker, or None."""
    try:
        age = now - heartbeat.stat().st_mtime
    except OSError:
        return "no heartbeat yet"
    return None if age <= HEARTBEAT_SECONDS else f"last heartbeat {age:.0f} s ago"


def main(arguments: list[str]) -> int:
    """Check one of the two."""
    if arguments == ["api"]:
        problem = api(int(os.environ.get("HTTP_PORT") or "8080"))
    elif arguments == ["worker"]:
        problem = worker(HEARTBEAT, time.time())
    else:
        print("usage: python3 -m app.probe api|worker", file=sys.stderr)
        return 2
    print(problem or "ok")
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
