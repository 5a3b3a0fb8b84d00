"""Ranges against a model that knows nothing but which bytes a specification names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.http.transfer import Part, has_already, part_of
from resonantgenesis_server.model.errors import RangeNotSatisfiable

ETAG = '"abc"'
CONTENT = bytes(range(40))


def answer(wanted: str | None, size: int, if_range: str | None = None) -> bytes | None:
    """The bytes that a client gets; None: it is refused."""
    content = CONTENT[:size]
    try:
        part = part_of(wanted, if_range, ETAG, size)
    except RangeNotSatisfiable as error:
        assert error.details == {"size": size}
        return None
    if part is None:
        return content
    assert 0 <= part.start < part.end <= size
    return content[part.start : part.end]


@given(size=st.integers(1, 40), first=st.integers(0, 60), last=st.integers(0, 60))
def test_from_a_first_to_a_last_byte(size: int, first: int, last: int) -> None:
    content = CONTENT[:size]
    named = bytes(b for place, b in enumerate(content) if first <= place <= last)
    got = answer(f"bytes={first}-{last}", size)
    if last < first:
        assert got == content  # no range at all: ignored
    else:
        assert got == (named or None)


@given(size=st.integers(1, 40), first=st.integers(0, 60))
def test_from_a_first_byte_on(size: int, first: int) -> None:
    assert answer(f"bytes={first}-", size) == (CONTENT[first:size] or None)


@given(size=st.integers(1, 40), length=st.integers(0, 60))
def test_the_last_bytes(size: int, length: int) -> None:
    named = CONTENT[:size][-length:] if length else b""
    assert answer(f"bytes=-{length}", size) == (named or None)


@given(pieces=st.lists(st.integers(1, 7), min_size=1, max_size=20), size=st.integers(1, 40))
def test_parts_one_after_the_other_are_the_whole(pieces: list[int], size: int) -> None:
    got, at = b"", 0
    for piece in [*pieces, size]:
        if at < size:
            got += answer(f"bytes={at}-{at + piece - 1}", size) or b""
            at += piece
    assert got == CONTENT[:size]


@given(
    wanted=st.one_of(
        st.text(max_size=20),
        st.from_regex(r"bytes=[0-9, -]{0,20}", fullmatch=True),
        st.from_regex(r"[a-z]{1,6}=[0-9]{1,3}-[0-9]{0,3}", fullmatch=True),
    ),
    size=st.integers(0, 40),
)
def test_whatever_is_asked_the_answer_is_part_of_the_content(wanted: str, size: int) -> None:
    got = answer(wanted, size)
    assert got is None or got in CONTENT[:size]


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0x1-2",
        "bytes=²-",
        "bytes=1 -2",
        "lines=1-2",
        "bytes=0-0,2-2",
        "bytes=0-,-1",
    ],
)
def test_what_is_no_single_range_of_bytes_is_ignored(wanted: str | None) -> None:
    assert answer(wanted, 10) == CONTENT[:10]


@pytest.mark.parametrize("wanted", ["Bytes=1-2", "bytes = 1-2", "bytes=,1-2,", " bytes=01-002 "])
def test_how_else_a_range_may_be_written(wanted: str) -> None:
    assert answer(wanted, 10) == b"\x01\x02"


def test_numbers_without_end() -> None:
    for digits in (18, 19, 40, 5_000):
        assert answer(f"bytes={'9' * digits}-", 10) is None
        assert answer(f"bytes=0-{'9' * digits}", 10) == CONTENT[:10]
        assert answer(f"bytes=-{'9' * digits}", 10) == CONTENT[:10]
        assert answer(f"bytes={'0' * digits}1-1", 10) == b"\x01"


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=0-0", "bytes=5-", "bytes=-1", "bytes=-0"])
def test_there_are_no_parts_of_nothing(wanted: str) -> None:
    assert part_of(wanted, None, ETAG, 0) is None


def test_if_range() -> None:
    assert part_of("bytes=1-2", ETAG, ETAG, 10) == Part(1, 3)
    for other in ('"other"', "W/" + ETAG, "abc", "", "Wed, 21 Oct 2026 07:28:00 GMT"):
        assert part_of("bytes=1-2", other, ETAG, 10) is None
        assert part_of("bytes=99-", other, ETAG, 10) is None  # the whole, not a refusal


@pytest.mark.parametrize(
    ("named", "has"),
    [
        (None, False),
        ("", False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x",W/"abc","y"', True),
        ('"x"', False),
        ("abc", False),
        ('"ab"c""', False),
    ],
)
def test_if_none_match(named: str | None, has: bool) -> None:
    assert has_already(named, ETAG) == has
