"""Two workers of a server beside one process: what they cost, and what clients see when one dies. Yields figures."""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from benchmarks.accounting import descendants, own_cpu, own_memory, wait_until_idle
from benchmarks.compiled_load import CompiledLoad
from benchmarks.running import CORES
from benchmarks.samples import Sample
from scale.crowd import until
from scale.nodes import OPTIONS, apart, needs_workers
from torture.figures import Figure
from torture.peers import ask, connected, many
from torture.server import Server, Target

#: Clients of the load; what they send; and seconds of a turn.
CLIENTS, MESSAGE, TURN = 200, b"x" * 64, 0.5
#: Clients of each process that connect at the same time.
AT_ONCE = 32
#: Clients while workers die, and seconds over which those that have lost their connection come back.
PEERS, JITTER = 1_000, 1.0


def _both(target: Target, stack: ExitStack) -> tuple[Server, Server]:
    """Start a server of one process, and one with two workers."""
    needs_workers()
    one, two = (
        stack.enter_context(target.start(*options, *OPTIONS, handler="scale.handler"))
        for options in ((), ("--workers=2",))
    )
    return one, two


def echo(turns: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: the same clients at two workers and at one process."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            servers = _both(target, stack)
            with many(CLIENTS, lambda: connected(servers[1].port)) as clients:
                shares = Counter(ask(client, "!pid") for client in clients)
            loads = [
                stack.enter_context(closing(CompiledLoad("echo", server.port, CLIENTS, [MESSAGE])))
                for server in servers
            ]
            costs: list[list[float]] = [[], []]
            for _ in range(turns + 1):
                for server, load, found in zip(servers, loads, costs, strict=True):
                    before, sample = server.cpu, load.turn(TURN, lambda: 0.0)
                    found.append((server.cpu - before) / _messages(sample) * 1e6)
            yield Figure("workers", len(shares))
            uneven = max(shares.values()) / (CLIENTS / 2) - 1
            yield Figure("connections of a worker, more than half", uneven * 100, "%", 5)
            medians = []
            for where, found in zip(("one process", "two workers"), costs, strict=True):
                # The first turn is not counted.
                medians.append(statistics.median(found[1:]))
                yield Figure(f"CPU of an echo, {where}: least", min(found[1:]), "µs")
                yield Figure(f"CPU of an echo, {where}: median", medians[-1], "µs")
            yield Figure("two workers by one process, medians", medians[1] / medians[0], "", 1.05)

    return row


def _messages(sample: Sample) -> float:
    assert sample.per_second is not None
    assert sample.seconds is not None
    return sample.per_second * sample.seconds


def _leave_alone(worker: int, server: Server) -> None:
    """Let one worker have the server's core, and move all other processes of the server to that of the load."""
    for pid in descendants(server.pid):
        if pid != worker:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {CORES[-1]})


def _turn(load: CompiledLoad, *pids: int) -> tuple[float, ...]:
    """Return how many connections the load has made in a turn, and how many µs each process was at work meanwhile."""
    before = [own_cpu(pid) for pid in pids]
    made = _messages(load.turn(TURN, lambda: 0.0))
    return made, *((own_cpu(pid) - earlier) * 1e6 for pid, earlier in zip(pids, before, strict=True))


