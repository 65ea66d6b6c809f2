"""A whole server as a service: listeners, host and chain, put together, started and stopped. Only wiring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from wshost import chain, compiled
from wshost.backplanes.memory import SHARED
from wshost.connections.hub import Hub, Limits
from wshost.interfaces import IBackplane
from wshost.listening.listener import Listener, tcp
from wshost.messages import check_message, check_topic
from wshost.process import ending, reactors
from wshost.results import ConfigurationError
from wshost.settings import options, wsserver
from wshost.settings.options import OPTIONS, Settings

if TYPE_CHECKING:
    from wshost.listening.certificates import Certificates

#: Seconds that a backplane has to connect, and to close.
BACKPLANE_TIMEOUT = 30.0

_log = Logger("wshost")

#: The limits of a hub that are options.
_LIMITS = [field.name for field in fields(Limits) if field.name in OPTIONS]


def service(given: Mapping[str, Any] | Sequence[tuple[str, Any]], reactor: Any = None) -> Server:
    """Return a server as a service, to be started by an application, or by its `startService`.

    :param given: the options of `twistd wshost` by name, with underscores or dashes: a number, a string, a list for
        what is repeatable there, a mapping for ``handler_option`` and ``route``. ``protocol_modules`` is a list of
        ``(module, options)`` pairs. Handlers may be objects as well as names. Beside these, the options of wsserver:
        ``number_of_workers`` (``max_connections``), ``register`` (the service's name), and ``worker_options`` with
        ``protocol_modules`` or ``protocol_modules_options``. Mappings may be lists of pairs.
    :param reactor: the global one by default, which is looked up when the service starts.
    :raises wshost.results.ConfigurationError: in one line, what is wrong.
    """
    settings, name = wsserver.translate(given)
    server = Server(options.settle(options.check(settings)), reactor)
    if name is not None:
        MultiService.setName(server, name)
    return server


def publish(topic: str, data: str | bytes) -> bool:
    """Send one message to all connections that have subscribed to a topic, of all servers of this process.

    May be called in any thread, and returns at once.

    :param topic: 1 to 255 bytes of UTF-8.
    :param data: a str leaves as text, bytes as binary.
    :returns: False when too much that was published waits already. True promises no delivery.
    :raises TypeError: for a topic that is no str, or data that is neither str nor bytes.
    :raises ValueError: for a topic of another length, or text that is no UTF-8.
    """
    return SHARED.publish(check_topic(topic), check_message(data)[0])


class Server(MultiService):
    """A server. It can be stopped and started again; services added to it stop when its connections are gone.

    :param settings: what it shall be like.
    :param reactor: the global one by default, which is looked up when the server starts.
    :param backplane: that by which `publish` reaches all servers of the process by default.
    :raises ConfigurationError: when a part of it can't be had.
    """

    def __init__(self, settings: Settings, reactor: Any = None, backplane: IBackplane = SHARED) -> None:
        MultiService.__init__(self)
        self._settings = settings
        self._reactor = reactor
        self._backplane = backplane
        self._chain = chain.build(settings)
        self._certificates: Certificates | None = None
        if settings.tls_cert is not None:
            from wshost.listening.certificates import Certificates  # noqa: PLC0415 - what that imports takes its time

            self._certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._hub: Hub | None = None
        self._listeners: list[Listener] = []
        # That which drains, or has drained.
        self._ended: Hub | None = None
        # The backplane connects; it has been told to, and not to close; and why it can't.
        self._connecting: Deferred[Any] | None = None
        self._joined = False
        self._error: ConfigurationError | None = None
        # Fires when what the backplane's failure has ended is gone.
        self._halted: Deferred[Any] = succeed(None)

    def bind(self, unix: bool = True) -> None:
        """Take the ports, as far as that is not done; clients are served when the reactor runs.

        :param unix: False leaves out Unix sockets. Their lock files hold the id of the process, so that a daemon must
            have forked before.
        :raises ConfigurationError: when one can't be had; then none is held.
        """
        hub = self._hub or self._assemble()
        try:
            for listener in self._listeners:
                if unix or not listener.unix:
                    listener.listen(hub.factory(proxied=listener.proxied))
        except ConfigurationError:
            listeners, self._listeners = self._listeners, []
            for listener in listeners:
                listener.stop()
            self._hub = None
            raise

    def _assemble(self) -> Hub:
        reactor = self._reactor or reactors.installed()
        settings = self._settings
        limits = Limits(**{name: getattr(settings, name) for name in _LIMITS})
        self._listeners = [
            Listener(reactor, description, self._certificates)
            for description in settings.listen or [tcp(settings.port, settings.interface)]
        ]
        leave = partial(ending.leave, reactor)
        self._hub = Hub(reactor, self._chain, limits, backplane=self._backplane, leave=leave)
        return self._hub

    def privilegedStartService(self) -> None:
        """Take the ports while that is allowed. :raises ConfigurationError: when one can't be had."""
        self.bind()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """Start: let clients in when the backplane has connected, and then log where, as soon as the reactor runs.

        When the backplane can't connect, and that is known only later, it is logged, and the server listens no more.

        :raises ConfigurationError: when a port can't be had, or the backplane can't connect.
        """
        self.bind()
        reactor = self._reactor or reactors.installed()
        reactors.let_tasks_exit(reactor)
        # The signals first: who has read where it listens may send one.
        ending.watch(reactor, self._abort)
        self._joined = True
        self._error = None
        self._connecting = connecting = maybeDeferred(self._backplane.connect, reactor)
        connecting.addTimeout(BACKPLANE_TIMEOUT, reactor, _too_late)
        connecting.addCallbacks(self._serve, self._fail)
        if self._error is not None:
            raise self._error
        MultiService.startService(self)
        if self._connecting is not None:
            _log.info("waiting for the backplane to connect")
            for listener in self._listeners:
                listener.pause()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and drain; fires when all connections are gone, and then the services added to this one."""
        stopped = self._halt()
        return stopped.addCallback(lambda _: MultiService.stopService(self)).addCallback(lambda _: None)

    def _serve(self, _: object) -> None:
        """The backplane has connected."""
        self._connecting = None
        for listener in self._listeners:
            listener.resume()
        (self._reactor or reactors.installed()).callWhenRunning(self._announce, self._listeners)

    def _announce(self, listeners: list[Listener]) -> None:
        # It may have been stopped before the reactor ran.
        if listeners is self._listeners:
            names = [link.name for link in self._chain]
            for listener in listeners:
                how = f"{' -> '.join(names)}; {compiled.form()}"
                listener.announce(how, *(("ws", "wss") if "websocket" in names else ("tcp", "tls")))

    def _fail(self, failure: Failure) -> None:
        """The backplane has not connected, and won't."""
        if self._connecting is None:
            # It was stopped meanwhile.
            return
        self._connecting = None
        error = failure.value
        if not isinstance(error, ConfigurationError):
            reason = " ".join(safe_str(error).split()) or type(error).__name__
            error = ConfigurationError(f"the backplane can't connect: {reason}")
            error.__cause__ = failure.value
        self._error = error
        self._halted = self._halt()
        _log.error("{error}", error=error)
        if self.running:
            self._give_up(error)

    def _give_up(self, error: ConfigurationError) -> None:
        """It was started, and can't serve: nobody is there to catch the exception."""

    def _halt(self) -> Deferred[Any]:
        """Stop all that is our own; fires when that is done."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        listeners, self._listeners = self._listeners, []
        waiting: list[Deferred[Any]] = [self._halted, *(listener.stop() for listener in listeners)]
        self._halted = succeed(None)
        if self._hub is not None:
            waiting.append(self._hub.stop())
            self._ended, self._hub = self._hub, None
        stopped: Deferred[Any] = DeferredList(waiting)
        if self._joined:
            # What handlers publish while they are told of the end still leaves.
            self._joined = False
            stopped.addCallback(lambda _: self._leave_backplane())
        return stopped

    def _leave_backplane(self) -> Deferred[None]:
        closed = maybeDeferred(self._backplane.close)
        closed.addTimeout(BACKPLANE_TIMEOUT, self._reactor or reactors.installed(), _too_late)
        return closed.addErrback(lambda failure: _log.failure("the backplane could not close", failure))

    def _abort(self) -> None:
        """Let nothing be waited for any longer."""
        for hub in (self._hub, self._ended):
            if hub is not None:
                hub.stop()
                hub.abort_all()


def _too_late(_: object, seconds: float) -> None:
    raise ConfigurationError(f"the backplane has not answered within {seconds:g} seconds")
