from __future__ import annotations

import _thread
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning
from twisted.logger import capturedLogs, formatEvent

from tests.ports import Reactor
from wshost.process import ending
from wshost.process.ending import DOUBLED, GRACE, LIMIT, ExitStatus


class Stoppable(Reactor):
    """A reactor that ends as Twisted's do: by signals, too, and once."""

    def __init__(self) -> None:
        Reactor.__init__(self)
        self.stops = 0
        self.signals: list[int] = []

    def stop(self) -> None:
        if self.stops:
            raise ReactorNotRunning
        self.stops += 1

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        self.callLater(0, call, *args)

    def sigInt(self, number: int, frame: object) -> None:
        self.signals.append(number)
        self.callFromThread(self.stop)

    sigTerm = sigInt


class Process:
    """What the process does to itself, in place of that: its handlers of signals, what it exits with, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handlers: dict[int, Any] = {}
        self.now = 5_000.0
        #: How it was ended, and when.
        self.ends: list[tuple[str, int, float]] = []
        self.threads: list[Callable[[], None]] = []
        #: Handlers of signals are called.
        self.responds = True
        monkeypatch.setattr(signal, "signal", self.handlers.__setitem__)
        monkeypatch.setattr(signal, "getsignal", self.handlers.get)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(os, "kill", self._kill)
        monkeypatch.setattr(os, "_exit", lambda status: self.ends.append(("exit", status, self.now)))
        monkeypatch.setattr(_thread, "start_new_thread", self._thread)
        self._statuses: list[int] = []
        monkeypatch.setattr(ending, "ExitStatus", self._statuses.append)

    def send(self, number: int, after: float = 1.0) -> None:
        """Send it a signal."""
        self.now += after
        self._kill(os.getpid(), number)

    @property
    def status(self) -> int:
        """What it exits with when Python has ended."""
        return self._statuses[0] if self._statuses else 0

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _kill(self, pid: int, number: int) -> None:
        assert pid == os.getpid()
        if self.handlers.get(number) == signal.SIG_DFL:
            self.ends.append(("signal", number, self.now))
        elif self.responds:
            self.handlers[number](number, None)

    def _thread(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.threads.append(lambda: target(*args))


class Waiting:
    """Something that a drain waits for."""

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch, process: Process) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", fail)


@pytest.fixture
def reactor(process: Process) -> Stoppable:
    """One that handles signals."""
    reactor = Stoppable()
    process.handlers |= {signal.SIGINT: reactor.sigInt, signal.SIGTERM: reactor.sigTerm}
    return reactor


@pytest.fixture
def waiting(reactor: Stoppable) -> Waiting:
    waiting = Waiting()
    ending.watch(reactor, waiting.abort)
    return waiting


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("on purpose")


class TestLeave:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (SystemExit(), (0, "")),
            (SystemExit(0), (0, "")),
            (SystemExit(3), (3, "")),
            (SystemExit(True), (1, "")),
            (SystemExit(-1), (255, "")),
            (SystemExit(256), (0, "")),
            (SystemExit(1 << 70), (255, "")),
            (SystemExit("no more"), (1, "no more\n")),
            (SystemExit(("no", "more")), (1, "('no', 'more')\n")),
            (SystemExit(""), (1, "")),
            (KeyboardInterrupt(), (130, "")),
        ],
        ids=repr,
    )
    def test_leave_stops_the_reactor_and_exits_as_python_would(
        self,
        process: Process,
        reactor: Stoppable,
        capfd: pytest.CaptureFixture[str],
        error: BaseException,
        expected: tuple[int, str],
    ) -> None:
        with capturedLogs() as events:
            ending.leave(reactor, error)
        assert reactor.stops == 1
        assert (process.status, capfd.readouterr().err) == expected
        [event] = events
        assert formatEvent(event).endswith(f": shutting down, exit status {expected[0]}")

    @pytest.mark.parametrize(
        "error",
        [SystemExit(0), SystemExit(3), SystemExit(-1), SystemExit(256), SystemExit(1 << 70), SystemExit("no more")],
        ids=repr,
    )
    def test_leave_gives_the_status_and_the_text_of_python(
        self, capfd: pytest.CaptureFixture[str], error: SystemExit
    ) -> None:
        program = f"raise SystemExit({error.code!r})"
        done = subprocess.run([sys.executable, "-ISc", program], check=False, stderr=subprocess.PIPE, timeout=30)
        status, text = ending.status_of(error)
        # Of a number that is too large, Python 3.12 and 3.13 also tell that they stumbled over it.
        stumbled = r"(Exception ignored on threading shutdown:\n)?OverflowError: .*\n"
        assert (status, text) == (done.returncode, re.sub(stumbled, "", done.stderr.decode()).rstrip("\n"))

    def test_only_the_first_call_of_leave_counts(self, process: Process, reactor: Stoppable) -> None:
        ending.leave(reactor, SystemExit(3))
        ending.leave(reactor, SystemExit(4))
        ending.leave(reactor, KeyboardInterrupt())
        assert (reactor.stops, process.status) == (1, 3)

    def test_the_status_of_leave_counts_when_the_reactor_is_stopping_already(
        self, process: Process, reactor: Stoppable
    ) -> None:
        reactor.stop()
        ending.leave(reactor, SystemExit(3))
        assert process.status == 3

    def test_leave_does_not_count_after_a_signal(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        process.send(signal.SIGTERM)
        ending.leave(reactor, SystemExit(3))
        assert process.status == 0

    def test_leave_raises_nothing(self, monkeypatch: pytest.MonkeyPatch, process: Process, reactor: Stoppable) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "__stderr__", None)
            ending.leave(reactor, SystemExit(Unprintable()))
        assert (reactor.stops, process.status) == (1, 1)

    def test_leave_logs_one_line(self, reactor: Stoppable) -> None:
        with capturedLogs() as events:
            ending.leave(reactor, SystemExit("no \x1b[31mmore"))
        assert [formatEvent(event) for event in events] == [
            "SystemExit: no \\x1b[31mmore: shutting down, exit status 1"
        ]

    def test_leave_before_the_reactor_runs_stops_it_when_it_runs(self, reactor: Stoppable) -> None:
        reactor.running = False
        ending.leave(reactor, SystemExit(3))
        assert reactor.stops == 0
        [(stop, _, _)] = reactor.whenRunningHooks
        stop()
        assert reactor.stops == 1


class TestStop:
    def test_stop_stops_the_reactor_once(self, reactor: Stoppable) -> None:
        ending.stop(reactor)
        ending.stop(reactor)
        assert reactor.stops == 1

    def test_stop_and_a_signal_at_the_same_time_stop_the_reactor_once(
        self, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        process.send(signal.SIGTERM)
        ending.stop(reactor)
        reactor.advance(0)
        assert reactor.stops == 1

    def test_a_signal_after_stop_stops_nothing(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        ending.stop(reactor)
        process.send(signal.SIGTERM)
        reactor.advance(0)
        assert (reactor.stops, reactor.signals) == (1, [])


class TestExitStatus:
    def test_the_process_exits_only_when_python_has_ended(self) -> None:
        ended: list[int] = []
        ExitStatus(3, ended.append, lambda: False)
        assert ended == []
        ExitStatus(3, ended.append, lambda: True)
        assert ended == [3]

    def test_functions_at_exit_are_called_and_output_is_flushed_before_the_exit(self) -> None:
        """Functions at exit run, whenever they were registered, and what was written arrives."""
        program = (
            "import atexit; atexit.register(print, 'early')\n"
            "from twisted.internet.testing import MemoryReactorClock\nfrom wshost.process import ending\n"
            "reactor = MemoryReactorClock(); reactor.running = False; ending.leave(reactor, SystemExit(3))\n"
            "atexit.register(print, 'late'); print('written', end='; ')"
        )
        done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"written; late\nearly\n", b"")


class TestEndBy:
    def test_the_signal_ends_the_process_only_when_python_has_ended(self) -> None:
        program = (
            "import atexit, signal; atexit.register(print, 'late')\nfrom wshost.process import ending\n"
            "ending.end_by(signal.SIGINT); print('written', end='; ')"
        )
        done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"written; late\n", b"")

    def test_from_now_on_the_signal_ends_the_process_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        statuses: list[ExitStatus] = []
        monkeypatch.setattr(ending, "_statuses", statuses)
        before = signal.getsignal(signal.SIGUSR2)
        try:
            ending.end_by(signal.SIGUSR2)
            assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
            assert len(statuses) == 1
        finally:
            signal.signal(signal.SIGUSR2, before)


class TestTheFirstSignal:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_signal_goes_to_twisted(
        self, process: Process, reactor: Stoppable, waiting: Waiting, number: int
    ) -> None:
        process.send(number)
        reactor.advance(0)
        assert (reactor.signals, reactor.stops, waiting.aborted) == ([number], 1, 0)

    @pytest.mark.usefixtures("waiting")
    def test_the_first_signal_changes_nothing_after_leave(self, process: Process, reactor: Stoppable) -> None:
        ending.leave(reactor, SystemExit(3))
        process.send(signal.SIGTERM)
        assert reactor.signals == []
        assert process.status == 3

    @pytest.mark.usefixtures("waiting")
    def test_the_first_signal_changes_nothing_when_the_reactor_is_stopping(
        self, process: Process, reactor: Stoppable
    ) -> None:
        [(begins, _, _)] = reactor.triggers["before"]["shutdown"]
        begins()
        process.send(signal.SIGTERM)
        assert reactor.signals == []

    def test_a_signal_sent_twice_at_a_time_counts_once(
        self, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM, DOUBLED / 2)
        reactor.advance(0)
        assert (reactor.signals, waiting.aborted, process.threads) == ([signal.SIGTERM], 0, [])


class TestASecondSignal:
    @pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_signal_aborts_what_the_drain_waits_for_in_the_reactors_thread(
        self, process: Process, reactor: Stoppable, waiting: Waiting, second: int
    ) -> None:
        process.send(signal.SIGTERM)
        reactor.advance(0)
        process.send(second)
        assert waiting.aborted == 0, "that is for the reactor's thread"
        with capturedLogs() as events:
            reactor.advance(0)
        assert (reactor.signals, waiting.aborted) == ([signal.SIGTERM], 1)
        assert [formatEvent(event) for event in events] == ["Received a second signal, ending now."]

    def test_another_kind_of_signal_at_the_same_time_is_a_second_signal(
        self, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGINT, 0)
        reactor.advance(0)
        assert waiting.aborted == 1

    def test_after_leave_the_second_signal_aborts(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        ending.leave(reactor, SystemExit(3))
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        reactor.advance(0)
        assert waiting.aborted == 1

    def test_a_third_signal_changes_nothing(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        for _ in range(4):
            process.send(signal.SIGTERM)
        reactor.advance(0)
        assert (waiting.aborted, len(process.threads), reactor.signals) == (1, 1, [signal.SIGTERM])

    def test_the_reactors_loop_ends_after_a_grace(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        reactor.advance(0)
        assert not reactor.hasCrashed
        reactor.advance(GRACE)
        assert reactor.hasCrashed

    def test_a_loop_that_has_ended_is_left_alone(self, process: Process, reactor: Stoppable, waiting: Waiting) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        reactor.advance(0)
        reactor.running = False
        reactor.advance(GRACE)
        assert not reactor.hasCrashed

    def test_a_server_that_can_not_be_aborted_does_not_save_the_others(
        self, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        class Failing:
            def abort(self) -> None:
                raise SystemExit(5)

        failing, other = Failing(), Waiting()
        ending.watch(reactor, failing.abort)
        ending.watch(reactor, other.abort)
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        with capturedLogs() as events:
            reactor.advance(0)
        assert (waiting.aborted, other.aborted) == (1, 1)
        assert formatEvent(events[-1]) == "connections could not be aborted"

    def test_each_server_is_aborted_once_and_only_while_its_object_exists(
        self, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        gone = Waiting()
        ending.watch(reactor, gone.abort)
        ending.watch(reactor, waiting.abort)
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        del gone
        reactor.advance(0)
        assert waiting.aborted == 1

    @pytest.mark.usefixtures("waiting")
    def test_the_process_ends_when_the_reactors_thread_is_blocked(self, process: Process) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGINT)
        sent = process.now
        [thread] = process.threads
        thread()
        assert process.ends[0] == ("signal", signal.SIGTERM, sent + LIMIT)

    @pytest.mark.usefixtures("waiting")
    def test_a_process_whose_reactors_thread_is_blocked_ends_with_the_status_of_leave(
        self, process: Process, reactor: Stoppable
    ) -> None:
        ending.leave(reactor, SystemExit(0))
        process.send(signal.SIGTERM)
        process.send(signal.SIGINT)
        sent = process.now
        [thread] = process.threads
        thread()
        assert process.ends[0] == ("exit", 0, sent + LIMIT)

    @pytest.mark.usefixtures("waiting")
    @pytest.mark.parametrize(("error", "status"), [(None, 128 + signal.SIGTERM), (SystemExit(3), 3)])
    def test_the_process_ends_when_the_reactors_thread_never_returns(
        self, process: Process, reactor: Stoppable, error: BaseException | None, status: int
    ) -> None:
        if error is not None:
            ending.leave(reactor, error)
        process.send(signal.SIGTERM)
        process.send(signal.SIGINT)
        sent = process.now
        process.responds = False
        [thread] = process.threads
        thread()
        assert process.ends == [("exit", status, sent + 2 * LIMIT)]

    @pytest.mark.usefixtures("waiting")
    @pytest.mark.parametrize(("error", "end"), [(None, ("signal", signal.SIGTERM)), (SystemExit(3), ("exit", 3))])
    def test_a_second_signal_while_python_ends_ends_the_process(
        self,
        no_threads: None,
        process: Process,
        reactor: Stoppable,
        error: BaseException | None,
        end: tuple[str, int],
    ) -> None:
        if error is not None:
            ending.leave(reactor, error)
        process.send(signal.SIGTERM)
        reactor.running = False
        process.send(signal.SIGTERM)
        assert process.ends[0] == (*end, process.now)

    def test_a_second_signal_hurries_the_drain_also_when_no_thread_can_start(
        self, no_threads: None, process: Process, reactor: Stoppable, waiting: Waiting
    ) -> None:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        reactor.advance(0)
        assert (waiting.aborted, process.ends) == (1, [])


class TestWatch:
    def test_signals_are_handled_when_the_reactor_runs(self, process: Process, reactor: Stoppable) -> None:
        before = dict(process.handlers)
        reactor.running = False
        waiting = Waiting()
        ending.watch(reactor, waiting.abort)
        assert process.handlers == before
        [(take, _, _)] = reactor.whenRunningHooks
        take()
        assert process.handlers.keys() == before.keys()
        assert all(process.handlers[number] != before[number] for number in before)

    def test_handlers_of_others_are_left_alone(self, process: Process, reactor: Stoppable) -> None:
        process.handlers |= {signal.SIGINT: signal.SIG_IGN}
        waiting = Waiting()
        ending.watch(reactor, waiting.abort)
        assert process.handlers[signal.SIGINT] == signal.SIG_IGN
        assert process.handlers[signal.SIGTERM] != reactor.sigTerm

    def test_nothing_is_handled_where_the_reactor_handles_no_signals(self, process: Process) -> None:
        waiting = Waiting()
        ending.watch(Reactor(), waiting.abort)
        assert process.handlers == {}


class TestInterruptQuietly:
    def test_sigint_has_its_default_until_the_reactor_starts(self, process: Process, reactor: Stoppable) -> None:
        process.handlers[signal.SIGINT] = signal.default_int_handler
        ending.interrupt_quietly(reactor)
        assert process.handlers[signal.SIGINT] == signal.SIG_DFL
        [(call, args, kwargs)] = reactor.triggers["before"]["startup"]
        call(*args, **kwargs)
        assert process.handlers[signal.SIGINT] is signal.default_int_handler

    @pytest.mark.parametrize("handler", [signal.SIG_IGN, print])
    def test_a_handler_of_others_for_sigint_is_left_alone(
        self, process: Process, reactor: Stoppable, handler: Any
    ) -> None:
        process.handlers[signal.SIGINT] = handler
        ending.interrupt_quietly(reactor)
        assert process.handlers[signal.SIGINT] == handler

    def test_outside_of_the_main_thread_no_handler_is_set(
        self, monkeypatch: pytest.MonkeyPatch, process: Process, reactor: Stoppable
    ) -> None:
        process.handlers[signal.SIGINT] = signal.default_int_handler
        monkeypatch.setattr(threading, "current_thread", object)
        ending.interrupt_quietly(reactor)
        assert process.handlers[signal.SIGINT] is signal.default_int_handler
