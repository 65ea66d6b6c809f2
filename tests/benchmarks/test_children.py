from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.children import Children

#: Waits until it is killed, and has a child that does too.
WAITING = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signals' handlers are the process's."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number in numbers:
        signal.signal(number, before[number])


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    children.watch_signals()
    yield children
    children.end_all()


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(WAITING)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_is_being_started_waits_until_it_is_known(
    children: Children, number: signal.Signals
) -> None:
    made: list[subprocess.Popen[bytes]] = []

    def make() -> subprocess.Popen[bytes]:
        made.append(start())
        os.kill(os.getpid(), number)
        return made[0]

    with pytest.raises(KeyboardInterrupt):
        children.start(make)
    assert made[0].poll() is None
    children.end_all()
    assert made[0].returncode == -signal.SIGKILL


def test_a_signal_at_any_other_time_interrupts_at_once(children: Children) -> None:
    process = children.start(start)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    children.end_all()
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_can_not_be_started_leaves_signals_as_they_were(children: Children) -> None:
    with pytest.raises(FileNotFoundError):
        children.start(lambda: subprocess.Popen(["/no/such/program"]))
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_processes_that_have_ended_are_forgotten(children: Children) -> None:
    ended = children.start(start)
    ended.kill()
    ended.wait()
    running = children.start(start)
    assert children._started == [running]
