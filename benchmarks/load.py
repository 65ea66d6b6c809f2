"""The load: echoes and broadcasts over open connections, with each byte compared. Does not know which server answers.

"k in flight" means that k messages leave in one write, and the next k when all k answers have arrived.
"""

from __future__ import annotations

import gc
import select
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.client import Connection
from benchmarks.frames import TEXT, Burst, WrongAnswerError

#: A server that sends nothing for so many seconds has failed.
PATIENCE = 15.0

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass
class Tally:
    """The counts of a run, without its warm-up."""

    #: Messages that came back, or were delivered.
    messages: int = 0
    #: The run's length in seconds.
    seconds: float = 0.0
    #: The server's CPU time in seconds.
    cpu: float = 0.0
    #: Nanoseconds from a burst's write to the last byte of its last answer.
    times: list[int] = field(default_factory=list)
    #: Messages, those of the warm-up included.
    total: int = 0


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the measured time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def begin(connection: Connection, burst: Burst, poller: select.epoll) -> None:
    """Write a burst. Bytes that the socket does not take now are written later."""
    connection.filled = 0
    connection.started = time.perf_counter_ns()
    _write(connection, memoryview(burst.request), poller)


def _write(connection: Connection, data: memoryview, poller: select.epoll) -> None:
    try:
        sent = connection.send(data)
    except _NOT_NOW:
        sent = 0
    if sent < len(data):
        connection.unsent = data[sent:]
        poller.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)
    elif connection.unsent is not None:
        connection.unsent = None
        poller.modify(connection.socket, select.EPOLLIN)


def complete(connection: Connection, burst: Burst) -> bool:
    """Read available bytes, and say whether all answers to a burst have arrived.

    :raises WrongAnswerError: when they are not the expected answers.
    """
    if connection.parsing:
        return _complete_parsed(connection, burst)
    while True:
        try:
            count = connection.recv_into(memoryview(connection.buffer)[connection.filled :])
        except _NOT_NOW:
            return False
        if not count:
            raise WrongAnswerError("the server has closed a connection")
        connection.filled += count
        if connection.filled == len(burst.reply):
            return connection.buffer == burst.reply or parse(connection, burst)


def parse(connection: Connection, burst: Burst) -> bool:
    """Parse messages from now on, as this server does not send frames in their shortest form."""
    connection.parsing = True
    connection.parsed.clear()
    _keep(connection, connection.buffer)
    return _complete_parsed(connection, burst)


def _keep(connection: Connection, data: bytes | bytearray) -> None:
    for opcode, payload in connection.parser.feed(data):
        if opcode != TEXT:
            raise WrongAnswerError(f"the server has sent a message with opcode {opcode}: {payload[:100]!r}")
        connection.parsed.append(payload)


def _complete_parsed(connection: Connection, burst: Burst) -> bool:
    while len(connection.parsed) < len(burst.payloads):
        try:
            data = connection.socket.recv(1 << 18)
        except _NOT_NOW:
            return False
        if not data:
            raise WrongAnswerError("the server has closed a connection")
        connection.received += len(data)
        _keep(connection, data)
    if tuple(connection.parsed) != burst.payloads:
        raise WrongAnswerError("the messages that came back are not those that were sent")
    connection.parsed.clear()
    return True


class _Marks:
    """Takes the figures at the end of the warm-up and at the end of the run.

    The warm-up lasts until there was a burst for every connection, the run until there were `TURNS`. With thousands of
    connections, a server may read from all before it answers one: the figures of a shorter time would depend on luck.
    """

    TURNS = 3

    def __init__(self, tally: Tally, cpu: Callable[[], float], warm_up: float, seconds: float, turn: int) -> None:
        self._tally = tally
        self._cpu = cpu
        self._start = time.perf_counter()
        self._next = self._start + warm_up
        self._seconds = seconds
        self._messages = turn
        self._begun = False

    def passed(self) -> bool:
        """Whether the run is over."""
        now = time.perf_counter()
        tally = self._tally
        if now < self._next or tally.messages < self._messages:
            return False
        if self._begun:
            tally.cpu = self._cpu() - tally.cpu
            tally.seconds = now - self._start
            tally.total += tally.messages
            return True
        self._begun = True
        tally.total, tally.messages = tally.messages, 0
        tally.times.clear()
        tally.cpu = self._cpu()
        self._start = now
        self._next = now + self._seconds
        self._messages *= self.TURNS
        return False


def echo(
    connections: Sequence[Connection],
    variants: Sequence[Burst],
    cpu: Callable[[], float],
    *,
    warm_up: float,
    seconds: float,
) -> Tally:
    """Keep each connection busy with its own burst, and count.

    :param variants: bursts of one size, which the connections take in turn.
    :param cpu: returns the server's CPU time so far, in seconds.
    """
    tally = Tally()
    with no_collection(), select.epoll() as poller:
        by_fd = {connection.socket.fileno(): connection for connection in connections}
        for number, connection in enumerate(connections):
            poller.register(connection.socket, select.EPOLLIN)
            connection.variant = number % len(variants)
            connection.buffer = bytearray(len(variants[0].reply))
            connection.parsing = connection.window_bits is not None
        marks = _Marks(tally, cpu, warm_up, seconds, len(connections) * len(variants[0].payloads))
        for connection in connections:
            begin(connection, variants[connection.variant], poller)
        _echoes(poller, by_fd, variants, tally, marks)
        _drain(poller, by_fd, variants)
    return tally


