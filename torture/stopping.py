"""SIGTERM under load, again and again. Yields what did not arrive."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

from torture.figures import Figure
from torture.peers import CLOSE, TEXT, connected, frame, many, read_frame
from torture.server import Target

PEERS = 40
#: Messages that each peer has sent when the signal comes: some are answered, some are not yet read.
BURST = 20
#: Of these, every tenth is answered a little later.
LATER = b"!later 0.05"
#: Seconds from the signal to the exit.
IN_TIME = 2.0


def sigterm(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the test."""

    def test(target: Target) -> Iterator[Figure]:
        missing = unclosed = failed = answers = 0
        slowest = 0.0
        for _ in range(times):
            with target.start() as server, many(PEERS, lambda: connected(server.port)) as peers:
                for one in peers:
                    one.sendall(b"".join(_message(number) for number in range(BURST)))
                start = time.monotonic()
                server.signal(signal.SIGTERM)
                for one in peers:
                    heard, code = _heard(one)
                    # Those that were answered are the first ones, without a gap: nothing that was handled is lost.
                    answers += len(heard)
                    missing += heard != [_text(number) for number in range(len(heard))]
                    unclosed += code != 1001
                status = server.process.wait(30)
                slowest = max(slowest, time.monotonic() - start)
                failed += status != 0
        yield Figure("answers", answers)
        yield Figure("peers with a gap in their answers", missing, "", 0)
        yield Figure("peers without a Close 1001", unclosed, "", 0)
        yield Figure("exits with another status than 0", failed, "", 0)
        yield Figure("the slowest exit", slowest, "s", IN_TIME)

    return test


def _text(number: int) -> bytes:
    return LATER if number % 10 == 9 else struct.pack(">I", number).hex().encode()


def _message(number: int) -> bytes:
    return frame(TEXT, _text(number))


def _heard(one: socket.socket) -> tuple[list[bytes], int]:
    """Return the answers that come, and the code of the Close; 0 if there is none."""
    answers: list[bytes] = []
    try:
        while True:
            opcode, payload = read_frame(one)
            if opcode == CLOSE:
                one.sendall(frame(CLOSE, payload))
                # The server waits for our end, but not for ever.
                one.close()
                return answers, int.from_bytes(payload[:2], "big")
            answers.append(payload)
    except OSError:
        return answers, 0
