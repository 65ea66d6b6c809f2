"""One WebSocket connection: its state, between its engine, its peer and its handler's session.

Knows RFC 6455's states. Its bytes are `reader.py`'s, limits in time `keepalive.py`'s. No socket, and no user's handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from zope.interface import classImplements

from wshost.exact import message
from wshost.interfaces import IBufferedDriver, IChannel, IContext, IEncoding, IPromptDriver, ISession, Timer
from wshost.messages import check_payload
from wshost.protocols.http.head import BadRequest, response
from wshost.protocols.websocket.browsers import check_browser
from wshost.protocols.websocket.control import PING, PONG, control_frame
from wshost.protocols.websocket.deflate import Deflater, Inflater
from wshost.protocols.websocket.encodings import FRAMES, deflated_frames
from wshost.protocols.websocket.extensions import negotiate
from wshost.protocols.websocket.handshake import Offer, acceptance, agree, check, connection_info
from wshost.protocols.websocket.keepalive import Patience
from wshost.protocols.websocket.plain_frames import deflated_frame, frame
from wshost.protocols.websocket.reader import FrameReader
from wshost.results import REFUSED, Accept, Close, Refused, Result, Results, Stop

if TYPE_CHECKING:
    from wshost.protocols.websocket.module import Options

#: What one connection may do before it is others' turn: steps of the engine, bytes of messages in and of output.
STEPS = 256
SHARE = 131_072
#: What refs may ask for before the handshake is done: how often, and bytes (or characters) in messages.
EARLY = 1_024
EARLY_SIZE = 1 << 20
#: What waits behind infos weighs that much beside its data, in bytes.
CALL = 256
#: The payload of our own pings, by which their pongs are told from those that a handler asked for.
HEARTBEAT = b"wshost heartbeat"
#: What peers are told when the server stops.
GOING_AWAY = (1001, "going away")


class State(Enum):
    """Where a connection stands (RFC 6455 §4.1, §7.1)."""

    #: The handler's init is running; what the peer sends is held.
    CONNECTING = auto()
    #: Messages go both ways.
    OPEN = auto()
    #: Our Close is out and the peer's awaited; what else it sends is dropped.
    CLOSING = auto()
    #: Nothing goes in or out.
    CLOSED = auto()


# What every message needs, where it is fastest found.
_CONNECTING, _OPEN, _CLOSING, _CLOSED = State


class WebSocket:
    """One connection's driver."""

    __slots__ = (
        "_advancing",
        "_context",
        "_deflater",
        "_early",
        "_early_size",
        "_encoding",
        "_farewell",
        "_frames",
        "_held",
        "_leaving",
        "_offer",
        "_options",
        "_out",
        "_patience",
        "_peer_closed",
        "_seconds",
        "_session",
        "_share",
        "_state",
        "_turn",
        "_unread",
        "heard_at",
    )

    def __init__(self, options: Options, context: IContext) -> None:
        self._options = options
        self._context = context
        self._seconds: Callable[[], float] = context.clock.seconds
        self._state = _CONNECTING
        self._offer: Offer
        # None before `begin`, and `opened`, and when the connection is gone: the state says when not to look.
        self._session: ISession = None  # type: ignore[assignment]
        self._frames: FrameReader = None  # type: ignore[assignment]
        self._patience: Patience = None  # type: ignore[assignment]
        #: When the peer's last bytes came; that they do is what `Patience` waits for.
        self.heard_at = 0.0
        # What is to be done by the connection, in order.
        self._out: list[Result] = []
        # How much of its `SHARE` it has had in this turn.
        self._share = 0
        # What the peer has sent before the handshake was done.
        self._unread = b""
        # We have paused reading.
        self._held = False
        # `_advance` is running.
        self._advancing = False
        # When it goes on, where it left off for others.
        self._turn: Timer | None = None
        # What refs have asked for before the handshake was done, and the size of the messages in it; afterwards that of
        # what waits for the infos before it.
        self._early: list[tuple[Any, ...]] = []
        self._early_size = 0
        # The peer's Close came, with this code and reason.
        self._peer_closed = False
        self._farewell: tuple[int | None, str] = (None, "")
        # The server stops: we close when what the handler is doing is done.
        self._leaving = False
        # How published messages are encoded, where that is not for this driver to do.
        self._encoding: IEncoding | None = None
        # By which messages leave, where permessage-deflate was agreed on.
        self._deflater: Deflater | None = None

    # The opening handshake

    def begin(self) -> None:
        """Judge the request; then it is the handler's turn."""
        context, request = self._context, self._context.request
        try:
            self._offer = check(request)
            check_browser(request, context, self._options.origins, self._options.hosts)
        except BadRequest as error:
            context.perform(self._refuse(error.status, error.reason, error.headers))
            return
        self._session = self._options.handler.session(self)
        self._session.open(connection_info(request, self._offer, context.peer, context.tls), context.ref)
        if self._state is _CONNECTING:
            self._hold()
        # What the session has said right behind its `opened`.
        context.perform(self._take())

    def opened(self, accept: Accept) -> None:
        if self._state is not _CONNECTING:
            return
        options, offer = self._options, self._offer
        try:
            subprotocol = agree(offer, accept, options.subprotocols)
        except ValueError:
            self.log_failure("the handler's init accepted wrongly")
            self.refused(500, b"", {})
            return
        if subprotocol is None and offer.subprotocols:
            options.hint.give(offer.subprotocols)
        agreed = negotiate(offer.extensions, options.takeover) if options.compress and offer.extensions else None
        inflater = None
        encoding: IEncoding | None = FRAMES
        if agreed is not None:
            self._deflater = Deflater(agreed.server_window_bits, agreed.server_takeover)
            # What refers back to what this peer was sent is for nobody else.
            encoding = None if agreed.server_takeover else deflated_frames(agreed.server_window_bits)
            inflater = Inflater(agreed.client_window_bits, options.engine.max_message_size, agreed.client_takeover)
        self._frames = FrameReader(self, options.engine, options.plain_limit, inflater)
        self.on_write(acceptance(offer.key, subprotocol, agreed.response if agreed else "", accept.headers))
        self._frames.feed(self._unread)
        self._unread = b""
        self._state = _OPEN
        self._patience = Patience(self, self._frames, self._context, options)
        early, self._early = self._early, []
        self._early_size = 0
        for action, *arguments in early:
            self._act(action, *arguments)
        self._encoding = encoding
        if self._state is _OPEN:
            self._context.share(encoding)
        waits = self._state is _OPEN and self._session.busy
        self._context.perform(self._take() if waits else self._advance())

    def refused(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        if self._state is _CONNECTING:
            self._context.perform(self._refuse(status, body, headers))

    def _refuse(self, status: int, body: str | bytes, headers: Mapping[str, str]) -> Close:
        close = Close(response(status, body, headers))
        self._state = _CLOSED
        return close

    # From the connection

    def handle_connection_in(self, data: bytes) -> Results:
        if self._state is _CLOSED:
            return None
        if self._state is _CONNECTING:
            self._unread += data
            return None
        self.heard_at = self._seconds()
        self._frames.feed(data)
        return self._advance()

    def handle_buffer_in(self, size: int) -> Results:
        if self._state is _CLOSED:
            return None
        self.heard_at = self._seconds()
        self._frames.filled(size)
        return self._advance()

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if action == "drained":
            if self._state is _OPEN:
                # It was not read meanwhile, and shows that it lives.
                self.heard_at = self._seconds()
            return self._advance()
        if action == "shutdown":
            return self._shut_down()
        if self._state is _CONNECTING:
            return None if self._keep(action, *args) else REFUSED
        if self._state is not _OPEN or self._peer_closed:
            return REFUSED
        session = self._session
        if session.waits and action != "info":
            # In the order in which it was asked for.
            return self._take() if self._let_wait(action, *args) else REFUSED
        if not self._act(action, *args):
            return REFUSED
        # Behind our own Close nothing is held any more.
        return self._take() if self._state is _OPEN else self._advance()

    def _act(self, action: str, *args: Any) -> bool:
        """Do what a ref asks for; False when it can't be done."""
        if action == "send":
            self.send(*args)
        elif action == "info":
            return self._session.info(*args)
        elif action == "ping":
            self.ping(*args)
        elif action == "close":
            self.close(*args)
        else:
            return False
        return True

    def _keep(self, action: str, *args: Any) -> bool:
        """Keep what a ref asks for until the handshake is done; False when it is too much."""
        if action == "info":
            return self._session.info(*args)
        size = len(args[0]) if action == "send" else 0
        if action not in {"send", "ping", "close"} or len(self._early) >= EARLY or self._early_size + size > EARLY_SIZE:
            return False
        self._early.append((action, *args))
        self._early_size += size
        return True

    def _let_wait(self, action: str, *args: Any) -> bool:
        """Do what a ref asks for behind the infos that wait for the turn's end; False when too much waits already."""
        size = CALL + (len(args[0]) if action == "send" else 0)
        if self._early_size and self._early_size + size > EARLY_SIZE:
            return False
        if not self._early_size:
            # What is published meanwhile comes as an action, too.
            self._stop_sharing()
        self._early_size += size
        self._session.behind(partial(self._act_behind, size, action, *args))
        return True

    def _act_behind(self, size: int, action: str, *args: Any) -> None:
        self._early_size -= size
        if self._state is _OPEN and not self._peer_closed:
            self._act(action, *args)
            if not self._early_size and self._state is _OPEN:
                self._context.share(self._encoding)

    def _shut_down(self) -> Results:
        """Say good-bye: when the handler has answered, or at once when that is asked a second time."""
        if self._state is _CONNECTING:
            return self._refuse(503, "The server is shutting down.", {})
        waits = self._state is _OPEN and not self._leaving and (self._session.busy or self._session.waits)
        self._leaving = True
        if not waits:
            self.close(*(self._farewell if self._peer_closed else GOING_AWAY))
        return self._advance()

    def handle_connection_close(self, reason: str) -> None:
        self._state = _CLOSED
        session = self._session
        # They know us as we know them: without a cut here all would wait for the collector.
        self._session = self._frames = self._patience = self._turn = None  # type: ignore[assignment]
        if session is not None:
            session.lost()

    def _advance(self) -> Results:
        """Read on until that takes more bytes, the handler or the output is busy, or its turn is over."""
        # Whoever asks from within a step, a handler closing by its ref, has the loop below see to it.
        if self._advancing or self._state is _CONNECTING or self._state is _CLOSED:
            return self._take()
        frames, session, context = self._frames, self._session, self._context
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._advancing = True
        self._share = 0
        steps, share = STEPS, SHARE
        try:
            while self._state is not _CLOSED:
                if self._state is _OPEN and (session.busy or context.full or self._leaving):
                    if self._leaving and not (session.busy or session.waits):
                        self.close(*GOING_AWAY)
                        continue
                    self._hold()
                    break
                if (not steps or self._share > share) and frames.waits:
                    self._hold()
                    self._turn = context.call_later(0, self._take_turn)
                    break
                steps -= 1
                if frames.step():
                    continue
                if self._held:
                    self._held = False
                    # What it was silent meanwhile was our doing.
                    self.heard_at = self._seconds()
                    context.resume_reading()
                break
        finally:
            self._advancing = False
        if frames.inside and self._state is _OPEN and not self._patience.watches_message:
            self._patience.watch_message()
        return self._take()

    def _take_turn(self) -> None:
        self._turn = None
        self._context.perform(self._advance())

    def _hold(self) -> None:
        """Read no more from the peer."""
        if not self._held:
            self._held = True
            self._context.pause_reading()

    def _take(self) -> Results:
        """Return what is to be done by the connection."""
        out = self._out
        if not out:
            return None
        self._out = []
        return out[0] if len(out) == 1 else out

    # From the reader

    def deliver(self, message: tuple[str, Any], size: int) -> None:
        self._share += size
        if self._state is _OPEN:
            self._session.deliver(message)

    def receive_into(self, room: memoryview | None) -> None:
        self._context.receive_into(room)

    # From the engine

    def on_write(self, data: bytes) -> None:
        if self._context.published is not None:
            self._take_published()
        self._out.append(data)
        self._share += len(data)

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        # A few bytes may have been inflated to that.
        self._share += len(payload)
        if self._state is _OPEN:
            self._session.deliver(("binary", payload) if is_binary else ("text", payload.decode()))

    def on_ping(self, payload: bytes) -> None:
        if self._allow_control():
            self.pong(payload)
            self._session.deliver(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        if self._allow_control() and payload != HEARTBEAT:
            self._session.deliver(("pong", payload))

    def _allow_control(self) -> bool:
        """Say whether one more ping or pong is to be looked at."""
        if not self._patience.allow_control():
            self._frames.engine.fail(1008, "too many pings and pongs")
        return self._state is _OPEN

    def on_close(self, code: int | None, reason: str) -> None:
        self._peer_closed = True
        self._farewell = (code, reason)
        self._frames.leave_to_engine()
        self._stop_sharing()
        session = self._session
        session.deliver(("close", (code, reason)))
        if session.busy:
            self._context.call_later(self._options.close_timeout, self._answer_overdue)
        else:
            self.close(code, reason)

    def on_drop(self) -> None:
        self._state = _CLOSED
        self._out.append(Close())

    # What is published to the connection's topics

    def _take_published(self) -> None:
        """What was published before what we are about to say leaves before it."""
        published = self._context.published
        if published is not None:
            data = published()
            if data:
                self._out.append(data)

    def _stop_sharing(self) -> None:
        self._take_published()
        self._context.share(None)

    # From the session

    def send(self, data: str | bytes) -> None:
        if self._state is not _OPEN:
            return
        if type(data) is not str and type(data) is not bytes:
            data = message(data)
        if self._deflater is None:
            self.on_write(frame(data))
        else:
            payload = data.encode() if isinstance(data, str) else data
            self.on_write(deflated_frame(self._deflater.deflate(payload), isinstance(data, bytes)))

    def ping(self, data: bytes) -> None:
        if self._state is _OPEN:
            self.on_write(control_frame(PING, check_payload(data)))

    def pong(self, data: bytes) -> None:
        if self._state is _OPEN:
            self.on_write(control_frame(PONG, check_payload(data)))

    def close(self, code: int | None, reason: str) -> None:
        if self._state is not _OPEN:
            return
        self._stop_sharing()
        if self._peer_closed:
            self._frames.answer_close(code, reason.encode())
        else:
            self._state = _CLOSING
            self._frames.leave_to_engine()
            self._frames.engine.start_close(code, reason.encode())
            self._context.call_later(self._options.close_timeout, self._close_overdue)

    def released(self) -> None:
        if self._state is _OPEN and self._peer_closed and not self._session.busy:
            self.close(*self._farewell)
        self._context.perform(self._advance())

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        # When the server stops, nobody is left to wait for what goes on behind a connection's end.
        gone = self._leaving and self._state is _CLOSED
        return self._context.call_regardless(0.0 if gone else seconds, call)

    def call_soon(self, call: Callable[[], None]) -> None:
        self._context.call_soon(call)

    def log_failure(self, what: str) -> None:
        self._context.log_failure(what)

    # From the clock

    def _answer_overdue(self) -> None:
        self.close(*self._farewell)
        self._context.perform(self._take())

    def _close_overdue(self) -> None:
        if self._state is _CLOSING:
            self.drop("the peer did not answer our Close in time")

    @property
    def is_open(self) -> bool:
        return self._state is _OPEN

    @property
    def is_reading(self) -> bool:
        return not (self._held or self._context.full)

    def beat(self) -> None:
        self.on_write(control_frame(PING, HEARTBEAT))
        self._context.perform(self._take())

    def fail(self, code: int, reason: str) -> None:
        self._frames.engine.fail(code, reason)
        self._context.perform(self._take())

    def drop(self, reason: str) -> None:
        self._state = _CLOSED
        self._context.perform(Stop(reason))


# Not by a decorator: Cython's classes take none.
classImplements(WebSocket, IBufferedDriver, IPromptDriver, IChannel)
