from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.connections.modules import Module, in_threads, serve
from tests.handlers.surroundings import in_loop, turns, without_loop
from tests.memory import MemoryHost, Peer
from wshost.connections.waiters import LOOK, MAX_WAITERS
from wshost.messages import CALL
from wshost.results import REFUSED, Close, Sent

pytestmark = pytest.mark.usefixtures("failures")

LIMIT = 100_000
#: More than the transport takes without a word.
MUCH = bytes(70_000)


def act(driver: Any, action: str, *args: Any) -> Any:
    """Send what is to be sent, and take infos."""
    return args[0] if action == "send" else None if action in {"info", "drained"} else REFUSED


def connected(**limits: Any) -> Peer:
    """A client whose module sends what it is told."""
    return serve(Module(action=act), max_output=LIMIT, **limits).connect()


def blocked(**limits: Any) -> Peer:
    """A client that reads nothing, and has been sent more than its transport takes."""
    peer = connected(**limits)
    peer.transport.reading = False
    assert peer.connection.ref.send(MUCH) is Sent.ACCEPTED
    peer.turn()
    return peer


def results(*waiters: Deferred[Any]) -> list[Any]:
    """What Deferreds fire with, once they do."""
    fired: list[Any] = []
    for waiter in waiters:
        waiter.addBoth(fired.append)
    return fired


def read(peer: Peer) -> None:
    """Let the client read all."""
    peer.transport.reading = True
    peer.transport.drain()
    peer.turn()


def infos(peer: Peer) -> list[Any]:
    driver: Any = peer.connection.context._driver
    return [args for action, *args in driver.actions if action == "info"]


class TestWhatBecomesOfASend:
    def test_a_message_behind_other_output_waits(self) -> None:
        peer = blocked()
        assert peer.connection.ref.send(b"x") is Sent.WAITING
        read(peer)
        assert peer.connection.ref.send(b"x") is Sent.ACCEPTED

    def test_a_message_for_a_full_connection_is_dropped(self) -> None:
        peer = blocked()
        ref = peer.connection.ref
        assert [ref.send(MUCH), ref.send(b"x")] == [Sent.WAITING, Sent.DROPPED]

    def test_another_thread_is_told_the_same(self) -> None:
        peer = connected()
        ref, told = peer.connection.ref, []
        in_threads(lambda: told.append(ref.send(b"x")))
        peer.turn()
        peer.transport.reading = False
        for _ in range(3):
            in_threads(lambda: told.append(ref.send(MUCH)))
            peer.turn()
        assert told == [Sent.ACCEPTED, Sent.ACCEPTED, Sent.WAITING, Sent.DROPPED]

    def test_a_message_for_a_closing_connection_is_dropped(self) -> None:
        peer = connected()
        peer.connection.context.perform(Close())
        told = [peer.connection.ref.send(b"x")]
        in_threads(lambda: told.append(peer.connection.ref.send(b"x")))
        assert told == [Sent.DROPPED] * 2


class TestWaiting:
    def test_nothing_waits_for_a_peer_that_reads(self) -> None:
        peer = connected()
        peer.connection.ref.send(b"x")
        peer.turn()
        assert peer.connection.ref.waiting == 0

    def test_output_waits_in_the_stream_and_in_the_transport(self) -> None:
        peer = blocked()
        ref = peer.connection.ref
        assert ref.waiting == len(MUCH)
        ref.send(b"12345")
        assert ref.waiting == len(MUCH) + 5
        read(peer)
        assert ref.waiting == 0

    def test_a_transport_that_does_not_tell_holds_what_it_was_given_last(self) -> None:
        peer = connected()
        transport: Any = peer.transport
        transport.get_write_buffer_size = None
        transport.reading = False
        peer.connection.ref.send(MUCH)
        assert peer.connection.ref.waiting == len(MUCH)
        peer.turn()
        peer.connection.ref.send(b"12345")
        assert peer.connection.ref.waiting == len(MUCH) + 5

    def test_what_other_threads_have_sent_waits_for_the_reactor(self) -> None:
        peer = connected()
        in_threads(lambda: peer.connection.ref.send(b"12345"))
        assert peer.connection.ref.waiting == CALL + 5
        peer.turn()
        assert peer.connection.ref.waiting == 0

    def test_what_is_kept_until_the_module_is_ready_waits(self) -> None:
        peer = connected()
        peer.connection.context.keep_actions()
        peer.connection.ref.send(b"12345")
        assert peer.connection.ref.waiting == CALL + 5
        peer.connection.context.release_actions()
        peer.turn()
        assert peer.connection.ref.waiting == 0

    def test_nothing_waits_for_a_connection_that_is_gone(self) -> None:
        peer = blocked()
        peer.leave()
        assert peer.connection.ref.waiting == 0


