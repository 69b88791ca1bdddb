from __future__ import annotations

import hashlib

import pytest

from windlass.secrets.writers.versions import versioned


def test_the_name_changes_with_the_content_and_tells_nothing_without_the_key() -> None:
    first = versioned("token", b"1234", b"key", "_")
    assert first == versioned("token", b"1234", b"key", "_")
    assert first.startswith("token_")
    assert len(first) == len("token_") + 8
    assert first != versioned("token", b"1235", b"key", "_")
    assert first != versioned("token", b"1234", b"another key", "_")
    assert hashlib.sha256(b"1234").hexdigest()[:8] not in first


def test_equal_contents_of_two_names_do_not_look_equal() -> None:
    assert versioned("a", b"1", b"key", "_")[-8:] != versioned("b", b"1", b"key", "_")[-8:]


def test_without_a_key_there_is_no_name() -> None:
    with pytest.raises(ValueError, match="key"):
        versioned("a", b"1", b"", "_")
