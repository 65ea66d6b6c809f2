"""A server as a Twisted service: it connects listeners, hub, chain and backplane, and starts and stops them.

It does nothing else, and must not know how any of these parts works.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from wshost import brokers, chain, compiled
from wshost.admin.seen import DRAINING, READY, STARTING, Seen
from wshost.cluster.exchange import SHARED
from wshost.connections.admission import Admission
from wshost.connections.handover import Frozen
from wshost.connections.home import Home
from wshost.connections.homes import HOMES
from wshost.connections.hub import Hub
from wshost.connections.registry import Guests
from wshost.connections.shared import Limits
from wshost.handlers.holding import held_by
from wshost.interfaces import IExchange
from wshost.listening import trial
from wshost.listening.listener import Listener, tcp
from wshost.logs.text import loggable
from wshost.messages import check_message
from wshost.networks import Networks
from wshost.process import ending, reactors
from wshost.process.watchdog import Watchdog
from wshost.protocols.websocket import on_demand
from wshost.reloading import Reloaded
from wshost.results import ConfigurationError
from wshost.settings import options, wsserver
from wshost.settings.options import OPTIONS, Settings
from wshost.topics.patterns import check_published

if TYPE_CHECKING:
    from wshost.admin.endpoint import Endpoint
    from wshost.admin.here import Here
    from wshost.admin.pages import Served
    from wshost.listening.certificates import Certificates

#: Seconds that a backplane has to connect, and the same number to close.
BACKPLANE_TIMEOUT = 30.0
#: Seconds after the drain of the process before this one, by which that has ended.
HOME_SHARED = 5.0

_log = Logger("wshost")

#: The limits of a hub that are options.
_LIMITS = [field.name for field in fields(Limits) if field.name in OPTIONS]


def service(given: Mapping[str, Any] | Sequence[tuple[str, Any]], reactor: Any = None) -> Server:
    """Return a server as a service. An application starts it, or you call its `startService`.

    :param given: the options of `twistd wshost` by name, with underscores or dashes. Values are numbers or strings;
        lists for repeatable options; mappings for ``handler_option`` and ``route``. ``protocol_modules`` is a list of
        ``(module, options)`` pairs. Handlers are names or objects. The options of wsserver are accepted, too:
        ``number_of_workers`` (here ``max_connections``), ``register`` (the service's name), and ``worker_options`` with
        ``protocol_modules`` or ``protocol_modules_options``. Each mapping may also be a list of pairs.
    :param reactor: by default the global one, looked up when the service starts.
    :raises wshost.results.ConfigurationError: with one line that says what is wrong.
    """
    settings, name = wsserver.translate(given)
    checked = options.check(settings)
    for option in OPTIONS.values():
        if option.command_only and option.name in checked:
            why = "your program has a log of its own" if option.name.startswith("log_") else "it is about the process"
            raise ConfigurationError(f"{option.dashed} is an option of the command: {why}")
    server = Server(options.settle(checked), reactor)
    server.load()
    if name is not None:
        MultiService.setName(server, name)
    return server


def publish(topic: str, data: str | bytes) -> bool:
    """Send one message to all subscribers of a topic, of all servers in this process.

    May be called in any thread. Returns at once.

    :param topic: a str of 1 to 255 bytes in UTF-8, and no pattern.
    :param data: a str is sent as text, bytes as binary.
    :returns: False when too many publications wait already: some subscribers, or all, will not get this one. True
        promises no delivery.
    :raises TypeError: when the topic is not a str, or the data is neither str nor bytes.
    :raises ValueError: when the topic has another length or is a pattern, or a str can't be encoded as UTF-8.
    """
    return SHARED.publish(check_published(topic), check_message(data)[0])


class Server(MultiService):
    """A server, which can be stopped and started again. Services that were added to it stop after its connections.

    :param settings: the checked options.
    :param reactor: by default the global one, looked up when the server starts.
    :param exchange: carries publications. By default the one that `wshost.publish` uses.
    :raises ConfigurationError: when the chain or a certificate can't be loaded.
    """

    def __init__(self, settings: Settings, reactor: Any = None, exchange: IExchange = SHARED) -> None:
        MultiService.__init__(self)
        self._settings = settings
        self._reactor = reactor
        self._exchange = exchange
        self._cluster = brokers.build(settings)
        self._chain, self._timings = self._make_chain(settings)
        self._certificates: Certificates | None = None
        if settings.tls_cert:
            self._certificates = self._read_certificates()
            for line in self._certificates.out_of_date(datetime.now(UTC)):
                _log.warn("{line}", line=line)
        self._admin = self._endpoint(settings)
        #: Looks for long turns, and counts them, from the start to the end of the last connection; None if it is off.
        self.watchdog: Watchdog | None = None
        self._hub: Hub | None = None
        # Sockets of the process before this one, by the descriptions of their endpoints.
        self._inherited: dict[str, socket] = {}
        self._listeners: list[Listener] = []
        # The hub that is draining, or has drained.
        self._ended: Hub | None = None
        # Pending while the backplane connects.
        self._connecting: Deferred[Any] | None = None
        # Whether the backplane was told to connect, and not yet to close; and why it could not connect.
        self._joined = False
        self._error: ConfigurationError | None = None
        # How many listeners don't listen yet; and whether clients are served by all.
        self._silent = 0
        self._ready = False
        # Fires when everything has stopped that stopped because the backplane failed.
        self._halted: Deferred[Any] = succeed(None)
        # What fires when the server has stopped; None while it does not stop.
        self._stops: list[Deferred[None]] | None = None

    def _make_chain(self, settings: Settings) -> chain.Made:
        """Return the chain. A subclass may have made it before."""
        return chain.make(settings)

    @property
    def ready(self) -> bool:
        """Whether clients are served: all endpoints listen, the reactor runs, and the stop has not begun."""
        return self._ready

    def load(self) -> None:
        """Import what connections need only later, which takes long. May be called in any thread, and again."""
        if any(link.name == "websocket" for link in self._chain):
            on_demand.load()

    def bind(self, unix: bool = True) -> None:
        """Listen on all ports that don't listen yet. Clients are served once the reactor runs.

        :param unix: False leaves out Unix sockets. Their lock files contain the process id, so a daemon must fork
            before it listens on them.
        :raises ConfigurationError: when a port can't be listened on. The other ports are closed then.
        """
        hub = self._hub or self._assemble()
        try:
            for listener in self._listeners:
                if unix or not listener.unix:
                    listener.listen(hub.factory(proxied=listener.proxied))
            if self._admin is not None:
                inherited = self._inherited.pop(self._admin.description, None)
                self._admin.listen(self._reactor or reactors.installed(), unix, inherited)
        except ConfigurationError:
            listeners, self._listeners = self._listeners, []
            for listener in listeners:
                listener.stop()
            self._hub = None
            self._stop_admin()
            raise

    def try_endpoints(self) -> list[ConfigurationError]:
        """Try whether all endpoints can be listened on. `stopService` must follow.

        :returns: why some can't be now, which are other servers' still.
        :raises ConfigurationError: for the first that can't be, whatever other servers do.
        """
        hub = self._assemble()
        endpoints: list[tuple[Listener, IProtocolFactory]] = [
            (listener, hub.factory(proxied=listener.proxied)) for listener in self._listeners
        ]
        if self._admin is not None:
            endpoints.append(self._admin.make(self._reactor or reactors.installed()))
        return trial.try_all(endpoints)

    def _assemble(self) -> Hub:
        reactor = self._reactor or reactors.installed()
        settings = self._settings
        limits = Limits(**{name: getattr(settings, name) for name in _LIMITS})
        self._stops = None
        self._listeners = [
            self._listener(reactor, place, description) for place, description in enumerate(public(settings))
        ]
        leave, soon = partial(ending.leave, reactor), reactors.soon(reactor)
        self._hub = Hub(
            reactor,
            self._chain,
            limits,
            exchange=self._exchange,
            leave=leave,
            soon=soon,
            access=settings.access_log,
            trusted=Networks(settings.trust_proxy) if settings.trust_proxy else None,
            waits=self._wait_for,
            counts_ends=self._timings is not None,
            home=Home.new(settings.node),
            admission=self._admission(limits, reactor),
            prefix=self._prefix,
        )
        registry = self._hub.shared.registry
        registry.when_guests_come, registry.when_guests_go = self._open_to, self._shut_to
        return self._hub

    def _open_to(self, guests: Guests) -> None:
        """References to connections of other homes find those that are here."""
        HOMES.add(guests)
        self._exchange.open(guests.home.boot)

    def _shut_to(self, guests: Guests) -> None:
        self._exchange.shut(guests.home.boot)

    #: The first part of connections' ids. A subclass may change it.
    _prefix = ""

    def _endpoint(self, settings: Settings) -> Endpoint | None:
        """Return the admin endpoint, None without one. A subclass may have another process answer.

        :raises ConfigurationError: as `admin_endpoint`.
        """
        return admin_endpoint(settings, lambda: here(self._look))

    def _listener(self, reactor: Any, place: int, description: str) -> Listener:
        """Return the listener of an endpoint. A subclass may give it another socket.

        :param place: of the endpoint among all for clients.
        """
        inherited = self._inherited.pop(description, None)
        return Listener(reactor, description, self._certificates, inherited=inherited)

    def _admission(self, limits: Limits, reactor: Any) -> Admission | None:
        """Return what decides who is admitted; None: the hub. A subclass may have another process decide."""
        return None

    def privilegedStartService(self) -> None:
        """Listen, while the process still has its privileges. :raises ConfigurationError: as `bind`."""
        self.bind()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """Start. When the backplane has connected, let clients in, and log where the server listens.

        If the backplane fails to connect later, the error is logged, and the server stops.

        :raises ConfigurationError: when a port can't be listened on, or the backplane fails at once.
        """
        self.bind()
        reactor = self._reactor or reactors.installed()
        reactors.let_tasks_exit(reactor)
        # Watch signals first: who reads in the log that the server listens may send one.
        ending.watch(reactor, self._abort)
        self._joined = True
        self._error = None
        hub: Any = self._hub
        self._exchange.open(hub.shared.registry.home.boot)
        self._connecting = connecting = maybeDeferred(self._exchange.connect, reactor, self._cluster)
        connecting.addTimeout(BACKPLANE_TIMEOUT, reactor, _too_late)
        connecting.addCallbacks(self._serve, self._fail)
        if self._error is not None:
            raise self._error
        if self._settings.slow_turn:
            self.watchdog = Watchdog(self._settings.slow_turn, reactor, partial(held_by, chain.adapters(self._chain)))
            self.watchdog.start()
        MultiService.startService(self)
        if self._connecting is not None:
            _log.info("waiting for the backplane to connect")
            for listener in self._listeners:
                listener.pause()

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain connections, then stop added services. Fires when all that is done.

        May be called again meanwhile, and changes nothing then.
        """
        done: Deferred[None] = Deferred()
        if self._stops is not None:
            self._stops.append(done)
            return done
        stops = self._stops = [done]
        stopped = self._halt()
        stopped.addCallback(lambda _: MultiService.stopService(self))
        stopped.addCallback(lambda _: self._stop_admin())
        stopped.addBoth(self._has_stopped, stops)
        return done

    def _has_stopped(self, result: Any, stops: list[Deferred[None]]) -> None:
        if self._stops is stops:
            self._stops = None
        for one in stops:
            one.callback(result)

    def reload(self) -> Deferred[Reloaded]:
        """Read certificates and authorities of clients again, and import the handlers again that have names.

        New connections get these certificates and handlers. Open ones keep their certificate, and go over to the new
        code between two messages: docs/handlers.md. If one certificate can't be used, all stay; so it is with handlers.
        The log says what was done, or what stays as it was, and why.

        Called in the reactor's thread, maybe from within users' code: it is done in later turns.

        :returns: fires with what was done, when all connections were told.
        """
        done: Deferred[Reloaded] = Deferred()
        (self._reactor or reactors.installed()).callLater(0, self._reload, done)
        return done

    def _reload(self, done: Deferred[Reloaded]) -> None:
        problems: list[str] = []
        certificates, handlers = 0, []
        try:
            certificates = self._renew_certificates()
        except Exception as error:
            problems.append(_problem("certificates", error))
        try:
            handlers = chain.reload_handlers(self._chain, self._settings)
        except BaseException as error:  # users' code may raise anything
            problems.append(_problem("handlers", error))

        def end(connections: int) -> None:
            reloaded = Reloaded(
                certificates=certificates, handlers=tuple(handlers), connections=connections, problems=tuple(problems)
            )
            if certificates or handlers or not problems:
                _log.info("reloaded: {what}", what=str(reloaded))
            done.callback(reloaded)

        renewed = self._hub.renew() if handlers and self._hub is not None else succeed(0)
        renewed.addCallback(end)

    def _renew_certificates(self) -> int:
        """Let new connections have the certificates that are in the files now, and return how many there are.

        :raises ConfigurationError: when one of them can't be used. All stay as they are.
        :raises OSError: when a file changes meanwhile.
        """
        if self._certificates is None:
            return 0
        certificates = self._read_certificates()
        now = datetime.now(UTC)
        # One that was out of date before, maybe of a forgotten domain, must not keep the others from being renewed.
        known = self._certificates.out_of_date(now)
        late = certificates.out_of_date(now)
        for line in late:
            if line not in known:
                raise ConfigurationError(line)
        for line in late:
            _log.warn("{line}", line=line)
        for use in [listener.renew(certificates) for listener in self._listeners]:
            use()
        self._certificates = certificates
        return len(certificates)

    def _read_certificates(self) -> Certificates:
        from wshost.listening.certificates import Certificates  # noqa: PLC0415 - its imports are slow

        settings = self._settings
        return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)

    # Another process

    @property
    def endpoints(self) -> list[str]:
        """The descriptions of the endpoints, that for operators included."""
        return [*public(self._settings), *([] if self._admin is None else [self._admin.description])]

    @property
    def _all_listeners(self) -> list[Listener]:
        operators = None if self._admin is None else self._admin.listener
        return self._listeners if operators is None else [*self._listeners, operators]

    def inherit(self, sockets: Mapping[str, socket]) -> None:
        """Listen on sockets of another process, once it has told this one to go on. Called before `bind`.

        :param sockets: by the descriptions of their endpoints.
        """
        self._inherited = dict(sockets)

    def share(self, descriptions: Sequence[str]) -> dict[str, socket]:
        """Return the listening sockets of these endpoints; those that another process can't use are not among them."""
        ports = {listener.description: listener.port for listener in self._all_listeners}
        return {one: ports[one].socket for one in descriptions if ports.get(one) is not None}

    def give_up(
        self, tell: Callable[[int, Home], None], give: Callable[[Frozen, socket, Any], None] | None
    ) -> Deferred[int]:
        """Let another process go on, which has the listening sockets: accept no more, and give connections away.

        :param tell: tells it to accept, how many connections were made here, and how references name their home. If it
            raises, this server goes on.
        :param give: see `Hub.hand_over`; None: all connections stay.
        :returns: fires with the number of connections that have gone over.
        """
        hub: Any = self._hub
        for listener in self._all_listeners:
            listener.pause()
        ports = [listener.port for listener in self._listeners if listener.port is not None]
        try:
            tell(hub.shared.account.opened + sum(port.accepted for port in ports), hub.shared.registry.home)
        except BaseException:
            for listener in self._all_listeners:
                listener.resume()
            raise
        self._ready = False
        hub.shared.registry.shares_home = give is not None
        self.release()
        done: Deferred[int] = succeed(0) if give is None else hub.hand_over(give)
        return done

    def release(self) -> None:
        """Leave the listening sockets to another process, which has copies: they go on to listen when this one ends."""
        for listener in self._all_listeners:
            if listener.port is not None:
                listener.port.release()

    def take_home(self, home: Home) -> None:
        """Go on as the home of another process, before any connection is made: references to it mean this one's, too.

        The other one has connections until its drain has ended. Until then, nobody knows that one is gone.
        """
        hub: Any = self._hub
        registry = hub.shared.registry
        self._exchange.shut(registry.home.boot)
        registry.home, registry.shares_home = home, True
        HOMES.add(registry)
        self._exchange.open(home.boot)
        reactor = self._reactor or reactors.installed()
        reactor.callLater(self._settings.drain_timeout + HOME_SHARED, setattr, registry, "shares_home", False)

    def adopt(self, frozen: Frozen, connected: socket, name: Any) -> bool:
        """Go on with a connection of another process. Closes the socket, and returns False, if no endpoint can take it.

        :param name: the peer's, as `accept` has returned it there.
        """
        ports = [listener.port for listener in self._listeners if listener.port is not None]
        hub = self._hub
        if not ports or hub is None or hub.shared.registry.find(frozen.head["id"]) is not None:
            connected.close()
            return False
        # A port makes addresses of its own kind.
        port = next((one for one in ports if one.socket.family == connected.family), ports[0])
        port.adopt(connected, hub.adopt(frozen), name)
        return True

    def settle(self) -> None:
        """No more connections of another process come: they monitor and watch from now on."""
        directory = None if self._hub is None else self._hub.shared.registry.directory
        if directory is not None:
            directory.settle()

    def _serve(self, _: object) -> None:
        """Let clients in: the backplane has connected."""
        self._connecting = None
        for listener in self._all_listeners:
            listener.resume()
        (self._reactor or reactors.installed()).callWhenRunning(self._announce, self._listeners)

    def _announce(self, listeners: list[Listener]) -> None:
        # The server may have been stopped before the reactor ran.
        if listeners is self._listeners:
            names = [link.name for link in self._chain]
            on = reactors.name(self._reactor or reactors.installed())
            self._silent = len(listeners)
            for listener in listeners:
                how = f"{' -> '.join(names)}; {compiled.form()}; on {on}; pid {os.getpid()}"
                listener.announce(how, *(("ws", "wss") if "websocket" in names else ("tcp", "tls")))
                listener.when_listening(partial(self._listens, listeners))
            if self._admin is not None:
                self._admin.announce()

    def _listens(self, listeners: list[Listener]) -> None:
        """One more of the listeners listens."""
        if listeners is self._listeners:
            self._silent -= 1
            if not self._silent:
                self._ready = True
                self._let_in()

    def _let_in(self) -> None:
        """Do nothing. A subclass may tell others that clients are served."""

    def _wait_for(self, connections: int) -> bool:
        """Do nothing. A subclass may tell others that the server stops, now and then once a second.

        :param connections: how many are left.
        :returns: whether the log needs no line about that.
        """
        return False

    def _fail(self, failure: Failure) -> None:
        """Stop everything: the backplane can't connect."""
        if self._connecting is None:
            # The server was stopped meanwhile.
            return
        self._connecting = None
        error = failure.value
        if not isinstance(error, ConfigurationError):
            reason = " ".join(safe_str(error).split()) or type(error).__name__
            error = ConfigurationError(f"the backplane can't connect: {reason}")
            error.__cause__ = failure.value
        self._error = error
        self._halted = self._halt().addCallback(lambda _: self._stop_admin())
        _log.error("{error}", error=error)
        if self.running:
            self._give_up(error)

    def _give_up(self, error: ConfigurationError) -> None:
        """Do nothing. A subclass may end the process: the server runs but can't serve, and has no caller to tell."""

    def _halt(self) -> Deferred[Any]:
        """Stop everything but the added services; fires when everything has stopped."""
        self._ready = False
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        listeners, self._listeners = self._listeners, []
        waiting: list[Deferred[Any]] = [self._halted, *(listener.stop() for listener in listeners)]
        self._halted = succeed(None)
        hub = self._hub
        if hub is not None:
            waiting.append(hub.stop())
            self._ended, self._hub = hub, None
        stopped: Deferred[Any] = DeferredList(waiting)
        if self.watchdog is not None:
            stopped.addCallback(partial(_end, self.watchdog))
        if self._joined and hub is not None:
            # Only after the connections: handlers may still publish at "connection_close".
            self._joined = False
            stopped.addCallback(lambda _: self._leave_exchange(hub))
        return stopped

    def _look(self) -> Seen:
        """Return the server as the admin endpoint shows it. Called only while that listens."""
        hub: Any = self._hub or self._ended
        state = READY if self.ready else STARTING if hub is self._hub else DRAINING
        on = reactors.name(self._reactor or reactors.installed())
        # The package is there already: an import would be one in a circle. The form may have a comment.
        version: str = vars(sys.modules["wshost"])["__version__"]
        form = compiled.form().partition(",")[0]
        build = {"version": version, "form": form, "python": platform.python_version(), "reactor": on}
        timings: Any = self._timings
        return Seen(
            state, hub.shared, hub.topics, timings, self.watchdog, build, getattr(self._exchange, "outside", None)
        )

    def _stop_admin(self) -> Deferred[None]:
        # The server may have been started again.
        return succeed(None) if self._admin is None or self._hub is not None else self._admin.stop()

    def _leave_exchange(self, hub: Hub) -> Deferred[None]:
        self._exchange.shut(hub.shared.registry.home.boot)
        closed = maybeDeferred(self._exchange.close)
        closed.addTimeout(BACKPLANE_TIMEOUT, self._reactor or reactors.installed(), _too_late)
        return closed.addErrback(lambda failure: _log.failure("the backplane could not close", failure))

    def _abort(self) -> None:
        """Abort all connections, because of a second signal."""
        for hub in (self._hub, self._ended):
            if hub is not None:
                hub.stop()
                hub.abort_all()


