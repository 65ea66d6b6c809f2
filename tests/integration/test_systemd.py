"""What a service manager is told by the commands: the protocol of sd_notify(3), against a socket of the test's."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from websockets.sync.client import connect

from tests.integration.server import running_server

#: Shows its environment, and blocks the reactor.
HANDLER = """
import os, time

def init(options):
    return None

def handle(message, state):
    match message:
        case ("text", "block"):
            time.sleep(60)
        case ("text", name):
            return ("reply", os.environ.get(name, "none"), state)
    return ("noreply", state)
"""
#: What a command says whose port is taken.
CAN_NOT = re.compile("can't listen")


class Systemd:
    """The socket to which systemd listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def wait_for(self, wanted: Callable[[str], bool]) -> str:
        """Return the next datagram that is wanted; others are passed over."""
        self.socket.settimeout(15)
        while True:
            told = self.socket.recv(4_096).decode()
            if wanted(told):
                return told

    def signs_of_life(self, seconds: float) -> int:
        """Return how many come in some time."""
        end, count = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                count += self.socket.recv(4_096) == b"WATCHDOG=1"
            except TimeoutError:
                break
        return count


@pytest.fixture
def listening() -> Iterator[Systemd]:
    # A path that is short enough for a socket.
    with TemporaryDirectory() as folder:
        listening = Systemd(str(Path(folder) / "notify"))
        yield listening
        listening.socket.close()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shown.py").write_text(HANDLER, encoding="ascii")


def is_state(told: str) -> bool:
    return told != "WATCHDOG=1"


@pytest.mark.parametrize("command", ["wshost", "twistd"])
def test_systemd_is_told_of_the_start_and_of_the_stop(listening: Systemd, command: Literal["wshost", "twistd"]) -> None:
    variables = {"NOTIFY_SOCKET": listening.address}
    options = ("--handler", "shown", "--drain-spread", "50", "--drain-timeout", "60")
    with (
        running_server(*options, env=variables, command=command) as server,
        connect(server.url, proxy=None) as one,
        connect(server.url, proxy=None),
    ):
        assert listening.wait_for(is_state) == "READY=1\nSTATUS=serving"
        one.send("NOTIFY_SOCKET")
        assert one.recv(15) == "none"
        os.kill(server.pid, signal.SIGTERM)
        assert listening.wait_for(is_state) == "STOPPING=1\nSTATUS=waiting for 2 connections"
        # One was closed at once.
        assert listening.wait_for(is_state) == "STOPPING=1\nSTATUS=waiting for 1 connection"
        os.kill(server.pid, signal.SIGINT)


def test_a_server_that_can_not_start_never_says_that_it_is_ready(listening: Systemd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ("--port", str(taken.getsockname()[1]))
        variables = {"NOTIFY_SOCKET": listening.address}
        with running_server(*options, env=variables, command="wshost", ready=CAN_NOT) as server:
            assert server.wait()[0] == 1
    listening.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.socket.recv(1)


def test_signs_of_life_stop_when_the_reactor_stands_still(listening: Systemd) -> None:
    variables = {"NOTIFY_SOCKET": listening.address, "WATCHDOG_USEC": "200000"}
    with (
        running_server("--handler", "shown", env=variables, command="wshost") as server,
        connect(server.url, proxy=None) as client,
    ):
        for _ in range(3):
            listening.wait_for(lambda told: told == "WATCHDOG=1")
        client.send("block")
        # Until the handler has the message, some still come.
        while listening.signs_of_life(1.0):
            pass
        os.kill(server.pid, signal.SIGKILL)
