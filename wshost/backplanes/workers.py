"""Carries payloads between the processes of one machine, each with each other, over stream sockets. Needs no broker.

Each process tells the others what it subscribes to, and sends a payload only to those that want it. Sockets keep the
order and lose nothing, so nothing is lost while both processes live and the receiver keeps up. Knows no worker.

A frame is its length, its kind, the length of its subject, the subject, and the payload.
"""

from __future__ import annotations

import socket
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import classImplements

from wshost.backplanes.subjects import is_pattern, matches
from wshost.interfaces import ITellingBackplane

#: A neighbour that has not said within so many seconds what it subscribes to is not waited for.
PATIENCE = 2.0
#: At most so many bytes are read at a time.
READ = 262_144
#: The largest payload, in bytes.
LARGEST = 4 << 20

_HEAD = struct.Struct("!IBH")
#: The kinds of frames. `_SYNCED` follows the subscriptions with which a neighbour begins.
_PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE, _SYNCED = range(4)

# What was read last. All neighbours read in one thread, and copy it at once.
_buffer = bytearray(READ)

_log = Logger("wshost")


def _frame(kind: int, subject: str = "", payload: bytes = b"") -> bytes:
    name = subject.encode("ascii")
    return _HEAD.pack(_HEAD.size - 4 + len(name) + len(payload), kind, len(name)) + name + payload


