"""A server in a process of its own that a supervisor has started: it accepts nothing, and gets accepted sockets.

It must not know how other workers do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import SO_ACCEPTCONN, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner

from wshost.backplanes.workers import WorkersBackplane
from wshost.chain import Made
from wshost.cluster.exchange import Way
from wshost.commands import log
from wshost.connections.admission import Admission
from wshost.connections.handover import Frozen, name_of, packet
from wshost.connections.shared import Limits
from wshost.listening.listener import Listener
from wshost.loading.importing import make_importable
from wshost.process import collector, ending, reactors, signals
from wshost.process.takeover import Channel
from wshost.reloading import Reloaded
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import Settings
from wshost.workers.asks import Asks
from wshost.workers.kit import Kit
from wshost.workers.line import Line
from wshost.workers.packets import Packets
from wshost.workers.verdicts import Judged

if TYPE_CHECKING:
    from wshost.admin.endpoint import Endpoint
    from wshost.workers.answers import Answers

#: Of so many connections a packet says that they have ended.
MOST_ENDED = 5_000
#: Seconds that the process that takes over may leave a connection in its queue: fewer than a worker may hang.
GIVING = 5.0

_log = Logger("wshost")


class WorkerServer(Server):
    """The server of one worker.

    :param settings: the checked options.
    :param reactor: must be asyncio's.
    :param number: the worker's.
    :param connected: its socket to the supervisor.
    :param copies: the listening sockets of the endpoints, in order.
    :param reopen: opens the log again.
    :param machine: names all workers together.
    :param made: the chain, if it was made before the fork.
    :raises ConfigurationError: as `Server`.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        number: int,
        connected: socket,
        *,
        copies: Sequence[socket],
        reopen: Callable[[], None],
        machine: str = "",
        made: Made | None = None,
    ) -> None:
        self._made = made
        super().__init__(settings, reactor)
        # The other workers, as a backplane that comes before that of the options.
        self._mesh = WorkersBackplane(reactors.event_loop(reactor), settings.backplane_buffer)
        ways = [Way("workers", lambda: self._mesh, local=True), *self._cluster.ways]
        self._cluster = self._cluster._replace(ways=ways, machine=machine, buffer=settings.backplane_buffer)
        self._prefix = f"w{number}"
        self._copies = list(copies)
        # The listeners' ports, in order, once they are needed.
        self._ports: list[Any] = []
        self._reopen = reopen
        self._judged: Judged | None = None
        # The numbers of connections that have ended, of which the supervisor is told at the end of the turn.
        self._gone: list[int] = []
        # The supervisor has gone; and this process is to end.
        self._alone = False
        self._ends = False
        self._line = Line(reactor, connected, self._received, self._lost)
        self._asks = Asks(reactor, self._line.send)
        self._answers = None if settings.admin is None else self._answering()

    def _answering(self) -> Answers:
        from wshost.workers.answers import Answers  # noqa: PLC0415 - few servers have the endpoint

        return Answers(self._look, self._line)

    # What the server asks

    def _make_chain(self, settings: Settings) -> Made:
        return self._made or super()._make_chain(settings)

    def _endpoint(self, settings: Settings) -> Endpoint | None:
        # The supervisor has it.
        return None

    def _listener(self, reactor: Any, place: int, description: str) -> Listener:
        return Listener(reactor, description, self._certificates, copy=self._copies[place])

    def _admission(self, limits: Limits, reactor: Any) -> Admission:
        self._judged = Judged(
            limits.max_connections,
            limits.max_connections_per_address,
            limits.connection_rate,
            reactor.seconds,
            ended=self._note_end,
            asks=self._asks,
        )
        return self._judged

    def bind(self, unix: bool = True) -> None:
        super().bind(unix)
        for listener in self._listeners:
            listener.pause()

    def startService(self) -> None:
        super().startService()
        # After Twisted's own handlers were set.
        self._reactor.callWhenRunning(signals.call_at, (signal.SIGTERM,), self._reactor, lambda _: self._stop())

    def _serve(self, _: object) -> None:
        """Tell the supervisor that the backplane has connected: the listeners stay paused for good."""
        self._connecting = None
        self._reactor.callWhenRunning(self._announce, self._listeners)

    def _announce(self, listeners: list[Listener]) -> None:
        # The server may have been stopped before the reactor ran.
        if listeners is self._listeners:
            self._ready = True
            # It may say so sooner than the template says that it has forked this process.
            self._line.tell({"serves": True, "pid": os.getpid()})

    def _wait_for(self, connections: int) -> bool:
        # The supervisor says how many all workers wait for.
        self._line.tell({"waiting": connections})
        return not self._alone

    def _give_up(self, error: ConfigurationError) -> None:
        self._line.tell(failed(error))
        ending.leave(self._reactor, SystemExit(1))

    def _note_end(self, number: int) -> None:
        if not self._gone:
            # In the next turn, without a timer: ends are as frequent as connections.
            reactors.event_loop(self._reactor).call_soon(self._tell_ends)
        self._gone.append(number)

    def _tell_ends(self) -> None:
        gone, self._gone = self._gone, []
        for first in range(0, len(gone), MOST_ENDED):
            self._line.tell({"ended": gone[first : first + MOST_ENDED]})

    # What the supervisor says

    def _received(self, head: Mapping[str, Any], data: bytes, sockets: list[socket]) -> None:
        if "take" in head:
            self._take(head["take"], sockets)
        elif "carried" in head:
            self._go_on_with(head, data, sockets)
        elif "settled" in head:
            self.settle()
        elif "give" in head:
            self._give_all(sockets)
        elif "peer" in head:
            for connected in sockets:
                self._mesh.add(connected)
        elif "peers" in head:
            self._mesh.complete()
        elif "ask" in head and self._answers is not None:
            self._answers.answer(head)
        elif "judged" in head:
            self._asks.answered(head["judged"])
        elif "beat" in head:
            self._line.tell({"beat": True})
        elif "reload" in head:
            self.reload().addCallback(self._tell_reloaded)
        elif "reopen" in head:
            self._reopen()
        elif "stop" in head:
            self._stop()
        elif "abort" in head:
            self._abort()
            self._stop()

    def _take(self, what: Sequence[Sequence[Any]], sockets: list[socket]) -> None:
        if not self._ports:
            # Only once, as that takes long. No connection comes before all listen.
            self._ports = [listener.port for listener in self._listeners]
        # Without a free descriptor, the kernel closes the sockets that are the last in a packet.
        for _, _, number, _ in what[len(sockets) :]:
            self._note_end(number)
        for (place, name, number, verdict), connected in zip(what, sockets, strict=False):
            port = self._ports[place] if self._listeners else None
            if port is None or self._judged is None:
                # It stops, and that has crossed the packet.
                connected.close()
                self._note_end(number)
                continue
            with self._judged.deciding(number, verdict):
                port.take(connected, name)

    def _go_on_with(self, what: Mapping[str, Any], data: bytes, sockets: Sequence[socket]) -> None:
        """Go on with a connection of the process before the supervisor."""
        number, head = what["carried"], what["head"]
        hub = self._hub
        if self._judged is None or hub is None or hub.shared.registry.find(head["id"]) is not None or not sockets:
            for connected in sockets:
                connected.close()
            self._note_end(number)
            return
        with self._judged.carrying(number, head["id"], what["counted"]):
            self.adopt(Frozen(head, data), sockets[0], name_of(head))

    def _give_all(self, sockets: Sequence[socket]) -> None:
        """Give the connections that can go to the process that takes over."""
        if not sockets:
            # No descriptor was free.
            self._line.tell({"given": 0})
            return
        channel = Channel(sockets[0])
        channel.socket.settimeout(GIVING)

        def give(frozen: Frozen, connected: socket, name: Any) -> None:
            channel.send(packet(frozen, name), frozen.data, [connected.fileno()])

        def tell(moved: int) -> None:
            channel.close()
            self._line.tell({"given": moved})

        if self._hub is None:
            # It stops already.
            tell(0)
            return
        self._hub.shared.registry.shares_home = True
        self._hub.hand_over(give).addCallback(tell)

    def _tell_reloaded(self, done: Reloaded) -> Reloaded:
        self._line.tell({"reloaded": list(done.problems), "done": bool(done.certificates or done.handlers)})
        return done

    def _stop(self) -> None:
        """Drain, and end the process; only once, as a signal to all processes may cross the supervisor's command."""
        if not self._ends:
            self._ends = True
            # Users' code may have stopped it.
            with suppress(ReactorNotRunning):
                self._reactor.stop()

    def _lost(self) -> None:
        """Go on for a while, then drain: the supervisor has gone, and has no time to say so."""
        self._asks.give_up()
        if self._stops is not None:
            return
        self._alone = True
        seconds = self._settings.drain_timeout
        _log.error("the supervisor has gone: no new connections; draining in {seconds:g} s", seconds=seconds)
        self._ready = False
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            # A new supervisor must be able to listen there.
            listener.stop()
        self._reactor.callLater(seconds, self._stop)

    def close_line(self) -> None:
        """Tell the supervisor what is left to tell, and close this end."""
        self._tell_ends()
        if self._answers is not None:
            self._answers.tell_last()
        self._line.close()


