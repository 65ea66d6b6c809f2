"""wshost beside other Python servers: two processes, a broker, the same subscribers. Yields the figures."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.accounting import cpu
from benchmarks.building import UnavailableError
from benchmarks.running import CORES, free_port, on_core
from scale.brokers import Broker, valkey
from scale.crowd import crowd, frame_size, tell, until
from scale.fanout import IN_A_TURN, SIZE
from scale.nodes import node
from torture.figures import Figure
from torture.peers import PATIENCE, TEXT, ask, connected, frame, read_frame
from torture.processes import running
from torture.server import Target

_ROOT = Path(__file__).parent.parent
#: How many messages are published at once to see whether some are lost.
BURST = 150
#: Seconds without a message after which no more are waited for; and seconds for all of a turn.
QUIET, LONGEST = 2.0, 15.0


@dataclass(frozen=True)
class Peer:
    """One server.

    :param name: as it is shown.
    :param packages: what must be installed.
    :param app: its module in `scale.servers`; empty for wshost.
    :param path: which clients ask for.
    :param layer: for Django Channels: the class of the channel layer.
    :param prefix: what stands before a message, and behind it, in the text that clients get.
    """

    name: str
    packages: tuple[str, ...] = ()
    app: str = ""
    path: str = "/"
    layer: str = ""
    prefix: str = ""
    suffix: str = ""

    def subscribe(self, port: int) -> socket.socket:
        """Return a new client, which has subscribed."""
        made = connected(port, path=self.path)
        if self.app == "socketio_app":
            # Engine.IO 4: the server's open; then Socket.IO 5: connect, and the server's answer.
            read_frame(made)
            made.sendall(frame(TEXT, b"40"))
            read_frame(made)
        elif not self.app:
            ask(made, "!subscribe all")
        return made

    def publisher(self, port: int) -> socket.socket:
        """Return a new client for `publish`. At others, it is a subscriber, too; what it gets is not counted."""
        return self.subscribe(port) if self.app else connected(port)

    def publish(self, client: socket.socket, count: int) -> None:
        """Let the client's server publish."""
        if self.app == "socketio_app":
            tell(client, f'42["publish",{count},{SIZE}]')
        elif self.app:
            tell(client, f"!publish {count} {SIZE}")
        else:
            tell(client, f"!publish all {count} {SIZE}")

    @property
    def frame(self) -> int:
        """The size of a frame that a client gets."""
        return frame_size(len(self.prefix) + SIZE + len(self.suffix))


PEERS = (
    Peer("wshost"),
    Peer("channels_redis", ("channels_redis",), "channels_app", layer="channels_redis.core.RedisChannelLayer"),
    Peer(
        "channels_redis.pubsub",
        ("channels_redis",),
        "channels_app",
        layer="channels_redis.pubsub.RedisPubSubChannelLayer",
    ),
    Peer(
        "python-socketio",
        ("socketio", "redis"),
        "socketio_app",
        "/socket.io/?EIO=4&transport=websocket",
        prefix='42["m","',
        suffix='"]',
    ),
)


@contextmanager
def _process(peer: Peer, broker: Broker) -> Iterator[tuple[int, int]]:
    """Start one process of a peer; give its id and its port.

    :raises UnavailableError: when it does not start.
    """
    for package in ("uvicorn", *peer.packages):
        if find_spec(package) is None:
            raise UnavailableError(f"{package} is not installed")
    port = free_port()
    environment = {"SCALE_REDIS": f"redis://127.0.0.1:{broker.port}/0", "SCALE_LAYER": peer.layer}
    command = [sys.executable, "-m", "uvicorn", f"scale.servers.{peer.app}:app", f"--port={port}"]
    command += ["--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning", "--lifespan=off"]
    command += ["--ws-per-message-deflate=false", "--ws-ping-interval=86400", "--backlog=4096"]
    with tempfile.TemporaryFile() as log, ExitStack() as stack:
        with on_core(CORES[0]):
            process = stack.enter_context(
                running(
                    command,
                    cwd=_ROOT,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

        def listens() -> bool:
            if process.poll() is not None:
                log.seek(0)
                raise UnavailableError(f"{peer.name} does not start: {log.read().decode().strip()[-200:]}")
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        until(listens, f"{peer.name} listens")
        yield process.pid, port


@contextmanager
def processes(peer: Peer, target: Target, broker: Broker, count: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Start processes of a server that meet at a broker; give the id and the port of each.

    :raises UnavailableError: when they do not start.
    """
    with ExitStack() as stack:
        if peer.app:
            yield [stack.enter_context(_process(peer, broker)) for _ in range(count)]
        else:
            servers = [stack.enter_context(node(target, broker)) for _ in range(count)]
            yield [(server.pid, server.port) for server in servers]


def _measure(peer: Peer, target: Target, each: int, turns: int) -> tuple[list[float], int]:
    """Return the CPU of a delivery in each turn, in microseconds; and how many deliveries of a burst came too late."""
    with ExitStack() as stack:
        broker = stack.enter_context(valkey())
        both = stack.enter_context(processes(peer, target, broker, 2))
        crowds = [
            stack.enter_context(crowd(each, lambda port=port: peer.subscribe(port)))  # type: ignore[misc]
            for _, port in both
        ]
        publisher = stack.enter_context(peer.publisher(both[0][1]))

        def turn(count: int) -> tuple[float, int]:
            before = sum(cpu(pid) for pid, _ in both)
            due = count * each * peer.frame
            peer.publish(publisher, count)
            deadline = time.monotonic() + LONGEST
            got = sum(subscribers.receive(due, QUIET, deadline) for subscribers in crowds)
            empty(publisher)
            return sum(cpu(pid) for pid, _ in both) - before, (2 * due - got) // peer.frame

        # The first turns are not counted.
        for _ in range(2):
            turn(IN_A_TURN)
        costs = []
        for _ in range(turns):
            used, lost = turn(IN_A_TURN)
            costs.append(used / (IN_A_TURN * 2 * each - lost) * 1e6)
        return costs, turn(BURST)[1]


def empty(client: socket.socket) -> None:
    """Read what has come for a client."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        client.settimeout(PATIENCE)


def beside_peers(each: int, turns: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row.

    :param each: the subscribers of each process.
    """

    def row(target: Target) -> Iterator[Figure]:
        medians: dict[str, float] = {}
        for peer in PEERS:
            costs, lost = _measure(peer, target, each, turns)
            medians[peer.name] = statistics.median(costs)
            own = not peer.app
            yield Figure(f"CPU of a delivery, {peer.name}: least", min(costs), "µs")
            yield Figure(f"CPU of a delivery, {peer.name}: median", medians[peer.name], "µs")
            yield Figure(f"of {BURST * 2 * each} at once lost or late, {peer.name}", lost, "", 0 if own else None)
        best = min(median for name, median in medians.items() if name != "wshost")
        yield Figure("wshost by the best of the others, medians", medians["wshost"] / best, "", 1 / 3)

    return row
