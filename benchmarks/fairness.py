"""Measures one polite connection beside one that floods: is it still served soon? Knows nothing of the other cells.

Run as a program, this module is the flooder.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import payloads
from benchmarks.children import CHILDREN
from benchmarks.client import Connection, Target, open_one
from benchmarks.frames import CONTINUATION, PING, TEXT, WrongAnswerError, client_frame, server_frame
from benchmarks.load import PATIENCE, Tally, no_collection

#: How many seconds the polite connection waits between an answer and its next message, and the flooder before it
#: connects again.
PAUSE = 0.002

_KEY = b"\x37\xfa\x21\x3d"


@dataclass(frozen=True)
class Flood:
    """The bytes that are sent, over and over."""

    data: bytes
    #: Whether the flooder reads the server's answers.
    reads: bool = True


def flood(kind: str) -> Flood:
    """Return a flood by its name.

    :raises ValueError: when there is no such flood.
    """
    message = client_frame(payloads.texts(64, 1)[0], _KEY)
    if kind in ("messages", "unread"):
        return Flood(message * 1024, reads=kind == "messages")
    if kind == "fragments":
        # Nearly as many fragments in one message as wshost allows, of one byte each.
        rest = client_frame(b"y", _KEY, CONTINUATION, fin=False) * 1000 + client_frame(b"z", _KEY, CONTINUATION)
        return Flood((client_frame(b"x", _KEY, TEXT, fin=False) + rest) * 10)
    if kind == "pings":
        return Flood(client_frame(b"", _KEY, PING) * 10_000)
    if kind == "large":
        return Flood(client_frame(payloads.texts(1 << 20, 1)[0], _KEY))
    raise ValueError(f"there is no flood of {kind}")


def pour(target: Target, what: Flood, seconds: float) -> int:
    """Flood a server, and connect again whenever it closes the connection; return how often it has closed one."""
    closed = -1
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        closed += 1
        try:
            connection = open_one(target)
        except (OSError, WrongAnswerError):
            time.sleep(PAUSE)
            continue
        try:
            _pour_into(connection, what, deadline)
        except OSError:
            time.sleep(PAUSE)
        finally:
            connection.socket.close()
    return closed


def _pour_into(connection: Connection, what: Flood, deadline: float) -> None:
    """Flood one connection until the server closes it, or the time is up."""
    data = rest = memoryview(what.data)
    with select.epoll() as poller:
        poller.register(connection.socket, select.EPOLLOUT | (select.EPOLLIN if what.reads else 0))
        while time.monotonic() < deadline:
            for _, event in poller.poll(0.1):
                if event & (select.EPOLLHUP | select.EPOLLERR):
                    return
                if event & select.EPOLLIN and not connection.socket.recv(1 << 20):
                    return
                if event & select.EPOLLOUT:
                    rest = rest[connection.send(rest) :] or data


@contextmanager
def flooding(kind: str, port: int, seconds: float) -> Iterator[None]:
    """Flood in another process, with the lowest priority on the load's core; without a kind, do not flood."""
    if not kind:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.fairness", kind, str(port), str(seconds)]
    process = CHILDREN.start(lambda: subprocess.Popen(command))
    try:
        time.sleep(0.5)
        yield
        if process.poll():
            raise WrongAnswerError(f"the flooder ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def beside(kind: str, target: Target, cpu: Callable[[], float], seconds: float) -> Tally:
    """Measure the round trips of a polite connection beside a flood, or alone.

    :param kind: the kind of flood; empty for none.
    :param cpu: returns the server's CPU time so far, in seconds.
    :raises WrongAnswerError: when an answer is wrong, or takes too long.
    """
    payload = payloads.texts(64, 1)[0]
    question, answer = client_frame(payload, _KEY), server_frame(payload)
    tally = Tally()
    connection = open_one(target)
    polite = connection.socket
    polite.settimeout(PATIENCE)
    try:
        with flooding(kind, target.port, seconds + 60.0), no_collection():
            before, start = cpu(), time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                sent = time.perf_counter_ns()
                polite.sendall(question)
                said = b""
                while len(said) < len(answer):
                    data = polite.recv(4096)
                    if not data:
                        raise WrongAnswerError("the server has closed the polite connection")
                    said += data
                if said != answer:
                    raise WrongAnswerError("the polite connection got a wrong answer")
                tally.times.append(time.perf_counter_ns() - sent)
                tally.messages += 1
                time.sleep(PAUSE)
            tally.cpu, tally.seconds = cpu() - before, elapsed
    except TimeoutError:
        raise WrongAnswerError(f"the polite connection got no answer for {PATIENCE:.0f} s") from None
    finally:
        polite.close()
    return tally


def main() -> int:
    """Flood.

    :returns: the exit status.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    os.nice(19)
    pour(Target(asked.port), flood(asked.kind), asked.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
