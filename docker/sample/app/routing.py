"""Requests, answers, and which function gives which: values only, no sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from app.errors import HttpError

UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request, str], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a pattern; a pattern that ends in `<...>` takes one more path segment."""

    method: str
    pattern: str
    handler: Handler

    def match(self, path: str) -> str | None:
        """Return the variable segment ("" where there is none), or None when the path is another."""
        prefix, variable, _ = self.pattern.partition("<")
        if not variable:
            return "" if path == self.pattern else None
        rest = path.removeprefix(prefix)
        if rest == path or not rest or "/" in rest:
            return None
        return unquote(rest)


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: list[Route]) -> None:
        """Keep the routes; the first that matches wins."""
        self._routes = routes

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Return the route and its variable segment; 404 or 405 otherwise. HEAD is answered as GET."""
        wanted = "GET" if method == "HEAD" else method
        allowed: set[str] = set()
        for route in self._routes:
            segment = route.match(path)
            if segment is None:
                continue
            if route.method == wanted:
                return route, segment
            allowed.add(route.method)
        if allowed:
            raise HttpError(405, "method not allowed", (("Allow", ", ".join(sorted(allowed))),))
        raise HttpError(404, "not found")


def json_response(status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a document as JSON, one line."""
    return Response(status, json.dumps(document, ensure_ascii=False).encode() + b"\n", headers=headers)


def error_response(error: HttpError) -> Response:
    """Return the answer an error stands for."""
    return json_response(error.status, {"error": error.message}, error.headers)
