"""Reads the bytes of one peer frame by frame. Knows no state of the connection.

A plain frame between messages is read by `plain_frames.py`, or by `partial_frame.py` when it arrives in pieces. All
other frames are read by the engine.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING

from wshost.protocols.websocket.control import CLOSE, control_frame
from wshost.protocols.websocket.deflate import STREAM, Corrupt, Inflater, TooLong
from wshost.protocols.websocket.partial_frame import PartialFrame
from wshost.protocols.websocket.plain_frames import frame_size, head, take, take_close, take_deflated
from wshost.protocols.websocket.sink import Sink

if TYPE_CHECKING:
    from wshost.protocols.websocket.autobahn_engine import Engine

#: The engine gets its input in slices of this size, as each of its steps copies the rest of the slice.
SLICE = 8_192
#: What the engine does for a slice is as much work as so many bytes of a plain message, however few bytes it has.
ENGINE_WORK = 8_192

#: A frame's size is in so many bytes at its beginning, at the most (RFC 6455 §5.2).
HEAD = 10

_utf_8 = codecs.getincrementaldecoder("utf-8")


class FrameReader:
    """The frames of one peer, after the opening handshake.

    :param sink: receives what the reader and the engine report.
    :param make_engine: makes an engine for the sink; one exists only while there are frames for it.
    :param limit: the largest message that is read without the engine, in bytes; -1 leaves all frames to the engine.
    :param inflater: shared with the engine; None unless permessage-deflate was agreed on.
    """

    def __init__(
        self,
        sink: Sink,
        make_engine: Callable[[Sink, Inflater | None], Engine],
        limit: int,
        inflater: Inflater | None = None,
    ) -> None:
        self._sink = sink
        self._make_engine = make_engine
        self._inflater = inflater
        self._engine: Engine | None = None
        self._limit = limit
        # Without the fast lane, all frames are the engine's, and none costs more than the others.
        self._engine_work = ENGINE_WORK if limit >= 0 else 0
        # The bytes that were fed, and up to where they have been read.
        self._data = b""
        self._at = 0
        # Whether the engine is within a message or a frame; and how many bytes of this frame it still needs, -1 when
        # the frame's length was incomplete.
        self._engaged = False
        self._known = 0
        # The plain frame that is incomplete; and how many bytes were read into its room and not processed yet.
        self._partial: PartialFrame | None = None
        self._filled = 0
        # How many messages were read here, or by engines that were released.
        self._read = 0

    @property
    def engine(self) -> Engine:
        """The engine; it is made if there is none."""
        if self._engine is None:
            self._engine = self._make_engine(self._sink, self._inflater)
        return self._engine

    @property
    def arrived(self) -> int:
        """How many messages, and control frames between messages, have arrived."""
        return self._read if self._engine is None else self._read + self._engine.arrived

    @property
    def inside(self) -> bool:
        """True in the middle of a message or a frame, or when there are unread bytes."""
        return self._engaged or self._partial is not None or self._at < len(self._data)

    @property
    def waits(self) -> bool:
        """True when `step` may have more to do, without more bytes."""
        return self._engaged or self._filled > 0 or self._at < len(self._data)

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer, for `step` to read."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def filled(self, count: int) -> None:
        """Take `count` bytes from the peer that were read into the room of `Sink.receive_into`."""
        self._filled += count

    def leave_to_engine(self) -> None:
        """Leave every frame to the engine from now on: in a closing handshake, the engine must check each of them."""
        self._limit = -1

    def answer_close(self, code: int | None, reason: bytes) -> None:
        """Answer the peer's Close; with no code, by an empty one. Nothing is read after it."""
        if self._engine is not None:
            self._engine.answer_close(code, reason)
        else:
            self._sink.on_write(control_frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason))
            self._sink.on_drop()

    def step(self) -> bool:
        """Take one step: read a message, a frame's head, or the available part of a payload.

        :returns: False when there is nothing more to do before more bytes are fed.
        """
        # If the engine has finished a message, return first: the handler may be busy now.
        if self._engaged and (self._go_on_judging() or not self._engaged):
            return True
        at = self._at
        if self._partial is not None and (self._filled or at < len(self._data)):
            return self._go_on(self._partial)
        if at == len(self._data):
            self._data = b""
            self._at = 0
            return False
        if self._engaged:
            return self._hand_over()
        taken = take(self._data, at, self._limit)
        if taken is None:
            return self._begin()
        message, stop = taken
        self._at = stop
        self._read += 1
        self._sink.on_message(message, stop - at)
        return True

    def _go_on_judging(self) -> bool:
        engine = self.engine
        if engine.step():
            return True
        self._engaged = engine.inside
        if not self._engaged and self._limit >= 0:
            # The engine takes two kilobytes, which an idle connection need not have.
            self._read += engine.arrived
            self._engine = None
        return False

    def _begin(self) -> bool:
        """Begin a frame that is not a whole plain message."""
        data, at = self._data, self._at
        if self._inflater is not None:
            deflated = take_deflated(data, at, self._limit)
            if deflated is not None:
                payload, is_binary, self._at = deflated
                return self._inflate(self._inflater, payload, is_binary)
        found = head(data, at, self._limit)
        if found is not None:
            is_text, size, start = found
            if start + size > len(data):
                self._partial = PartialFrame(is_text, size, data[start - 4 : start])
                self._at = start
                return True
        closing = take_close(data, at) if self._limit >= 0 else None
        if closing is not None:
            code, reason, self._at = closing
            self._sink.on_close(code, reason)
            return True
        self._engaged = True
        self._known = 0
        return self._hand_over()

    def _inflate(self, inflater: Inflater, payload: bytes, is_binary: bool) -> bool:
        try:
            inflated = inflater.inflate(payload)
            message = ("binary", inflated) if is_binary else ("text", inflated.decode())
        except TooLong as error:
            self._fail_size(error.inflated, is_binary)
            return False
        except (Corrupt, UnicodeDecodeError):
            self.engine.fail_payload()
            return False
        self._read += 1
        self._sink.on_message(message, len(payload) + len(inflated) + inflater.streams * STREAM)
        return True

    def _fail_size(self, inflated: bytes, is_binary: bool) -> None:
        # If a message is both too long and invalid UTF-8, the first fault in it counts, however the bytes were split.
        try:
            if not is_binary:
                _utf_8().decode(inflated)
        except UnicodeDecodeError:
            self.engine.fail_payload()
        else:
            self.engine.fail_size()

    def _hand_over(self) -> bool:
        """Give the engine the next slice, which ends at the end of the frame at the latest, if its length is known."""
        data, at = self._data, self._at
        if self._known == 0:
            self._known = frame_size(data, at)
        elif self._known < 0:
            # The engine has the first bytes of the frame's head. Unless it gets this frame alone, it reads all others
            # of the slice, too, at many times the cost.
            begun = self.engine.data
            size = frame_size(begun + data[at : at + HEAD], 0)
            if size > 0:
                self._known = size - len(begun)
        stop = min(at + SLICE, len(data))
        if self._known > 0:
            stop = min(at + self._known, stop)
            self._known -= stop - at
        self.engine.feed(data[at:stop])
        self._sink.on_work(self._engine_work)
        self._at = stop
        return True

    def _go_on(self, frame: PartialFrame) -> bool:
        count, self._filled = self._filled, 0
        try:
            if count:
                frame.fill(count)
            else:
                self._at = frame.add(self._data, self._at)
        except UnicodeDecodeError:
            self._partial = None
            self._sink.receive_into(None)
            self.engine.fail_payload()
            return False
        if not frame.left:
            self._partial = None
            self._read += 1
            self._sink.on_message(frame.message(), frame.size)
        elif not count:
            room = frame.room()
            if room is not None:
                self._sink.receive_into(room)
        return True