def connecting(turns: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: new connections.

    A machine of two cores has none for the load besides two workers. So the row measures how long each process is at
    work for a connection that it has: so many connections a second can come if each process has a core. The one worker
    that is measured has a core, as one process has it: others would drive its memory out of the core's caches.
    """

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            servers = _both(target, stack)
            loads = [
                stack.enter_context(closing(CompiledLoad("connect", server.port, workers * AT_ONCE, [MESSAGE])))
                for workers, server in enumerate(servers, 1)
            ]
            one, two = servers
            client, _ = apart(two.port, stack)
            worker = int(ask(client, "!pid"))
            _leave_alone(worker, two)
            costs = []
            for _ in range(turns + 1):
                single, used = _turn(loads[0], one.pid)
                before = int(ask(client, "!made"))
                pair, served, accepted = _turn(loads[1], worker, two.pid)
                costs.append((used / single, served / (int(ask(client, "!made")) - before), accepted / pair))
            # The first turn is not counted.
            single, served, accepted = (statistics.median(found) for found in zip(*costs[1:], strict=True))
            yield Figure("CPU of a connection, one process: median", single, "µs")
            yield Figure("CPU of a connection, its worker: median", served, "µs")
            yield Figure("CPU of a connection, the process that accepts: median", accepted, "µs")
            # A worker has every other connection; the one process that accepts has all.
            busiest = max(served / 2, accepted)
            for where, cost in (("one process", single), ("two workers", busiest)):
                yield Figure(f"connections a second if each process has a core, {where}", 1e6 / cost)
            yield Figure("two workers by one process, medians", busiest / single, "", 1 / 1.6)

    return row


def memory(target: Target) -> Iterator[Figure]:
    """The row: how much memory each worker has that it shares with no other process, before it has a client."""
    needs_workers()
    for where, options in (("", ()), (", with --preload", ("--preload",))):
        with target.start("--workers=2", *options, *OPTIONS, handler="scale.handler") as server:
            _, _, *workers = descendants(server.pid)
            for pid in workers:
                wait_until_idle(pid)
            goal = 6 if options else None
            yield Figure(f"a worker's own memory{where}", max(map(own_memory, workers)) / 1e6, "MB", goal)


class _Clients:
    """Clients that come back when their worker has died.

    :param port: the server's.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        #: The process that each has.
        self.pids: dict[socket.socket, int] = {}
        for _ in range(PEERS):
            self.join()

    def join(self) -> None:
        """Connect one more."""
        made = connected(self._port)
        try:
            self.pids[made] = int(ask(made, "!pid"))
        except BaseException:
            made.close()
            raise

    def close(self) -> None:
        """Close all."""
        for one in self.pids:
            one.close()

    def lose(self, pid: int, old: set[int]) -> tuple[int, float, float]:
        """Kill a worker; bring its clients back, each after a while.

        :returns: how many others lost their connections, and after how many seconds a new worker served, and all
            clients were back.
        """
        victims = [one for one, its in self.pids.items() if its == pid]
        os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        for one in victims:
            del self.pids[one]
            one.close()
        replaced = 0.0
        for due in sorted(self._chance.uniform(0, JITTER) for _ in victims):
            time.sleep(max(0.0, start + due - time.monotonic()))
            self._join_again()
            replaced = replaced or (time.monotonic() - start) * bool(set(self.pids.values()) - old)
        back = time.monotonic() - start
        return self._lost(), replaced, back

    def _join_again(self) -> None:
        def joins() -> bool:
            with suppress(OSError):
                self.join()
                return True
            return False

        until(joins, "a client may come back")

    def _lost(self) -> int:
        """Return how many clients' connections have ended, and bring these back."""
        ended = []
        with selectors.DefaultSelector() as selector:
            for one in self.pids:
                selector.register(one, selectors.EVENT_READ)
            for key, _ in selector.select(0):
                found = key.fileobj
                assert isinstance(found, socket.socket)
                with suppress(OSError):
                    if found.recv(1 << 16):
                        continue
                ended.append(found)
        for one in ended:
            del self.pids[one]
            one.close()
            self._join_again()
        return len(ended)


def deaths(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: one of two workers is killed, so many times."""

    def row(target: Target) -> Iterator[Figure]:
        needs_workers()
        with target.start("--workers=2", *OPTIONS, handler="scale.handler") as server:
            chance = random.Random(14)
            with closing(_Clients(server.port, chance)) as clients:
                found = []
                for number in range(times):
                    if number:
                        # Five deaths within 30 seconds are answered by waiting, as they should be.
                        time.sleep(8.0)
                    old = set(clients.pids.values())
                    found.append(clients.lose(chance.choice(sorted(old)), old))
            lost, replaced, back = zip(*found, strict=True)
            yield Figure("workers killed", times)
            yield Figure("connections of others lost", sum(lost), "", 0)
            yield Figure("times without a new worker", replaced.count(0.0), "", 0)
            yield Figure("until a new worker served: longest", max(replaced), "s", 1)
            yield Figure("until all clients were back: longest", max(back), "s", 3)
            yield Figure("servers that have ended", int(not server.alive), "", 0)

    return row