def _end(watchdog: Watchdog, result: object) -> object:
    watchdog.stop()
    return result


def public(settings: Settings) -> Sequence[str]:
    """Return the descriptions of the endpoints for clients."""
    return settings.listen or [tcp(settings.port, settings.interface)]


def admin_endpoint(settings: Settings, served: Callable[[], Served]) -> Endpoint | None:
    """Return the admin endpoint; None without the option. What it needs is imported only here.

    :param served: makes what the endpoint shows.
    :raises ConfigurationError: when it can't be, or is where clients connect.
    """
    if settings.admin is None:
        return None
    try:
        from wshost.admin.endpoint import Endpoint  # noqa: PLC0415
        from wshost.admin.pages import Pages  # noqa: PLC0415

        pages = Pages(served())
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"admin: {error.name} is missing: pip install 'wshost[admin]'") from error
    return Endpoint(settings.admin, public(settings), pages, settings.host)


def here(look: Callable[[], Seen]) -> Here:
    """Return a server of this process as the admin endpoint shows it.

    :param look: returns the server as it is now.
    """
    from wshost.admin.here import Here  # noqa: PLC0415 - few servers have the endpoint

    return Here(look)


def _too_late(_: object, seconds: float) -> None:
    raise ConfigurationError(f"the backplane has not answered within {seconds:g} seconds")


def _problem(what: str, error: BaseException) -> str:
    """Log why something stays as it was, with the traceback of the user's code, if there is one; return the line."""
    reason = safe_str(error)
    if not isinstance(error, ConfigurationError | OSError):
        reason = ": ".join(filter(None, (type(error).__name__, reason)))
    line = f"the {what} stay as they are: {reason}"
    traceback = getattr(error, "traceback_text", "")
    if traceback:
        _log.error("{what}\n{traceback}", what=line, traceback=loggable(traceback.rstrip()))
    else:
        _log.error("{what}", what=line)
    return line
