from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest

from tests.fastnet.surroundings import Reactor, everything, fill, turn
from wshost.fastnet import poll as module
from wshost.fastnet.poll import ALONE, QUIET, RECENT, Direct, Poll
from wshost.fastnet.port import Loop

user: ContextVar[str] = ContextVar("user", default="nobody")


class Host:
    """An event loop with a poll, and sockets whose peers may send."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failures: list[BaseException] = []
        self.poll = Poll(self.loop, copy_context(), lambda context: self.failures.append(context["exception"]))
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        #: How many descriptors the loop itself watches, besides the poll's.
        self.direct = 0
        add, remove = self.loop.add_reader, self.loop.remove_reader

        def count(fd: int, call: Callable[[], object]) -> None:
            self.direct += 1
            add(fd, call)

        def discount(fd: int) -> bool:
            self.direct -= 1
            return remove(fd)

        loop: Any = self.loop
        loop.add_reader, loop.remove_reader = count, discount

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, peers = socket.socketpair()
        ours.setblocking(False)
        peers.setblocking(False)
        self.pairs.append((ours, peers))
        return ours, peers

    def reading(self) -> tuple[int, socket.socket, list[bytes]]:
        """A descriptor that is watched; its peer; and what was read."""
        ours, peers = self.pair()
        got: list[bytes] = []
        self.poll.add_reader(ours.fileno(), lambda: got.append(ours.recv(100)))
        return ours.fileno(), peers, got

    def write_once(self, fd: int, called: list[int]) -> None:
        """Note in the list when the descriptor has room, once."""

        def call() -> None:
            called.append(1)
            self.poll.remove_writer(fd)

        self.poll.add_writer(fd, call)

    def turn(self, times: int = 2) -> None:
        turn(self.loop, times)

    def alone(self, peers: socket.socket, times: int) -> None:
        for _ in range(times):
            peers.send(b"x")
            self.turn()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.close()
    for pair in host.pairs:
        for either in pair:
            either.close()


class TestPoll:
    def test_a_reader_is_called_while_there_is_something_to_read(self, host: Host) -> None:
        _, peers, got = host.reading()
        peers.send(b"a" * 150)
        host.turn(4)
        assert got == [b"a" * 100, b"a" * 50]
        peers.close()
        host.turn(1)
        assert got[2:] == [b""]

    def test_a_removed_reader_is_not_called(self, host: Host) -> None:
        fd, peers, got = host.reading()
        host.poll.remove_reader(fd)
        peers.send(b"a")
        host.turn()
        assert got == []
        host.poll.remove_reader(fd)
        host.poll.remove_writer(fd)

    def test_another_reader_takes_the_place_of_the_first(self, host: Host) -> None:
        fd, peers, got = host.reading()
        called: list[int] = []

        def call() -> None:
            called.append(1)
            host.poll.remove_reader(fd)

        host.poll.add_reader(fd, call)
        peers.send(b"a")
        host.turn()
        assert (got, called) == ([], [1])

    def test_a_writer_is_called_when_there_is_room(self, host: Host) -> None:
        ours, peers = host.pair()
        fill(ours)
        called: list[int] = []
        host.poll.add_reader(ours.fileno(), lambda: called.append(0))
        host.write_once(ours.fileno(), called)
        host.turn()
        assert called == []
        everything(peers)
        host.turn()
        assert called == [1]
        peers.send(b"x")
        host.turn(1)
        assert called == [1, 0]

    def test_a_writer_may_stand_alone(self, host: Host) -> None:
        ours, _ = host.pair()
        called: list[int] = []
        host.write_once(ours.fileno(), called)
        host.turn()
        assert called == [1]

    def test_a_call_may_end_the_watch_of_another_descriptor_that_is_ready(self, host: Host) -> None:
        called: list[int] = []
        fds = [host.pair()[0].fileno() for _ in range(2)]

        def end(number: int) -> None:
            called.append(number)
            for fd in fds:
                host.poll.remove_reader(fd)

        for number, fd in enumerate(fds):
            host.poll.add_reader(fd, partial(end, number))
        for _, peers in host.pairs:
            peers.send(b"x")
        host.turn()
        assert len(called) == 1

    def test_all_that_are_ready_are_called_in_one_turn(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST", 2)
        watched = [host.reading() for _ in range(7)]
        for _, peers, _ in watched:
            peers.send(b"x")
        host.turn(1)
        assert [got for _, _, got in watched] == [[b"x"]] * 7

    def test_those_that_stay_ready_do_not_keep_the_loop(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST", 2)
        called: list[int] = []
        for number in range(3):
            ours, peers = host.pair()
            host.poll.add_reader(ours.fileno(), partial(called.append, number))
            peers.send(b"x")
        host.turn(1)
        assert set(called) == {0, 1, 2}

    def test_each_descriptor_has_a_context_of_its_own(self, host: Host) -> None:
        seen: list[tuple[str, str]] = []
        for name in ("a", "b"):
            ours, peers = host.pair()

            def call(name: str = name, ours: socket.socket = ours) -> None:
                ours.recv(10)
                seen.append((name, user.get()))
                user.set(name)

            copy_context().run(self.watch_as_somebody, host, ours.fileno(), call)
            for _ in range(2):
                peers.send(b"x")
                host.turn()
        assert seen == [("a", "nobody"), ("a", "a"), ("b", "nobody"), ("b", "b")]

    @staticmethod
    def watch_as_somebody(host: Host, fd: int, call: Callable[[], None]) -> None:
        user.set("somebody")
        host.poll.add_reader(fd, call)

    def test_a_call_that_raises_is_reported_and_the_others_are_made(self, host: Host) -> None:
        def fail() -> None:
            host.poll.remove_reader(fd)
            raise ZeroDivisionError

        fd = host.pair()[0].fileno()
        host.poll.add_reader(fd, fail)
        _, peers, got = host.reading()
        host.pairs[0][1].send(b"x")
        peers.send(b"x")
        host.turn(1)
        assert [type(error) for error in host.failures] == [ZeroDivisionError]
        assert got == [b"x"]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_an_exception_that_ends_the_process_leaves_the_loop(self, host: Host, error: type[BaseException]) -> None:
        def leave() -> None:
            host.poll.remove_reader(fd)
            raise error

        fd = host.pair()[0].fileno()
        host.poll.add_reader(fd, leave)
        host.pairs[0][1].send(b"x")
        with pytest.raises(error):
            host.turn(1)
        assert host.failures == []


class TestHandingOver:
    def test_a_descriptor_that_was_mostly_ready_alone_is_watched_by_the_loop(self, host: Host) -> None:
        fd, peers, got = host.reading()
        host.alone(peers, ALONE - 1)
        assert host.direct == 0
        host.alone(peers, 1)
        assert host.direct == 1
        host.alone(peers, 3)
        assert len(got) == ALONE + 3
        host.poll.remove_reader(fd)
        assert host.direct == 0
        host.alone(peers, 1)
        assert len(got) == ALONE + 3

    def test_descriptors_that_are_ready_together_stay(self, host: Host) -> None:
        watched = [host.reading() for _ in range(2)]
        for _ in range(ALONE + 1):
            for _, peers, _ in watched:
                peers.send(b"x")
            host.turn(1)
        assert host.direct == 0
        assert [len(got) for _, _, got in watched] == [ALONE + 1] * 2

    def test_a_descriptor_that_is_seldom_ready_stays(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "RECENT", 2)
        watched = [host.reading() for _ in range(4)]
        for _ in range(ALONE + 1):
            for _, peers, _ in watched:
                host.alone(peers, 1)
        assert RECENT > 2
        assert host.direct == 0

    def test_new_descriptors_are_watched_by_the_loop_while_each_is_ready_alone(self, host: Host) -> None:
        for _ in range(QUIET):
            host.poll.note_ready(1)
        fd, peers, got = host.reading()
        assert host.direct == 1
        host.alone(peers, 1)
        assert got == [b"x"]
        host.poll.add_reader(fd, lambda: got.append(b"other"))
        peers.send(b"x")
        host.turn(1)
        assert got[1:] == [b"other"]
        host.poll.note_ready(0)
        host.reading()
        assert host.direct == 3
        host.poll.note_ready(2)
        host.reading()
        assert host.direct == 3

    def test_one_that_was_handed_over_may_also_be_written_to(self, host: Host) -> None:
        for _ in range(QUIET):
            host.poll.note_ready(1)
        fd, peers, got = host.reading()
        called: list[int] = []
        host.write_once(fd, called)
        host.turn()
        assert called == [1]
        host.alone(peers, 1)
        assert got == [b"x"]


class TestDirect:
    @pytest.mark.parametrize("what", ["reader", "writer"])
    def test_the_loop_makes_calls_in_copies_of_one_context(self, host: Host, what: str) -> None:
        direct = Direct(host.loop, copy_context())
        seen: list[str] = []
        ours, peers = host.pair()
        peers.send(b"x")

        def call() -> None:
            seen.append(user.get())
            user.set("another")
            with suppress(BlockingIOError):
                ours.recv(10)

        def watch() -> None:
            user.set("somebody")
            getattr(direct, f"add_{what}")(ours.fileno(), call)

        copy_context().run(watch)
        host.turn(1)
        getattr(direct, f"remove_{what}")(ours.fileno())
        direct.note_ready(1)
        assert seen == ["nobody"]

    def test_it_is_used_where_there_is_no_epoll(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(select, "epoll")
        loop = Loop(Reactor(host.loop))
        ours, peers = host.pair()
        got: list[bytes] = []
        loop.add_reader(ours.fileno(), lambda: got.append(ours.recv(10)))
        peers.send(b"x")
        host.turn(1)
        assert got == [b"x"]
        assert host.direct == 1
        loop.remove_reader(ours.fileno())
