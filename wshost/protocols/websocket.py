"""The websocket module: the state of one WebSocket connection between its engine, its peer and its handler's session.

Knows RFC 6455's states and limits in time; not its bytes (`_autobahn.py`), no socket, and no user's handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from zope.interface import implementer, moduleProvides

from wshost.control import NORMAL_CLOSE
from wshost.interfaces import IChannel, IContext, IPreparedModule, IProtocolDriver, ISession, ISessionFactory, Timer
from wshost.protocols._autobahn import Engine, engine_class
from wshost.protocols._handshake import Offer, check, connection_info
from wshost.protocols._head import BadRequest, response
from wshost.protocols._options import Reader
from wshost.protocols._origin import Origins
from wshost.results import REFUSED, Accept, Close, ConfigurationError, Refused, Result, Results, Stop

moduleProvides(IPreparedModule)

#: What one connection may do before it is others' turn: steps of the engine, bytes of output.
STEPS = 256
SHARE = 65_536
#: The engine gets its input in slices, as each of its steps copies what is left of one.
SLICE = 8_192
#: What a peer that broke the protocol may still send while its Close is awaited, in bytes.
TOLERANCE = 65_536
#: Pings and pongs a second from one peer, and how many at once, before it is closed with 1008.
CONTROL_RATE = 100
CONTROL_BURST = 1_000
#: What a ref may send before the handshake is done, in messages.
EARLY = 1_024
#: The payload of our own pings, by which their pongs are told from those that a handler asked for.
HEARTBEAT = b"wshost heartbeat"


@dataclass(frozen=True, slots=True)
class Options:
    """The module's options, checked. Times are in seconds, sizes in bytes; 0 turns a heartbeat off."""

    handler: ISessionFactory
    origins: Origins
    subprotocols: tuple[str, ...]
    engine: type[Engine]
    ping_interval: float
    ping_timeout: float
    close_timeout: float
    message_timeout: float


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the options; see docs/modules.md for the list.

    :raises ConfigurationError: for an option that is unknown, wrong or missing.
    """
    reader = Reader("websocket", options)
    handler = reader.take("handler", None)
    if not ISessionFactory.providedBy(handler):
        raise ConfigurationError("websocket: there is no handler")
    max_message_size = reader.integer("max_message_size", 1 << 20, 1)
    prepared = Options(
        handler=handler,
        origins=Origins(reader.strings("origins")),
        subprotocols=tuple(reader.strings("subprotocols")),
        engine=engine_class(
            max_message_size=max_message_size,
            max_frame_size=reader.integer("max_frame_size", max_message_size, 1),
            max_fragments=reader.integer("max_fragments", 1_024, 1),
            compress=reader.boolean("compress", False),
        ),
        ping_interval=reader.seconds("ping_interval", 20.0, 0.0),
        ping_timeout=reader.seconds("ping_timeout", 20.0),
        close_timeout=reader.seconds("close_timeout", 5.0),
        message_timeout=reader.seconds("message_timeout", 120.0),
    )
    reader.done()
    return prepared


def init(options: Options, context: IContext) -> WebSocket:
    """Judge the opening handshake and start the handler's session.

    :raises ConfigurationError: when no module before this one has handed over a request.
    """
    if context.request is None:
        raise ConfigurationError("websocket: needs a module before it that hands over a request, such as http")
    driver = WebSocket(options, context)
    driver.begin()
    return driver


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


@implementer(IProtocolDriver, IChannel)
class WebSocket:
    """One connection's driver."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_closing",
        "_context",
        "_early",
        "_engine",
        "_heard_at",
        "_offer",
        "_options",
        "_out",
        "_out_size",
        "_peer_closed",
        "_receiving",
        "_session",
        "_starting",
        "_state",
        "_tolerance",
        "_turn",
        "_unread",
    )

    def __init__(self, options: Options, context: IContext) -> None:
        self._options = options
        self._context = context
        self._state = State.CONNECTING
        self._offer: Offer
        self._session: ISession | None = None
        self._engine: Engine | None = None
        # What is to be done by the connection, in order, and the size of the bytes in it.
        self._out: list[Result] = []
        self._out_size = 0
        # Bytes that the engine has not been given yet.
        self._unread = b""
        # What a ref asked for before the handshake was done.
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        self._starting = False
        # The peer's Close came and is not answered yet.
        self._peer_closed = False
        self._tolerance = TOLERANCE
        self._allowance = float(CONTROL_BURST)
        self._heard_at = self._allowed_at = context.clock.seconds()
        self._turn: Timer | None = None
        self._closing: Timer | None = None
        self._receiving: Timer | None = None

    # The opening handshake

    def begin(self) -> None:
        """Judge the request; then it is the handler's turn."""
        context, request = self._context, self._context.request
        try:
            self._offer = check(request)
            if not self._options.origins.allows(request.headers.get("origin"), request.host):
                raise BadRequest(403, "This Origin is not allowed here.")
        except BadRequest as error:
            self._refuse(error.status, error.reason, error.headers)
        else:
            self._starting = True
            self._session = self._options.handler.session(self)
            self._session.open(connection_info(request, self._offer, context.peer, context.tls), context.ref)
            self._starting = False
            if self._state is State.CONNECTING:
                context.pause_reading()
        context.perform(self._take())

    def opened(self, accept: Accept) -> None:
        if self._state is not State.CONNECTING:
            return
        subprotocol = accept.subprotocol
        if subprotocol is None:
            subprotocol = next((one for one in self._options.subprotocols if one in self._offer.subprotocols), None)
        elif subprotocol not in self._offer.subprotocols:
            try:
                raise ValueError(f"subprotocol {subprotocol!r} is none of those offered: {self._offer.subprotocols}")
            except ValueError:
                self._context.log_failure("the handler's init accepted wrongly")
            self.refused(500, b"", {})
            return
        self._state = State.OPEN
        self._engine = self._options.engine(self)
        self._engine.open(self._offer.key, self._offer.extensions, subprotocol, accept.headers)
        if self._options.ping_interval:
            self._context.call_later(self._options.ping_interval, self._heartbeat)
        early, self._early = self._early, []
        for action, arguments in early:
            self._act(action, *arguments)
        if not self._starting:
            self.released()

    def refused(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        if self._state is State.CONNECTING:
            self._refuse(status, body, headers)
            if not self._starting:
                self._context.perform(self._take())

    def _refuse(self, status: int, body: str | bytes, headers: Mapping[str, str]) -> None:
        self._state = State.CLOSED
        self._out.append(Close(response(status, body, headers)))

    # From the connection

    def handle_connection_in(self, data: bytes) -> Results:
        self._heard_at = self._context.clock.seconds()
        engine = self._engine
        if engine is not None and engine.failed:
            self._tolerance -= len(data)
            if self._tolerance < 0:
                self._state = State.CLOSED
                return Stop("the peer went on after it had broken the protocol")
        if self._state is State.CLOSED:
            return None
        self._unread = self._unread + data if self._unread else data
        return self._advance()

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if self._state is State.OPEN and not self._peer_closed:
            return self._act(action, *args)
        if action == "drained":
            return self._advance()
        if self._state is not State.CONNECTING:
            return REFUSED if action != "shutdown" else None
        if action == "info" and self._session is not None:
            return self._take() if self._session.info(*args) else REFUSED
        if action == "shutdown":
            self._refuse(503, "The server is going away.", {})
            return self._take()
        if action not in {"send", "ping", "close"} or len(self._early) >= EARLY:
            return REFUSED
        self._early.append((action, args))
        return None

    def _act(self, action: str, *args: Any) -> Results | Refused:
        if action == "send":
            self.send(*args)
        elif action == "info":
            if self._session is None or not self._session.info(*args):
                return REFUSED
        elif action == "ping":
            self.ping(*args)
        elif action == "close":
            self.close(*args)
            return self._advance()
        elif action == "shutdown":
            self.close(1001, "going away")
            return self._advance()
        elif action == "drained":
            return self._advance()
        else:
            return REFUSED
        return self._take()

    def handle_connection_close(self, reason: str) -> None:
        self._state = State.CLOSED
        # The engine and the session know us as we know them: without a cut here all would wait for the collector.
        self._engine = None
        session, self._session = self._session, None
        if session is not None:
            session.lost()

    def _advance(self) -> Results:
        """Let the engine go on until it wants more bytes, the handler or the output is busy, or its turn is over."""
        engine, session, context = self._engine, self._session, self._context
        if engine is None or session is None:
            return self._take()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        steps = STEPS
        while self._state is not State.CLOSED:
            if self._state is State.OPEN and (session.busy or context.full):
                context.pause_reading()
                break
            if not steps or self._out_size > SHARE:
                context.pause_reading()
                self._turn = context.call_later(0, self._take_turn)
                break
            steps -= 1
            if engine.step():
                continue
            if self._unread:
                engine.feed(self._unread[:SLICE])
                self._unread = self._unread[SLICE:]
                continue
            context.resume_reading()
            break
        if engine.failed and self._state is State.OPEN:
            self._start_closing()
        if self._receiving is None and engine.inside:
            self._watch_message(engine.begun)
        return self._take()

    def _take_turn(self) -> None:
        self._turn = None
        self._context.perform(self._advance())

    def _take(self) -> Results:
        out = self._out
        if not out:
            return None
        self._out = []
        self._out_size = 0
        return out[0] if len(out) == 1 else out

    # From the engine

    def on_write(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        if self._state is State.OPEN and self._session is not None:
            self._session.deliver(("binary", payload) if is_binary else ("text", payload.decode()))

    def on_ping(self, payload: bytes) -> None:
        if self._allow_control() and self._state is State.OPEN and self._session is not None:
            self.pong(payload)
            self._session.deliver(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        if not self._allow_control() or payload == HEARTBEAT:
            return
        if self._state is State.OPEN and self._session is not None:
            self._session.deliver(("pong", payload))

    def on_close(self, code: int | None, reason: str) -> None:
        self._peer_closed = True
        self._closing = self._context.call_later(self._options.close_timeout, self._close_overdue)
        if self._session is not None:
            self._session.deliver(("close", (code, reason)))
            self._answer_close()

    def on_drop(self) -> None:
        self._state = State.CLOSED
        self._out.append(Close())

    # From the session

    def send(self, data: str | bytes) -> None:
        if self._state is State.OPEN and self._engine is not None:
            if isinstance(data, str):
                self._engine.send(data.encode(), False)
            else:
                self._engine.send(bytes(data), True)

    def ping(self, data: bytes) -> None:
        if self._state is State.OPEN and self._engine is not None:
            self._engine.ping(data)

    def pong(self, data: bytes) -> None:
        if self._state is State.OPEN and self._engine is not None:
            self._engine.pong(data)

    def close(self, code: int, reason: str) -> None:
        if self._state is not State.OPEN or self._engine is None:
            return
        payload = reason.encode()
        if self._peer_closed:
            self._engine.answer_close(code, payload)
        else:
            self._engine.start_close(code, payload)
            self._start_closing()

    def released(self) -> None:
        self._answer_close()
        self._context.perform(self._advance())

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer: Timer = self._context.clock.callLater(seconds, call)
        return timer

    def log_failure(self, what: str) -> None:
        self._context.log_failure(what)

    # The closing handshake

    def _answer_close(self) -> None:
        """Answer the peer's Close, unless the handler has, or is still about to."""
        if self._peer_closed and self._session is not None and not self._session.busy:
            self.close(*NORMAL_CLOSE)

    def _start_closing(self) -> None:
        self._state = State.CLOSING
        self._closing = self._context.call_later(self._options.close_timeout, self._close_overdue)

    def _close_overdue(self) -> None:
        if self._peer_closed:
            self.close(*NORMAL_CLOSE)
            self._context.perform(self._take())
        else:
            self._state = State.CLOSED
            self._context.perform(Stop("the peer did not answer our Close in time"))

    # Limits in time

    def _heartbeat(self) -> None:
        """Ping a peer that was silent for an interval; drop it when it then stays silent (RFC 6455 §5.5.2)."""
        interval = self._options.ping_interval
        if self._state is not State.OPEN or self._engine is None:
            return
        now = self._context.clock.seconds()
        if self._reading_paused():
            # Its silence is our doing.
            self._heard_at = now
        silence = now - self._heard_at
        if silence < interval:
            self._context.call_later(interval - silence, self._heartbeat)
            return
        self._engine.ping(HEARTBEAT)
        asked_at = now
        self._context.call_later(self._options.ping_timeout, lambda: self._check_alive(asked_at))
        self._context.perform(self._take())

    def _check_alive(self, asked_at: float) -> None:
        if self._heard_at > asked_at or self._reading_paused():
            self._heartbeat()
        elif self._state is State.OPEN:
            self._state = State.CLOSED
            self._context.perform(Stop("the peer is silent and answers no ping"))

    def _reading_paused(self) -> bool:
        return self._session is None or self._session.busy or self._context.full

    def _watch_message(self, begun: int) -> None:
        self._receiving = self._context.call_later(self._options.message_timeout, lambda: self._check_message(begun))

    def _check_message(self, begun: int) -> None:
        """Close on a message that is still the one it was a timeout ago."""
        self._receiving = None
        engine = self._engine
        if engine is None or self._state is not State.OPEN or not engine.inside:
            return
        if engine.begun != begun or self._reading_paused():
            self._watch_message(engine.begun)
            return
        engine.fail(1008, "a message took too long")
        self._context.perform(self._advance())

    def _allow_control(self) -> bool:
        """Take one from the peer's allowance of pings and pongs; without, close."""
        now = self._context.clock.seconds()
        self._allowance = min(CONTROL_BURST, self._allowance + (now - self._allowed_at) * CONTROL_RATE)
        self._allowed_at = now
        if self._allowance >= 1:
            self._allowance -= 1
            return True
        if self._engine is not None:
            self._engine.fail(1008, "too many pings and pongs")
        return False
