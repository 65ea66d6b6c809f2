"""What an echoed message costs in writes, calls, system calls and memory: counted, not timed."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import ssl
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trustme

from tests import programs
from tests.handlers.surroundings import in_loop, turns
from tests.integration.server import running_server
from tests.memory import MemoryHost, Peer, request
from tests.regressions.wire import CLOSE, TEXT, frame
from wshost.handlers import echo
from wshost.protocols.websocket.autobahn_engine import Engine

MESSAGE = frame(TEXT, b"x" * 64)
ANSWER = b"\x81\x40" + b"x" * 64


class AsyncEcho:
    """Echoes, in a coroutine that never waits."""

    def init(self, _options: Mapping[str, Any]) -> None: ...

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text", data):
                return ("reply", data, state)
        return ("noreply", state)


class AsyncWait(AsyncEcho):
    """Echoes in a coroutine that waits for a turn of the event loop."""

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        await asyncio.sleep(0)
        return await super().handle(message, state)


@contextmanager
def connected(port: int, context: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """A client whose opening handshake is done; with a context, over TLS."""
    plain = socket.create_connection(("127.0.0.1", port), 20)
    with plain if context is None else context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(request())
        head = client.recv(1_000)
        assert head.endswith(b"\r\n\r\n"), head
        yield client


def exchange(client: socket.socket, burst: int) -> None:
    """Send a burst, and read its answers."""
    client.sendall(MESSAGE * burst)
    left = len(ANSWER) * burst
    while left:
        left -= len(client.recv(left))


def fed(peer: Peer, data: bytes) -> None:
    peer.connection.dataReceived(data)


def calls_of(call: Callable[[], None]) -> int:
    """How many functions are called by it, ours and others, as far as Python's profiler sees them.

    The collector rests: its callbacks (Hypothesis has one) would be counted too.
    """
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    gc.disable()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


class TestInMemory:
    @pytest.mark.parametrize("count", [1, 16])
    def test_the_answers_to_a_burst_leave_in_one_write(self, count: int) -> None:
        peer = MemoryHost(echo).open()
        peer.transport.writes.clear()
        fed(peer, MESSAGE * count)
        assert peer.transport.writes == [ANSWER * count]

    @pytest.mark.parametrize(("count", "most"), [(1, 75), (16, 36)])
    def test_an_echoed_message_costs_at_most_75_calls_and_in_a_burst_36(self, count: int, most: int) -> None:
        """The bounds are for the modules in Python; of compiled ones the profiler sees fewer calls."""
        peer = MemoryHost(echo, websocket_options={"fast_lane": True}).open()
        fed(peer, MESSAGE * count)
        assert calls_of(lambda: fed(peer, MESSAGE * count)) / count <= most

    @pytest.mark.parametrize(("count", "most"), [(1, 95), (16, 55)])
    @in_loop
    async def test_an_async_message_costs_at_most_95_calls_and_in_a_burst_55(self, count: int, most: int) -> None:
        peer = MemoryHost(AsyncEcho(), websocket_options={"fast_lane": True}).open()
        fed(peer, MESSAGE * count)
        peer.transport.writes.clear()
        assert calls_of(lambda: fed(peer, MESSAGE * count)) / count <= most
        assert peer.transport.writes == [ANSWER * count]

    @in_loop
    async def test_an_async_message_that_waits_a_turn_costs_at_most_200_calls(self) -> None:
        """Those of the reactor's turn that the test itself makes count, too."""
        peer = MemoryHost(AsyncWait(), websocket_options={"fast_lane": True}).open()
        counts = []
        for _ in range(3):
            await turns()
            peer.turn()
            peer.transport.writes.clear()
            count = calls_of(lambda: fed(peer, MESSAGE))
            await turns()
            counts.append(count + calls_of(peer.turn))
            assert peer.transport.writes == [ANSWER]
        assert min(counts) <= 200, counts

    def test_an_opening_handshake_costs_at_most_210_calls(self) -> None:
        host = MemoryHost(echo)
        host.open()
        peer = host.connect()
        assert calls_of(lambda: fed(peer, request())) <= 210
        assert peer.take().startswith(b"HTTP/1.1 101 ")

    def test_a_burst_schedules_nothing_on_the_reactor(self) -> None:
        peer = MemoryHost(echo, websocket_options={"ping_interval": 0}).open()
        peer.turn()
        before = peer.reactor.getDelayedCalls()
        fed(peer, MESSAGE * 16)
        assert peer.reactor.getDelayedCalls() == before

    def test_ten_thousand_echoed_messages_leave_no_memory_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        peer = MemoryHost(echo).open()
        monkeypatch.setattr(peer.transport, "write", len)
        burst = MESSAGE * 16

        def blocks() -> int:
            for _ in range(200):
                fed(peer, burst)
            gc.collect()
            return sys.getallocatedblocks()

        blocks()
        assert abs(blocks() - blocks()) < 50

    @pytest.mark.uninstrumented
    def test_an_open_connection_takes_at_most_4800_bytes(self) -> None:
        host = MemoryHost(echo)
        kept = [host.open() for _ in range(10)]
        gc.collect()
        tracemalloc.start()
        kept += [host.open() for _ in range(200)]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken / 200 <= 4_800

    def test_plain_messages_need_no_engine(self) -> None:
        def engines() -> int:
            return sum(isinstance(one, Engine) for one in gc.get_objects())

        before = engines()
        peer = MemoryHost(echo, websocket_options={"fast_lane": True}).open()
        fed(peer, MESSAGE)
        assert engines() == before


