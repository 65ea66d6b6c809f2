from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from wshost.process import systemd
from wshost.process.systemd import Notifier


class Systemd:
    """The socket to which systemd listens."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def told(self) -> list[str]:
        """Return the datagrams that have come."""
        told = []
        while True:
            try:
                told.append(self.socket.recv(4_096).decode())
            except BlockingIOError:
                return told


@pytest.fixture
def address() -> Iterator[str]:
    """A path that is short enough for a socket."""
    with TemporaryDirectory() as folder:
        yield str(Path(folder) / "notify")


@pytest.fixture
def listening(address: str) -> Iterator[Systemd]:
    listening = Systemd(address)
    yield listening
    listening.socket.close()


def test_systemd_is_told_of_each_state(address: str, listening: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("serving")
    notifier.stopping("waiting for 3 connections")
    assert listening.told() == ["READY=1\nSTATUS=serving", "STOPPING=1\nSTATUS=waiting for 3 connections"]


def test_a_reload_has_the_time_at_which_it_began(address: str, listening: Systemd) -> None:
    """systemd.service(5), Type=notify-reload: in microseconds of CLOCK_MONOTONIC."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    Notifier({"NOTIFY_SOCKET": address}).reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    [told] = listening.told()
    state, _, began = told.partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert before // 1_000 <= int(began) <= after // 1_000


def test_an_address_may_be_abstract() -> None:
    """unix(7): it is in no file system, and begins with a null byte, for which an @ stands."""
    name = f"wshost-test-{os.getpid()}-{time.monotonic_ns()}"
    listening = Systemd(f"\0{name}")
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("serving")
    assert listening.told() == ["READY=1\nSTATUS=serving"]
    listening.socket.close()


def test_children_do_not_inherit_the_variables(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier(environ)
    assert environ == {"HOME": "/"}


def test_the_variables_are_those_of_the_process(
    address: str, listening: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier().ready("serving")
    assert len(listening.told()) == 1
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_systemd_nobody_is_told() -> None:
    clock = Clock()
    notifier = Notifier({"WATCHDOG_USEC": "2000000"})
    with capturedLogs() as events:
        notifier.ready("serving")
        notifier.reloading()
        notifier.stopping("waiting for 0 connections")
        notifier.live(clock)
    assert events == []
    assert clock.getDelayedCalls() == []


def test_a_socket_that_is_not_there_costs_a_line_for_debugging(address: str) -> None:
    with capturedLogs() as events:
        Notifier({"NOTIFY_SOCKET": address}).ready("serving")
    assert [(event["log_level"].name, formatEvent(event)) for event in events] == [
        ("debug", "systemd can't be told READY=1: [Errno 2] No such file or directory")
    ]


def test_a_socket_that_is_full_is_not_waited_for(
    address: str, listening: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, pytest.raises(BlockingIOError):  # noqa: PT012
        sender.setblocking(False)
        while True:
            sender.sendto(b"full", address)
    with capturedLogs() as events:
        Notifier({"NOTIFY_SOCKET": address}).ready("serving")
    assert [formatEvent(event) for event in events] == ["systemd can't be told READY=1: timed out"]
    assert set(listening.told()) == {"full"}


class TestTheWatchdog:
    @pytest.mark.parametrize("named", [True, False])
    def test_signs_of_life_come_in_half_of_the_time(self, address: str, listening: Systemd, named: bool) -> None:
        clock = Clock()
        own = {"WATCHDOG_PID": str(os.getpid())} if named else {}
        Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", **own}).live(clock)
        counts = [len(listening.told())]
        for _ in range(4):
            clock.advance(0.75)
            counts.append(len(listening.told()))
        assert counts == [1, 0, 1, 0, 1]

    @pytest.mark.parametrize(
        "variables",
        [
            {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getppid())},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
            {},
        ],
    )
    def test_none_come_if_systemd_does_not_wait_for_them(
        self, address: str, listening: Systemd, variables: dict[str, str]
    ) -> None:
        clock = Clock()
        Notifier({"NOTIFY_SOCKET": address, **variables}).live(clock)
        assert clock.getDelayedCalls() == []
        assert listening.told() == []
