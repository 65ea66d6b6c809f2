import random

import pytest

from tests.regressions.wire import mask
from wshost.protocols.websocket.masking import Room, framed, unmask, unmask_text

#: Sizes about those where something changes: words, vectors, the forms of the length, and how it is done.
SIZES = [*range(10), 15, 16, 17, 63, 64, 65, 124, 125, 126, 127, 128, 2_047, 2_048, 65_535, 65_536, 300_000]
KEYS = [b"\x37\xfa\x21\x3d", b"\0\0\0\0", b"\0\0\0\x01", b"\xff\0\0\0", b"\x80\x80\x80\x80"]
KEY = mask(bytes(4))


def xored(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 §5.3, to the letter."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))


class TestUnmask:
    @pytest.mark.parametrize("key", KEYS, ids=bytes.hex)
    @pytest.mark.parametrize("size", SIZES)
    def test_the_payload_is_xored_with_the_key_before_it(self, size: int, key: bytes) -> None:
        payload = random.Random(size).randbytes(size)
        for before in (b"", b"x", b"head"):
            data = before + key + xored(payload, key) + b"behind"
            plain = unmask(data, len(before) + 4, size)
            assert plain == payload
            assert type(plain) is bytes

    @pytest.mark.parametrize("size", SIZES)
    def test_text_is_decoded(self, size: int) -> None:
        for text in ("a" * size, ("aé€😀" * (size // 10)) + "z" * (size % 10)):
            payload = text.encode()
            assert unmask_text(KEY + mask(payload), 4, len(payload)) == text

    @pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 200])
    def test_one_octet_that_is_not_ascii_is_noticed_wherever_it_stands(self, size: int) -> None:
        for at in range(size):
            payload = b"a" * at + b"\x80" + b"a" * (size - at - 1)
            assert unmask_text(KEY + mask(payload), 4, size) is None, at

    @pytest.mark.parametrize(("start", "size"), [(4, 4), (7, 1), (7, 1 << 62), (8, 1), (4, 1 << 62)])
    def test_nothing_behind_the_data_is_read(self, start: int, size: int) -> None:
        data = KEY + b"abc"
        for read in (unmask, unmask_text):
            try:
                payload = read(data, start, size) or b""
            except ValueError:
                payload = b""
            assert len(payload) <= max(0, len(data) - start)


class TestFramed:
    @pytest.mark.parametrize(
        ("size", "length"),
        [
            (0, "00"),
            (125, "7d"),
            (126, "7e007e"),
            (65_535, "7effff"),
            (65_536, "7f0000000000010000"),
            (16_909_060, "7f0000000001020304"),
        ],
    )
    def test_the_length_is_as_short_as_it_can_be(self, size: int, length: str) -> None:
        assert framed(0x82, bytes(size)) == b"\x82" + bytes.fromhex(length) + bytes(size)
        assert framed(0xC1, "a" * size) == b"\xc1" + bytes.fromhex(length) + b"a" * size

    def test_text_leaves_as_utf_8(self) -> None:
        assert framed(0x81, "é€😀") == b"\x81\x09" + "é€😀".encode()


class TestRoom:
    def room(self, size: int, *, is_text: bool = False) -> Room:
        room = Room(KEY, is_text)
        room.grow(size, 0)
        return room

    @pytest.mark.parametrize("key", [b"", b"123", b"12345"])
    def test_a_key_of_another_length_than_four_bytes_raises(self, key: bytes) -> None:
        with pytest.raises(ValueError, match="four bytes"):
            Room(key, False)

    @pytest.mark.parametrize("size", SIZES)
    def test_pieces_are_unmasked_by_where_they_stand(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        masked = mask(payload)
        for cut in {0, size // 3, size // 2, size}:
            room = self.room(size)
            room.put(cut, masked, cut, size - cut)
            with memoryview(room) as view:
                view[:cut] = masked[:cut]
            room.unmask(0, cut)
            assert room.message(False) == payload

    def test_a_piece_is_told_to_be_ascii_or_not(self) -> None:
        room = self.room(9)
        masked = mask("abcdé".encode())
        assert room.put(0, masked, 0, 4) is True
        assert room.put(4, masked, 4, 2) is False
        with memoryview(room) as view:
            view[:6] = masked
        assert room.unmask(0, 4) is True
        assert room.unmask(4, 2) is False

    @pytest.mark.parametrize("is_text", [True, False])
    def test_growing_keeps_the_payload_so_far(self, is_text: bool) -> None:
        payload = b"hello world"
        masked = mask(payload)
        room = self.room(5, is_text=is_text)
        room.put(0, masked, 0, 5)
        room.grow(11, 5)
        assert len(room) == 11
        room.put(5, masked, 5, 6)
        assert room.message(True) == ("hello world" if is_text else payload)

    def test_nobody_may_have_a_view_when_it_grows(self) -> None:
        room = self.room(5)
        with memoryview(room), pytest.raises(BufferError):
            room.grow(10, 5)

    @pytest.mark.parametrize(
        ("at", "start", "count"), [(-1, 0, 1), (5, 0, 1), (0, -1, 1), (0, 3, 1), (0, 0, -1), (0, 0, 4), (3, 0, 3)]
    )
    def test_adding_bytes_that_are_not_there_or_do_not_fit_raises(self, at: int, start: int, count: int) -> None:
        with pytest.raises(ValueError, match="more than there is room for"):
            self.room(5).put(at, b"abc", start, count)

    @pytest.mark.parametrize(("at", "count"), [(-1, 1), (5, 1), (0, 6), (0, -1), (3, 3)])
    def test_unmasking_beyond_the_room_raises(self, at: int, count: int) -> None:
        with pytest.raises(ValueError, match="more than there is room for"):
            self.room(5).unmask(at, count)

    def test_a_text_that_is_not_ascii_is_decoded(self) -> None:
        payload = "é€".encode()
        room = self.room(len(payload), is_text=True)
        assert room.put(0, mask(payload), 0, len(payload)) is False
        assert room.message(False) == "é€"

    @pytest.mark.parametrize("is_text", [True, False])
    def test_a_message_never_changes(self, is_text: bool) -> None:
        room = self.room(5, is_text=is_text)
        room.put(0, mask(b"hello"), 0, 5)
        view = memoryview(room)
        message = room.message(True)
        view[:] = b"?????"
        assert message == ("hello" if is_text else b"hello")
