"""Passes sockets, and whatever else is to be known, from a running process to its successor, over a Unix socket.

Knows no endpoint, no connection and no server. Each packet is a line of JSON, then bytes, with descriptors beside it
(unix(7), SCM_RIGHTS). Both processes must be of one user.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

#: The largest packet, in bytes; and the most descriptors in one (the kernel's limit is 253).
LARGEST, MOST = 128 * 1_024, 64
#: Seconds that a process waits for the other one to answer, or to take what it was sent.
PATIENCE = 10.0
#: Packets that are read in one turn.
A_TURN = 100
#: The form of the packets. Processes that don't agree on it don't take over from one another.
VERSION = 1
_DESCRIPTOR = struct.calcsize("i")
#: The room for `MOST` descriptors; systems without Unix sockets know none.
BESIDE = socket.CMSG_SPACE(MOST * _DESCRIPTOR) if hasattr(socket, "CMSG_SPACE") else 0
#: Programs that this process starts must not inherit received sockets, as they would keep connections open.
CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_log = Logger("wshost")


class TakeoverError(Exception):
    """The other process can't go on: its text says why."""


def received(ancillary: Sequence[tuple[int, int, bytes]]) -> list[socket.socket]:
    """Return the sockets that came beside a packet. :param ancillary: as `recvmsg` has returned it."""
    return [
        socket.socket(fileno=descriptor)
        for _, _, beside in ancillary
        for (descriptor,) in struct.iter_unpack("i", beside[: len(beside) // _DESCRIPTOR * _DESCRIPTOR])
    ]


class Channel:
    """One end of the connection between the two processes.

    :param connected: a socket of the type SOCK_SEQPACKET.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        #: What the other process has said when it was ready.
        self.said: Mapping[str, Any] = {}
        connected.settimeout(PATIENCE)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)

    @property
    def takes_connections(self) -> bool:
        """Whether the other process takes connections, too, not only listening sockets."""
        return bool(self.said.get("connections", True))

    def send(self, head: Mapping[str, Any], data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a packet.

        :raises TypeError: when JSON has no form for the head.
        :raises ValueError: when the packet is larger than `LARGEST`.
        :raises OSError: when the other process has gone, or takes nothing for `PATIENCE` seconds.
        """
        packet = json.dumps(head).encode("ascii") + b"\n" + data
        if len(packet) > LARGEST:
            raise ValueError(f"{len(packet)} bytes are too many for a packet")
        socket.send_fds(self.socket, [packet], descriptors)

    def receive(self) -> tuple[dict[str, Any], bytes, list[socket.socket]]:
        """Receive a packet: its head, its data and its sockets.

        :raises EOFError: when the other process has closed its end.
        :raises ValueError: when that is no packet.
        :raises OSError: when none comes for `PATIENCE` seconds.
        """
        # Not by `recv_fds`, which leaves out the flag.
        packet, ancillary, _, _ = self.socket.recvmsg(LARGEST, BESIDE, CLOSED_ON_EXEC)
        sockets = received(ancillary)
        try:
            if not packet:
                raise EOFError
            head, _, data = packet.partition(b"\n")
            found = json.loads(head)
            if not isinstance(found, dict):
                raise ValueError("a packet has no head")
        except BaseException:
            for one in sockets:
                one.close()
            raise
        return found, data, sockets

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


@implementer(IReadDescriptor)
class Watch:
    """Calls when a socket can be read, until it is stopped.

    :param reactor: provides `IReactorFDSet`.
    """

    def __init__(self, reactor: Any, watched: socket.socket, ready: Callable[[], None]) -> None:
        self._reactor = reactor
        self._socket = watched
        self._ready = ready
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "wshost"

    def doRead(self) -> None:
        self._ready()

    def connectionLost(self, reason: Any) -> None:
        """Do nothing: the owner of the socket closes it."""

    def pause(self) -> None:
        """Call no more until `resume`."""
        self._reactor.removeReader(self)

    def resume(self) -> None:
        """Undo `pause`."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Call no more."""
        self._reactor.removeReader(self)


class Predecessor:
    """The running process, as its successor sees it.

    :param channel: the connection to it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._watch: Watch | None = None
        self._paused = False
        #: What it has said besides, when it was asked.
        self.answer: Mapping[str, Any] = {}

    def ask(self, names: Sequence[str]) -> dict[str, socket.socket]:
        """Ask for its listening sockets of these names; return those that it has. It goes on to accept for now.

        :raises TakeoverError: when it can't be taken over.
        """
        try:
            with suppress(BrokenPipeError):  # it has refused already, and says why
                self._channel.send({"wshost": VERSION, "ask": list(names)})
            try:
                head, _, sockets = self._channel.receive()
            except ConnectionResetError:
                # It has refused without reading this. What it has said is there still.
                head, _, sockets = self._channel.receive()
        except EOFError:
            raise TakeoverError("the running process is about to end, or is of another version") from None
        except (OSError, ValueError) as error:
            raise TakeoverError(f"the running process does not answer: {error}") from error
        if "error" in head:
            raise TakeoverError(str(head["error"]))
        self.answer = head
        return dict(zip(head.get("sockets", ()), sockets, strict=False))

    def succeed(
        self,
        reactor: Any,
        go: Callable[[Mapping[str, Any]], None],
        adopt: Callable[[Mapping[str, Any], bytes, socket.socket], None],
        *,
        ended: Callable[[], None] | None = None,
        ready: Mapping[str, Any] | None = None,
    ) -> None:
        """Say that this process can accept. The running one accepts no more then, and gives its connections away.

        :param go: called with what it says, once, when this process is to accept. If the running process has gone by
            then, it says nothing: {}.
        :param adopt: called for each connection, with its head, its data and its socket, which the callee closes.
        :param ended: called once, when no more connections come; not after `close`.
        :param ready: what the running process is to know besides.
        """
        said = False

        def read() -> None:
            nonlocal said
            for _ in range(A_TURN):
                if self._paused or self._watch is None:
                    return
                try:
                    head, data, sockets = self._channel.receive()
                except BlockingIOError:
                    return
                except (EOFError, OSError, ValueError) as error:
                    if not isinstance(error, EOFError):
                        _log.error("the process before this one can't be understood: {error}", error=error)
                    self.close()
                    if not said:
                        said = True
                        go({})
                    if ended is not None:
                        ended()
                    return
                if not said:
                    said = True
                    go(head)
                elif sockets:
                    try:
                        adopt(head, data, sockets[0])
                    except Exception:
                        # The others come all the same.
                        _log.failure("a connection of the process before this one can't go on")
                        sockets[0].close()

        try:
            self._channel.send({"ready": True, "connections": True, **(ready or {})})
        except OSError as error:
            _log.warn("the process before this one has gone: {error}", error=error)
            self.close()
            go({})
            if ended is not None:
                ended()
            return
        self._channel.socket.setblocking(False)
        self._watch = Watch(reactor, self._channel.socket, read)

    def pause(self) -> None:
        """Take no more from it until `resume`: it waits."""
        self._paused = True
        if self._watch is not None:
            self._watch.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        if self._watch is not None:
            self._watch.resume()

    def close(self) -> None:
        """End the connection to it. If it was not told to give up, it goes on as before."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._channel.close()


def find(path: Path) -> Predecessor | None:
    """Return the process that waits for a successor at this path; None if there is none.

    :raises TakeoverError: when there is something else, or the process is another user's.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(str(path))
        _check_user(channel)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise TakeoverError(error.strerror or str(error)) from error
    except TakeoverError:
        channel.close()
        raise
    return Predecessor(Channel(channel))


def unfinished(path: Path) -> Path:
    """Return where this process makes its socket for a path, before it moves it there."""
    return path.with_name(f"{path.name}.{os.getpid()}")


class Offer:
    """Waits at a path for a successor.

    :param reactor: provides `IReactorFDSet`.
    :param path: a socket is made here, in place of whatever socket is there.
    :param share: returns the listening sockets of those names that the successor asks for and this process has.
    :param give_up: called with the channel when the successor can accept. Its first packet makes the successor do so;
        all others bring connections. The callee closes it, and returns False if this process goes on as before.
    :param answer: returns what the successor is told besides, when it asks.
    """

    def __init__(
        self,
        reactor: Any,
        path: Path,
        share: Callable[[Sequence[str]], Mapping[str, socket.socket]],
        give_up: Callable[[Channel], bool],
        answer: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._share = share
        self._answer = answer
        self._give_up = give_up
        self._gives_up = False
        self._socket: socket.socket | None = None
        self._watch: Watch | None = None
        # The file at the path, while it is this process's.
        self._file: os.stat_result | None = None
        # The successor that has asked, and waits for the reactor to run.
        self._successor: Channel | None = None
        self._successors_watch: Watch | None = None

    def listen(self) -> None:
        """Begin to wait. :raises OSError: when there can be no socket at the path."""
        # Listen under another name first: a successor finds a process that listens, or none.
        made = unfinished(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with suppress(FileNotFoundError):
                made.unlink()
            listening.bind(str(made))
            made.chmod(0o600)
            listening.listen(1)
            if self._path.exists() and not self._path.is_socket():
                raise FileExistsError(f"{self._path} is no socket")
            self._file = made.stat()
            made.replace(self._path)
        except OSError:
            listening.close()
            with suppress(OSError):
                made.unlink()
            raise
        listening.setblocking(False)
        self._socket = listening
        self._watch = Watch(self._reactor, listening, partial(self._accept, listening))

    def stop(self) -> None:
        """Wait no more. The file is removed, unless a successor waits there already."""
        if self._socket is not None and self._watch is not None and self._file is not None:
            self._watch.stop()
            self._socket.close()
            self._socket = None
            with suppress(OSError):
                if os.path.samestat(self._path.stat(), self._file):
                    self._path.unlink()
        self._forget()

    def _forget(self) -> None:
        if self._successors_watch is not None:
            self._successors_watch.stop()
            self._successors_watch = None
        if self._successor is not None:
            self._successor.close()
            self._successor = None

    def _accept(self, listening: socket.socket) -> None:
        try:
            connected, _ = listening.accept()
        except OSError:
            return
        channel = Channel(connected)
        try:
            _check_user(connected)
            if self._successor is not None or self._gives_up:
                raise TakeoverError("another process takes over already")
        except TakeoverError as error:
            with suppress(OSError):
                channel.send({"error": str(error)})
            channel.close()
            return
        self._successor = channel
        connected.setblocking(False)
        self._successors_watch = Watch(self._reactor, connected, partial(self._read, channel))

    def _read(self, channel: Channel) -> None:
        """Answer the successor; when it is ready, give up."""
        try:
            head, _, sockets = channel.receive()
            for one in sockets:
                one.close()
            if "ready" in head:
                self._successor = None
                self._forget()
                channel.said = head
                channel.socket.settimeout(PATIENCE)
                self._gives_up = self._give_up(channel)
            elif head.get("wshost") != VERSION:
                channel.send({"error": "the running process is of another version"})
                self._forget()
            else:
                shared = self._share([str(name) for name in head["ask"]])
                names = list(shared)[:MOST]
                channel.send({**self._answer(), "sockets": names}, b"", [shared[name].fileno() for name in names])
        except BlockingIOError:
            return
        except (EOFError, OSError, ValueError, LookupError, TypeError) as error:
            if not isinstance(error, EOFError):
                _log.warn("a process that would take over can't be understood: {error}", error=error)
            self._forget()


def _check_user(connected: socket.socket) -> None:
    # The ids of the process, its user and its group (unix(7), SO_PEERCRED).
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] not in {0, os.geteuid()}:
        raise TakeoverError("the other process is of another user")
