"""Published messages: each is encoded once for each encoding, and a batch is joined once. Knows no subscriber."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wshost.exact import octets
from wshost.interfaces import IEncoding


class Publication:
    """One message to one topic.

    :param number: its place among the publications of all topics; earlier ones have smaller numbers.
    :param data: text as str, or bytes.
    """

    __slots__ = ("_encoded", "data", "number")

    def __init__(self, number: int, data: str | bytes) -> None:
        self.number = number
        self.data = data
        self._encoded: dict[IEncoding, bytes] = {}

    def encoded(self, encoding: IEncoding, failed: Callable[[], None]) -> bytes:
        """Return the encoded message. Each encoding is called once.

        :param failed: called when the encoding raises, while the exception is being handled.
        :returns: empty when the encoding failed: the message is lost.
        """
        try:
            return self._encoded[encoding]
        except KeyError:
            pass
        try:
            data = octets(encoding.encode(self.data))
        except BaseException:
            failed()
            data = b""
        self._encoded[encoding] = data
        return data


class Batch(NamedTuple):
    """Encoded messages that go to a connection in one write."""

    data: bytes
    #: How many messages are in it.
    messages: int
    #: How many messages were left out: there was no room, or they could not be encoded.
    cut: int


def join(publications: Iterable[Publication], encoding: IEncoding, most: int, failed: Callable[[], None]) -> Batch:
    """Return the batch of these publications, encoded, in their order.

    :param most: a number of bytes; once there are so many, the remaining messages are left out.
    :param failed: see `Publication.encoded`.
    """
    parts: list[bytes] = []
    size = cut = 0
    for publication in publications:
        part = b"" if size >= most else publication.encoded(encoding, failed)
        if part:
            parts.append(part)
            size += len(part)
        else:
            cut += 1
    return Batch(b"".join(parts), len(parts), cut)
