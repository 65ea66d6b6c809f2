"""A whole server as a service: listeners, host and chain, put together, started and stopped. Only wiring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList

from wshost import chain, options, reactors
from wshost.backplanes.memory import SHARED
from wshost.exact import text
from wshost.host import Host
from wshost.interfaces import IBackplane
from wshost.listeners import Listener, tcp
from wshost.messages import check_message, check_topic
from wshost.options import Settings
from wshost.results import ConfigurationError
from wshost.values import mapping

if TYPE_CHECKING:
    from wshost.tls import Certificates

_HOST_OPTIONS = (
    "max_connections",
    "max_connections_per_address",
    "max_output",
    "stall_timeout",
    "close_timeout",
    "drain_timeout",
)
#: What wsserver's option of this name may hold.
_WORKER_OPTIONS = {"protocol_modules", "protocol_modules_options"}


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
    flat = _table("the options", given)
    if "worker_options" in flat:
        for key, value in _table("worker_options", flat.pop("worker_options")).items():
            if key not in _WORKER_OPTIONS or key in flat:
                raise ConfigurationError(f"worker_options: unknown option {key!r}, or it is there twice")
            flat[key] = value
    name = flat.pop("register", None)
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"register: {name!r} is not a string")
    server = Server(options.settle(options.check_all(flat)), reactor)
    if name is not None:
        MultiService.setName(server, text(name))
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


def _table(what: str, value: Any) -> dict[str, Any]:
    try:
        return mapping(value)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None


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
            from wshost.tls import Certificates  # noqa: PLC0415 - what that imports takes its time

            self._certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._host: Host | None = None
        self._listeners: list[Listener] = []
        self._connected = False

    def bind(self, unix: bool = True) -> None:
        """Take the ports, as far as that is not done; clients are served when the reactor runs.

        :param unix: False leaves out Unix sockets. Their lock files hold the id of the process, so that a daemon must
            have forked before.
        :raises ConfigurationError: when one can't be had; then none is held.
        """
        host = self._host or self._assemble()
        try:
            for listener in self._listeners:
                if unix or not listener.unix:
                    listener.listen(host.factory(proxied=listener.proxied))
        except ConfigurationError:
            self._stop_listening()
            self._host = None
            raise

    def _assemble(self) -> Host:
        reactor = self._reactor or reactors.installed()
        settings = self._settings
        limits = {name: getattr(settings, name) for name in _HOST_OPTIONS if getattr(settings, name) is not None}
        self._listeners = [
            Listener(reactor, description, self._certificates)
            for description in settings.listen or [tcp(settings.port, settings.interface)]
        ]
        self._host = Host(reactor, self._chain, backplane=self._backplane, **limits)
        return self._host

    def _stop_listening(self) -> list[Deferred[None]]:
        listeners, self._listeners = self._listeners, []
        return [listener.stop() for listener in listeners]

    def privilegedStartService(self) -> None:
        """Take the ports while that is allowed. :raises ConfigurationError: when one can't be had."""
        self.bind()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """Start, and log where. :raises ConfigurationError: when a port can't be had."""
        self.bind()
        self._connected = True
        self._backplane.connect(self._reactor or reactors.installed())
        MultiService.startService(self)
        names = [link.name for link in self._chain]
        for listener in self._listeners:
            listener.announce(" -> ".join(names), *(("ws", "wss") if "websocket" in names else ("tcp", "tls")))

    def stopService(self) -> Deferred[None]:
        """Stop listening, and drain; fires when all connections are gone, and then the services added to this one."""
        waiting = self._stop_listening()
        if self._host is not None:
            waiting.append(self._host.stop())
            self._host = None
        stopped = DeferredList(waiting)
        if self._connected:
            # What handlers publish while they are told of the end still leaves.
            self._connected = False
            stopped.addCallback(lambda _: self._backplane.close())
        return stopped.addCallback(lambda _: MultiService.stopService(self)).addCallback(lambda _: None)
