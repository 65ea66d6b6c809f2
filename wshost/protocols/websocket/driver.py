"""One WebSocket connection: its state, and the messages between its peer and its handler's session.

Knows RFC 6455's states, but no socket, and no user's handler. `reader.py` reads its frames, `keepalive.py` has its
limits on time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from zope.interface import classImplements, implementedBy

from wshost.exact import message as exact_message
from wshost.interfaces import (
    IBufferedDriver,
    IChannel,
    IConfirmingDriver,
    IContext,
    ICountingDriver,
    IEncoding,
    IHoldingDriver,
    IMovableDriver,
    IPromptDriver,
    IRenewableDriver,
    ISession,
    Timer,
)
from wshost.messages import CALL, check_payload
from wshost.protocols.http.head import BadRequest, response
from wshost.protocols.websocket.browsers import check_browser
from wshost.protocols.websocket.control import PING, PONG, control_frame
from wshost.protocols.websocket.deflate import Deflater, Inflater
from wshost.protocols.websocket.encodings import FRAMES, deflated_frames
from wshost.protocols.websocket.extensions import negotiate
from wshost.protocols.websocket.handshake import Offer, acceptance, agree, check, connection_info
from wshost.protocols.websocket.keepalive import ControlRate, Keepalive, MessageDeadline
from wshost.protocols.websocket.plain_frames import deflated_frame, frame
from wshost.protocols.websocket.reader import FrameReader
from wshost.results import REFUSED, Accept, Close, Refused, Results, Stop

if TYPE_CHECKING:
    from wshost.protocols.websocket.options import Options

#: One connection may do this much before other connections have their turn: steps of the reader, and bytes of received
#: messages and of output.
STEPS = 256
TURN_SIZE = 131_072
#: The payload of our own pings. Handlers do not see the pongs to these.
HEARTBEAT = b"wshost heartbeat"
#: The actions of refs, besides "info". Each is a method of `WebSocket`.
_ACTIONS = frozenset({"send", "confirm", "ping", "close"})
#: Those that send a message.
_MESSAGES = frozenset({"send", "confirm"})


class State(Enum):
    """The state of a connection (RFC 6455 §4.1, §7.1)."""

    #: The handler's init is running. Bytes from the peer are kept.
    CONNECTING = auto()
    #: Messages go both ways.
    OPEN = auto()
    #: We have sent our Close and wait for the peer's. Other frames of the peer are dropped.
    CLOSING = auto()
    #: Nothing goes in or out.
    CLOSED = auto()


_CLOSE = Close()

# Globals are found faster than attributes, and every message needs these.
_CONNECTING, _OPEN, _CLOSING, _CLOSED = State


class WebSocket:
    """The driver of one connection. Its session sees it as an `IChannel`."""

    def __init__(self, options: Options, context: IContext) -> None:
        self._options = options
        self._context = context
        self._seconds: Callable[[], float] = context.clock.seconds
        #: When the peer's last bytes arrived; see `keepalive.Driver`.
        self.heard_at = 0.0
        self._state = _CONNECTING
        self._offer: Offer
        # None before `begin`, and after the connection is gone. Check the state before using them.
        self._session: ISession = None  # type: ignore[assignment]
        self._reader: FrameReader = None  # type: ignore[assignment]
        # Bytes from the peer, kept until the handler accepts and there is a reader.
        self._unread = b""
        # Each is made when it is first needed.
        self._message_deadline: MessageDeadline | None = None
        self._control_rate: ControlRate | None = None
        # How much of `TURN_SIZE` was used in this turn; and the timer by which `_advance` continues in the next turn.
        self._turn_size = 0
        self._next_turn: Timer | None = None
        # How many steps the reader may take in a turn.
        self._steps = STEPS
        # `_advance` is running.
        self._advancing = False
        #: How many messages have come, and how many were sent besides those of topics.
        self.messages_in = self.messages_out = 0
        # The size in bytes of refs' actions that wait behind queued infos.
        self._behind_infos = 0
        # These actions, with their sizes, by their places; made when it is first needed.
        self._behind: dict[object, tuple[int, str, tuple[Any, ...]]] = None  # type: ignore[assignment]
        # The session has asked for a policy, so messages may wait outside.
        self._has_policy = False
        # The peer's Close has arrived, with this code and reason.
        self._close_received = False
        self._peers_close: tuple[int | None, str] = (None, "")
        # The server stops: close when the handler has answered.
        self._going_away = False
        # How published messages are encoded for this connection; None: each comes as an action "send".
        self._encoding: IEncoding | None = None
        # None unless permessage-deflate was agreed on.
        self._deflater: Deflater | None = None

    @property
    def __providedBy__(self) -> Any:
        # Of an extension type, zope.interface finds this out anew each time, in microseconds.
        return implementedBy(type(self))

    # The opening handshake

    def begin(self) -> None:
        """Check the request, then let the handler accept or reject it."""
        context, options, request = self._context, self._options, self._context.request
        try:
            self._offer = offer = check(request)
            check_browser(request, context, options.origins, options.hosts)
        except BadRequest as error:
            self._refuse(error.status, error.reason, error.headers, error.reason)
            return
        # Until the handler has decided, actions of refs and bytes from the peer are kept.
        context.keep_actions()
        connection = connection_info(request, offer, context.peer, context.tls, context.proxy)
        self._session = options.handler.session(self, connection)
        self._session.open(context.ref)
        if self._state is _CONNECTING:
            context.pause_reading()

    def accept(self, accept: Accept) -> None:
        if self._state is not _CONNECTING:
            return
        context, options, offer = self._context, self._options, self._offer
        try:
            subprotocol = agree(offer, accept, options.subprotocols)
        except ValueError:
            self.log_failure("the handler's init accepted wrongly")
            self.reject(500, b"", {})
            return
        if subprotocol is None and offer.subprotocols:
            options.hint.give(offer.subprotocols)
        agreed = negotiate(offer.extensions, options.takeover) if options.compress and offer.extensions else None
        inflater = None
        encoding: IEncoding | None = FRAMES
        if agreed is not None:
            self._deflater = Deflater(agreed.server_window_bits, agreed.server_takeover)
            # With context takeover, each peer needs its own encoding of a message.
            encoding = None if agreed.server_takeover else deflated_frames(agreed.server_window_bits)
            inflater = Inflater(agreed.client_window_bits, options.engine.max_message_size, agreed.client_takeover)
        reader = self._reader = FrameReader(self, options.engine, options.plain_limit, inflater)
        reader.feed(self._unread)
        self._unread = b""
        context.write(acceptance(offer.key, subprotocol, agreed.response if agreed else "", accept.headers))
        self._state = _OPEN
        if context.notes is not None:
            context.notes.update(status=101, subprotocol=subprotocol, deflate=agreed is not None)
        # An idle connection need not keep these. The handler may have kept what it got of them.
        self._offer = context.request = None  # type: ignore[assignment]
        self.heard_at = self._seconds()
        if options.ping_interval:
            Keepalive(self, context, options.ping_interval, options.ping_timeout)
        context.release_actions()
        if self._state is _OPEN:
            self._encoding = encoding
            context.use_encoding(encoding)
        if self._state is not _OPEN or not self._session.busy:
            self._advance()

    def reject(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        if self._state is _CONNECTING:
            self._refuse(status, body, headers, "The handler has refused it.")

    def _refuse(self, status: int, body: str | bytes, headers: Mapping[str, str], reason: str) -> None:
        self._state = _CLOSED
        self._context.count_refusal(status, reason)
        self._context.perform(Close(response(status, body, headers)))

    # From the connection

    def handle_connection_in(self, data: bytes) -> Results:
        if self._state is _CONNECTING:
            self._unread += data
        elif self._state is not _CLOSED:
            self.heard_at = self._seconds()
            self._reader.feed(data)
            self._advance()
        return None

    def handle_buffer_in(self, size: int) -> Results:
        if self._state is not _CLOSED:
            self.heard_at = self._seconds()
            self._reader.filled(size)
            self._advance()
        return None

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if action == "drained":
            if self._state is _OPEN:
                # Reading was paused until now, and the peer took output, so it is alive.
                self.heard_at = self._seconds()
            self._advance()
        elif action == "shutdown":
            self._shut_down()
        elif action == "reload":
            # The answer to the peer's Close must not wait for new code. A session of another factory may have no way to
            # do this.
            renew = None if self._close_received else getattr(self._session, "renew", None)
            return None if renew is not None and renew() else REFUSED
        elif action == "let_go":
            self._let_go()
        elif self._state is not _OPEN or self._close_received:
            if action != "drain" or self._state is not _CONNECTING:
                return REFUSED
            self._shut_down()
        elif self._session.has_infos and action not in {"info", "drain"}:
            # Actions are done in the order in which refs asked for them.
            if self._wait_behind_infos(action, *args):
                return None
            if action == "confirm":
                args[1](False)
            return REFUSED
        else:
            if self._behind_infos and action in _ACTIONS:
                self._let_go()
            if not self._act(action, *args):
                return REFUSED
            if self._state is not _OPEN:
                # A Close was sent, so the reader need not wait for the handler any more.
                self._advance()
        return None

    def _act(self, action: str, *args: Any) -> bool:
        """Do a ref's action, or tell the handler of the drain; return False when it can't be done."""
        if action == "info":
            return self._session.handle_info(*args)
        if action not in _ACTIONS:
            return action == "drain" and self._session.handle_info(action)
        getattr(self, action)(*args)
        return True

    def _wait_behind_infos(self, action: str, *args: Any) -> bool:
        """Do a ref's action after the infos that are queued before it; return False when too much waits already."""
        size = CALL + (len(args[0]) if action in _MESSAGES else 0)
        if self._behind_infos and self._behind_infos + size > self._context.max_output:
            return False
        if not self._behind_infos:
            # Published messages must wait, too. Without an encoding, each comes as an action.
            self._context.use_encoding(None)
        if self._behind is None:
            self._behind = {}
        place = object()
        self._behind[place] = (size, action, args)
        self._behind_infos += size
        self._session.after_infos(partial(self._act_behind_infos, place))
        return True

    def _act_behind_infos(self, place: object) -> None:
        if place not in self._behind:
            # It was done earlier.
            return
        size, action, args = self._behind.pop(place)
        self._behind_infos -= size
        if self._state is _OPEN and not self._close_received:
            self._act(action, *args)
            if not self._behind_infos and self._state is _OPEN:
                self._context.use_encoding(self._encoding)

    @property
    def held(self) -> int:
        """How many bytes of refs' messages wait behind infos: see `IHoldingDriver`."""
        if not self._behind_infos or self._state is not _OPEN or self._close_received:
            return 0
        # Another thread may ask. The copy is made in one step.
        return sum(size for size, action, _ in list(self._behind.values()) if action != "close")

    def _let_go(self) -> None:
        """Do what waits behind infos, which further actions would overtake, if the handler's answer is awaited.

        What the handler itself asks for while it is called belongs to its answer. A Close waits for that.
        """
        # A session of another factory may not know whether it awaits something.
        if getattr(self._session, "awaits", False):
            for place, (_, waiting, _) in list(self._behind.items()):
                if waiting != "close":
                    self._act_behind_infos(place)

    def _shut_down(self) -> None:
        """Say good-bye after the handler has answered; at once when called a second time."""
        if self._state is _CONNECTING:
            reason = "The server is shutting down."
            self._refuse(503, reason, {}, reason)
            return
        waits = self._state is _OPEN and not self._going_away and (self._session.busy or self._session.has_infos)
        self._going_away = True
        if not waits:
            self.close(*(self._peers_close if self._close_received else self._options.good_bye))
        self._advance()

    def handle_connection_close(self, reason: str) -> None:
        notes = self._context.notes
        if notes is not None and self._reader is not None:
            notes["messages_in"], notes["messages_out"] = self.messages_in, self.messages_out
        self._state = _CLOSED
        session = self._session
        # Break the reference cycles.
        self._session = self._reader = self._message_deadline = self._next_turn = None  # type: ignore[assignment]
        if session is not None:
            session.connection_lost()

    def _advance(self) -> None:
        """Read frames until more bytes are needed, the handler is busy, output is full, or the turn is used up."""
        # A handler may close from within a step: then the loop below is running already, and continues.
        if self._advancing or self._state is _CONNECTING or self._state is _CLOSED:
            return
        reader, session, context = self._reader, self._session, self._context
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._advancing = True
        self._turn_size = 0
        steps, turn_size = self._steps, TURN_SIZE
        try:
            while self._state is not _CLOSED:
                if self._state is _OPEN and (session.busy or context.output_full or self._going_away):
                    if self._going_away and not (session.busy or session.has_infos):
                        self.close(*self._options.good_bye)
                        continue
                    context.pause_reading()
                    break
                if (not steps or self._turn_size > turn_size) and reader.waits:
                    context.pause_reading()
                    self._next_turn = context.call_later(0, self._advance)
                    break
                steps -= 1
                if reader.step():
                    continue
                if not context.reading:
                    # Reading was paused: that time does not count as the peer's silence.
                    self.heard_at = self._seconds()
                    context.resume_reading()
                break
        finally:
            self._advancing = False
        if reader.inside and self._state is _OPEN:
            self._watch_message()

    def _watch_message(self) -> None:
        """Start a deadline for the message or frame that has begun to arrive."""
        if self._message_deadline is None:
            self._message_deadline = MessageDeadline(self, self._reader, self._context, self._options.message_timeout)
        if not self._message_deadline.running:
            self._message_deadline.start()

    # Another process

    def freeze(self) -> bytes | None:
        reader, session = self._reader, self._session
        if self._state is not _OPEN or self._close_received or self._going_away or self._deflater is not None:
            return None
        if reader.inside or reader.waits or session.busy or session.has_infos or self._next_turn is not None:
            return None
        freeze = getattr(session, "freeze", None)
        return None if freeze is None else freeze()

    def thaw(self, data: bytes) -> None:
        """Go on with a connection that was frozen in another process: it is open, and has no extension.

        :raises TypeError: when the session factory can't do so.
        """
        options, context = self._options, self._context
        thaw = getattr(options.handler, "thaw", None)
        if thaw is None:
            raise TypeError(f"{options.handler!r} can't go on with connections of another process")
        self._reader = FrameReader(self, options.engine, options.plain_limit)
        self._state = _OPEN
        self._encoding = FRAMES
        self.heard_at = self._seconds()
        if options.ping_interval:
            Keepalive(self, context, options.ping_interval, options.ping_timeout)
        context.use_encoding(FRAMES)
        self._session = thaw(self, context.ref, context.route, data)

    # From the reader and its engine

    def on_message(self, message: tuple[str, str | bytes], size: int) -> None:
        self.messages_in += 1
        self._turn_size += size
        if self._state is _OPEN:
            self._session.handle_message(message)

    def on_work(self, size: int) -> None:
        self._turn_size += size

    def receive_into(self, room: memoryview | None) -> None:
        self._context.receive_into(room)

    def on_write(self, data: bytes) -> None:
        self._turn_size += len(data)
        self._context.write(data)

    def on_ping(self, payload: bytes) -> None:
        if self._admit_control():
            self.pong(payload)
            self._session.handle_message(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        if self._admit_control() and payload != HEARTBEAT:
            self._session.handle_message(("pong", payload))

    def _admit_control(self) -> bool:
        """Say whether one more ping or pong is handled; fail the connection when the peer has sent too many."""
        if self._control_rate is None:
            self._control_rate = ControlRate(self._seconds)
        if not self._control_rate.take():
            self._reader.engine.fail(1008, "too many pings and pongs")
        return self._state is _OPEN

    def on_close(self, code: int | None, reason: str) -> None:
        self._close_received = True
        self._peers_close = (code, reason)
        self._note_close(code, reason, "peer")
        self._reader.leave_to_engine()
        if self._has_policy:
            # The peer wants no more.
            self._context.take_waiting()
        self._context.use_encoding(None)
        session = self._session
        session.handle_message(("close", (code, reason)))
        if session.busy:
            self._context.call_later(self._options.close_timeout, partial(self.close, code, reason))
        else:
            self.close(code, reason)

    def on_drop(self) -> None:
        self._state = _CLOSED
        self._context.perform(_CLOSE)

    # From the session

    def send(self, data: str | bytes) -> None:
        if self._state is not _OPEN:
            return
        if type(data) is not str and type(data) is not bytes:
            data = exact_message(data)
        self.messages_out += 1
        if self._deflater is None:
            self.on_write(frame(data))
        else:
            payload = data.encode() if isinstance(data, str) else data
            self.on_write(deflated_frame(self._deflater.deflate(payload), isinstance(data, bytes)))

    def confirm(self, data: str | bytes, call: Callable[[bool], object]) -> None:
        """Send a message, and say that it is in the output."""
        self.send(data)
        call(True)

    def ping(self, data: bytes) -> None:
        if self._state is _OPEN:
            self.on_write(control_frame(PING, check_payload(data)))

    def pong(self, data: bytes) -> None:
        if self._state is _OPEN:
            self.on_write(control_frame(PONG, check_payload(data)))

    def close(self, code: int | None, reason: str) -> None:
        if self._state is not _OPEN:
            return
        # Messages that wait, or were published earlier, leave before the Close, and none leaves after it.
        if self._has_policy:
            for data in self._context.take_waiting():
                self.send(data)
        self._context.use_encoding(None)
        self._note_close(code, reason, "server")
        if self._close_received:
            self._reader.answer_close(code, reason.encode())
        else:
            self._state = _CLOSING
            self._reader.leave_to_engine()
            self._reader.engine.start_close(code, reason.encode())
            self._context.call_later(self._options.close_timeout, self._close_overdue)

    def on_fail(self, code: int, reason: str) -> None:
        self._context.take_waiting()
        self._note_close(code, reason, "server")

    def _note_close(self, code: int | None, reason: str, by: str) -> None:
        """Note for the access log who has closed first, and how."""
        notes = self._context.notes
        if notes is not None and "closed_by" not in notes:
            # RFC 6455 §7.1.5: a Close without a code counts as one with 1005.
            notes.update(code=1005 if code is None else code, reason=reason, closed_by=by)

    def proceed(self) -> None:
        if self._state is _OPEN and self._close_received and not self._session.busy:
            self.close(*self._peers_close)
        self._advance()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        # When the server stops, a handler gets no more time after the end of its connection.
        gone = self._going_away and self._state is _CLOSED
        return self._context.call_regardless(0.0 if gone else seconds, call)

    def use_policy(self, policy: str) -> None:
        self._has_policy = True
        self._context.use_policy(policy)

    def call_soon(self, call: Callable[[], None]) -> None:
        self._context.call_soon(call)

    def seconds(self) -> float:
        return self._seconds()

    def unsubscribe_all(self) -> None:
        self._context.unsubscribe_all()

    def start_over(self) -> None:
        self._context.start_over()

    def count_crash(self, handler: str, kind: str) -> None:
        self._context.count_crash(handler, kind)

    def log_failure(self, what: str) -> None:
        self._context.log_failure(what)

    # From the clock

    def _close_overdue(self) -> None:
        if self._state is _CLOSING:
            self.drop("the peer did not answer our Close in time")

    @property
    def is_open(self) -> bool:
        return self._state is _OPEN

    def ping_peer(self) -> None:
        self.on_write(control_frame(PING, HEARTBEAT))

    def fail(self, code: int, reason: str) -> None:
        self._reader.engine.fail(code, reason)

    def drop(self, reason: str) -> None:
        self._state = _CLOSED
        self._context.perform(Stop(reason))


# Not a decorator: Cython's extension types can't have one.
classImplements(
    WebSocket,
    IBufferedDriver,
    IConfirmingDriver,
    ICountingDriver,
    IHoldingDriver,
    IMovableDriver,
    IPromptDriver,
    IRenewableDriver,
    IChannel,
)
