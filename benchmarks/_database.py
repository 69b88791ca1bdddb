"""A PostgreSQL with data like an application's: JSON, text, uuids; compresses to about two fifths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from string import ascii_lowercase
from uuid import UUID

from tests.backups import make_environment
from tests.postgres import PostgresServer
from windlass.environment.environment import Environment

# A mebibyte of plain dump is about this many documents.
_DOCUMENTS_PER_MIB = 1010
_BASE_DOCUMENTS = 20_000

_SCHEMA = """
CREATE TABLE documents (id bigserial, key uuid NOT NULL, at timestamptz NOT NULL, body jsonb, note text);
COPY documents (key, at, body, note) FROM STDIN;
"""
# The base is larger than any window zstd looks back at its level 1: repeating it does not compress.
_MORE = """
INSERT INTO documents (key, at, body, note)
SELECT gen_random_uuid(), at, jsonb_set(body, '{token}', to_jsonb(gen_random_uuid())), note
  FROM documents WHERE id <= %d ORDER BY id LIMIT %d;
"""
_INDEXES = (
    "ALTER TABLE documents ADD PRIMARY KEY (id); CREATE INDEX ON documents (key); VACUUM ANALYZE documents;"
)


@contextmanager
def filled(mebibytes: int) -> Iterator[PostgresServer]:
    """Give a server whose database dumps to about this many MiB of plain text."""
    with PostgresServer("shared_buffers=512MB", "max_wal_size=4GB", "checkpoint_timeout=30min") as server:
        server.sql(_SCHEMA + _base() + "\\.\n")
        missing = mebibytes * _DOCUMENTS_PER_MIB - _BASE_DOCUMENTS
        while missing > 0:
            server.sql(_MORE % (_BASE_DOCUMENTS, missing))
            missing -= _BASE_DOCUMENTS
        server.sql(_INDEXES)
        yield server


def _base() -> str:
    """Return the first documents as rows for COPY, the same in every run."""
    random = Random(2026)  # noqa: S311 - data, not secrets
    words = ["".join(random.choices(ascii_lowercase, k=random.randint(2, 10))) for _ in range(3000)]

    def phrase(count: int) -> str:
        # Squared: as in languages, some words are common and most are rare.
        return " ".join(words[int(random.random() ** 2 * len(words))] for _ in range(count))

    def row() -> str:
        body = {
            "customer": {"name": phrase(2), "mail": f"{random.getrandbits(80):x}@example.com"},
            "total": round(random.random() * 1000, 2),
            "paid": random.random() < 0.9,
            "tags": [phrase(1), phrase(1)],
            "token": str(UUID(int=random.getrandbits(128))),
        }
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(31_536_000))
        fields = (
            str(UUID(int=random.getrandbits(128))),
            str(at),
            json.dumps(body),
            phrase(90 + random.randrange(40)),
        )
        return "\t".join(fields)

    return "".join(row() + "\n" for _ in range(_BASE_DOCUMENTS))


def environment(server: PostgresServer, folder: Path) -> Environment:
    """Return an environment with this server's database and a store in a folder."""
    return make_environment(folder, app=server.app, timeout=3600.0)
