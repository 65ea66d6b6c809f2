from __future__ import annotations

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, TextMessage
from wsproto.extensions import PerMessageDeflate
from zope.interface.verify import verifyObject

from wshost.interfaces import IEncoding
from wshost.protocols.websocket.deflate import Deflater
from wshost.protocols.websocket.encodings import FRAMES, deflated_frames
from wshost.protocols.websocket.plain_frames import deflated_frame


def test_frames_provides_iencoding() -> None:
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
    def test_frames_have_their_length_in_the_shortest_form(self, data: str | bytes, head: str) -> None:
        payload = data.encode() if isinstance(data, str) else data
        assert FRAMES.encode(data) == bytes.fromhex(head) + payload

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_other_libraries_read_the_frames(self, size: int) -> None:
        client = Connection(ConnectionType.CLIENT)
        client.receive_data(FRAMES.encode("x" * size) + FRAMES.encode(b"y" * size))
        text, binary = client.events()
        assert isinstance(text, TextMessage)
        assert isinstance(binary, BytesMessage)
        assert (text.data, bytes(binary.data)) == ("x" * size, b"y" * size)
        assert text.message_finished
        assert binary.message_finished


class TestDeflatedFrames:
    """RFC 7692 §7.2.1, without a context that is taken over."""

    def test_deflated_frames_provide_iencoding(self) -> None:
        assert verifyObject(IEncoding, deflated_frames(12))

    def test_there_is_one_encoding_for_each_window(self) -> None:
        assert deflated_frames(12) is deflated_frames(12)
        assert deflated_frames(12) is not deflated_frames(9)

    @pytest.mark.parametrize("window_bits", range(9, 16))
    def test_a_deflated_frame_equals_that_of_a_single_connection(self, window_bits: int) -> None:
        for data in ("", "x" * 5_000, "x" * 5_000, bytes(range(256)) * 20):
            payload = data.encode() if isinstance(data, str) else data
            deflated = Deflater(window_bits, takeover=False).deflate(payload)
            expected = deflated_frame(deflated, isinstance(data, bytes))
            assert deflated_frames(window_bits).encode(data) == expected

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_other_libraries_read_the_deflated_frames(self, size: int) -> None:
        for _ in range(2):
            # One that has not seen those before.
            deflate = PerMessageDeflate()
            deflate.finalize("permessage-deflate; server_no_context_takeover")
            client = Connection(ConnectionType.CLIENT, [deflate])
            client.receive_data(deflated_frames(12).encode("ü" * size) + deflated_frames(12).encode(b"y" * size))
            text, binary = client.events()
            assert isinstance(text, TextMessage)
            assert isinstance(binary, BytesMessage)
            assert (text.data, bytes(binary.data)) == ("ü" * size, b"y" * size)