class TestDrained:
    def test_output_that_has_left_has_drained_at_once(self) -> None:
        assert results(connected().connection.ref.drained()) == [True]

    def test_output_of_this_turn_leaves_and_has_drained_at_once_if_the_transport_takes_it(self) -> None:
        peer = connected()
        transport: Any = peer.transport
        transport.get_write_buffer_size = lambda: 0
        peer.connection.ref.send(b"x")
        assert results(peer.connection.ref.drained()) == [True]
        assert peer.transport.writes == [b"x"]

    def test_all_who_wait_are_told_when_output_has_drained(self) -> None:
        peer = blocked()
        fired = results(peer.connection.ref.drained(), peer.connection.ref.drained())
        peer.turn(1)
        assert fired == []
        read(peer)
        assert fired == [True, True]

    def test_output_that_is_too_little_to_block_drains_too(self) -> None:
        peer = connected()
        peer.transport.reading = False
        peer.connection.ref.send(b"x")
        fired = results(peer.connection.ref.drained())
        peer.turn(10 * LOOK)
        assert fired == []
        read(peer)
        peer.turn(LOOK)
        assert fired == [True]

    def test_output_that_blocks_again_has_not_drained(self) -> None:
        peer = blocked()
        fired = results(peer.connection.ref.drained())
        peer.connection.ref.send(MUCH)
        peer.transport.drain()
        peer.turn(10 * LOOK)
        assert fired == []
        read(peer)
        assert fired == [True]

    def test_output_that_is_left_in_the_transport_has_not_drained(self) -> None:
        peer = blocked()
        fired = results(peer.connection.ref.drained())
        peer.connection.ref.send(b"more")
        peer.transport.drain()
        peer.turn(10 * LOOK)
        assert fired == []
        read(peer)
        peer.turn(LOOK)
        assert fired == [True]

    @pytest.mark.parametrize("enough", [True, False])
    def test_those_who_wait_are_told_when_the_connection_is_gone(self, enough: bool) -> None:
        peer = blocked() if enough else connected()
        peer.transport.reading = False
        peer.connection.ref.send(b"x")
        fired = results(peer.connection.ref.drained())
        peer.leave()
        assert fired == [False]
        assert results(peer.connection.ref.drained()) == [False]

    def test_nobody_is_told_within_the_call_that_drains(self) -> None:
        peer = blocked()
        fired = results(peer.connection.ref.drained())
        peer.transport.drain()
        assert fired == []
        peer.turn()
        assert fired == [True]

    def test_a_waiter_that_was_cancelled_is_forgotten(self) -> None:
        peer = blocked()
        waiter, other = peer.connection.ref.drained(), peer.connection.ref.drained()
        fired = results(waiter)
        waiter.cancel()
        assert [failure.type for failure in fired] == [CancelledError]
        fired.clear()
        gone = weakref.ref(waiter)
        del waiter
        gc.collect()
        assert gone() is None
        waiting = results(other)
        read(peer)
        assert waiting == [True]

    def test_a_waiter_may_be_cancelled_just_before_it_is_told(self) -> None:
        peer = blocked()
        waiter = peer.connection.ref.drained()
        fired = results(waiter)
        peer.transport.drain()
        waiter.cancel()
        peer.turn()
        assert [failure.type for failure in fired] == [CancelledError]

    def test_those_who_wait_are_bounded(self) -> None:
        peer = blocked()
        fired = results(*(peer.connection.ref.drained() for _ in range(MAX_WAITERS)))
        with pytest.raises(RuntimeError, match=rf"^{MAX_WAITERS} callers of drained\(\) wait for .* c1 already$"):
            peer.connection.ref.drained()
        read(peer)
        assert fired == [True] * MAX_WAITERS

    def test_nothing_is_left_of_a_connection_for_which_others_wait(self) -> None:
        host = serve(Module(action=act), max_output=LIMIT)
        for size in (1, len(MUCH)):
            peer = host.connect()
            peer.transport.reading = False
            peer.connection.ref.send(bytes(size))
            peer.turn()
            fired = results(peer.connection.ref.drained())
            gone = weakref.ref(peer.connection)
            peer.leave()
            del peer
            gc.collect()
            assert gone() is None
            assert fired == [False]
        assert host.idle()


