from __future__ import annotations

from typing import Any

import pytest

from wshost.topics.publication import Batch, Publication, join


class Encoding:
    """An encoding that puts a mark before each message. It fails on "bad"."""

    def __init__(self, mark: bytes = b"|") -> None:
        self.mark = mark
        self.asked: list[str | bytes] = []

    def encode(self, data: str | bytes) -> bytes:
        self.asked.append(data)
        if data == "bad":
            raise ValueError(data)
        return self.mark + (data.encode() if isinstance(data, str) else data)


@pytest.fixture
def failures() -> list[None]:
    return []


def batch(
    publications: list[Publication], encoding: Any, failures: list[None] | None = None, most: int = 1_000
) -> Batch:
    failed: list[None] = [] if failures is None else failures
    return join(publications, encoding, most, lambda: failed.append(None))


class TestPublication:
    @pytest.mark.parametrize("kind", [bytearray, memoryview, bytes])
    def test_a_publication_is_encoded_as_exact_bytes(self, kind: Any) -> None:
        encoding = Encoding()
        encoding.encode = lambda data: kind(b"made")  # type: ignore[method-assign]
        encoded = Publication(1, "text").encoded(encoding, lambda: None)  # type: ignore[arg-type]
        assert (type(encoded), encoded) == (bytes, b"made")

    @pytest.mark.parametrize("made", ["text", None, 7])
    def test_a_publication_that_is_encoded_as_no_bytes_is_lost_alone(self, failures: list[None], made: Any) -> None:
        """The other messages of the same turn are delivered."""
        encoding = Encoding()
        encoding.encode = lambda data: made if data == "odd" else b"even"  # type: ignore[method-assign]
        joined = batch([Publication(1, "odd"), Publication(2, "even")], encoding, failures)
        assert (joined, failures) == ((b"even", 1, 1), [None])

    def test_a_publication_is_encoded_once_by_each_encoding(self) -> None:
        one, other = Encoding(b"1"), Encoding(b"2")
        publication = Publication(1, "text")
        assert [batch([publication], encoding).data for encoding in (one, other, one)] == [b"1text", b"2text", b"1text"]
        assert one.asked == other.asked == ["text"]

    def test_a_publication_that_can_not_be_encoded_is_lost_and_reported_once(self, failures: list[None]) -> None:
        encoding = Encoding()
        publications = [Publication(1, "a"), Publication(2, "bad"), Publication(3, b"b")]
        for _ in range(2):
            assert batch(publications, encoding, failures) == (b"|a|b", 2, 1)
        assert failures == [None]
        assert encoding.asked == ["a", "bad", b"b"]


class TestJoin:
    def test_no_publications_are_joined_to_no_bytes(self) -> None:
        assert batch([], Encoding()) == (b"", 0, 0)

    @pytest.mark.parametrize(("most", "kept"), [(1, 1), (2, 1), (3, 2), (5, 3), (1_000, 3)])
    def test_publications_are_joined_up_to_the_limit(self, most: int, kept: int) -> None:
        publications = [Publication(number, "x") for number in range(3)]
        assert batch(publications, Encoding(), most=most) == (b"|x" * kept, kept, 3 - kept)
