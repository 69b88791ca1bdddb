from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.secrets.search import Searcher

few = st.sampled_from([b"a", b"b", b"ab", b"abcab", b"\x00", b"\n"])
pieces = st.lists(few, max_size=40).map(b"".join)
patterns = st.lists(st.lists(few, min_size=1, max_size=14).map(b"".join), max_size=6)


def covered(parts: list[tuple[int, int]]) -> set[int]:
    return {place for begin, end in parts for place in range(begin, end)}


def naive(wanted: list[bytes], data: bytes) -> list[tuple[int, int]]:
    """Every occurrence of every pattern, looked for at every place."""
    return [
        (at, at + len(each))
        for each in wanted
        if len(each) >= 4
        for at in range(len(data))
        if data.startswith(each, at)
    ]


@given(patterns, pieces)
@settings(max_examples=600)
def test_it_covers_exactly_what_a_search_at_every_place_covers(wanted: list[bytes], data: bytes) -> None:
    spans = list(Searcher(wanted).spans(data))
    assert covered(spans) == covered(naive(wanted, data))
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


@given(patterns, pieces)
@settings(max_examples=600)
def test_what_is_unfinished_is_the_first_beginning_at_the_end(wanted: list[bytes], data: bytes) -> None:
    long = [each for each in wanted if len(each) >= 4]
    first = next(
        (
            at
            for at in range(len(data))
            if any(len(each) > len(data) - at and each.startswith(data[at:]) for each in long)
        ),
        len(data),
    )
    assert Searcher(wanted).unfinished(data) == first


@given(st.binary(min_size=4, max_size=30), st.binary(max_size=20), st.integers(0, 70000))
@settings(max_examples=200)
def test_a_pattern_is_found_at_every_alignment_and_in_every_block(
    wanted: bytes, before: bytes, far: int
) -> None:
    data = b"." * far + before + wanted
    spans = list(Searcher([wanted]).spans(data))
    assert set(range(len(data) - len(wanted), len(data))) <= covered(spans)


def test_matches_that_overlap_are_all_given() -> None:
    searcher = Searcher([b"abcdef", b"defghi", b"cdef"])
    assert list(searcher.matches(b"xabcdefghi")) == [(1, b"abcdef"), (4, b"defghi")]
    assert list(searcher.spans(b"xabcdefghi abcdefabcdef")) == [(1, 10), (11, 17), (17, 23)]


def test_patterns_shorter_than_four_bytes_are_left_out() -> None:
    searcher = Searcher([b"abc", b""])
    assert searcher.count == 0
    assert list(searcher.spans(b"abcabc")) == []
    assert searcher.unfinished(b"ab") == 2