class TestSystemCalls:
    """Of a real server with one client."""

    ROUNDS = 200

    @contextmanager
    def traced(
        self, tmp_path: Path, *options: str
    ) -> Iterator[tuple[int, Callable[[Callable[[], None]], Counter[str]]]]:
        """A server's port, and what counts its system calls while something is done `ROUNDS` times."""
        log = tmp_path / "strace"
        strace = programs.find("strace", package="strace")

        def counted(talk: Callable[[], None]) -> Counter[str]:
            talk()
            # A server that has just started still imports what it needs later, in a thread.
            deadline = time.monotonic() + 20
            while len(list(Path(f"/proc/{server.pid}/task").iterdir())) > 1:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            before = log.stat().st_size
            for _ in range(self.ROUNDS):
                talk()
            after = log.stat().st_size
            lines = log.read_bytes()[before:after].decode(errors="replace").splitlines()
            return Counter(found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line)))

        # What looks for long turns does so every sixteenth of a second, whatever comes.
        options = ("--slow-turn=0", *options)
        with running_server(*options, before=[strace, "-D", "-f", "-qq", "-o", str(log)]) as server:
            yield server.port, counted

    def echoed(self, tmp_path: Path, burst: int, *options: str) -> Counter[str]:
        """The server's system calls while it echoes bursts."""
        with self.traced(tmp_path, *options) as (port, counted), connected(port) as client:
            return counted(lambda: exchange(client, burst))

    @pytest.mark.parametrize("handler", ["wshost.handlers.echo", "tests.integration.test_costs:AsyncEcho"])
    @pytest.mark.parametrize("burst", [1, 16])
    def test_a_burst_costs_one_read_one_write_and_one_wait(self, burst: int, handler: str, tmp_path: Path) -> None:
        calls = self.echoed(tmp_path, burst, f"--handler={handler}")
        waits = sum(count for name, count in calls.items() if name.startswith("epoll_p") or name == "epoll_wait")
        # One read, one write and one wait, whatever the burst; what strace had not written yet is a few lines.
        assert calls["recvfrom"] + calls["read"] <= self.ROUNDS * 1.1
        assert calls["sendto"] + calls["write"] + calls["sendmsg"] <= self.ROUNDS * 1.1
        assert waits <= self.ROUNDS * 1.2
        assert calls["epoll_ctl"] <= self.ROUNDS * 0.1
        assert sum(calls.values()) <= self.ROUNDS * 3.5

    def test_an_async_message_that_waits_a_turn_costs_one_wait_and_one_look_for_a_reset_more(
        self, tmp_path: Path
    ) -> None:
        calls = self.echoed(tmp_path, 1, "--handler=tests.integration.test_costs:AsyncWait")
        assert calls["epoll_ctl"] <= self.ROUNDS * 0.1
        assert sum(calls.values()) <= self.ROUNDS * 5.5

    @pytest.mark.parametrize(("at_once", "most", "controls"), [(1, 28.5, 6.1), (20, 19, 3)])
    def test_a_connection_costs_at_most_28_system_calls_and_19_where_20_come_at_once(
        self, at_once: int, most: float, controls: float, tmp_path: Path
    ) -> None:
        def talk() -> None:
            with ExitStack() as stack:
                address = ("127.0.0.1", port)
                clients = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(at_once)]
                for data in (request(), MESSAGE, frame(CLOSE, b"\x03\xe8")):
                    for client in clients:
                        client.sendall(data)
                    for client in clients:
                        assert client.recv(1_000)
                for client in clients:
                    assert client.recv(100) == b""

        with self.traced(tmp_path) as (port, counted):
            calls = counted(talk)
        each = {name: count / self.ROUNDS / at_once for name, count in calls.items()}
        assert each["epoll_ctl"] <= controls
        assert sum(each.values()) <= most

    def test_a_tls_connection_costs_at_most_5_writes(self, tmp_path: Path) -> None:
        """Two for the handshake, as this client sends its request later; for request, message and end, one each."""
        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
        tls = ssl.create_default_context()
        authority.configure_trust(tls)

        def talk() -> None:
            with connected(port, tls) as client:
                exchange(client, 1)
                client.sendall(frame(CLOSE, b"\x03\xe8"))
                while client.recv(100):
                    pass
                assert isinstance(client, ssl.SSLSocket)
                client.unwrap()

        with self.traced(tmp_path, f"--tls-cert={tmp_path / 'server.pem'}") as (port, counted):
            calls = counted(talk)
        assert calls["sendto"] + calls["write"] + calls["sendmsg"] <= self.ROUNDS * 5.1
