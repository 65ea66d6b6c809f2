"""The server in memory: its parts, and what its log says. Knows no peer, and not what must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.memory import MemoryHost, link
from torture.stateful.conversation import MESSAGE, Conversation
from torture.stateful.handler import WRONG, Handler, PlannedError
from wshost.cluster.exchange import Exchange
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import IChannel, IRenewableSession, ISessionFactory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket

#: More than a transport's buffer, and less than a few large messages.
MAX_OUTPUT = 150_000


@implementer(IRenewableSession)
class _Session:
    """A session, of which is noted when it gets a message behind infos, or the peer's Close."""

    def __init__(self, session: Any, whose: Conversation, seconds: Callable[[], float]) -> None:
        self._session = session
        self._whose = whose
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def handle_message(self, message: Any) -> None:
        if self._session.has_infos:
            self._whose.queue.append(MESSAGE)
        if message[0] == "close":
            self._whose.peers_close, self._whose.closing_since = message[1], self._seconds()
        self._session.handle_message(message)


@implementer(ISessionFactory)
class _Sessions:
    """Makes such sessions of the handler's adapter."""

    def __init__(self, adapter: HandlerAdapter, conversations: list[Conversation]) -> None:
        self._adapter = adapter
        self._conversations = conversations

    def session(self, channel: IChannel, connection: Any) -> Any:
        whose = self._conversations[int(connection.path[1:])]
        whose.session = _Session(self._adapter.session(channel, connection), whose, channel.seconds)
        return whose.session


@implementer(ILogObserver)
class _Log:
    """Keeps the events that no plan has asked for."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] < LogLevel.error:
            return
        said = "{} {}".format(event.get("what", ""), event.get("traceback") or event.get("log_failure"))
        if not any(planned in said for planned in (PlannedError.__name__, WRONG)):
            self.faults.append(f"logged: {said}")


class Server:
    """The server.

    :param handler: its first code.
    :param restarts: it starts again when it fails.
    :param options: of the module websocket.
    :param conversations: each notes its session.
    """

    def __init__(
        self, handler: Handler, restarts: bool, options: Mapping[str, Any], conversations: list[Conversation]
    ) -> None:
        self.backplane = Exchange()
        self._log = _Log()
        self._adapter = HandlerAdapter(handler, {"own": "option"}, restarts=restarts, when_slow=handler.when_slow)
        self._restarts = restarts
        sessions = _Sessions(self._adapter, conversations)
        self.host = MemoryHost(
            chain=[link("http", http), link("websocket", websocket, {"handler": sessions, **options})],
            exchange=self.backplane,
            counts_ends=True,
            max_output=MAX_OUTPUT,
        )
        #: Has one member when the server has stopped.
        self.stopped: list[None] = []
        globalLogPublisher.addObserver(self._log)

    @property
    def faults(self) -> list[str]:
        """What was logged, and no plan has asked for it."""
        return self._log.faults

    def renew(self, handler: Handler) -> None:
        """Go over to newer code."""
        self._adapter.renew(handler, self._restarts, when_slow=handler.when_slow)
        self.host.hub.renew()

    def stop(self) -> None:
        """Stop."""
        self.host.hub.stop().addCallback(self.stopped.append)

    def release(self) -> None:
        """Look at the log no more."""
        globalLogPublisher.removeObserver(self._log)

    def left(self) -> dict[str, int]:
        """Return what is left when all has ended, by its name; 0 for nothing."""
        hub = self.host.hub
        return {
            "connections": len(hub.shared.registry),
            "topics": len(hub.topics.names) + hub.topics.subscriptions + (not hub.topics.empty),
            "calls of threads": not hub.shared.registry.thread.idle,
            "timers": 0 if self.host.idle() else len(self.host.reactor.getDelayedCalls()),
            "the stop": len(self.stopped) - 1,
        }
