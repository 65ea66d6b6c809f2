"""All interfaces between wshost's packages, and for plugins. No behaviour. Imports only the values of `wshost`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zope.interface import Attribute, Interface

from wshost.request import ConnectionInfo
from wshost.results import Accept, Refused, Results

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress


class Timer(Protocol):
    """What `IContext.call_later` returns."""

    def cancel(self) -> None:
        """Drop the call. Harmless if the call was made or cancelled already."""


class IProtocolModule(Interface):
    """One protocol of a chain. All connections share the module; each has a driver.

    The interface and its names come from wsserver's protocol modules. A Python module can provide it
    (`zope.interface.moduleProvides`), and so can any object.
    """

    def init(options: Any, context: IContext) -> IProtocolDriver:
        """Start this protocol on one connection.

        Called when the connection is made (first module of the chain) or when another module switches to this one.
        A protocol in which the server speaks first may call `context.write` here.

        :param options: the return value of `IPreparedModule.prepare`; without `prepare`, the mapping that was given.
        :param context: this connection, as modules see it.
        """


class IPreparedModule(IProtocolModule):
    """A module that checks its options once, when the server starts."""

    def prepare(options: Mapping[str, Any]) -> Any:
        """Check the options; return the value that `init` will get as its options.

        :raises wshost.results.ConfigurationError: with one line that says what is wrong; the server does not start.
        """


class ILinkedModule(IProtocolModule):
    """A module that does not work in every chain."""

    def check(options: Any, chain: Sequence[str], position: int) -> None:
        """Check the chain, once, when the server starts.

        :param options: as `init` will get them.
        :param chain: the names of the chain's modules.
        :param position: this module's index in the chain.
        :raises wshost.results.ConfigurationError: with one line that says what is wrong; the server does not start.
        """


class INegotiatedModule(IProtocolModule):
    """A module whose protocol TLS can negotiate (ALPN, RFC 7301), when it is the first of its chain."""

    alpn_protocols = Attribute(
        """The protocol's names there, in bytes, the favourite first. A client that offers others alone is refused.

        Where the first module has no such attribute, nothing is negotiated, and whatever clients offer is accepted."""
    )


class IProtocolDriver(Interface):
    """One protocol on one connection. It does no I/O: it writes to its context, and returns a transition or None.

    Bytes that a `handle_` method returns (`wshost.results.Results`) are written, too: a short form for simple modules.
    """

    def handle_connection_in(data: bytes) -> Results:
        """Handle bytes from the peer, or bytes that the module before left unread. Never called with no bytes.

        An exception raised here is logged, and ends this connection at once.
        """

    def handle_action(action: str, *args: Any) -> Results | Refused:
        """Do an action. A module returns `REFUSED` for an action that it does not know or can't do now.

        ``"send", data`` · ``"ping", data`` · ``"close", code, reason`` · ``"info", anything``: the connection's `IRef`
        was asked for this. ``"drained"``: the output that made `IContext.output_full` true has left. ``"drain"``: the
        server stops, and ``"shutdown"`` follows, at once or later; tell users' code, and begin nothing new.
        ``"shutdown"``: say good-bye and `Close`. A module that refuses ``"shutdown"`` has its connection closed without
        a word; one that refuses ``"drain"`` loses nothing. A connection that is still open after the drain timeout is
        aborted. ``"reload"``: see `IRenewableDriver`.
        """

    def handle_connection_close(reason: str) -> None:
        """Clean up: the connection is gone, or has switched to another module. Called once, last. Must not raise."""


class IPromptDriver(IProtocolDriver):
    """A driver whose `handle_action` calls no users' code, so that it may be called from within users' code.

    Users' code is never called from within users' code. So for other drivers, a ref accepts an action at once, and
    `handle_action` is called in a later turn of the reactor, when the driver can no longer refuse to the caller.
    """


class IBufferedDriver(IProtocolDriver):
    """A driver that can have bytes read into its own buffer (`IContext.receive_into`), without a copy."""

    def handle_buffer_in(size: int) -> Results:
        """Handle `size` bytes that were read into the buffer, after those before. Never called with 0."""


class ICountingDriver(IProtocolDriver):
    """A driver that counts its protocol's messages, for the metrics and the list of connections.

    It also notes both numbers in `IContext.notes`, if there are notes, before its `handle_connection_close` returns.
    """

    messages_in = Attribute("int: how many whole messages have come")
    messages_out = Attribute("int: how many were sent, without published ones in an encoding")


class IConfirmingDriver(IProtocolDriver):
    """A driver that knows the action ``"confirm"`` with a message and a call, for refs that ask what becomes of it.

    It sends the message as for ``"send"``, and makes the call with True once the message was given to `IContext.write`.
    If it drops the message for want of room, it makes the call with False; if for another reason, it makes none.
    """


class IHoldingDriver(IProtocolDriver):
    """A driver that may hold messages of refs back while the output has room. They count as what waits for the peer.

    When somebody waits until all has left, its `handle_action` gets ``"let_go"``: it then sends what need not wait.
    """

    held = Attribute("int: how many bytes of such messages wait now; read in any thread")


class IRenewableDriver(IProtocolDriver):
    """A driver that can go over to newer code of its handler.

    When handlers were imported again, its `handle_action` gets ``"reload"``. If it returns `REFUSED`, there is no newer
    code for this connection, or it is ending; otherwise the connection goes over, and counts as such. Other drivers get
    no ``"reload"``: their connections go on as before.
    """


class IContext(Interface):
    """A connection, as its protocol modules see it."""

    ref = Attribute("the `IRef` of this connection")
    request = Attribute("the `Request` that the module before passed on in its `Switch`, or None")
    route = Attribute("str: the pattern of the request's route, also when the request is gone; None if it has none")
    peer = Attribute("str: the peer's address, `127.0.0.1:50000`, `[::1]:50000` or `unix:`")
    peer_address = Attribute("twisted.internet.interfaces.IAddress of the peer")
    host_address = Attribute("twisted.internet.interfaces.IAddress of our side")
    tls = Attribute("`wshost.request.TLS`, or None on a plain connection")
    trusted = Attribute(
        "the `wshost.networks.Networks` of trusted proxies if our socket's peer is one of them, or None"
    )
    proxy = Attribute("`wshost.request.Proxy`, what a trusted proxy has said of the client, or None")
    admitted = Attribute("False when the server is full: `init` must tell the peer and `Close`, else it is aborted")
    retry_after = Attribute(
        "int: 0; or, when not `admitted` because the address connects too often, after how many seconds it may"
    )
    next_module = Attribute("str or None: the name of the next module in the chain")
    clock = Attribute("twisted.internet.interfaces.IReactorTime: the reactor, and its time")
    reading = Attribute("False while the peer is not read: the module has paused it, or output is full")
    blocked = Attribute("True while output waits because the peer takes too little: a ping would wait, too")
    max_output = Attribute("int: the option `--max-output`, in bytes")
    output_full = Attribute("True while `max_output` bytes or more wait for the peer: write no more")
    notes = Attribute(
        """dict of facts about this connection for the access log and the metrics, by the names of
        `wshost.connections.account.FACTS`; None if neither needs them. A module adds what it knows, and changes it
        until the connection has ended. It sets this to None for a connection that the log is not to show."""
    )
    reset_by_peer = Attribute("True when the kernel knows of a reset, also while reading is paused")

    def write(data: bytes) -> None:
        """Send bytes, after all that was written, or published to this connection's topics, before.

        Output is collected. It leaves when the current call from the transport is over, or else at the end of the
        reactor's turn. Nothing is sent after a `Switch`, `Close` or `Stop`.

        :raises TypeError: when `data` is not bytes.
        """

    def perform(results: Results) -> None:
        """Do what these results ask for, as if a `handle_` method had returned them. For timers and late answers.

        While the module's code is running, `init` included, a `Switch`, `Close` or `Stop` waits until it returns.
        """

    def pause_reading() -> None:
        """Read no more bytes from the peer. Bytes that were read before may still come in."""

    def resume_reading() -> None:
        """Undo `pause_reading`."""

    def receive_into(buffer: Any) -> bool:
        """Read the peer's next bytes into this buffer, where the transport can; `handle_buffer_in` says how many.

        This ends when the buffer is full, when the method is called again, and when another module drives the
        connection. The driver must be an `IBufferedDriver`. Bytes that `handle_connection_in` gets meanwhile were read
        before.

        :param buffer: writable and contiguous, such as a memoryview; None to end it.
        :returns: False when the transport can't do this: the bytes come by `handle_connection_in`.
        """

    def use_policy(policy: str) -> None:
        """From now on, treat messages of refs like this when the peer is slow: a word of the option ``--when-slow``.

        A module begins with "close". With "drop_old" and "conflate", messages of refs wait outside of the module while
        `blocked`, and some are dropped.
        """

    def take_waiting() -> Sequence[str | bytes]:
        """Return the messages of refs that wait outside of the module. From now on, none does.

        A module that closes its protocol sends them, or drops them.
        """

    def keep_actions() -> None:
        """Keep the actions of refs, instead of calling `handle_action`, until `release_actions`.

        So a module that is not ready yet, as during a handshake, gets all actions in order. ``"drain"``, ``"drained"``,
        ``"reload"`` and ``"shutdown"`` are not kept. Once too much is kept, further actions are refused.
        """

    def release_actions() -> None:
        """Undo `keep_actions`: call `handle_action` for each kept action, from within this call."""

    def use_client(client: IAddress | None, secure: bool, decided: Callable[[], None] | None = None) -> bool:
        """Take a trusted proxy's word: `peer` and `peer_address` are from now on those of this client.

        The connection counts for the client's limits. If these are exceeded, `admitted` is False then, and the module
        must refuse the client. If many are being refused, the connection ends without a word. Called at most once, and
        only if `trusted`.

        :param client: None: the proxy has not named it.
        :param secure: whether the client has connected to the proxy by TLS.
        :param decided: called later, unless the module has left, when another process counts the client's connections,
            too, and has to be asked. None: this process decides alone.
        :returns: whether `admitted` holds already; if not, it does when `decided` is called.
        """

    def call_later(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once; never after this module's `handle_connection_close`.

        This is for waiting for the peer. Time in which the process was blocked or stopped counts as at most 0.3
        seconds, and bytes that the peer has sent meanwhile are read before the call.
        """

    def call_regardless(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, as `call_later` does, but also after this module's `handle_connection_close`."""

    def call_soon(call: Callable[[], None]) -> None:
        """Call at the end of the reactor's turn, when no users' code is running; also after the connection is gone.

        For code that must call users' code, and may itself have been called by users' code.
        """

    def count_refusal(status: int, reason: str) -> None:
        """Count a client that is refused, for the metrics and the access log.

        :param status: of the response (RFC 9110 §15); 0 when there is none.
        :param reason: one of a few; nothing that a peer or a handler has said.
        """

    def count_crash(handler: str, kind: str) -> None:
        """Count an exception of a handler, for the metrics.

        :param handler: the handler's name, one of a few.
        :param kind: which call has raised it: "init", "handle", "connection_close" or "code_change".
        """

    def log_failure(what: str) -> None:
        """Log the exception being handled with this connection's id, at a limited rate. Never raises."""

    def unsubscribe_all() -> None:
        """End all of the connection's subscriptions to topics, as `IRef.unsubscribe` ends one."""

    def start_over() -> None:
        """End all that the connection has and wants: subscriptions to topics, names, presences, monitors and watches.

        For a module that begins anew, and asks for it again.
        """

    def use_encoding(encoding: IEncoding | None) -> None:
        """From now on, send published messages in this encoding, without asking the module for each.

        None: ask the module for each, by ``handle_action("send", data)``. So every module begins, and a module that
        says good-bye must end. Messages that were published before leave in the encoding of that time.
        """


class IMovableDriver(IProtocolDriver):
    """A driver whose connection may go over to another process: its module is an `IMovableModule` there, too."""

    def freeze() -> bytes | None:
        """Return what a driver in another process needs to go on. Called between two calls; it must change nothing.

        The connection goes on here if the other process does not take it. Otherwise nothing is called any more, not
        even `handle_connection_close`.

        :returns: None when it can't go over now, or never.
        """


class IMovableModule(IProtocolModule):
    """A module that can go on with the connections of another process."""

    def thaw(options: Any, context: IContext, data: bytes) -> IProtocolDriver:
        """Return the driver of a connection that was frozen in another process. Its context has no request.

        :param options: as for `IProtocolModule.init`.
        :param data: what `IMovableDriver.freeze` has returned there, maybe in another version.
        """


class IEncoding(Interface):
    """Encodes published messages, once for all connections whose modules use this object."""

    def encode(data: str | bytes) -> bytes:
        """Return one message as bytes for the peer. A pure function: equal messages give equal bytes."""


class IRef(Interface):
    """A reference to one connection: small, usable from any thread and process, harmless when the connection is gone.

    Each method returns whether the action was accepted. False: it will not happen, because the connection is closing,
    gone, or has too much output (or too many infos) waiting. True promises no delivery.
    """

    id = Attribute("str: names the connection in this process, and in its log")
    waiting = Attribute("int: how many bytes wait for the peer now, in wshost and its transport; 0 when it is gone")

    def send(data: str | bytes, key: str | None = None, *, confirm: bool = False, timeout: float = 5.0) -> Any:
        """Send one message: a str as text, bytes as binary. `Sent` says what became of it; `DROPPED` is false.

        :param key: a str of 1 to 255 bytes of UTF-8. If the handler's `when_slow` is "conflate", the message takes the
            place of a waiting one with the same key. Otherwise it means nothing.
        :param confirm: return a Deferred that fires with an `Outcome` when it is known what became of the message. Only
            in the reactor's thread.
        :param timeout: seconds that this may take.
        """

    def signed(key: bytes) -> str:
        """Return the reference as text with a signature; `str` returns it without. See `wshost.Ref.parse`."""

    def drained() -> Deferred[bool]:
        """Wait until no output waits for the peer. Only in the reactor's thread, for a limited number of callers.

        Fires with True then, at once if nothing waits; with False when the connection has gone.

        :raises RuntimeError: in another thread, or when too many wait for this connection already.
        """

    def ping(data: bytes) -> bool:
        """Send a ping of at most 125 bytes. :raises TypeError, ValueError: when it is no bytes, or longer."""

    def close(code: int | None, reason: str) -> bool:
        """Close the connection properly; None for a Close without a code.

        :raises ValueError: for a code that may not be sent (RFC 6455 §7.4), or a reason without a code.
        """

    def info(message: Any) -> bool:
        """Give the handler of the connection ``("info", message)``."""

    def subscribe(topic: str, tell_lost: bool = False) -> bool:
        """Send messages that are published to this topic from now on. A second `subscribe` to it may add `tell_lost`.

        A connection may have a limited number of topics. It gets a message once, even if several of them match.

        :param topic: tokens joined by dots. In a pattern, the token ``*`` stands for one token of any text; the last
            token may be ``>``, for one token or more.
        :param tell_lost: give the handler ``("info", ("lost", topic, messages))`` when it is known that so many messages
            of other processes were lost on their way here; once a turn. The topic is never a pattern.
        :raises TypeError: when the topic is no str, or `tell_lost` no bool.
        :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, or has a token ``>`` that is not the last.
        """

    def unsubscribe(topic: str) -> bool:
        """Undo a `subscribe`, if there was one: messages that are published from now on are not sent."""

    def monitor(other: IRef) -> bool:
        """Give the handler ``("info", ("down", other, reason))``, once, when another connection has ended; at once if
        it is gone already. A second `monitor` of it changes nothing. A connection may monitor a limited number.

        :param other: of any process.
        :raises TypeError: when it is no reference.
        """

    def demonitor(other: IRef) -> bool:
        """Undo a `monitor`, if there was one."""

    def watch(topic: str) -> bool:
        """Give the handler ``("info", ("presence", topic, joined, left))``: first all connections that `wshost.track`
        has made present at a topic, then those that come, change and go; joined in 0.2 seconds.

        A connection may watch a limited number of topics. `joined` maps references to what is said of them; `left` is a
        tuple of references.

        :raises TypeError, ValueError: when it is no topic to which something may be published.
        """

    def unwatch(topic: str) -> bool:
        """Undo a `watch`, if there was one."""


class ILocalTopics(Interface):
    """The topics of one hub, as the exchange sees them."""

    def publish_locally(topic: str, data: str | bytes) -> bool:
        """Send a message to all subscribers of this hub, once to each. Called in any thread; does not raise.

        :param topic: as it was published, never a pattern. Called once for a message, whatever matches.
        :returns: False when too much waits already: some subscribers, or all, miss the message.
        """

    def lose_locally(topic: str, messages: int) -> None:
        """Tell subscribers of this hub that ask for it how many messages to a topic were lost on their way here.

        Called in any thread; does not raise.
        """


class IExchange(Interface):
    """Carries published messages to the hubs that have subscribers for them, in one process or in many."""

    def open(boot: str) -> None:
        """Receive what references in other processes ask of the connections of a home: a server has one."""

    def shut(boot: str) -> None:
        """Undo `open`, as the last of these connections has gone."""

    def connect(reactor: Any, cluster: Any) -> Deferred[None]:
        """Connect, as a server starts that uses this exchange. Several servers may use one.

        Clients wait until the Deferred fires. Messages and subscriptions of before must be kept. An errback says that
        it can't connect at all: then the server does not serve. The Deferred is cancelled after 30 seconds, and when
        the server stops before.

        :param cluster: the `wshost.cluster.exchange.Cluster` of the processes to meet; a process has only one.
        :returns: fires when messages go both ways.
        """

    def close() -> Deferred[None]:
        """Close, as a server that uses this exchange has stopped. Called once for each `connect`, failed or not."""

    def publish(topic: str, data: str | bytes) -> bool:
        """Bring a message to each hub that has subscribed. Called in any thread, with a valid topic and valid data.

        Each hub gets it once, whatever its subscriptions that match.

        Messages from one thread to one topic must arrive in order.

        :returns: False when too much waits already: the message will not reach all subscribers.
        """

    def subscribe(topic: str, local: ILocalTopics) -> None:
        """Bring this hub the topic's messages: the topic has a first subscriber there. Called in the hub's thread.

        :param topic: it may be a pattern, as in `wshost.topics.patterns`.
        """

    def unsubscribe(topic: str, local: ILocalTopics) -> None:
        """Undo `subscribe`: the hub's last subscriber has gone. Called once for each `subscribe`."""


class IBackplane(Interface):
    """Carries payloads between processes, by subject: each at most once, and in order from one process on one subject.

    It knows neither topics nor references: the exchange makes subjects and payloads of them. A subject has tokens,
    joined by dots; each has at least one character of ASCII's letters, digits and ``-_=~%``. The subject of a
    subscription may have the token ``*``, which stands for any one token, and may end with ``>``, for one or more.
    A subject has at most 1,024 characters.

    All its methods are called in the reactor's thread, after `connect`; none may block or raise.
    """

    largest = Attribute("int: the largest payload, in bytes; known once connected")
    waiting = Attribute("int: how many bytes wait to be sent")

    def connect(reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        """Connect; if the connection is lost later, connect again and again, and subscribe again to all that is due.

        :param reactor: provides `IReactorTime`, and what the backplane needs besides.
        :param receiver: is called in the reactor's thread, never before this method has returned.
        :returns: fires when payloads go both ways, as `receiver.connected` is called for the first time. It fails with
            a `ConfigurationError` when that can never be, such as for a wrong password; while no broker answers, it
            waits and tries again, and may be cancelled.
        """

    def close() -> Deferred[None]:
        """Send what waits, if that can be done soon, and disconnect. Called once, whether connected or not.

        :returns: fires when all is closed; the receiver is not called any more then.
        """

    def publish(subject: str, payload: bytes) -> bool:
        """Send a payload to all processes that have a subscription that matches. It may come back to this one, too.

        What is published in one turn of the reactor leaves in one write, in the next turn. If the backplane has a
        method `flush`, which takes nothing, it is called when nothing more comes in a turn: it leaves at once then.

        :param payload: not larger than `largest`.
        :returns: False if it is dropped: too much waits. While disconnected, payloads wait for a limited time.
        """

    def subscribe(subject: str) -> None:
        """Receive payloads with this subject from now on, or with matching ones. Called once for each subject.

        If several subscriptions match, a payload may come once for each, one right after the other.
        """

    def unsubscribe(subject: str) -> None:
        """Undo `subscribe`."""


class ITellingBackplane(IBackplane):
    """A backplane that may find out that nobody gets a payload. It is no duty of one."""

    def publish_or_tell(subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        """Publish a payload, as `publish` does. Call `nobody` if it is known that no process gets it on this way.

        It is called at most once, in a later turn, when no users' code is running. It is not called as long as somebody
        may get the payload: one whom the broker does not know yet to be gone, or whom only another broker knows. A lost
        connection says nothing, either. Of calls that are due, a limited number is kept.

        :param payload: not larger than `largest`.
        :returns: False if it is dropped, as of `publish`. Then `nobody` is not called.
        """


class IBackplaneReceiver(Interface):
    """What a backplane tells its process, in the reactor's thread. Nothing here raises."""

    def received(subject: str, payload: bytes) -> None:
        """A payload has come. :param subject: as it was published, never a pattern."""

    def connected() -> None:
        """Payloads go both ways, and all subscriptions are in place: at first, and again after `disconnected`."""

    def disconnected(reason: str) -> None:
        """Payloads wait, or are lost, until `connected`. :param reason: one line for the log."""

    def dropped(payloads: int) -> None:
        """So many payloads that `publish` has taken were not sent: they waited too long, or for want of room."""


class IHandler(Interface):
    """The user's code, usually a Python module. Each of the two functions may be `async def`, or return a Deferred.

    An attribute `on_crash` may be "close" or "restart": what becomes of a connection whose `handle` fails.
    """

    def init(options: Mapping[str, Any]) -> Any:
        """Return the state of a new connection, or an `Accept` around it; or raise `Reject`."""

    def handle(message: Any, state: Any) -> Any:
        """Return the answer to one message. docs/handlers.md lists all messages and answers."""


class IChangingHandler(IHandler):
    """A handler that takes over the states of the code before it, when it is imported again while connections are open.

    An attribute `version`, or else `__version__`, may say of which version the code is.
    """

    def code_change(old_version: Any, state: Any) -> Any:
        """Return a connection's state for this code. Called once for each connection, between two messages.

        :param old_version: the version of the code that the connection has run; None if it has named none.
        :param state: as that code's `init` or `handle` has returned it.
        """


class IMovableHandler(IHandler):
    """A handler whose connections go over to the process that takes over (``--takeover``)."""

    def freeze(state: Any) -> bytes:
        """Return a connection's state as bytes. Called between two messages; the state may go on to be used here.

        The handler gets no "connection_close" of a connection that has gone over.
        """

    def thaw(data: bytes, options: Mapping[str, Any]) -> Any:
        """Return the state for bytes that `freeze` has returned in the process before, maybe in older code.

        :param options: as for `init`, but without "connection".
        """


class ISessionFactory(Interface):
    """Makes one session for each connection. The websocket module's option `handler` holds such a factory."""

    def session(channel: IChannel, connection: ConnectionInfo) -> ISession:
        """Return the session of a new connection. It runs when `ISession.open` is called.

        :param channel: how the session acts on its connection.
        :param connection: who connects, and for what; a factory may choose the handler by it.
        """


class ISession(Interface):
    """A handler's side of one connection. Messages are handled one at a time, in order."""

    busy = Attribute("True while the handler is working: no message may be given to it")
    has_infos = Attribute("True while infos are queued, which are handled at the end of the reactor's turn")

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

        The caller may be users' code, so the handler is not called now, but by `IChannel.call_soon`.

        :returns: False when the message will not be handled: too many infos are queued, or the connection is closing.
        """

    def after_infos(call: Callable[[], None]) -> None:
        """Make this call when the infos that are queued now have been handled; never if they are dropped.

        Only called while `has_infos`.
        """

    def connection_lost() -> None:
        """The connection is gone: give the handler ``"connection_close"`` once, after its current call."""


class IRenewableSession(ISession):
    """A session whose handler may be imported again."""

    def renew() -> bool:
        """Go over to the newest code of the handler, between two messages. It calls no users' code by itself.

        :returns: False when there is no newer code, or the session is ending.
        """


class IAwaitingSession(ISession):
    """A session that says when its handler is not running, but awaited. Requests of refs keep their order then, too."""

    awaits = Attribute("True while a result of the handler is awaited")


class IMovableSession(ISession):
    """A session whose connection may go over to another process."""

    def freeze() -> bytes | None:
        """Return what `IMovableSessionFactory.thaw` needs in the other process; None if it can't go over now, or never.

        It may call users' code.
        """


class IMovableSessionFactory(ISessionFactory):
    """Makes sessions also for connections of another process."""

    def thaw(channel: IChannel, ref: IRef, route: str | None, data: bytes) -> ISession:
        """Return a session that is open already.

        :param ref: the handler's own reference to the connection.
        :param route: of the request, as in `ConnectionInfo.route`.
        :param data: what `IMovableSession.freeze` has returned there.
        """


class IChannel(Interface):
    """A session's connection: what the session may ask the websocket module for."""

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

    def use_policy(policy: str) -> None:
        """Treat messages of refs like this when the peer is slow: see `IContext.use_policy`. Called before `open`."""

    def proceed() -> None:
        """Let output leave that the session has written outside of a call from the channel.

        Unless the session is busy again, the next message may be given to it.
        """

    def seconds() -> float:
        """Return the reactor's time, in seconds."""

    def unsubscribe_all() -> None:
        """End all of the connection's subscriptions to topics."""

    def start_over() -> None:
        """End all that the connection has and wants, as the handler starts again: see `IContext.start_over`."""

    def call_later(seconds: float, call: Callable[[], None]) -> Timer:
        """Call once; unlike `IContext.call_later`, also after the connection is gone."""

    def call_soon(call: Callable[[], None]) -> None:
        """Call at the end of the reactor's turn, when no users' code is running; also after the connection is gone."""

    def count_crash(handler: str, kind: str) -> None:
        """Count an exception of the handler: `IContext.count_crash`."""

    def log_failure(what: str) -> None:
        """Log the exception being handled with the connection's id, at a limited rate."""
