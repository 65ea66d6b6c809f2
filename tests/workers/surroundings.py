"""What workers and their supervisor stand on in tests: a reactor that reads when it is told, and the processes' ends.

The sockets between processes are real, the processes are not.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.backplanes.loop import Loop
from wshost.workers.packets import Packets


class Reactor(Clock):
    """A clock that also reads sockets, when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.running = True
        self.stops = 0
        self.triggers: list[Any] = []
        #: The loop below it.
        self._asyncioEventloop = Loop()

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def callWhenRunning(self, call: Any, *args: Any) -> None:
        self.callLater(0, call, *args)

    def callFromThread(self, call: Any, *args: Any) -> None:
        self.callLater(0, call, *args)

    def addSystemEventTrigger(self, *trigger: Any) -> None:
        self.triggers.append(trigger)

    def stop(self) -> None:
        self.stops += 1

    def read(self) -> None:
        """Read all that is there, and make the calls that are due."""
        while True:
            self._asyncioEventloop.run()
            ready = [one for one in self.readers if select.select([one], [], [], 0)[0]]
            for one in ready:
                if one in self.readers:
                    one.doRead()
            if not ready:
                self.advance(0)
                self._asyncioEventloop.run()
                if not any(select.select([one], [], [], 0)[0] for one in self.readers):
                    return


class Peer:
    """The other end of a line, in a process that is none.

    :param kind: how packets are written.
    """

    def __init__(self, connected: socket, kind: Callable[[socket], Any] = Packets) -> None:
        self.channel = kind(connected)
        connected.setblocking(False)
        self.sockets: list[socket] = []

    def read(self) -> list[dict[str, Any]]:
        """The heads of the packets that have come; their sockets are kept in `sockets`."""
        heads = []
        with suppress(BlockingIOError, EOFError):
            while True:
                head, _, sockets = self.channel.receive()
                heads.append(head)
                self.sockets += sockets
        return heads

    def say(self, **head: Any) -> None:
        self.channel.send(head)

    @property
    def ended(self) -> bool:
        """Whether the line is closed on the other side."""
        try:
            while True:
                self.channel.receive()
        except BlockingIOError:
            return False
        except EOFError:
            return True

    def close(self) -> None:
        self.channel.close()
        for one in self.sockets:
            one.close()


def pair() -> tuple[socket, socket]:
    """Both ends of a line."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET)


class Process:
    """A template's process."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def kill(self) -> None:
        self.events.append("kill")

    def wait(self) -> None:
        self.events.append("wait")


class Template(Peer):
    """A template that forks peers."""

    def __init__(self, connected: socket) -> None:
        super().__init__(connected)
        self.process = Process()
        self.workers: dict[int, Peer] = {}

    def fork(self, **but: int) -> list[int]:
        """Obey the commands that have come; return the numbers of the new workers, whose process ids are 100 more."""
        forked = []
        with suppress(BlockingIOError):
            while True:
                head, _, sockets = self.channel.receive()
                if "fork" in head:
                    line, *copies = sockets
                    for one in copies:
                        one.close()
                    self.workers[head["fork"]] = Peer(line)
                    forked.append(head["fork"])
                    self.say(forked=head["fork"], pid=100 + head["fork"])
        return forked

    def end(self, number: int, status: int | None = 0, **more: Any) -> None:
        """A worker ends."""
        self.workers.pop(number).close()
        self.say(ended=number, status=status, **more)

    def close(self) -> None:
        super().close()
        for one in self.workers.values():
            one.close()


class Listener:
    """A listener that notes what it is told."""

    def __init__(self, description: str) -> None:
        self.description = description
        #: Itself: what a port is told is noted here, too.
        self.port = self
        self.proxied = description.startswith("haproxy:")
        self.events: list[Any] = []
        self.socket = socket(AF_UNIX)

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")

    def release(self) -> None:
        self.events.append("release")

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return succeed(None)

    def announce(self, *said: str) -> None:
        self.events.append(said)


class Ports:
    """Ports that listen nowhere."""

    def __init__(
        self, reactor: Any, descriptions: Sequence[str], take: Callable[..., None], inherited: Mapping[str, socket]
    ) -> None:
        self.take = take
        self.inherited = inherited
        self.listeners: list[Any] = [Listener(one) for one in descriptions]
        self.sockets = [one.socket for one in self.listeners]
        self.bound: list[bool] = []

    def bind(self, unix: bool = True) -> None:
        self.bound.append(unix)

    def host(self, place: int, name: Any) -> IPv4Address:
        return IPv4Address("TCP", *name)

    def close(self) -> None:
        for one in self.sockets:
            one.close()


def heads(said: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    """The values of all heads of this kind."""
    return [one[kind] for one in said if kind in one]