def failed(error: ConfigurationError) -> dict[str, str]:
    """Return what tells the supervisor why a worker can't serve."""
    return {"failed": str(error)[:2_000], "traceback": getattr(error, "traceback_text", "")[-15_000:]}


def run(kit: Kit, number: int, connected: socket, copies: Sequence[socket], *, made: Made | None = None) -> int:
    """Serve, in a process that was forked for it.

    :param number: the worker's.
    :param connected: its socket to the supervisor.
    :param copies: the listening sockets of the endpoints, in order.
    :param made: the chain, if it was made before the fork.
    :returns: the exit status.
    """
    # The supervisor takes the others, and tells the workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reactors.choose(daemon=False, loop=kit.loop)
    reactor = reactors.installed()
    try:
        settings = Settings(**kit.given)
        ours = log.Log(settings, kit.log_path, kit.log_stream, worker=f"w{number}")
        log.begin(ours, settings.log_level, globalLogBeginner)
        if kit.folder is not None:
            make_importable(Path(kit.folder))
        server = WorkerServer(
            settings,
            reactor,
            number,
            connected,
            copies=copies,
            reopen=partial(_reopen, ours),
            machine=kit.machine,
            made=made,
        )
        if _have_stopped(copies):
            raise ConfigurationError("the server does not listen any more: it stops")
        server.bind()
        collector.spare_lasting_objects()
        server.startService()
    except ConfigurationError as error:
        # The supervisor may have gone.
        with suppress(OSError):
            Packets(connected).send(failed(error))
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", server.close_line)
    reactor.run()
    return 0


def _have_stopped(copies: Iterable[socket]) -> bool:
    """Return whether one of these sockets does not listen any more."""
    return not all(one.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) for one in copies)


def _reopen(ours: log.Log) -> None:
    try:
        ours.reopen()
    except OSError as error:
        _log.error("the log can't be opened again: {why}", why=error)
