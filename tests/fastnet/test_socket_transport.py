from __future__ import annotations

import errno
import os
import random
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.fastnet.surroundings import fill
from wshost.fastnet.layers import Layer
from wshost.fastnet.socket_transport import SocketTransport

#: So much that it takes several turns to send it.
MUCH = b"much" * 500_000


class Loop:
    """The part of an event loop that the transport uses, turn by turn."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.calls: dict[tuple[int, int], Callable[[], None]] = {}
        self.soon: deque[tuple[Any, ...]] = deque()
        self.errors: list[BaseException] = []

    def _watch(self, fd: int) -> None:
        events = sum(event for number, event in self.calls if number == fd)
        with suppress(KeyError):
            self.selector.unregister(fd)
        if events:
            self.selector.register(fd, events)

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        self.calls[fd, selectors.EVENT_READ] = call
        self._watch(fd)

    def remove_reader(self, fd: int) -> None:
        del self.calls[fd, selectors.EVENT_READ]
        self._watch(fd)

    def add_writer(self, fd: int, call: Callable[[], None]) -> None:
        self.calls[fd, selectors.EVENT_WRITE] = call
        self._watch(fd)

    def remove_writer(self, fd: int) -> None:
        del self.calls[fd, selectors.EVENT_WRITE]
        self._watch(fd)

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((call, *arguments))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context["exception"])

    def turn(self) -> None:
        """Call what is ready; what was taken back meanwhile, too, as a loop may have queued it already."""
        ready = [(key.fd, events) for key, events in self.selector.select(0)]
        calls = [call for fd, events in ready for (n, event), call in self.calls.items() if n == fd and event & events]
        for call, *arguments in [*((call,) for call in calls), *(self.soon.popleft() for _ in range(len(self.soon)))]:
            try:
                call(*arguments)
            except Exception as error:
                self.errors.append(error)


class Recorder(Layer):
    """A protocol that notes what it is told, and then does what the test wants."""

    def __init__(self, **reactions: Callable[[Any], Any]) -> None:
        self.transport: Any = None
        self.told: list[str] = []
        self.received = b""
        self.updates: list[int] = []
        self.error: BaseException | None = None
        self.reactions = reactions

    def react(self, name: str) -> Any:
        assert "connection_lost" not in self.told, f"{name} came behind the end"
        self.told.append(name)
        reaction = self.reactions.get(name)
        return None if reaction is None else reaction(self.transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.react("data_received")

    def buffer_updated(self, nbytes: int) -> None:
        self.updates.append(nbytes)
        self.react("buffer_updated")

    def eof_received(self) -> Any:
        return self.react("eof_received")

    def pause_writing(self) -> None:
        self.react("pause_writing")

    def resume_writing(self) -> None:
        self.react("resume_writing")

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self.react("connection_lost")


class Pair:
    """A transport and its peer's socket."""

    def __init__(self, protocol: Recorder) -> None:
        self.loop = Loop()
        ours, self.peer = socket.socketpair()
        # As `accept` returns it.
        ours.setblocking(True)
        self.peer.setblocking(False)
        self.fd = ours.fileno()
        self.ours = ours
        self.protocol = protocol
        loop: Any = self.loop
        protocol.transport = self.transport = SocketTransport(loop, ours, protocol)
        self.arrived = b""

    def go_on(self, reading: bool = True) -> None:
        """Turn the loop a few times."""
        for _ in range(100):
            self.loop.turn()
            if reading:
                self.read()

    def read(self) -> None:
        with suppress(OSError):
            while data := self.peer.recv(1 << 20):
                self.arrived += data

    def close(self) -> None:
        self.transport.abort()
        self.loop.turn()
        self.loop.turn()
        assert self.ours.fileno() == -1
        assert self.loop.calls == {}
        self.loop.selector.close()
        self.peer.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def connect(**reactions: Callable[[Any], Any]) -> Pair:
        pairs.append(Pair(Recorder(**reactions)))
        return pairs[-1]

    yield connect
    for pair in pairs:
        pair.close()


def fail(transport: Any) -> None:
    raise RuntimeError("from within")


def interrupt(transport: Any) -> None:
    raise KeyboardInterrupt


