"""Input checked at the door: what passes here can be stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import parse_qs

from app.errors import HttpError

LONGEST_ITEM = 200
LARGEST_QUANTITY = 1_000_000
LARGEST_ID = 2**63 - 1
LONGEST_SLEEP = 10.0


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order as a client asks for it."""

    item: str
    quantity: int


def _json_object(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body must be JSON") from None
    if not isinstance(document, dict):
        raise HttpError(400, "the body must be a JSON object")
    return document


def _storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold the text: it refuses NUL, and half a surrogate pair is no UTF-8."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def new_order(body: bytes) -> NewOrder:
    """Read an order from a request's body."""
    document = _json_object(body)
    unknown = sorted(set(document) - {"item", "quantity"})
    if unknown:
        raise HttpError(400, "only item and quantity are known")
    item, quantity = document.get("item"), document.get("quantity")
    if not isinstance(item, str) or not item.strip() or len(item) > LONGEST_ITEM or not _storable(item):
        raise HttpError(400, f"item must be a text of 1 to {LONGEST_ITEM} characters")
    # bool is an int to Python; to a client that sends true it is a mistake.
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= LARGEST_QUANTITY:
        raise HttpError(400, f"quantity must be a whole number from 1 to {LARGEST_QUANTITY}")
    return NewOrder(item, quantity)


def order_id(text: str) -> int:
    """Read an order's number from a path."""
    if not (text.isascii() and text.isdigit()):
        raise HttpError(400, "the order's id must be a whole number")
    if len(text) > len(str(LARGEST_ID)) or not 1 <= int(text) <= LARGEST_ID:
        raise HttpError(404, "no such order")
    return int(text)


def sleep_seconds(query: str) -> float:
    """Read `seconds` from a query string; one second when it is not given."""
    try:
        value = float(parse_qs(query, keep_blank_values=True).get("seconds", ["1"])[-1])
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= LONGEST_SLEEP:  # also refuses NaN
        raise HttpError(400, f"seconds must be a number from 0 to {LONGEST_SLEEP:g}")
    return value
