"""Whom the frame reader and its engine report to, as interfaces. Contains no code."""

from __future__ import annotations

from typing import Protocol


class EngineSink(Protocol):
    """Receives what an engine reports, from within calls such as `Engine.step` and `Engine.fail`."""

    def on_write(self, data: bytes) -> None:
        """Send these bytes to the peer."""

    def on_message(self, message: tuple[str, str | bytes], size: int) -> None:
        """A whole message has arrived.

        :param message: as handlers get it.
        :param size: the work of reading it, in bytes.
        """

    def on_ping(self, payload: bytes) -> None:
        """A ping has arrived; it is not answered yet."""

    def on_pong(self, payload: bytes) -> None:
        """A pong has arrived."""

    def on_close(self, code: int | None, reason: str) -> None:
        """The peer has started the closing handshake; answer with `Engine.answer_close`."""

    def on_fail(self, code: int, reason: str) -> None:
        """The connection fails (RFC 6455 §7.1.7) because of what the peer has sent, with this Close."""

    def on_drop(self) -> None:
        """The engine is done with the connection and reports nothing more."""


class Sink(EngineSink, Protocol):
    """Receives what the frame reader and its engine report."""

    def on_work(self, size: int) -> None:
        """Something was done that is in no message's size.

        :param size: the work, in bytes.
        """

    def receive_into(self, room: memoryview | None) -> None:
        """Let the peer's next bytes, which belong to a large frame, be read into this; then call `FrameReader.filled`.

        :param room: the memory for the rest of the payload; None: the last room may not be used any more.
        """
