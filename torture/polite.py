"""A polite client in a process of its own: it asks every 10 ms, and says how long the answers took.

It runs as ``python -m torture.polite PORT asks|newcomers [tls]`` and prints one line of JSON for each line that it
reads. What it measures is what others see of an attack; so nothing of the attack may run in its process.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torture.figures import Figure
from torture.peers import TEXT, connected, frame, read_frame, trusting
from torture.processes import running

#: Seconds between two questions, and between two newcomers.
INTERVALS = {"asks": 0.01, "newcomers": 0.05}


def main(port: int, kind: str, tls: bool) -> None:
    """Ask until stdin ends."""
    context = trusting() if tls else None
    # Where that is permitted: the attack runs on the same core, and its turns are not the server's.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    times: list[float] = []
    lost = 0
    client: socket.socket | None = None
    due = time.monotonic()
    while True:
        readable = select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]
        if readable:
            if not sys.stdin.readline():
                return
            times.sort()
            print(json.dumps({"times": times, "lost": lost}), flush=True)
            times, lost = [], 0
            continue
        start = time.monotonic()
        due = max(due + INTERVALS[kind], start)
        try:
            if client is None:
                client = connected(port, context)
            client.sendall(frame(TEXT, b"still there?"))
            if read_frame(client)[1] != b"still there?":
                raise OSError("a wrong answer")
            times.append(time.monotonic() - start)
            if kind == "newcomers":
                client.close()
                client = None
        except OSError:
            lost += 1
            times.append(time.monotonic() - start)
            if client is not None:
                client.close()
            client = None


class Polite:
    """The client's process.

    :param process: the process, with pipes.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def report(self) -> dict[str, Any]:
        """Return the times since the last report, in seconds and sorted, and how many answers were lost."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def figures(self, goal: float, who: str = "a polite client") -> Iterator[Figure]:
        """Yield the figures since the last report.

        :param goal: for the 99th percentile, in milliseconds.
        """
        said = self.report()
        times = said["times"]
        if len(times) < 10:
            raise RuntimeError(f"{who} had {len(times)} answers only")
        yield Figure(f"{who}: p50", times[len(times) // 2] * 1e3, "ms")
        yield Figure(f"{who}: p99", times[int(len(times) * 0.99)] * 1e3, "ms", goal)
        yield Figure(f"{who}: worst", times[-1] * 1e3, "ms")
        yield Figure(f"{who}: answers lost", said["lost"], "", 0)


@contextmanager
def polite(port: int, kind: str = "asks", tls: bool = False) -> Iterator[Polite]:
    """Let a polite client ask meanwhile."""
    command = [sys.executable, "-m", "torture.polite", str(port), kind, *(["tls"] if tls else [])]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        client = Polite(process)
        # The import of the modules is over when it answers.
        client.report()
        time.sleep(0.3)
        client.report()
        yield client


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], "tls" in sys.argv[3:])
