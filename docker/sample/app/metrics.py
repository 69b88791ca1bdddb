"""Counters in the Prometheus text format."""

from __future__ import annotations

import threading
from collections import Counter


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """What this process has done since it started; safe to use from many threads."""

    def __init__(self, version: str) -> None:
        """Start every counter at zero."""
        self._version = version
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds = 0.0
        self._orders = 0

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. The route is a pattern, never a path, so that labels stay few."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds += seconds

    def order(self) -> None:
        """Count one accepted order."""
        with self._lock:
            self._orders += 1

    def render(self) -> str:
        """Return the exposition text."""
        with self._lock:
            requests, seconds, orders = sorted(self._requests.items()), self._seconds, self._orders
        lines = [
            "# HELP app_info The running version.",
            "# TYPE app_info gauge",
            f'app_info{{version="{_escape(self._version)}"}} 1',
            "# HELP app_http_requests_total Requests answered.",
            "# TYPE app_http_requests_total counter",
        ]
        for (method, route, status), count in requests:
            labels = f'method="{_escape(method)}",route="{_escape(route)}",status="{status}"'
            lines.append(f"app_http_requests_total{{{labels}}} {count}")
        lines += [
            "# HELP app_http_request_seconds Time spent answering requests.",
            "# TYPE app_http_request_seconds summary",
            f"app_http_request_seconds_sum {seconds:.6f}",
            f"app_http_request_seconds_count {sum(count for _, count in requests)}",
            "# HELP app_orders_total Orders accepted.",
            "# TYPE app_orders_total counter",
            f"app_orders_total {orders}",
        ]
        return "\n".join(lines) + "\n"
