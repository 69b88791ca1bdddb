import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backups import make_manifest
from windlass.backup.manifest import is_id, new_id, read_manifest
from windlass.errors import BackupError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@given(
    tables=st.dictionaries(TEXT, st.integers(min_value=0, max_value=2**62), max_size=5),
    name=TEXT,
    size=st.integers(min_value=0, max_value=2**62),
    time=st.datetimes(timezones=st.just(UTC)),
)
def test_a_manifest_is_read_back(tables: dict[str, int], name: str, size: int, time: datetime) -> None:
    manifest = make_manifest(tables=tables, database_name=name, stored_bytes=size, snapshot_time=time)
    assert read_manifest(manifest.to_json()) == manifest


@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    stored = bytearray(make_manifest(tables={"public.ä": 7}).to_json())
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BackupError, match="manifest"):
        read_manifest(bytes(stored))


@given(st.integers(0, 2000))
def test_a_cut_manifest_is_found(length: int) -> None:
    stored = make_manifest().to_json()
    cut = stored[: min(length, len(stored) - 3)]
    with pytest.raises(BackupError, match="damaged"):
        read_manifest(cut)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b'{"checksum": "sha256:0"}'])
def test_what_is_no_manifest_is_said_so(content: bytes) -> None:
    with pytest.raises(BackupError, match="manifest"):
        read_manifest(content)


def sealed(**changes: object) -> bytes:
    """A record with changed fields and a checksum that fits them."""
    from windlass.backup import manifest as module

    data = make_manifest().as_dict() | changes
    return json.dumps(data | {"checksum": module._checksum(data)}).encode()


def test_a_newer_schema_is_not_guessed_at() -> None:
    with pytest.raises(BackupError, match="schema 2; this Windlass reads 1"):
        read_manifest(sealed(schema=2))


@pytest.mark.parametrize(
    ("changes", "where"), [({"tables": {"a": "1"}}, "tables.a"), ({"surprise": 1}, "surprise")]
)
def test_a_record_of_another_shape_is_refused(changes: dict[str, object], where: str) -> None:
    with pytest.raises(BackupError, match=f"invalid at {where}"):
        read_manifest(sealed(**changes))


def test_ids_are_in_utc_and_sort_by_time() -> None:
    local = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    identifier = new_id(local)
    assert identifier.startswith("20260329T003000Z-")
    assert is_id(identifier)
    assert not is_id("../20260329T003000Z-abcdef")
    assert new_id(local) != identifier


def test_rows_and_seconds() -> None:
    manifest = make_manifest(tables={"a": 1, "b": 2})
    assert manifest.rows == 3
    assert manifest.seconds == 5.5