class TestTheHandlerIsTold:
    """A handler whose send was refused hears when there is room again."""

    def full(self) -> Peer:
        peer = blocked()
        assert peer.connection.ref.send(MUCH)
        assert not peer.connection.ref.send(b"x")
        return peer

    def test_a_handler_whose_send_was_refused_hears_once_that_output_has_drained(self) -> None:
        peer = self.full()
        peer.connection.ref.send(b"x")
        peer.turn(1)
        assert infos(peer) == []
        read(peer)
        assert infos(peer) == [["drained"]]
        peer.transport.reading = False
        peer.connection.ref.send(MUCH)
        peer.turn()
        read(peer)
        assert infos(peer) == [["drained"]]

    def test_a_handler_hears_each_time(self) -> None:
        peer = self.full()
        read(peer)
        peer.transport.reading = False
        for data in (MUCH, MUCH, b"x"):
            peer.connection.ref.send(data)
            peer.turn()
        read(peer)
        assert infos(peer) == [["drained"]] * 2

    def test_a_handler_that_has_seen_no_refusal_hears_nothing(self) -> None:
        peer = blocked()
        peer.connection.ref.send(MUCH)
        peer.connection.ref.info("full")
        results(peer.connection.ref.drained())
        read(peer)
        assert infos(peer) == []

    def test_a_refusal_in_another_thread_counts(self) -> None:
        peer = blocked()
        peer.connection.ref.send(MUCH)
        in_threads(lambda: [peer.connection.ref.send(b"x") for _ in range(9)])
        peer.turn()
        read(peer)
        assert infos(peer) == [["drained"]]

    def test_messages_of_another_thread_that_find_no_room_in_the_end_are_refusals_and_count(self) -> None:
        peer = blocked()
        sent: list[Sent] = []
        in_threads(lambda: sent.extend([peer.connection.ref.send(bytes(20_000)) for _ in range(4)]))
        assert sent == [Sent.WAITING] * 4
        peer.turn()
        dropped = peer.connection._shared.account.dropped
        assert dropped == {"close": 2}
        read(peer)
        assert infos(peer) == [["drained"]]

    def test_a_handler_hears_when_another_threads_messages_have_been_sent(self) -> None:
        """They were too many for one turn, though nothing waits for the peer."""
        peer = connected()
        in_threads(lambda: [peer.connection.ref.send(bytes(10_000)) for _ in range(20)])
        assert infos(peer) == []
        peer.turn()
        driver: Any = peer.connection.context._driver
        assert [action for action, *_ in driver.actions if action != "drained"] == ["send"] * 10 + ["info"]

    def test_a_refusal_in_another_thread_is_forgotten_when_the_connection_closes(self) -> None:
        peer = blocked()
        peer.connection.ref.send(MUCH)
        in_threads(lambda: peer.connection.ref.send(b"x"))
        peer.connection.context.perform(Close())
        peer.turn()
        assert infos(peer) == []

    def test_a_handler_with_too_many_infos_hears_the_next_time(self) -> None:
        refuse = [True]

        def act_or_refuse(driver: Any, action: str, *args: Any) -> Any:
            return REFUSED if action == "info" and refuse.pop() else act(driver, action, *args)

        peer = serve(Module(action=act_or_refuse), max_output=LIMIT).connect()
        refuse.append(False)
        refuse.reverse()
        for _ in range(2):
            peer.transport.reading = False
            for data in (MUCH, MUCH, b"x"):
                peer.connection.ref.send(data)
                peer.turn()
            read(peer)
        assert infos(peer) == [["drained"]] * 2


