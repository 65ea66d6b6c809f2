"""Published messages: each is encoded once; what goes to many at once is joined once. Knows no receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wshost.exact import octets
from wshost.interfaces import IEncoding


class Publication:
    """One message to one topic.

    :param number: those with smaller ones, to whatever topic, are before it.
    """

    __slots__ = ("_encoded", "data", "number")

    def __init__(self, number: int, data: str | bytes) -> None:
        self.number = number
        self.data = data
        self._encoded: dict[IEncoding, bytes] = {}

    def encoded(self, encoding: IEncoding, failed: Callable[[], None]) -> bytes:
        """Return it as this encoding has it, which is asked once.

        :param failed: is called while what the encoding has raised is being handled; the message is lost then.
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
    """What goes to a connection at once."""

    data: bytes
    #: How many messages are in it.
    messages: int
    #: How many are not: there was no room, or they can't be encoded.
    cut: int


def join(publications: Iterable[Publication], encoding: IEncoding, most: int, failed: Callable[[], None]) -> Batch:
    """Return what goes to a connection at once.

    :param most: once that many bytes are in it, the others find no room.
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
