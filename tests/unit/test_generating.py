"""Key material: what each kind is, that it is random, and that it does not show itself."""

from __future__ import annotations

import base64
import random
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import ConfigurationError
from windlass.secrets.generating import KINDS, LEAST, MOST, generate, kind_fault


@given(st.integers(LEAST["password"], MOST))
def test_a_password_has_its_length_and_every_class(size: int) -> None:
    text = generate(f"password:{size}").reveal()
    assert len(text) == size
    assert text.isascii()
    assert text.isalnum()
    for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        assert set(kind) & set(text)


@given(st.integers(LEAST["base64"], MOST))
def test_bytes_are_counted_before_they_are_encoded(size: int) -> None:
    assert len(base64.b64decode(generate(f"base64:{size}").reveal(), validate=True)) == size
    assert len(bytes.fromhex(generate(f"hex:{size}").reveal())) == size


def test_a_uuid_is_random() -> None:
    assert uuid.UUID(generate("uuid").reveal()).version == 4


@pytest.mark.parametrize("kind", KINDS)
def test_two_are_never_the_same_even_with_a_known_seed(kind: str) -> None:
    made = set()
    for _ in range(200):
        random.seed(1)
        made.add(generate(kind).reveal())
    assert len(made) == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_size_of_its_own(kind: str) -> None:
    assert kind_fault(kind) == ""
    assert len(generate(kind).reveal()) >= 32


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("", "no kind"),
        ("password:", "no kind"),
        ("password:-1", "no kind"),
        ("password:32 ", "no kind"),
        ("password:３２", "no kind"),  # noqa: RUF001 - digits of another script are none
        ("pasword:32", "did you mean `password`?"),
        ("base32:32", "did you mean `base64`?"),
        ("password:11", "12 to 1024 characters"),
        ("base64:15", "16 to 1024 bytes"),
        ("hex:1025", "16 to 1024 bytes"),
        ("uuid:4", "no size"),
    ],
)
def test_another_text_is_refused_with_what_would_be_right(kind: str, part: str) -> None:
    assert part in kind_fault(kind)
    with pytest.raises(ConfigurationError, match=r".") as caught:
        generate(kind)
    assert part in str(caught.value)


@given(st.text())
def test_no_text_breaks_the_reading_of_a_kind(text: str) -> None:
    if kind_fault(text) == "":
        assert generate(text).reveal()
    else:
        with pytest.raises(ConfigurationError):
            generate(text)


def test_what_was_made_shows_a_mask() -> None:
    made = generate("password:32")
    assert made.reveal() not in f"{made} {made!r} {made:>40}"
