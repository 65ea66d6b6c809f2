"""Every contract a plugin or a sibling package relies on; no behaviour, and no import of ours but the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zope.interface import Attribute, Interface

from wshost.request import ConnectionInfo
from wshost.results import Accept, Refused, Results

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class Timer(Protocol):
    """What `IContext.call_later` returns."""

    def cancel(self) -> None:
        """Forget the call. Harmless after it was made, and twice."""


class IProtocolModule(Interface):
    """One protocol of a chain: the plugin side, shared by all connections.

    The contract is the one of wsserver's protocol modules, with its names. A Python module can provide it
    (`zope.interface.moduleProvides`), and so can any object.
    """

    def init(options: Any, context: IContext) -> IProtocolDriver:
        """Start this protocol on one connection.

        Called when the connection is made (first module of the chain) or when another module switches to this one.
        A protocol in which the server speaks first may call `context.write` here.

        :param options: what `IPreparedModule.prepare` returned, or else the mapping of the chain's pair.
        :param context: this connection, as modules see it.
        """


class IPreparedModule(IProtocolModule):
    """A module that checks its options once, when the server starts."""

    def prepare(options: Mapping[str, Any]) -> Any:
        """Check the options and turn them into what `init` shall be given.

        :raises wshost.results.ConfigurationError: in one line, what is wrong; the server does not start.
        """


class ILinkedModule(IProtocolModule):
    """A module that does not work in every chain."""

    def check(options: Any, chain: Sequence[str], position: int) -> None:
        """Check the chain, once, when the server starts.

        :param options: as `init` will be given them.
        :param chain: the names of its modules.
        :param position: where this module is in it.
        :raises wshost.results.ConfigurationError: in one line, what is wrong; the server does not start.
        """


class INegotiatedModule(IProtocolModule):
    """A module whose protocol TLS can negotiate (ALPN, RFC 7301), when it is the first of its chain."""

    alpn_protocols = Attribute(
        """The protocol's names there, in bytes, the favourite first. A client that offers others alone is refused.

        Where the first module has no such attribute, nothing is negotiated, and whatever clients offer is accepted."""
    )


class IProtocolDriver(Interface):
    """One protocol on one connection. It does no I/O: it writes to its context, and returns how the connection goes on.

    Bytes that a `handle_` method returns (`wshost.results.Results`) are written, too: a short form for simple modules.
    """

    def handle_connection_in(data: bytes) -> Results:
        """Bytes came in: from the peer, or unread from the module before. Never called with none.

        An exception raised here is logged, and ends this connection at once.
        """

    def handle_action(action: str, *args: Any) -> Results | Refused:
        """Somebody asks for something. A module returns `REFUSED` for what it does not know or can't do now.

        ``"send", data`` · ``"ping", data`` · ``"close", code, reason`` · ``"info", anything``: what the
        connection's `IRef` was asked for. ``"drained"``: the output that made `IContext.output_full` true has left.
        ``"shutdown"``: the server stops; say good-bye and `Close`. Refused, the connection closes without a word;
        not closed after a grace, it is aborted.
        """

    def handle_connection_close(reason: str) -> None:
        """The connection is gone, or was switched away from this module. Called once, last. Must not raise."""


class IPromptDriver(IProtocolDriver):
    """A driver that calls no users' code when refs ask it for something, and which may be asked at any time.

    Users' code is never called from within users' code: other drivers are asked in a later turn of the reactor, and
    what their connections' refs are asked for is then accepted before they have a say.
    """


class IBufferedDriver(IProtocolDriver):
    """A driver that has large things read to where they belong (`IContext.receive_into`), not copied there."""

    def handle_buffer_in(size: int) -> Results:
        """So many bytes came in, and are in the buffer behind those that came before. Never called with none."""


class IContext(Interface):
    """A connection, as its protocol modules see it."""

    ref = Attribute("the `IRef` of this connection")
    request = Attribute("the `Request` that the module before handed over in its `Switch`, or None")
    peer = Attribute("str: the peer's address, `127.0.0.1:50000`, `[::1]:50000` or `unix:`")
    peer_address = Attribute("twisted.internet.interfaces.IAddress of the peer")
    host_address = Attribute("twisted.internet.interfaces.IAddress of our side")
    tls = Attribute("`wshost.request.TLS`, or None on a plain connection")
    admitted = Attribute("False when the server is full: say so and `Close`, or the connection is aborted")
    next_module = Attribute("str or None: the name of the next module in the chain")
    clock = Attribute("twisted.internet.interfaces.IReactorTime: the reactor, and its time")
    reading = Attribute("False while the peer is not read: the module has paused it, or output is full")
    blocked = Attribute("True while output waits for the peer to take what went before: a ping would wait, too")
    output_full = Attribute("True while as much output waits as the peer may let wait: write no more of it")
    reset_by_peer = Attribute("True when the socket knows of a reset; while reading is paused, nobody else notices one")

    def write(data: bytes) -> None:
        """Send bytes, behind all that was written or published to this connection's topics before.

        What one call from the transport causes leaves together when that call is over, or else what one turn of the
        reactor causes, at the end of the turn. Nothing is sent behind a `Switch`, `Close` or `Stop`.

        :raises TypeError: when these are no bytes.
        """

    def perform(results: Results) -> None:
        """Do what a `handle_` method would have returned, from outside of one: a timer, a late answer.

        While the module's code is running, `init` included, a `Switch`, `Close` or `Stop` waits until it returns.
        """

    def pause_reading() -> None:
        """Take no more bytes from the peer. Bytes that were taken before may still come in."""

    def resume_reading() -> None:
        """Undo `pause_reading`."""

    def receive_into(buffer: Any) -> bool:
        """Read the peer's next bytes into this buffer, where the transport can; `handle_buffer_in` says how many.

        That ends when the buffer is full, with another or None, and when another module drives the connection. The
        driver is an `IBufferedDriver`; what `handle_connection_in` gets meanwhile was read before.

        :param buffer: writable and contiguous, such as a memoryview; None for no more of that.
        :returns: False when the transport can't: the bytes come by `handle_connection_in`.
        """

    def keep_actions() -> None:
        """Keep what refs ask for, instead of calling `handle_action`, until `release_actions`.

        So a module that is not ready yet, as before a handshake is done, gets it all in order. ``"drained"`` and
        ``"shutdown"`` are not kept. What would be too much to keep is refused.
        """

    def release_actions() -> None:
        """Undo `keep_actions`: call `handle_action` for what was kept, from within this call."""

    def call_later(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once; never after this module's `handle_connection_close`.

        This is for waiting for the peer. Time in which the process was blocked or stopped counts as at most 0.3
        seconds, and what the peer has sent meanwhile is read before the call.
        """

    def call_regardless(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, as `call_later` does, but also after this module's `handle_connection_close`."""

    def call_soon(call: Callable[[], None]) -> None:
        """Call at the end of the reactor's turn, when no users' code is running; also after the connection is gone.

        Code that must call users' code, and may itself have been called by users' code, does it by this.
        """

    def log_failure(what: str) -> None:
        """Log the exception being handled with this connection's id, at a limited rate. Never raises."""

    def use_encoding(encoding: IEncoding | None) -> None:
        """From now on, published messages may be sent as this encoding has them, without asking the module for each.

        What was published before leaves as it was to be encoded then. A module that says good-bye ends by None, as
        every module begins: then each message is asked for by ``handle_action("send", data)``.
        """


class IEncoding(Interface):
    """How a message is encoded for all connections whose modules use this object."""

    def encode(data: str | bytes) -> bytes:
        """Return one message as bytes for the peer. It depends on nothing else, and does nothing else."""


class IRef(Interface):
    """A reference to one connection: small, usable from any thread, harmless when the connection is gone.

    Each method returns whether what it asks was accepted: False means that it will not happen, because the
    connection is closing, gone, or has too much output (or too many infos) waiting. True promises no delivery.
    """

    id = Attribute("str: names the connection in this process, and in its log")

    def send(data: str | bytes) -> bool:
        """Send one message: a str as text, bytes as binary."""

    def ping(data: bytes) -> bool:
        """Send a ping of at most 125 bytes. :raises TypeError, ValueError: when it is no bytes, or longer."""

    def close(code: int | None, reason: str) -> bool:
        """Close the connection properly; None for a Close without a code.

        :raises ValueError: for a code that may not be sent (RFC 6455 §7.4), or a reason without a code.
        """

    def info(message: Any) -> bool:
        """Give the handler of the connection ``("info", message)``."""

    def subscribe(topic: str) -> bool:
        """Send what is published to this topic from now on. Twice is once. A connection has a limited number.

        :raises TypeError: when the topic is no str.
        :raises ValueError: when it is empty, or longer than 255 bytes of UTF-8.
        """

    def unsubscribe(topic: str) -> bool:
        """Undo a `subscribe`, if there was one: of what is published from now on, nothing is sent."""


class ILocalTopics(Interface):
    """The topics of one hub, as backplanes see them."""

    def publish_locally(topic: str, data: str | bytes) -> bool:
        """Send a message to all subscribers of this hub. Called in any thread; does not raise.

        :returns: False when too much waits already: some subscribers, or all, miss the message.
        """


class IBackplane(Interface):
    """Carries what is published to the hubs that have subscribers for it: within a process, or between many."""

    def connect(reactor: Any) -> Deferred[None]:
        """A server starts that uses it; fires when messages go both ways. Several servers may use one backplane.

        Clients wait until then, and what is published or subscribed to before is for the backplane to keep. An errback
        says that it can't, for good: then the server does not serve. It is cancelled when that takes too long (30
        seconds), and when the server stops before.
        """

    def close() -> Deferred[None]:
        """A server that uses it has stopped. Called as often as `connect`, whatever came of that."""

    def publish(topic: str, data: str | bytes) -> bool:
        """Bring a message to each hub that has subscribed. Called in any thread; both are checked.

        Those of one thread to one topic arrive in order.

        :returns: False when too much waits already: it will not reach all.
        """

    def subscribe(topic: str, local: ILocalTopics) -> None:
        """Bring this hub what is published to the topic: it has a first subscriber. In the hub's thread."""

    def unsubscribe(topic: str, local: ILocalTopics) -> None:
        """The hub's last subscriber has gone. Called once for each `subscribe`."""


class IHandler(Interface):
    """What the user writes, usually as a Python module. Either function may be `async def`, or return a Deferred."""

    def init(options: Mapping[str, Any]) -> Any:
        """Return the state of a new connection, or an `Accept` around it; or raise `Reject`."""

    def handle(message: Any, state: Any) -> Any:
        """Return the answer to one message. docs/handlers.md lists all messages and answers."""


class ISessionFactory(Interface):
    """Makes one session for each connection: what the websocket module's option `handler` holds."""

    def session(channel: IChannel, connection: ConnectionInfo) -> ISession:
        """Return the session of a new connection. It runs when `ISession.open` is called.

        :param channel: how the session acts on its connection.
        :param connection: who connects, and what for: enough to choose a handler by.
        """


class ISession(Interface):
    """A handler's side of one connection. Messages are handled one at a time, in order."""

    busy = Attribute("True while the handler is working: no message may be given to it")
    has_infos = Attribute("True while infos are queued that are handled at the end of the reactor's turn")

    def open(ref: IRef) -> None:
        """Run the handler's init. The session then calls `IChannel.accept` or `IChannel.reject`, now or later.

        :param ref: the handler's own reference to the connection.
        """

    def handle_message(message: Any) -> None:
        """Handle a message from the peer. Only called when not busy.

        :param message: as handlers get it: ``("text", str)``, ``("close", (code, reason))``.
        """

    def handle_info(message: Any) -> bool:
        """Queue ``("info", message)`` for the handler.

        The caller may be users' code, so the handler is not called from here, but by `IChannel.call_soon`.

        :returns: False when the message will not be handled: too many infos are queued, or the connection is closing.
        """

    def after_infos(call: Callable[[], None]) -> None:
        """Call when the infos that are queued now have been handled; never, when they are dropped.

        Only called while `has_infos`.
        """

    def connection_lost() -> None:
        """The connection is gone. The handler gets ``"connection_close"`` once, after what it is doing now."""


class IChannel(Interface):
    """What a session may ask of its connection's websocket module."""

    def accept(accept: Accept) -> None:
        """Complete the opening handshake: the handler's init has accepted the connection."""

    def reject(status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Answer the handshake with an HTTP error: init has raised `Reject`, failed (500) or timed out (503)."""

    def send(data: str | bytes) -> None:
        """Send one message."""

    def ping(data: bytes) -> None:
        """Send a ping frame."""

    def pong(data: bytes) -> None:
        """Send a pong frame."""

    def close(code: int | None, reason: str) -> None:
        """Start the closing handshake, or answer the peer's Close; None and "" for a Close without a code."""

    def proceed() -> None:
        """The session has worked outside of a call from the channel: let its output leave.

        Unless the session is busy again, the next message may be given to it.
        """

    def call_later(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once; unlike `IContext.call_later`, also after the connection is gone."""

    def call_soon(call: Callable[[], None]) -> None:
        """Call at the end of the reactor's turn, when nobody's code is running; also after the connection is gone."""

    def log_failure(what: str) -> None:
        """Log the exception being handled with the connection's id, at a limited rate."""