class TestOutput:
    def test_output_written_from_pause_writing_and_resume_writing_arrives_in_order(
        self, connect: Callable[..., Pair]
    ) -> None:
        pair = connect(
            pause_writing=lambda transport: transport.write_nocheck(b"2" + MUCH),
            resume_writing=lambda transport: transport.write_nocheck(b"3"),
        )
        pair.transport.write_nocheck(b"1" + MUCH)
        pair.go_on()
        assert pair.arrived == b"1" + MUCH + b"2" + MUCH + b"3"
        assert pair.protocol.told == ["pause_writing", "resume_writing"]

    @pytest.mark.parametrize("call", ["pause_writing", "resume_writing"])
    def test_output_goes_on_when_the_protocol_fails_at_pausing(self, connect: Callable[..., Pair], call: str) -> None:
        pair = connect(**{call: fail})
        pair.transport.write_nocheck(MUCH)
        pair.transport.write_nocheck(b"end")
        pair.go_on()
        assert pair.arrived == MUCH + b"end"
        assert [str(error) for error in pair.loop.errors] == ["from within"]
        assert pair.protocol.told == ["pause_writing", "resume_writing"]

    @pytest.mark.parametrize("call", ["pause_writing", "resume_writing"])
    def test_output_ends_when_the_protocol_aborts_at_pausing(self, connect: Callable[..., Pair], call: str) -> None:
        pair = connect(**{call: lambda transport: transport.abort()})
        pair.transport.write_nocheck(MUCH)
        pair.go_on()
        pair.transport.write_nocheck(b"more")
        pair.go_on()
        assert pair.protocol.told[-2:] == [call, "connection_lost"]
        assert MUCH.startswith(pair.arrived)

    def test_output_is_sent_before_the_half_and_the_connection_are_closed(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        pair.transport.write_nocheck(MUCH)
        pair.transport.write_eof()
        pair.transport.close()
        pair.transport.write_nocheck(b"too late")
        pair.go_on()
        assert pair.arrived == MUCH
        assert pair.protocol.told[-1] == "connection_lost"
        assert pair.protocol.error is None

    def test_output_waits_when_the_kernel_takes_nothing(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        fill(pair.ours)
        pair.transport.write_nocheck(b"end")
        assert pair.transport.get_write_buffer_size() == 3
        pair.go_on()
        assert pair.arrived.strip(b"\0") == b"end"

    def test_a_keyboard_interrupt_at_pausing_is_raised(self, connect: Callable[..., Pair]) -> None:
        pair = connect(pause_writing=interrupt)
        with pytest.raises(KeyboardInterrupt):
            pair.transport.write_nocheck(MUCH)

    @pytest.mark.parametrize("size", [1, len(MUCH)])
    def test_output_to_a_peer_that_has_gone_ends_the_connection(self, connect: Callable[..., Pair], size: int) -> None:
        pair = connect()
        pair.transport.write_nocheck(MUCH[:size])
        # Then only writing tells.
        pair.transport.pause_reading()
        pair.peer.close()
        pair.transport.write_nocheck(b"more")
        pair.go_on(reading=False)
        assert pair.protocol.told[-1] == "connection_lost"
        assert isinstance(pair.protocol.error, OSError)
        assert pair.protocol.error.errno in {errno.EPIPE, errno.ECONNRESET}


class TestInput:
    @pytest.mark.parametrize("call", ["data_received", "eof_received"])
    def test_a_protocol_that_fails_on_input_loses_its_connection(self, connect: Callable[..., Pair], call: str) -> None:
        pair = connect(**{call: fail})
        pair.peer.send(b"x")
        pair.peer.shutdown(socket.SHUT_WR)
        pair.go_on()
        assert pair.protocol.told[-2:] == [call, "connection_lost"]
        assert [str(error) for error in pair.loop.errors] == ["from within"]
        assert pair.protocol.error is pair.loop.errors[0]

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_no_input_is_read_after_close_and_abort(self, connect: Callable[..., Pair], end: str) -> None:
        pair = connect(data_received=lambda transport: getattr(transport, end)())
        [reader] = pair.loop.calls.values()
        for data in b"one", b"two":
            pair.peer.send(data)
            reader()
        pair.go_on()
        assert pair.protocol.told == ["data_received", "connection_lost"]
        assert pair.protocol.received == b"one"

    def test_no_input_is_read_while_reading_is_paused(self, connect: Callable[..., Pair]) -> None:
        pair = connect(data_received=lambda transport: transport.pause_reading())
        for data in b"one", b"two":
            pair.peer.send(data)
            pair.go_on()
        assert pair.protocol.received == b"one"
        pair.transport.resume_reading()
        pair.go_on()
        assert pair.protocol.received == b"onetwo"

    def test_input_wakes_the_loop_once_while_reading_is_paused(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        pair.transport.pause_reading()
        pair.peer.send(b"one")
        pair.loop.turn()
        assert pair.loop.selector.select(0) == []
        pair.transport.resume_reading()
        pair.go_on()
        assert pair.protocol.received == b"one"

    def test_a_reset_that_the_loop_has_told_of_while_reading_was_paused_is_noticed(
        self, connect: Callable[..., Pair]
    ) -> None:
        """uvloop tells of it once, together with data before it, and watches no more."""
        pair = connect(data_received=lambda transport: transport.pause_reading())
        pair.transport.write_nocheck(b"never read")
        pair.peer.send(b"one")
        pair.peer.close()
        pair.loop.turn()
        [reader] = pair.loop.calls
        pair.loop.calls[reader] = lambda: None
        pair.transport.resume_reading()
        pair.loop.turn()
        pair.go_on()
        assert pair.protocol.told == ["data_received", "connection_lost"]
        assert isinstance(pair.protocol.error, ConnectionResetError)

    @pytest.mark.parametrize("pauses", [False, True])
    def test_all_that_came_before_a_reset_is_read(self, connect: Callable[..., Pair], pauses: bool) -> None:
        def updated(transport: SocketTransport) -> None:
            transport.receive_into(memoryview(bytearray(4)))
            if pauses:
                transport.pause_reading()

        pair = connect(buffer_updated=updated)
        pair.transport.receive_into(memoryview(bytearray(4)))
        pair.transport.write_nocheck(b"never read")
        pair.transport.pause_reading()
        pair.peer.send(b"all of this is read")
        pair.peer.close()
        for _ in range(8):
            pair.transport.resume_reading()
            pair.go_on()
        assert pair.protocol.told == [*["buffer_updated"] * 5, "connection_lost"]
        assert isinstance(pair.protocol.error, ConnectionResetError)

    def test_a_read_that_finds_nothing_changes_nothing(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        [reader] = pair.loop.calls.values()
        reader()
        pair.peer.send(b"one")
        pair.go_on()
        assert pair.protocol.told == ["data_received"]

    def test_a_keyboard_interrupt_on_input_is_raised(self, connect: Callable[..., Pair]) -> None:
        pair = connect(data_received=interrupt)
        [reader] = pair.loop.calls.values()
        pair.peer.send(b"one")
        with pytest.raises(KeyboardInterrupt):
            reader()


class TestInputIntoABuffer:
    def test_input_fills_the_buffer_and_no_more(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        room = bytearray(10)
        pair.transport.receive_into(memoryview(room)[2:])
        for data in b"one", b"two", b"three":
            pair.peer.send(data)
            pair.go_on()
        assert room == b"\0\0onetwoth"
        assert pair.protocol.updates == [3, 3, 2]
        assert pair.protocol.received == b"ree"

    def test_none_ends_the_use_of_the_buffer(self, connect: Callable[..., Pair]) -> None:
        pair = connect(buffer_updated=lambda transport: transport.receive_into(None))
        room = bytearray(10)
        pair.transport.receive_into(memoryview(room))
        for data in b"one", b"two":
            pair.peer.send(data)
            pair.go_on()
        assert room == b"one" + bytes(7)
        assert pair.protocol.received == b"two"

    def test_another_buffer_may_follow_a_full_one(self, connect: Callable[..., Pair]) -> None:
        rooms = [bytearray(3), bytearray(4)]
        pair = connect(buffer_updated=lambda transport: rooms[1:] and transport.receive_into(memoryview(rooms.pop())))
        first, second = rooms
        pair.transport.receive_into(memoryview(first))
        pair.peer.send(b"onetwo")
        pair.go_on()
        assert [bytes(first), bytes(second)] == [b"one", b"two\0"]

    def test_one_read_fills_at_most_256_kib(self, connect: Callable[..., Pair]) -> None:
        """One peer has no longer turns than another."""
        pair = connect()
        room = bytearray(len(MUCH))
        pair.transport.receive_into(memoryview(room))
        sent = 0
        while sent < len(MUCH):
            sent += pair.peer.send(MUCH[sent : sent + 100_000])
            pair.loop.turn()
        pair.go_on()
        assert room == MUCH
        assert max(pair.protocol.updates) <= 262_144

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_the_end_of_the_connection_releases_the_buffer(self, connect: Callable[..., Pair], end: str) -> None:
        pair = connect(buffer_updated=lambda transport: getattr(transport, end)())
        room = bytearray(10)
        pair.transport.receive_into(memoryview(room))
        pair.peer.send(b"one")
        pair.go_on()
        pair.transport.receive_into(memoryview(room))
        # Nobody holds it any more.
        room += b"more"
        assert pair.protocol.told == ["buffer_updated", "connection_lost"]

    def test_the_peers_end_is_noticed_while_a_buffer_is_filled(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        pair.transport.receive_into(memoryview(bytearray(10)))
        pair.peer.send(b"one")
        pair.peer.shutdown(socket.SHUT_WR)
        pair.go_on()
        assert pair.protocol.told == ["buffer_updated", "eof_received", "connection_lost"]

    def test_a_reset_is_noticed_while_a_buffer_is_filled(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        pair.transport.receive_into(memoryview(bytearray(10)))
        pair.transport.write_nocheck(b"never read")
        pair.peer.close()
        pair.go_on()
        assert isinstance(pair.protocol.error, ConnectionResetError)

    def test_a_protocol_that_fails_on_its_buffer_loses_its_connection(self, connect: Callable[..., Pair]) -> None:
        pair = connect(buffer_updated=fail)
        pair.transport.receive_into(memoryview(bytearray(10)))
        pair.peer.send(b"one")
        pair.go_on()
        assert pair.protocol.told == ["buffer_updated", "connection_lost"]
        assert [str(error) for error in pair.loop.errors] == ["from within"]


class TestTheEnd:
    def test_a_lost_transport_leaves_the_next_owner_of_its_descriptor_alone(self, connect: Callable[..., Pair]) -> None:
        others, their_peer = socket.socketpair()
        pair = connect()
        transport, calls = pair.transport, list(pair.loop.calls.values())
        transport.write_nocheck(MUCH)
        calls += pair.loop.calls.values()
        transport.abort()
        pair.go_on()
        with their_peer, others:
            taken = socket.socket(fileno=os.dup2(others.fileno(), pair.fd, inheritable=False))
            with taken:
                their_peer.send(b"theirs")
                transport.write_nocheck(b"ours")
                for act in transport.write_eof, transport.close, transport.abort, transport.resume_reading, *calls:
                    act()
                pair.loop.turn()
                assert pair.loop.calls == {}
                assert taken.recv(10) == b"theirs"
                their_peer.setblocking(False)
                with pytest.raises(BlockingIOError):
                    their_peer.recv(10)
        assert pair.protocol.told == ["pause_writing", "connection_lost"]

    @pytest.mark.parametrize("seed", range(100))
    def test_connection_lost_comes_once_and_output_is_never_mixed_up(
        self, connect: Callable[..., Pair], seed: int
    ) -> None:
        chance = random.Random(seed)
        written = bytearray()
        ended: list[str] = []

        def write(transport: Any) -> None:
            data = chance.randbytes(chance.choice([0, 1, 1_000, 300_000]))
            if not ended and "connection_lost" not in pair.protocol.told and len(written) < 3_000_000:
                written.extend(data)
                transport.write_nocheck(data)

        def end(transport: Any) -> None:
            ended.append(chance.choice(["write_eof", "close", "abort"]))
            getattr(transport, ended[-1])()

        def limit(transport: Any) -> None:
            high = chance.choice([0, 1, 65_536])
            transport.set_write_buffer_limits(high, chance.choice([0, high]))

        def react(transport: Any) -> bool:
            rare = [end, fail] if chance.random() < 0.1 else []
            for act in chance.choices(
                [write, limit, lambda t: t.pause_reading(), lambda t: t.resume_reading(), *rare], k=2
            ):
                act(transport)
            return chance.random() < 0.5

        names = ["data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost"]
        pair = connect(**dict.fromkeys(names, react))
        for _ in range(30):
            with suppress(OSError):
                pair.peer.send(chance.randbytes(chance.choice([1, 100_000])))
            with suppress(RuntimeError):
                react(pair.transport)
            pair.loop.turn()
            if chance.random() < 0.5:
                pair.read()
        pair.transport.close()
        pair.go_on()
        assert pair.protocol.told.count("connection_lost") == 1
        assert written.startswith(pair.arrived)
        if "abort" not in ended and pair.protocol.error is None:
            assert pair.arrived == written


class TestDetach:
    def test_a_socket_is_left_open_and_its_protocol_alone(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        assert pair.transport.detach()
        assert not pair.transport.detach()
        pair.peer.send(b"x")
        pair.go_on()
        assert pair.protocol.told == []
        assert pair.loop.calls == {}
        pair.ours.close()

    def test_a_reset_that_is_known_is_met_here(self, connect: Callable[..., Pair]) -> None:
        pair = connect()
        pair.transport.write_nocheck(b"never read")
        pair.peer.send(b"one")
        pair.peer.close()
        [reader] = pair.loop.calls.values()
        reader()
        assert pair.protocol.received == b"one"
        assert not pair.transport.detach()
        pair.go_on()
        assert isinstance(pair.protocol.error, ConnectionResetError)
