from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from wshost.process import takeover
from wshost.process.takeover import LARGEST, Channel, Offer, Predecessor, TakeoverError, Watch, find


class Reactor:
    """Sees what can be read when a test says so."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def turn(self) -> None:
        for reader in list(self.readers):
            reader.doRead()


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def path() -> Iterator[Path]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "takeover"


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channels = Channel(pair[0]), Channel(pair[1])
    yield channels
    for one in channels:
        one.close()


class Running:
    """A process that can be taken over, on another side of the same test."""

    def __init__(self, reactor: Reactor, path: Path) -> None:
        self.reactor = reactor
        self.sockets = {"tcp:1": socket.socket(), "tcp:2": socket.socket()}
        self.given_up: list[Channel] = []
        #: It gives up when a successor is ready.
        self.gives_up = True
        self.offer = Offer(reactor, path, self.share, self.give_up)
        self.offer.listen()

    def give_up(self, channel: Channel) -> bool:
        self.given_up.append(channel)
        return self.gives_up

    def share(self, names: Sequence[str]) -> Mapping[str, socket.socket]:
        return {name: self.sockets[name] for name in names if name in self.sockets}

    def end(self) -> None:
        self.offer.stop()
        for listening in self.sockets.values():
            listening.close()
        for channel in self.given_up:
            channel.close()


@pytest.fixture
def running(reactor: Reactor, path: Path) -> Iterator[Running]:
    running = Running(reactor, path)
    yield running
    running.end()


class Successor:
    """What a process is told that takes over."""

    def __init__(self, predecessor: Predecessor, reactor: Reactor) -> None:
        self.said: list[Mapping[str, Any]] = []
        self.adopted: list[tuple[Mapping[str, Any], bytes, int]] = []
        self.predecessor = predecessor
        predecessor.succeed(reactor, self.said.append, self.adopt)

    def adopt(self, head: Mapping[str, Any], data: bytes, connected: socket.socket) -> None:
        self.adopted.append((head, data, os.fstat(connected.fileno()).st_ino))
        connected.close()


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def connect(path: Path) -> Predecessor:
    found = find(path)
    assert found is not None
    return found


def ask(predecessor: Predecessor, running: Running, *names: str) -> dict[str, socket.socket]:
    """Ask as a process does whose reactor does not run; the running one answers meanwhile."""
    channel = predecessor._channel

    class Answering:
        """The channel of the successor, whose wait lets the running process turn."""

        def send(self, *args: Any) -> None:
            channel.send(*args)

        def receive(self) -> Any:
            running.reactor.turn()
            running.reactor.turn()
            return channel.receive()

    predecessor._channel = Answering()  # type: ignore[assignment]
    try:
        return predecessor.ask(names)
    finally:
        predecessor._channel = channel


class TestChannel:
    def test_a_packet_has_a_head_data_and_sockets(self, channels: tuple[Channel, Channel]) -> None:
        one, other = channels
        with socket.socket() as sent:
            one.send({"name": "é\n"}, b"\n\x00data\n", [sent.fileno()])
            head, data, (received,) = other.receive()
            assert (head, data, inode(received)) == ({"name": "é\n"}, b"\n\x00data\n", inode(sent))
            received.close()

    def test_programs_that_the_process_starts_do_not_inherit_received_sockets(
        self, channels: tuple[Channel, Channel]
    ) -> None:
        with socket.socket() as sent:
            channels[0].send({}, b"", [sent.fileno()])
        (received,) = channels[1].receive()[2]
        with received:
            assert not received.get_inheritable()

    def test_a_packet_that_is_too_large_is_refused(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].send({}, b"x" * (LARGEST - 3))
        assert len(channels[1].receive()[1]) == LARGEST - 3
        with pytest.raises(ValueError, match=f"^{LARGEST + 1} bytes are too many"):
            channels[0].send({}, b"x" * (LARGEST - 2))

    @pytest.mark.parametrize("packet", [b"x", b"[]\n", b"\xff\n"])
    def test_what_is_no_packet_is_refused_and_its_sockets_are_closed(
        self, channels: tuple[Channel, Channel], packet: bytes
    ) -> None:
        ours, theirs = socket.socketpair()
        socket.send_fds(channels[0].socket, [packet], [theirs.fileno()])
        theirs.close()
        with pytest.raises(ValueError):  # noqa: PT011 - it is one of several kinds
            channels[1].receive()
        assert ours.recv(1) == b""
        ours.close()

    def test_the_other_ends_end_is_noticed(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].close()
        with pytest.raises(EOFError):
            channels[1].receive()


def test_a_watch_is_a_descriptor_for_a_reactor(reactor: Reactor) -> None:
    with socket.socket() as watched:
        watch = Watch(reactor, watched, lambda: None)
        assert verifyObject(IReadDescriptor, watch)
        assert (watch.fileno(), watch.logPrefix()) == (watched.fileno(), "wshost")
        watch.connectionLost(None)
        assert reactor.readers == [watch]


class TestFind:
    def test_there_is_none_without_a_file(self, path: Path) -> None:
        assert find(path) is None

    def test_there_is_none_behind_the_file_of_a_killed_process(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
            killed.bind(str(path))
        assert find(path) is None

    def test_another_kind_of_socket_is_an_error(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(TakeoverError, match=r"^Protocol wrong type for socket$"):
                find(path)

    def test_a_path_that_is_too_long_is_an_error(self) -> None:
        with pytest.raises(TakeoverError, match="path too long"):
            find(Path("/tmp") / ("x" * 200))

    def test_a_process_of_another_user_is_an_error(
        self, path: Path, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 12_345)
        monkeypatch.setattr("struct.unpack", lambda form, data: (1, 54_321, 1))
        with pytest.raises(TakeoverError, match=r"^the other process is of another user$"):
            find(path)


class TestOffer:
    def test_the_file_is_for_its_user_only_and_goes_with_the_process(self, path: Path, running: Running) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        running.offer.stop()
        running.offer.stop()
        assert list(path.parent.iterdir()) == []

    def test_the_file_of_a_successor_stays(self, reactor: Reactor, path: Path, running: Running) -> None:
        successor = Running(reactor, path)
        running.offer.stop()
        assert path.is_socket()
        successor.end()

    def test_a_file_that_was_removed_is_no_error(self, path: Path, running: Running) -> None:
        path.unlink()
        running.offer.stop()
        assert list(path.parent.iterdir()) == []

    def test_a_file_that_is_no_socket_stays(self, reactor: Reactor, path: Path) -> None:
        path.write_text("precious", encoding="ascii")
        with pytest.raises(FileExistsError, match=r"is no socket$"):
            Offer(reactor, path, lambda names: {}, lambda channel: True).listen()
        assert path.read_text(encoding="ascii") == "precious"
        assert list(path.parent.iterdir()) == [path]
        assert reactor.readers == []

    def test_a_successor_gets_the_sockets_that_there_are(self, path: Path, running: Running) -> None:
        predecessor = connect(path)
        sockets = ask(predecessor, running, "tcp:2", "tcp:3")
        assert {name: inode(one) for name, one in sockets.items()} == {"tcp:2": inode(running.sockets["tcp:2"])}
        for one in sockets.values():
            one.close()
        predecessor.close()

    def test_a_second_successor_is_refused(self, path: Path, running: Running) -> None:
        first, second = connect(path), connect(path)
        ask(first, running)
        with pytest.raises(TakeoverError, match=r"^another process takes over already$"):
            ask(second, running)
        for one in (first, second):
            one.close()

    @pytest.mark.parametrize("gives_up", [True, False])
    def test_a_process_gives_up_to_one_successor(self, path: Path, running: Running, gives_up: bool) -> None:
        running.gives_up = gives_up
        first = connect(path)
        ask(first, running)
        first._channel.send({"ready": True})
        running.reactor.turn()
        second = connect(path)
        if gives_up:
            with pytest.raises(TakeoverError, match=r"^another process takes over already$"):
                ask(second, running)
        else:
            assert ask(second, running) == {}
        for one in (first, second):
            one.close()

    def test_a_successor_that_ends_makes_room_for_the_next(self, path: Path, running: Running) -> None:
        first = connect(path)
        ask(first, running)
        first.close()
        running.reactor.turn()
        second = connect(path)
        assert ask(second, running) == {}
        second.close()

    def test_a_successor_of_another_version_is_refused(
        self, path: Path, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predecessor = connect(path)
        running.reactor.turn()
        predecessor._channel.send({"wshost": 99, "ask": []})
        running.reactor.turn()
        assert predecessor._channel.receive()[0] == {"error": "the running process is of another version"}
        with pytest.raises(EOFError):
            predecessor._channel.receive()
        predecessor.close()

    @pytest.mark.parametrize("packet", [b"{}", b'{"wshost": 1}\n', b'{"wshost": 1, "ask": 7}\n', b"nonsense"])
    def test_what_can_not_be_understood_is_said_and_forgotten(
        self, path: Path, running: Running, packet: bytes
    ) -> None:
        predecessor = connect(path)
        running.reactor.turn()
        predecessor._channel.socket.send(packet)
        with capturedLogs() as events:
            running.reactor.turn()
        said = [formatEvent(event) for event in events]
        assert said == [] if packet == b"{}" else "can't be understood" in said[0]
        predecessor.close()
        other = connect(path)
        assert ask(other, running) == {}
        other.close()

    def test_a_successor_of_another_user_is_refused(
        self, path: Path, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predecessor = connect(path)
        monkeypatch.setattr("struct.unpack", lambda form, data: (1, 54_321, 1))
        running.reactor.turn()
        assert predecessor._channel.receive()[0] == {"error": "the other process is of another user"}
        predecessor.close()

    def test_sockets_that_a_successor_sends_are_closed(self, path: Path, running: Running) -> None:
        predecessor = connect(path)
        running.reactor.turn()
        ours, theirs = socket.socketpair()
        predecessor._channel.send({"wshost": 1, "ask": []}, b"", [theirs.fileno()])
        theirs.close()
        running.reactor.turn()
        assert ours.recv(1) == b""
        ours.close()
        predecessor.close()

    def test_a_turn_without_a_successor_changes_nothing(self, path: Path, running: Running) -> None:
        predecessor = connect(path)
        for _ in range(3):
            running.reactor.turn()
        assert ask(predecessor, running) == {}
        predecessor.close()


class TestPredecessor:
    def test_one_that_ends_is_an_error(self, path: Path, running: Running) -> None:
        predecessor = connect(path)
        running.offer.stop()
        with pytest.raises(TakeoverError, match=r"^the running process "):
            predecessor.ask([])
        predecessor.close()

    def test_one_that_closes_without_an_answer_is_an_error(self, channels: tuple[Channel, Channel]) -> None:
        channels[1].socket.shutdown(socket.SHUT_WR)
        with pytest.raises(TakeoverError, match=r"^the running process is about to end, or is of another version$"):
            Predecessor(channels[0]).ask([])

    def test_one_that_does_not_answer_is_an_error(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].socket.settimeout(0.01)
        with pytest.raises(TakeoverError, match=r"^the running process does not answer: timed out$"):
            Predecessor(channels[0]).ask([])

    def test_a_successor_of_an_older_version_may_want_no_connections(self, path: Path, running: Running) -> None:
        predecessor = connect(path)
        ask(predecessor, running)
        predecessor._channel.send({"ready": True, "connections": False})
        running.reactor.turn()
        (channel,) = running.given_up
        assert not channel.takes_connections
        predecessor.close()

    def test_it_gives_up_when_its_successor_is_ready(self, path: Path, running: Running, reactor: Reactor) -> None:
        predecessor = connect(path)
        ask(predecessor, running)
        successor = Successor(predecessor, reactor)
        running.reactor.turn()
        (channel,) = running.given_up
        channel.send({"opened": 7})
        ours, theirs = socket.socketpair()
        channel.send({"id": "c1"}, b"state", [theirs.fileno()])
        channel.send({"id": "c2, whose socket is missing"})
        moved = inode(theirs)
        theirs.close()
        channel.close()
        running.given_up.clear()
        running.reactor.turn()
        assert successor.said == [{"opened": 7}]
        assert successor.adopted == [({"id": "c1"}, b"state", moved)]
        assert ours.recv(1) == b""
        ours.close()
        assert len(reactor.readers) == 1

    def test_many_connections_take_several_turns(
        self, path: Path, running: Running, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(takeover, "A_TURN", 2)
        predecessor = connect(path)
        ask(predecessor, running)
        successor = Successor(predecessor, reactor)
        running.reactor.turn()
        (channel,) = running.given_up
        channel.send({"opened": 4})
        with socket.socket() as one:
            for number in range(3):
                channel.send({"number": number}, b"", [one.fileno()])
        running.reactor.turn()
        assert (len(successor.said), len(successor.adopted)) == (1, 1)
        running.reactor.turn()
        running.reactor.turn()
        assert [head["number"] for head, *_ in successor.adopted] == [0, 1, 2]
        predecessor.close()

    def test_a_connection_that_can_not_go_on_keeps_no_other_from_it(
        self, reactor: Reactor, channels: tuple[Channel, Channel]
    ) -> None:
        adopted: list[Any] = []

        def adopt(head: Mapping[str, Any], data: bytes, connected: socket.socket) -> None:
            adopted.append(head["id"])
            connected.close()

        Predecessor(channels[0]).succeed(reactor, lambda said: None, adopt)
        channels[1].send({"opened": 0})
        clients = []
        for head in ({}, {"id": "c2"}):
            ours, theirs = socket.socketpair()
            clients.append(ours)
            with theirs:
                channels[1].send(head, b"", [theirs.fileno()])
        with capturedLogs() as logged:
            reactor.turn()
        assert adopted == ["c2"]
        assert [formatEvent(event) for event in logged] == ["a connection of the process before this one can't go on"]
        assert clients[0].recv(1) == b""
        for one in clients:
            one.close()

    def test_a_successor_goes_on_when_it_has_gone_before_it_was_told(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        successor = Successor(Predecessor(Channel(ours)), reactor)
        theirs.close()
        reactor.turn()
        assert (successor.said, reactor.readers) == ([{}], [])

    def test_a_successor_goes_on_when_it_has_gone_even_earlier(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        with capturedLogs() as events:
            successor = Successor(Predecessor(Channel(ours)), reactor)
        assert (successor.said, reactor.readers) == ([{}], [])
        assert formatEvent(events[0]).startswith("the process before this one has gone: ")

    def test_one_that_can_not_be_understood_is_left(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        successor = Successor(Predecessor(Channel(ours)), reactor)
        Channel(theirs).send({"opened": 1})
        theirs.send(b"nonsense")
        with capturedLogs() as events:
            reactor.turn()
        assert (successor.said, reactor.readers) == ([{"opened": 1}], [])
        assert formatEvent(events[0]).startswith("the process before this one can't be understood: ")
        theirs.close()

    def test_both_tell_each_other_more_and_the_end_is_told(
        self, path: Path, running: Running, reactor: Reactor
    ) -> None:
        running.offer._answer = lambda: {"workers": 3}
        predecessor = connect(path)
        ask(predecessor, running)
        assert predecessor.answer["workers"] == 3
        events: list[Any] = []
        predecessor.succeed(
            reactor, events.append, lambda *_: None, ended=lambda: events.append("ended"), ready={"workers": 2}
        )
        running.reactor.turn()
        (channel,) = running.given_up
        assert channel.said["workers"] == 2
        assert channel.takes_connections
        channel.send({"opened": 0})
        channel.close()
        running.given_up.clear()
        running.reactor.turn()
        assert events == [{"opened": 0}, "ended"]

    def test_the_end_is_told_even_when_it_has_gone_before(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        events: list[Any] = []
        Predecessor(Channel(ours)).succeed(
            reactor, events.append, lambda *_: None, ended=lambda: events.append("ended")
        )
        assert events == [{}, "ended"]

    def test_one_that_is_paused_waits(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        predecessor, channel = Predecessor(Channel(ours)), Channel(theirs)
        predecessor.pause()
        predecessor.resume()
        adopted: list[Any] = []

        def adopt(head: Mapping[str, Any], _: bytes, connected: socket.socket) -> None:
            connected.close()
            adopted.append(head["id"])
            if len(adopted) == 1:
                predecessor.pause()

        predecessor.succeed(reactor, lambda _: None, adopt)
        channel.send({"opened": 2})
        with socket.socket() as one:
            for id in ("c1", "c2"):
                channel.send({"id": id}, b"", [one.fileno()])
        reactor.turn()
        reactor.turn()
        assert adopted == ["c1"]
        predecessor.resume()
        reactor.turn()
        assert adopted == ["c1", "c2"]
        predecessor.close()
        channel.close()

    def test_one_that_is_left_meanwhile_is_read_no_more(self, reactor: Reactor) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        predecessor, channel = Predecessor(Channel(ours)), Channel(theirs)
        predecessor.succeed(reactor, lambda _: predecessor.close(), lambda *_: None)
        channel.send({"opened": 2})
        with capturedLogs() as events:
            reactor.turn()
        assert events == []
        channel.close()
