"""Brokers that answer clients as bytes, without a network: by steps, or on socket pairs. Knows no client."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from wshost.backplanes.resp import Parser as RespParser
from wshost.client.steps import Connect, Pause, Read, StartTLS, Steps, Write
from wshost.cluster.envelope import Codec, Envelope

#: The parser that a broker needs for what a client of NATS sends.
_PUB = re.compile(rb"PUB (\S+) (\d+)\r\n")


class Nats:
    """One connection to a NATS server, as the server sees it.

    :param info: more of INFO, as JSON.
    :param answer: returns what the server sends besides, for the subject and the payload of each publication.
    """

    def __init__(self, info: str = "", answer: Callable[[str, bytes], bytes] = lambda *_: b"") -> None:
        self.greeting = b'INFO {"max_payload":1000%b}\r\n' % info.encode()
        self._answer = answer
        self.published: list[tuple[str, bytes]] = []
        #: The lines that were no publications.
        self.lines: list[bytes] = []
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the answer to what the client writes."""
        data = self._held + data
        answers = b""
        while b"\r\n" in data:
            found = _PUB.match(data)
            if found:
                end = found.end() + int(found[2])
                if len(data) < end + 2:
                    break
                self.published.append((found[1].decode(), data[found.end() : end]))
                answers += self._answer(*self.published[-1])
                data = data[end + 2 :]
                continue
            line, _, data = data.partition(b"\r\n")
            self.lines.append(line)
            if line == b"PING":
                answers += b"PONG\r\n"
        self._held = data
        return answers


class Redis:
    """One connection to a Redis server, as the server sees it: it answers the commands with these names."""

    greeting = b""

    def __init__(self, **answers: bytes) -> None:
        hello = b"*4\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
        self._answers = {"HELLO": hello, "PUBLISH": b":1\r\n", **answers}
        self.commands: list[list[bytes]] = []
        self._found: list[Any] = []
        self._parser = RespParser({}, lambda _: None, lambda *_: None, self._found.append, 16 << 20)

    def feed(self, data: bytes) -> bytes:
        """Return the answer to what the client writes."""
        self._parser.feed(data)
        found, self._found[:] = list(self._found), []
        self.commands += found
        return b"".join(self._answers.get(words[0].decode(), b"") for words in found)


class Network:
    """Carries out steps: each connection is to the next of these brokers; an exception is raised instead."""

    def __init__(self, *brokers: Any) -> None:
        self.left = list(brokers)
        self.now = 100.0
        #: All but reading and writing.
        self.steps: list[Any] = []
        self.broker: Any = None
        self._due = b""

    def clock(self) -> float:
        return self.now

    def run(self, steps: Steps[Any]) -> Any:
        """Return the result of the steps."""
        try:
            step = next(steps)
            while True:
                try:
                    read = self._do(step)
                except OSError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(read)
        except StopIteration as end:
            return end.value

    def _do(self, step: Any) -> bytes:
        match step:
            case Write(_, data):
                if self.broker is not None:
                    self._due += self.broker.feed(data)
            case Read():
                due, self._due = self._due, b""
                if not due and self.broker is not None:
                    # Nothing comes any more.
                    self.now = max(self.now, step.until)
                    raise TimeoutError("it did not answer in time")
                return due
            case Pause(seconds):
                self.steps.append(step)
                self.now += seconds
            case StartTLS():
                self.steps.append(step)
            case Connect():
                self.steps.append(step)
                if self.now >= step.until:
                    raise TimeoutError("it did not answer in time")
                self.broker = self.left.pop(0)
                if isinstance(self.broker, BaseException):
                    raise self.broker
                self._due = self.broker.greeting
        return b""

    def end(self) -> None:
        """End the connection from the broker's side."""
        self.broker, self._due = None, b""


class Pairs:
    """Makes socket pairs, at whose other ends these brokers answer in threads; exceptions are raised instead."""

    def __init__(self, *brokers: Any) -> None:
        self.left = list(brokers)
        self.ends: list[socket.socket] = []

    def dial(self, address: tuple[str, int], timeout: float) -> socket.socket:
        broker = self.left.pop(0)
        if isinstance(broker, BaseException):
            raise broker
        ours, theirs = socket.socketpair()
        self.ends.append(theirs)
        Thread(target=self._serve, args=(theirs, broker), daemon=True).start()
        return ours

    @staticmethod
    def _serve(end: socket.socket, broker: Any) -> None:
        # The client may leave at any time.
        with end, suppress(OSError):
            end.sendall(broker.greeting)
            while data := end.recv(1 << 16):
                end.sendall(broker.feed(data))


def read(payload: bytes) -> Envelope:
    """The envelope that was published."""
    return Codec().read(payload)


def answer_with(outcome: Any, *, number: int | None = None) -> Callable[[str, bytes], bytes]:
    """Answer as the process that has the connection."""

    def answer(subject: str, payload: bytes) -> bytes:
        (_, _, _, _, asker, asked, _) = read(payload).messages[0]
        codec = Codec()
        message = codec.pack(("answer", asked if number is None else number, outcome))
        reply = codec.enclose("m", "s", 1, 0, [message])
        return b"MSG wshost.h.%b 1 %d\r\n%b\r\n" % (asker.encode(), len(reply), reply)

    return answer