class Sender:
    """Sends three messages, each when the one before has left."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def init(self, options: Any) -> Any:
        return options["worker"]

    async def handle(self, message: Any, ref: Any) -> Any:
        if message[0] == "text":
            for number in range(3):
                self.said.append((number, ref.send(MUCH), await ref.drained()))
        return ("noreply", ref)


async def until(waiter: Deferred[bool]) -> bool:
    """A coroutine for a task that asyncio makes."""
    return await waiter


class TestTasksOfAsyncio:
    @in_loop
    async def test_tasks_wait_until_output_has_drained(self) -> None:
        peer = blocked()
        waiter = peer.connection.ref.drained()
        tasks = [asyncio.create_task(until(waiter)) for _ in range(2)]
        await turns()
        assert [task.done() for task in tasks] == [False, False]
        read(peer)
        assert await asyncio.gather(*tasks) == [True, True]

    @in_loop
    async def test_a_task_goes_on_at_once_if_nothing_waits(self) -> None:
        assert await until(connected().connection.ref.drained())

    @in_loop
    async def test_a_task_is_told_when_the_connection_is_gone(self) -> None:
        peer = blocked()
        task = asyncio.create_task(until(peer.connection.ref.drained()))
        await turns()
        peer.leave()
        assert not await task
        assert not await until(peer.connection.ref.drained())

    @in_loop
    async def test_a_wait_may_have_a_time_limit(self) -> None:
        waiter = blocked().connection.ref.drained()
        fired = results(waiter)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiter, 0.001)
        assert [failure.type for failure in fired] == [CancelledError]

    @in_loop
    async def test_tasks_that_were_cancelled_are_forgotten(self) -> None:
        peer = blocked()
        tasks = [asyncio.create_task(until(peer.connection.ref.drained())) for _ in range(MAX_WAITERS)]
        await turns()
        for task in tasks:
            task.cancel("enough")
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in ended} == {asyncio.CancelledError}
        fired = results(*(peer.connection.ref.drained() for _ in range(MAX_WAITERS)))
        read(peer)
        assert fired == [True] * MAX_WAITERS

    @in_loop
    async def test_a_coroutine_of_twisted_waits_beside_them(self) -> None:
        peer = blocked()
        fired = results(Deferred.fromCoroutine(until(peer.connection.ref.drained())))
        task = asyncio.create_task(until(peer.connection.ref.drained()))
        await turns()
        read(peer)
        assert (await task, fired) == (True, [True])


class TestAHandler:
    """A coroutine of a handler sends as fast as its peer reads."""

    @without_loop
    def test_a_coroutine_waits_on_a_reactor_without_an_asyncio_loop(self) -> None:
        sender = Sender()
        peer = MemoryHost(sender, max_output=LIMIT).open()
        peer.transport.reading = False
        peer.text("go")
        assert sender.said == []
        for number in range(3):
            peer.transport.drain()
            peer.turn()
            assert sender.said == [(count, Sent.ACCEPTED, True) for count in range(number + 1)]

    @in_loop
    async def test_a_coroutine_waits_as_a_task_of_asyncio(self) -> None:
        sender = Sender()
        peer = MemoryHost(sender, max_output=LIMIT).open()
        peer.transport.reading = False
        peer.text("go")
        for number in range(3):
            peer.transport.drain()
            peer.turn()
            await turns()
            assert sender.said == [(count, Sent.ACCEPTED, True) for count in range(number + 1)]

    @in_loop
    async def test_the_end_of_the_connection_ends_the_wait(self) -> None:
        sender = Sender()
        peer = MemoryHost(sender, max_output=LIMIT).open()
        peer.transport.reading = False
        peer.text("go")
        peer.leave()
        await turns()
        assert sender.said == [(0, Sent.ACCEPTED, False), (1, Sent.DROPPED, False), (2, Sent.DROPPED, False)]
