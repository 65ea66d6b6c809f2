from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from socket import AF_UNIX, socket, socketpair
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from tests.workers.surroundings import Peer, Reactor, heads, pair
from wshost import chain
from wshost.cluster.exchange import Exchange
from wshost.commands import log
from wshost.connections.homes import Homes
from wshost.handlers import echo
from wshost.process import collector, ending, reactors, signals
from wshost.process.takeover import Channel
from wshost.results import ConfigurationError
from wshost.settings.options import Settings
from wshost.workers import worker as module
from wshost.workers.kit import Kit
from wshost.workers.packets import Packets
from wshost.workers.verdicts import ADMITTED, CROWDED, FULL
from wshost.workers.worker import WorkerServer, run


class Transport(StringTransport):
    """A connection's transport."""

    def __init__(self, name: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", *name))  # type: ignore[no-untyped-call]


class Port:
    """A port that makes connections only of what it is given."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.socket = SimpleNamespace(family=AF_UNIX)
        self.taken: list[Any] = []
        self.protocols: list[Any] = []
        self.transports: list[Transport] = []

    def adopt(self, connected: socket, protocol: Any, name: Any) -> None:
        connected.close()
        self.transports.append(Transport(name))
        protocol.makeConnection(self.transports[-1])
        self.protocols.append(protocol)

    def take(self, connected: socket, name: Any) -> None:
        connected.close()
        self.taken.append(name)
        protocol = self.factory.buildProtocol(None)
        self.transports.append(Transport(name))
        protocol.makeConnection(self.transports[-1])
        self.protocols.append(protocol)


class Listener:
    """A listener on a copy of a socket."""

    unix = proxied = False

    def __init__(self, reactor: Any, description: str, certificates: Any, *, copy: socket) -> None:
        self.description = description
        self.events: list[str] = []
        self.port: Any = None
        copy.close()

    def listen(self, factory: Any) -> None:
        if self.port is None:
            self.port = Port(factory)
            self.events.append("listen")

    def pause(self) -> None:
        if self.events[-1] != "pause":
            self.events.append("pause")

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return succeed(None)


class Scene:
    """A worker's server, and the supervisor's end of its line."""

    def __init__(self, **given: Any) -> None:
        self.reactor = Reactor()
        ours, theirs = pair()
        self.peer = Peer(theirs)
        self.reopened: list[bool] = []
        self.server = WorkerServer(
            Settings(**{"handler": echo, "slow_turn": 0.0, **given}),
            self.reactor,
            3,
            ours,
            copies=[socket(AF_UNIX)],
            reopen=lambda: self.reopened.append(True),
        )
        # That of the whole process would keep what other tests leave.
        self.server._exchange = Exchange(Homes())
        self.server.bind()
        self.listener: Any = self.server._listeners[0]
        self.port: Port = self.listener.port

    def start(self) -> list[dict[str, Any]]:
        self.server.startService()
        self.peer.channel.send({"peers": True})
        self.reactor.read()
        return self.peer.read()

    def take(self, *numbers: int, verdict: int = ADMITTED) -> None:
        pairs = [socketpair() for _ in numbers]
        what = [(0, ("192.0.2.1", number), number, verdict) for number in numbers]
        self.peer.channel.send({"take": what}, b"", [one.fileno() for one, _ in pairs])
        for both in pairs:
            for one in both:
                one.close()
        self.reactor.read()

    def carry(self, number: int, **but: Any) -> None:
        """A connection of the process before comes."""
        head = {
            "id": f"w1c{number}",
            "home": ["web-1", "hD3kP0aQ9zE"],
            "module": "websocket",
            "route": None,
            "client": None,
            "proxy": None,
            "topics": [],
            "notes": None,
            "seconds": 0,
            "traffic": [0, 0, 0, 0, 0],
            "name": ["192.0.2.1", number],
            **but,
        }
        ours, theirs = socketpair()
        with ours, theirs:
            packet = {"carried": number, "counted": True, "head": head}
            self.peer.channel.send(packet, b"state", [theirs.fileno()])
            self.reactor.read()

    def say(self, **head: Any) -> list[dict[str, Any]]:
        self.peer.say(**head)
        self.reactor.read()
        return self.peer.read()

    def close(self) -> None:
        self.server.close_line()
        self.server._mesh.close()
        self.peer.close()


@pytest.fixture(autouse=True)
def handled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The signals that are handled, with what is called."""
    handled: list[Any] = []
    monkeypatch.setattr(module, "Listener", Listener)
    monkeypatch.setattr(signals, "call_at", lambda numbers, _, call: handled.append((numbers, call)))
    return handled


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_a_worker_says_that_it_serves_and_accepts_nothing(scene: Scene) -> None:
    assert scene.start() == [{"serves": True, "pid": os.getpid()}]
    assert scene.server.ready
    assert scene.listener.events == ["listen", "pause"]


def test_a_worker_that_was_stopped_before_it_ran_does_not_say_that_it_serves(scene: Scene) -> None:
    scene.server.startService()
    scene.server.stopService()
    scene.reactor.read()
    assert heads(scene.peer.read(), "serves") == []


def test_a_worker_that_was_stopped_once_its_backplane_had_connected_does_not_say_so(scene: Scene) -> None:
    scene.server.startService()
    scene.server._serve(None)
    scene.server.stopService()
    scene.reactor.read()
    assert heads(scene.peer.read(), "serves") == []


def test_passed_sockets_become_connections_with_ids_of_the_worker(scene: Scene) -> None:
    scene.start()
    scene.take(11, 12)
    scene.take(13)
    assert [one.id for one in scene.port.protocols] == ["w3c1", "w3c2", "w3c3"]
    assert scene.port.taken == [("192.0.2.1", 11), ("192.0.2.1", 12), ("192.0.2.1", 13)]
    scene.port.protocols[1].connectionLost()
    scene.port.protocols[0].connectionLost()
    scene.reactor.read()
    assert scene.peer.read() == [{"ended": [12, 11]}]


class Moving:
    """A handler whose connections go on."""

    def init(self, options: Any) -> None:
        """Keep no state."""

    def handle(self, message: Any, state: None) -> Any:
        return ("noreply", state)

    def freeze(self, state: None) -> bytes:
        return b""

    def thaw(self, data: bytes, options: Any) -> None:
        """Keep no state."""


def test_connections_of_the_process_before_go_on_and_are_given_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(handler=Moving(), max_connections_per_address=1)
    scene.start()
    for number in (11, 12):
        scene.carry(number)
    assert [one.id for one in scene.port.protocols] == ["w1c11", "w1c12"]
    assert str(scene.port.protocols[0].ref) == "web-1.hD3kP0aQ9zE.w1c11"
    monkeypatch.setattr(
        Transport, "detach", lambda transport: (socket(AF_UNIX), transport.peerAddr.host), raising=False
    )
    ours, theirs = pair()
    with ours:
        scene.peer.channel.send({"give": True}, b"", [ours.fileno()])
    scene.reactor.read()
    scene.reactor.advance(1)
    assert scene.peer.read() == [{"given": 2}, {"ended": [11, 12]}]
    successor = Peer(theirs, Channel)
    assert [(head["id"], head["home"]) for head in successor.read()] == [
        ("w1c11", ["web-1", "hD3kP0aQ9zE"]),
        ("w1c12", ["web-1", "hD3kP0aQ9zE"]),
    ]
    assert successor.ended
    successor.close()
    scene.close()


def test_when_all_connections_of_the_process_before_have_come_they_settle(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[bool] = []
    monkeypatch.setattr(scene.server, "settle", lambda: settled.append(True))
    scene.start()
    scene.say(settled=True)
    assert settled == [True]


def test_a_connection_of_the_process_before_that_can_not_go_on_has_ended(scene: Scene) -> None:
    scene.start()
    scene.carry(11)
    scene.carry(12, id="w1c11")
    scene.reactor.read()
    assert scene.peer.read() == [{"ended": [12]}]
    scene.port.protocols[0].connectionLost()
    scene.reactor.read()
    assert scene.peer.read() == [{"ended": [11]}]
    scene.server.stopService()
    scene.carry(13)
    assert heads(scene.peer.read(), "ended") == [[13]]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has no free descriptor: the kernel closes the last socket of each packet."""

    def receive(channel: Packets) -> Any:
        head, data, sockets = RECEIVE(channel)
        if sockets:
            sockets.pop().close()
        return head, data, sockets

    monkeypatch.setattr(Packets, "receive", receive)


RECEIVE = Packets.receive


@pytest.mark.usefixtures("full")
def test_connections_for_which_there_is_no_descriptor_have_ended(scene: Scene) -> None:
    scene.start()
    scene.take(11, 12)
    assert heads(scene.peer.read(), "ended") == [[12]]
    assert [one.id for one in scene.port.protocols] == ["w3c1"]
    scene.carry(13)
    assert heads(scene.peer.read(), "ended") == [[13]]


@pytest.mark.usefixtures("full")
def test_without_a_descriptor_there_is_no_way_to_others_and_no_connection_is_given(scene: Scene) -> None:
    scene.start()
    ours, theirs = pair()
    with ours, theirs:
        scene.peer.channel.send({"give": True}, b"", [ours.fileno()])
        scene.peer.channel.send({"peer": 2}, b"", [theirs.fileno()])
        scene.reactor.read()
    assert heads(scene.peer.read(), "given") == [0]


def test_a_worker_that_does_not_listen_yet_takes_and_gives_no_connection() -> None:
    scene = Scene()
    scene.server._judged = None
    scene.server._hub = None
    scene.carry(11)
    ours, theirs = pair()
    with ours:
        scene.peer.channel.send({"give": True}, b"", [ours.fileno()])
    scene.reactor.read()
    assert scene.peer.read() == [{"ended": [11]}, {"given": 0}]
    successor = Peer(theirs, Channel)
    assert successor.ended
    successor.close()
    scene.close()


def test_many_ends_are_told_in_several_packets(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 2)
    scene.start()
    scene.take(1, 2, 3)
    for one in scene.port.protocols:
        one.connectionLost()
    scene.reactor.read()
    assert scene.peer.read() == [{"ended": [1, 2]}, {"ended": [3]}]


@pytest.mark.parametrize(("verdict", "status"), [(FULL, b"503"), (CROWDED, b"503"), (17, b"429")])
def test_the_supervisors_verdict_is_the_clients_answer(verdict: int, status: bytes) -> None:
    scene = Scene(max_connections_per_address=1, connection_rate=1)
    scene.start()
    scene.take(1, verdict=verdict)
    answer: Any = scene.port.transports[0]
    assert answer.value().split()[1] == status
    scene.close()


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
)


@pytest.fixture
def behind() -> Iterator[Scene]:
    """A worker whose clients a trusted proxy names."""
    scene = Scene(max_connections_per_address=1, trust_proxy=["192.0.2.1"])
    scene.start()
    yield scene
    scene.close()


def statuses(scene: Scene) -> list[bytes]:
    answers: list[Any] = scene.port.transports
    return [answer.value()[9:12] for answer in answers]


def test_a_worker_asks_the_supervisor_about_a_client_before_it_answers(behind: Scene) -> None:
    behind.take(1, 2)
    for one in behind.port.protocols:
        one.dataReceived(REQUEST)
    behind.reactor.read()
    assert behind.peer.read() == [{"judge": [[1, "192.0.2.9"], [2, "192.0.2.9"]]}]
    assert statuses(behind) == [b"", b""]
    behind.say(judged=[[1, CROWDED], [2, ADMITTED]])
    assert statuses(behind) == [b"503", b"101"]


def test_without_its_supervisor_a_worker_decides_on_clients_alone(behind: Scene) -> None:
    behind.take(1, 2, 3)
    for one in behind.port.protocols[:2]:
        one.dataReceived(REQUEST)
    behind.peer.close()
    behind.reactor.read()
    assert statuses(behind) == [b"101", b"503", b""]
    behind.port.protocols[2].dataReceived(REQUEST)
    behind.reactor.read()
    assert statuses(behind) == [b"101", b"503", b"503"]


def test_a_socket_that_comes_after_the_end_is_closed_and_told_of(scene: Scene) -> None:
    scene.start()
    scene.server.stopService()
    scene.take(7)
    assert heads(scene.peer.read(), "ended") == [[7]]
    assert scene.port.taken == []


def test_a_stop_drains_and_is_obeyed_once(scene: Scene) -> None:
    scene.start()
    scene.take(1)
    scene.say(stop=True)
    scene.say(stop=True)
    assert scene.reactor.stops == 1
    scene.server.stopService()
    assert heads(scene.peer.read(), "waiting") == [1]


def test_sigterm_drains_as_the_supervisor_does(scene: Scene, handled: list[Any]) -> None:
    scene.start()
    (numbers, call), *_ = [one for one in handled if one[0] == (signal.SIGTERM,)]
    call(signal.SIGTERM)
    assert numbers == (signal.SIGTERM,)
    assert scene.reactor.stops == 1


def test_a_reactor_that_has_stopped_already_is_left_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise ReactorNotRunning

    monkeypatch.setattr(scene.reactor, "stop", stop)
    scene.start()
    scene.say(stop=True)
    assert not scene.server.ready or scene.server.running


def test_an_abort_ends_connections_at_once(scene: Scene) -> None:
    scene.start()
    scene.take(1)
    scene.say(abort=True)
    assert scene.port.transports[0].disconnecting or scene.port.transports[0].disconnected
    assert scene.reactor.stops == 1


def test_a_reload_is_done_and_its_problems_are_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.start()
    assert scene.say(reload=True) == [{"reloaded": [], "done": False}]
    monkeypatch.setattr(chain, "reload_handlers", lambda *_: ["chat"])
    assert scene.say(reload=True) == [{"reloaded": [], "done": True}]

    def broken(*_: Any) -> list[str]:
        raise ConfigurationError("no")

    monkeypatch.setattr(chain, "reload_handlers", broken)
    assert scene.say(reload=True) == [{"reloaded": ["the handlers stay as they are: no"], "done": False}]


def test_the_log_is_opened_again(scene: Scene) -> None:
    scene.start()
    scene.say(reopen=True)
    assert scene.reopened == [True]


def test_messages_go_to_other_workers_by_their_streams(scene: Scene) -> None:
    ours, theirs = socketpair()
    with theirs:
        scene.peer.channel.send({"peer": 4}, b"", [theirs.fileno()])
    with ours:
        ours.setblocking(False)
        scene.start()
        boot = scene.server._hub.shared.registry.home.boot if scene.server._hub else ""
        assert f"wshost.h.{boot}".encode() in ours.recv(4_096)


def test_a_worker_gives_signs_of_life(scene: Scene) -> None:
    scene.start()
    assert scene.say(beat=True) == [{"beat": True}]


def test_an_unknown_command_changes_nothing(scene: Scene) -> None:
    scene.start()
    assert scene.say(unknown=1) == []


def test_without_its_supervisor_a_worker_goes_on_and_drains_later(scene: Scene) -> None:
    scene.start()
    scene.take(1)
    scene.peer.close()
    with capturedLogs() as logged:
        scene.reactor.read()
    assert formatEvent(logged[0]) == "the supervisor has gone: no new connections; draining in 10 s"
    assert scene.listener.events == ["listen", "pause", "stop"]
    assert scene.reactor.stops == 0
    scene.reactor.advance(10)
    assert scene.reactor.stops == 1
    with capturedLogs() as logged:
        scene.server.stopService()
        for _ in range(5):
            scene.reactor.advance(0.25)
    assert "waiting for 1 connection" in [formatEvent(event) for event in logged]


def test_a_worker_that_drains_already_does_not_mind_the_end_of_its_supervisor(scene: Scene) -> None:
    scene.start()
    scene.take(1)
    scene.server.stopService()
    scene.peer.close()
    with capturedLogs() as logged:
        scene.reactor.read()
    assert not logged


def test_a_backplane_that_fails_late_ends_the_worker_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Any] = []
    monkeypatch.setattr(ending, "leave", lambda _, error: left.append(error.code))
    scene = Scene()
    connecting: Deferred[None] = Deferred()

    class Backplane(Exchange):
        def connect(self, reactor: Any, cluster: Any = None) -> Deferred[None]:
            return connecting

        def close(self) -> Deferred[None]:
            return succeed(None)

    backplane: Any = Backplane()
    scene.server._exchange = backplane
    scene.start()
    connecting.errback(ConfigurationError("no broker"))
    assert heads(scene.peer.read(), "failed") == ["no broker"]
    assert left == [1]
    scene.close()


class TestOperators:
    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        scene = Scene(admin="tcp:9090")
        yield scene
        scene.close()

    def test_a_worker_has_no_endpoint_and_answers_its_supervisor(self, scene: Scene) -> None:
        scene.start()
        scene.take(1)
        scene.peer.read()
        assert [one for one in scene.server.endpoints if "9090" in one] == []
        assert scene.say(ask=1, what="one", about=["w3c1"]) == [{"answer": 1, "left": 0}]

    def test_a_worker_counts_ends_and_times_handlers(self, scene: Scene) -> None:
        seen = scene.server._look()
        assert seen.shared.account.takes_notes
        assert list(seen.timings) == ["wshost.handlers.echo"]

    def test_a_worker_that_ends_tells_what_it_has_counted(self, scene: Scene) -> None:
        scene.start()
        scene.server.close_line()
        assert scene.peer.read() == [{"answer": 0, "left": 0}]

    def test_a_worker_without_operators_answers_nothing(self) -> None:
        scene = Scene()
        scene.start()
        assert scene.say(ask=1, what="metrics", about=[]) == []
        scene.server.close_line()
        assert scene.peer.read() == []
        scene.close()


def listening() -> socket:
    """A socket that listens."""
    made = socket(AF_UNIX)
    made.bind("")
    made.listen()
    return made


class TestRun:
    @pytest.fixture(autouse=True)
    def chosen(self) -> None:
        #: The loops that workers were to run on.
        self.loops: list[str | None] = []

    @pytest.fixture
    def reactor(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reactor]:
        reactor = Reactor()
        monkeypatch.setattr(reactor, "run", reactor.read, raising=False)
        monkeypatch.setattr(reactors, "choose", lambda *, daemon, loop: self.loops.append(loop))
        monkeypatch.setattr(reactors, "installed", lambda: reactor)
        monkeypatch.setattr(collector, "spare_lasting_objects", lambda: None)
        monkeypatch.setattr(log, "begin", lambda *_: None)
        before = signal.getsignal(signal.SIGTERM)
        yield reactor
        signal.signal(signal.SIGTERM, before)

    def ran(self, kit: Kit, connected: socket, copies: Sequence[socket]) -> int:
        return run(kit, 3, connected, copies)

    def test_a_worker_serves_until_its_reactor_stops(self, reactor: Reactor, tmp_path: Path) -> None:
        ours, theirs = pair()
        peer = Peer(theirs)
        peer.say(peers=True)
        given = {"handler": echo, "slow_turn": 0.0}
        kit = Kit(given, str(tmp_path), str(tmp_path / "log"), loop="asyncio")
        with listening() as copy:
            assert self.ran(kit, ours, [copy]) == 0
        assert self.loops == ["asyncio"]
        assert heads(peer.read(), "serves") == [True]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        phases = [trigger[:2] for trigger in reactor.triggers]
        assert ("before", "shutdown") in phases
        stop = next(trigger[2] for trigger in reactor.triggers if trigger[:2] == ("before", "shutdown"))
        stop()
        reactor.read()
        after = next(trigger[2] for trigger in reactor.triggers if trigger[:2] == ("after", "shutdown"))
        after()
        assert peer.ended
        peer.close()

    def test_a_worker_uses_the_chain_that_was_made_before_the_fork(self, reactor: Reactor) -> None:
        settings = Settings(handler=echo, slow_turn=0.0)
        made = chain.make(settings)
        ours, theirs = pair()
        with theirs:
            server = WorkerServer(settings, reactor, 3, ours, copies=[], reopen=lambda: None, made=made)
        assert (server._chain, server._timings) == (made.links, made.timings)
        server._line.close()

    def test_a_worker_whose_server_stops_meanwhile_logs_nothing(self, reactor: Reactor) -> None:
        ours, theirs = pair()
        peer = Peer(theirs)
        with ours, socket(AF_UNIX) as stopped, capturedLogs() as logged:
            assert self.ran(Kit({"handler": echo, "slow_turn": 0.0}), ours, [stopped]) == 1
        assert logged == []
        assert heads(peer.read(), "failed") == ["the server does not listen any more: it stops"]
        peer.close()

    def test_a_worker_that_can_not_start_ends_without_its_supervisor_too(self, reactor: Reactor) -> None:
        ours, theirs = pair()
        theirs.close()
        with ours:
            assert self.ran(Kit({"handler": "no.such.handler"}), ours, []) == 1

    def test_a_worker_that_can_not_start_says_why(self, reactor: Reactor) -> None:
        ours, theirs = pair()
        peer = Peer(theirs)
        with ours:
            assert self.ran(Kit({"handler": "no.such.handler"}), ours, []) == 1
        (said,) = peer.read()
        assert said["failed"].startswith("handler 'no.such.handler'")
        peer.close()

    def test_the_log_of_a_worker_is_opened_again_or_says_why_not(self, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        ours = log.Log(Settings(), str(folder / "log"), worker="w3")
        (folder / "log").rename(folder / "old")
        module._reopen(ours)
        assert (folder / "log").exists()
        for one in folder.iterdir():
            one.unlink()
        folder.rmdir()
        with capturedLogs() as logged:
            module._reopen(ours)
        assert formatEvent(logged[0]).startswith("the log can't be opened again: ")


def test_a_backplane_that_fails_at_once_prevents_the_start(scene: Scene) -> None:
    class Backplane(Exchange):
        def connect(self, reactor: Any, cluster: Any = None) -> Deferred[None]:
            return fail(ConfigurationError("no broker"))

        def close(self) -> Deferred[None]:
            return succeed(None)

    backplane: Any = Backplane()
    scene.server._exchange = backplane
    with pytest.raises(ConfigurationError, match="no broker"):
        scene.server.startService()
