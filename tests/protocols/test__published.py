from __future__ import annotations

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, TextMessage
from zope.interface.verify import verifyObject

from wshost.interfaces import IEncoding
from wshost.protocols._published import FRAMES


def test_provides_the_interface() -> None:
    assert verifyObject(IEncoding, FRAMES)


class TestFrames:
    """RFC 6455 §5.2."""

    @pytest.mark.parametrize(
        ("data", "head"),
        [
            ("", "81 00"),
            (b"", "82 00"),
            ("x" * 125, "81 7d"),
            ("ü" * 63, "81 7e 00 7e"),
            (b"x" * 65_535, "82 7e ff ff"),
            (b"x" * 65_536, "82 7f 00 00 00 00 00 01 00 00"),
        ],
        ids=["empty", "empty binary", "short", "medium", "the longest medium", "long"],
    )
    def test_have_their_length_in_the_shortest_form(self, data: str | bytes, head: str) -> None:
        payload = data.encode() if isinstance(data, str) else data
        assert FRAMES.encode(data) == bytes.fromhex(head) + payload

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_are_read_by_others(self, size: int) -> None:
        client = Connection(ConnectionType.CLIENT)
        client.receive_data(FRAMES.encode("x" * size) + FRAMES.encode(b"y" * size))
        text, binary = client.events()
        assert isinstance(text, TextMessage)
        assert isinstance(binary, BytesMessage)
        assert (text.data, bytes(binary.data)) == ("x" * size, b"y" * size)
        assert text.message_finished
        assert binary.message_finished
