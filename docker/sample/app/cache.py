"""Redis: the counter and the queue of new orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from app.errors import UnavailableError

COUNTER = "counter"
QUEUE = "orders:new"


class Cache:
    """A Redis client that is safe to share between threads."""

    def __init__(self, host: str, port: int) -> None:
        """Connect to nothing yet."""
        # Any: the library types each answer as "this or an awaitable of this".
        self._client: Any = redis.Redis(host=host, port=port, socket_connect_timeout=3, socket_timeout=5)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise UnavailableError("redis does not answer") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ping(self) -> None:
        """Raise unless Redis answers."""
        with self._translated():
            self._client.ping()

    def increment(self) -> int:
        """Add one to the counter and return it."""
        with self._translated():
            return int(self._client.incr(COUNTER))

    def count(self) -> int:
        """Return the counter."""
        with self._translated():
            return int(self._client.get(COUNTER) or 0)

    def push(self, number: int) -> None:
        """Tell the workers about an order."""
        with self._translated():
            self._client.rpush(QUEUE, number)

    def take(self, seconds: int) -> int | None:
        """Wait for an order's number; None when none came in time."""
        with self._translated():
            found = self._client.blpop([QUEUE], timeout=seconds)
        return int(found[1]) if found else None