class Neighbour:
    """Another process.

    :param loop: watches the socket: an event loop of asyncio.
    :param connected: the socket to it.
    :param received: called with each frame: kind, subject, payload.
    :param lost: called once, when it has gone.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        connected: socket.socket,
        received: Callable[[Neighbour, int, str, bytes], None],
        lost: Callable[[Neighbour], None],
    ) -> None:
        self._loop = loop
        self._socket = connected
        self._received = received
        self._lost = lost
        self._in = bytearray()
        self._out: list[bytes] = []
        self._blocked = False
        #: How many bytes wait to be sent.
        self.waiting = 0
        #: It has said what it subscribes to.
        self.synced = False
        self.closed = False
        connected.setblocking(False)
        loop.add_reader(connected.fileno(), self._read)

    def write(self, data: bytes) -> None:
        """Queue bytes for `flush`."""
        self._out.append(data)
        self.waiting += len(data)

    def flush(self) -> None:
        """Send what waits, or as much as goes now."""
        if not self._blocked:
            self._write()

    def _write(self) -> None:
        if self.closed or not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self.waiting -= sent
        self._out = [data[sent:]] if sent < len(data) else []
        if self._out and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._socket.fileno(), self._write)
        elif self._blocked and not self._out:
            self._blocked = False
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            size = self._socket.recv_into(_buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.close()
            return
        self._in += memoryview(_buffer)[:size]
        try:
            for kind, subject, payload in self._frames():
                self._received(self, kind, subject, payload)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            _log.error("another process of this server can't be understood: {error}", error=error)
            self.close()

    def _frames(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield the whole frames that have come. :raises ValueError: for one that is too large, or too small."""
        data, start = bytes(self._in), 0
        del self._in[:]
        head, size = _HEAD.unpack_from, _HEAD.size
        while len(data) - start >= size:
            length, kind, name = head(data, start)
            if not name + size - 4 <= length <= LARGEST + 65_536:
                raise ValueError(f"a frame of {length} bytes")
            end = start + 4 + length
            if end > len(data):
                break
            middle = start + size + name
            subject, payload = data[start + size : middle].decode("ascii"), data[middle:end]
            start = end
            yield kind, subject, payload
        self._in += data[start:]

    def close(self) -> None:
        """End the connection to it."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self.closed = True
            self._socket.close()
            self._lost(self)


class WorkersBackplane:
    """See `IBackplane`.

    :param loop: the event loop of the reactor's thread: asyncio's.
    :param buffer: so many bytes may wait for one neighbour; more are dropped.
    """

    largest = LARGEST

    def __init__(self, loop: AbstractEventLoop, buffer: int = 8 << 20) -> None:
        self._loop = loop
        self._buffer = buffer
        self._reactor: Any = None
        self._receiver: Any = None
        self._connecting: Deferred[None] | None = None
        self._timeout: Any = None
        self._own: dict[str, None] = {}
        # The sockets of neighbours that came before `connect`.
        self._early: list[socket.socket] = []
        self._neighbours: dict[Neighbour, None] = {}
        # Who subscribes to each subject, and to each pattern.
        self._subjects: dict[str, dict[Neighbour, None]] = {}
        self._patterns: dict[str, dict[Neighbour, None]] = {}
        self._scheduled = False
        self._closed = False
        # All neighbours are known that were there before.
        self._complete = False

    def add(self, connected: socket.socket) -> None:
        """Speak with another process of this machine. Called in the reactor's thread, at any time.

        :param connected: a stream socket to it.
        """
        if self._closed:
            connected.close()
        elif self._reactor is None:
            self._early.append(connected)
        else:
            neighbour = Neighbour(self._loop, connected, self._take, self._forget)
            self._neighbours[neighbour] = None
            for subject in self._own:
                neighbour.write(_frame(_SUBSCRIBE, subject))
            neighbour.write(_frame(_SYNCED))
            self._flush_later()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the slowest neighbour."""
        return max((one.waiting for one in self._neighbours), default=0)

    def reaches(self, subject: str) -> bool:
        """Return whether a neighbour subscribes to this subject."""
        return subject in self._subjects

    # `IBackplane`

    def connect(self, reactor: Any, receiver: Any) -> Deferred[None]:
        self._reactor, self._receiver = reactor, receiver
        early, self._early = self._early, []
        for connected in early:
            self.add(connected)
        connecting: Deferred[None] = Deferred()
        self._connecting = connecting
        self._timeout = reactor.callLater(PATIENCE, self._connected)
        return connecting

    def complete(self) -> None:
        """Wait for no more neighbours: `add` was called for all that were there before this process."""
        self._complete = True
        self._look()

    def _look(self) -> None:
        if self._connecting is not None and self._complete and all(one.synced for one in self._neighbours):
            self._connected()

    def _connected(self) -> None:
        """Go on: all neighbours have said what they want, or have had the time."""
        connecting: Any = self._connecting
        self._connecting = None
        if self._timeout.active():
            self._timeout.cancel()
        self._receiver.connected()
        # It may have been cancelled.
        if not connecting.called:
            connecting.callback(None)

    def close(self) -> Deferred[None]:
        self._closed = True
        self._connecting = None
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        for connected in self._early:
            connected.close()
        self.flush()
        for neighbour in list(self._neighbours):
            neighbour.close()
        return succeed(None)

    def publish(self, subject: str, payload: bytes) -> bool:
        wanted = self._wanted(subject)
        if not wanted:
            return True
        frame = _frame(_PUBLISH, subject, payload)
        taken = True
        for neighbour in wanted:
            if neighbour.waiting + len(frame) > self._buffer:
                taken = False
            else:
                neighbour.write(frame)
        self._flush_later()
        return taken

    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        if not self._wanted(subject):
            self._loop.call_soon(nobody)
        return self.publish(subject, payload)

    def _wanted(self, subject: str) -> dict[Neighbour, None]:
        """Return those who subscribe to a subject."""
        exactly = self._subjects.get(subject, {})
        if not self._patterns:
            return exactly
        wanted = dict(exactly)
        for pattern, neighbours in self._patterns.items():
            if matches(pattern, subject):
                wanted.update(neighbours)
        return wanted

    def subscribe(self, subject: str) -> None:
        self._own[subject] = None
        self._tell(_frame(_SUBSCRIBE, subject))

    def unsubscribe(self, subject: str) -> None:
        del self._own[subject]
        self._tell(_frame(_UNSUBSCRIBE, subject))

    def _tell(self, frame: bytes) -> None:
        # There is always room for this: a neighbour that missed one would get too much, or nothing.
        for neighbour in self._neighbours:
            neighbour.write(frame)
        self._flush_later()

    def _flush_later(self) -> None:
        if not self._scheduled and self._neighbours:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what was given in this turn now: nothing more comes in it."""
        for neighbour in list(self._neighbours):
            neighbour.flush()

    # From neighbours

    def _take(self, neighbour: Neighbour, kind: int, subject: str, payload: bytes) -> None:
        if kind == _PUBLISH:
            if not self._closed:
                self._receiver.received(subject, payload)
        elif kind == _SYNCED:
            neighbour.synced = True
            self._look()
        else:
            places = self._patterns if is_pattern(subject) else self._subjects
            if kind == _SUBSCRIBE:
                places.setdefault(subject, {})[neighbour] = None
            elif subject in places:
                self._leave(places, subject, neighbour)

    def _forget(self, neighbour: Neighbour) -> None:
        self._neighbours.pop(neighbour, None)
        for places in (self._subjects, self._patterns):
            for subject in [subject for subject, wanted in places.items() if neighbour in wanted]:
                self._leave(places, subject, neighbour)
        self._look()

    def _leave(self, places: dict[str, dict[Neighbour, None]], subject: str, neighbour: Neighbour) -> None:
        with suppress(KeyError):
            del places[subject][neighbour]
        if not places[subject]:
            del places[subject]


classImplements(WorkersBackplane, ITellingBackplane)
