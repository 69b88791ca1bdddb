"""Made-up orders, each a pure function of its number: the same on every machine and in every run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

COLUMNS = "seed_number, item, quantity, customer, note, created_at, processed_at"
BLOCK = 2_000
_MASK = 2**64 - 1
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

# No tabs, newlines or backslashes in any of these: they go into COPY's text format as they are.
ITEMS = (
    "Espresso beans, dark", "Espresso beans, light", "Café crème cups", "Oat milk 1 l", "Paper filters № 4",
    "Hand grinder", "Milk jug ½ l", "Water kettle", "Tamper 58 mm", "Descaler", "Thermos flask",
    "抹茶 powder", "Spoon set", 'Gift card "25"', "Scale 0.1 g", "Cold brew bottle",
)  # fmt: skip
GIVEN = (
    "Ada", "Björn", "Chloë", "Dmitri", "Esra", "Fatima", "Goran", "Hana", "Inês", "Jürgen", "Kwame",
    "Łucja", "Mei", "Noor", "Oisín", "Priya",
)  # fmt: skip
FAMILY = (
    "O'Brien", "Müller", "García", "Nakamura", "Okafor", "Novák", "Smith", "Jensen", "Rossi", "Dubois",
    "Kowalski", "Öztürk", "Singh", "Haddad", "Lindqvist", "D'Angelo",
)  # fmt: skip
WORDS = (
    "please", "leave", "at", "the", "door", "ring", "twice", "gift", "wrap", "no", "receipt", "call",
    "before", "delivery", "second", "floor", "blue", "box", "fragile", "keep", "dry", "neighbour", "has",
    "key", "thanks", "for", "office", "kitchen", "after", "noon", "only", "weekdays",
)  # fmt: skip


def _mixed(number: int) -> int:
    """Return 64 well-mixed bits of a number (SplitMix64): far cheaper than a seeded generator per row."""
    value = (number * 0x9E3779B97F4A7C15 + 0x5EED) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def line(number: int) -> str:
    """Return row `number` in COPY's text format: the columns of COLUMNS."""
    bits, more = _mixed(number), _mixed(number ^ _MASK)
    created = _EPOCH + timedelta(seconds=number * 37 % 31_536_000, milliseconds=bits >> 54)
    processed = created + timedelta(seconds=1 + (bits >> 48 & 63))
    note = " ".join(WORDS[more >> shift & 31] for shift in range(0, 5 * (more >> 60), 5))
    customer = f"{GIVEN[bits & 15]} {FAMILY[bits >> 4 & 15]}"
    quantity = 1 + (bits >> 12 & 15) * (bits >> 16 & 1)
    return f"{number}\t{ITEMS[bits >> 8 & 15]}\t{quantity}\t{customer}\t{note}\t{created}\t{processed}\n"


def blocks(first: int, last: int) -> Iterator[str]:
    """Return rows `first` to `last` in pieces that are worth a write."""
    for start in range(first, last + 1, BLOCK):
        yield "".join(map(line, range(start, min(start + BLOCK, last + 1))))
