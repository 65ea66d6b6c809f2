"""What an echoed message costs in writes, calls, system calls and memory: counted, not timed."""

from __future__ import annotations

import gc
import re
import socket
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests import programs
from tests.integration.server import running_server
from tests.memory import MemoryHost, Peer, request
from tests.regressions.wire import TEXT, frame
from wshost.handlers import echo
from wshost.protocols.websocket.autobahn_engine import Engine

MESSAGE = frame(TEXT, b"x" * 64)
ANSWER = b"\x81\x40" + b"x" * 64


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
    def test_an_open_connection_takes_at_most_6400_bytes(self) -> None:
        host = MemoryHost(echo)
        kept = [host.open() for _ in range(10)]
        gc.collect()
        tracemalloc.start()
        kept += [host.open() for _ in range(200)]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken / 200 <= 6_400

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

    def counted(self, tmp_path: Path, burst: int) -> Counter[str]:
        """The server's system calls while it echoes so many bursts."""
        log = tmp_path / "strace"
        strace = programs.find("strace", package="strace")
        with (
            running_server(before=[strace, "-D", "-f", "-qq", "-o", str(log)]) as server,
            socket.create_connection(("127.0.0.1", server.port), 20) as client,
        ):
            client.sendall(request())
            head = client.recv(1_000)
            assert head.endswith(b"\r\n\r\n"), head

            def talk() -> None:
                client.sendall(MESSAGE * burst)
                left = len(ANSWER) * burst
                while left:
                    left -= len(client.recv(left))

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

    @pytest.mark.parametrize("burst", [1, 16])
    def test_a_burst_costs_one_read_one_write_and_one_wait(self, burst: int, tmp_path: Path) -> None:
        calls = self.counted(tmp_path, burst)
        waits = sum(count for name, count in calls.items() if name.startswith("epoll_p") or name == "epoll_wait")
        # One read, one write and one wait, whatever the burst; what strace had not written yet is a few lines.
        assert calls["recvfrom"] + calls["read"] <= self.ROUNDS * 1.1
        assert calls["sendto"] + calls["write"] + calls["sendmsg"] <= self.ROUNDS * 1.1
        assert waits <= self.ROUNDS * 1.2
        assert calls["epoll_ctl"] <= self.ROUNDS * 0.1
        assert sum(calls.values()) <= self.ROUNDS * 3.5