def _echoes(
    poller: select.epoll, by_fd: dict[int, Connection], variants: Sequence[Burst], tally: Tally, marks: _Marks
) -> None:
    """Run the loop. The code for nearly every message is inlined here, as each call takes time."""
    in_flight = len(variants[0].payloads)
    size = len(variants[0].reply)
    count = len(variants)
    clock = time.perf_counter_ns
    quiet_since = time.monotonic()
    while True:
        events = poller.poll(1.0, 256)
        if not events:
            if time.monotonic() - quiet_since > PATIENCE:
                raise WrongAnswerError(f"the server says nothing for {PATIENCE:.0f} s")
            continue
        quiet_since = time.monotonic()
        for fd, event in events:
            connection = by_fd[fd]
            if event != select.EPOLLIN and connection.unsent is not None:
                _write(connection, connection.unsent, poller)
                if not event & select.EPOLLIN:
                    continue
            burst = variants[connection.variant]
            if connection.filled or connection.parsing:
                if not complete(connection, burst):
                    continue
            else:
                try:
                    got = connection.recv_into(connection.buffer)
                except _NOT_NOW:
                    continue
                if got != size or connection.buffer != burst.reply:
                    if not got:
                        raise WrongAnswerError("the server has closed a connection")
                    connection.filled = got
                    if not (parse(connection, burst) if got == size else complete(connection, burst)):
                        continue
            now = clock()
            tally.times.append(now - connection.started)
            tally.messages += in_flight
            variant = connection.variant = (connection.variant + 1) % count
            data = variants[variant].request
            connection.filled = 0
            connection.started = now
            try:
                sent = connection.send(data)
            except _NOT_NOW:
                sent = 0
            if sent < len(data):
                connection.unsent = memoryview(data)[sent:]
                poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        if marks.passed():
            return


def _drain(poller: select.epoll, by_fd: dict[int, Connection], variants: Sequence[Burst]) -> None:
    """Read the answers that are still missing, one burst on each connection, so that connections can be used again."""
    missing = len(by_fd)
    while missing:
        events = poller.poll(PATIENCE, 1024)
        if not events:
            raise WrongAnswerError(f"{missing} connections got nothing for {PATIENCE:.0f} s")
        for fd, event in events:
            connection = by_fd[fd]
            if connection.unsent is not None:
                _write(connection, connection.unsent, poller)
            if event & ~select.EPOLLOUT:
                missing -= complete(connection, variants[connection.variant])


def broadcast(
    connections: Sequence[Connection],
    variants: Sequence[Burst],
    cpu: Callable[[], float],
    *,
    warm_up: float,
    seconds: float,
) -> Tally:
    """Let the first connection send burst after burst to a server that sends each message to all, and count.

    The next burst leaves when all connections have got the whole last burst.
    """
    tally = Tally()
    with no_collection(), select.epoll() as poller:
        by_fd = {connection.socket.fileno(): connection for connection in connections}
        size = len(variants[0].reply)
        for connection in connections:
            poller.register(connection.socket, select.EPOLLIN)
            connection.buffer = bytearray(size)
            connection.parsing = connection.window_bits is not None
        marks = _Marks(tally, cpu, warm_up, seconds, len(connections) * len(variants[0].payloads))
        number = 0
        while not marks.passed():
            _deliver(poller, by_fd, connections[0], variants[number % len(variants)])
            number += 1
            tally.times.append(time.perf_counter_ns() - connections[0].started)
            tally.messages += len(variants[0].payloads) * len(connections)
    return tally


def _deliver(poller: select.epoll, by_fd: dict[int, Connection], sender: Connection, burst: Burst) -> None:
    """Send one burst, and wait until all connections have got it."""
    size = len(burst.reply)
    for connection in by_fd.values():
        connection.filled = 0
    begin(sender, burst, poller)
    missing = len(by_fd)
    while missing:
        events = poller.poll(PATIENCE, 1024)
        if not events:
            raise WrongAnswerError(f"{missing} connections got nothing for {PATIENCE:.0f} s")
        for fd, _ in events:
            connection = by_fd[fd]
            if connection.filled or connection.parsing:
                missing -= complete(connection, burst)
                continue
            try:
                got = connection.recv_into(connection.buffer)
            except _NOT_NOW:
                continue
            if got == size and connection.buffer == burst.reply:
                missing -= 1
                continue
            if not got:
                raise WrongAnswerError("the server has closed a connection")
            connection.filled = got
            missing -= parse(connection, burst) if got == size else complete(connection, burst)
