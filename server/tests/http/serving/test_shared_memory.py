"""Pages that several processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from resonantgenesis_server.http.serving.shared_memory import _HEAD, _PAGE, SharedPages


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = SharedPages.create(3)
    yield made
    os.close(made)


def test_each_reads_what_the_others_wrote_last(descriptor: int) -> None:
    one, two = SharedPages(descriptor), SharedPages(descriptor)
    assert one.read(0) == []
    one.write(0, b"long ago")
    one.write(0, b"first")
    two.write(2, b"third")
    assert one.read(0) == [b"third"]
    assert two.read(1) == [b"first", b"third"]
    two.clear(0)
    assert two.read(1) == [b"third"]


def test_a_page_has_an_end_and_leaves_its_neighbour_alone(descriptor: int) -> None:
    pages = SharedPages(descriptor)
    whole = bytes(_PAGE - _HEAD.size)
    pages.write(1, b"second")
    pages.write(0, whole)
    assert pages.read(2) == [whole, b"second"]
    with pytest.raises(ValueError, match="more than a page"):
        pages.write(0, whole + b"x")


def test_half_a_page_is_not_read(descriptor: int) -> None:
    pages = SharedPages(descriptor)
    pages.write(0, b"0123456789")
    pages._memory[_HEAD.size + 3] = 0  # as in the midst of a writing
    pages.write(1, b"whole")
    assert pages.read(2) == [b"whole"]
