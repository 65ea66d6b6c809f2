from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from typing import Any

import pytest

from tests.workers.surroundings import pair
from wshost.loading.importing import UserCodeError
from wshost.results import ConfigurationError
from wshost.workers import worker
from wshost.workers.kit import Kit
from wshost.workers.packets import Packets
from wshost.workers.template import SHARED, Template, failure, main, prepare, spawn


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a template changes is changed for the process."""
    handled = {number: signal.getsignal(number) for number in SHARED}
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    gc.unfreeze()
    for number, handler in handled.items():
        signal.signal(number, handler)


class Ends:
    """The supervisor's end of a template's channel, and a template whose workers are no processes.

    :param pids: what forks return.
    """

    def __init__(self, *pids: int) -> None:
        ours, theirs = pair()
        self.channel = Packets(ours)
        self.theirs = Packets(theirs)
        self.work: list[Any] = []
        self._pids = iter(pids)
        # One end of a pipe for each worker; it is closed when that ends.
        self.workers: list[int] = []
        self.template = Template(
            self.theirs, Kit({}), self.serve, fork=self.fork, watch=self.watch, wait=lambda *_: (0, 5 << 8)
        )

    def fork(self) -> int:
        pid = next(self._pids)
        if pid < 0:
            raise BlockingIOError(11, "too many processes")
        return pid

    def watch(self, pid: int) -> int:
        descriptor, end = os.pipe()
        self.workers.append(end)
        if pid % 2:
            os.close(self.workers.pop())
        return descriptor

    def serve(self, kit: Kit, number: int, connected: socket, copies: Sequence[socket]) -> int:
        self.work.append((kit, number, len(copies)))
        for one in (connected, *copies):
            one.close()
        return 7

    def command(self, number: int) -> None:
        with socket(AF_UNIX) as line, socket(AF_UNIX) as copy:
            self.channel.send({"fork": number}, b"", [line.fileno(), copy.fileno()])

    def answers(self) -> list[dict[str, Any]]:
        """What the template has said; it serves until there is no more to do."""
        # Ends of workers are looked at beside a command.
        self.channel.send({"unknown": 1})
        self.channel.socket.shutdown(SHUT_WR)
        assert self.template.serve() == 0
        self.theirs.close()
        said = []
        with suppress(EOFError):
            while True:
                said.append(self.channel.receive()[0])
        return said

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()
        for descriptor in (*self.workers, *self.template._workers):
            with suppress(OSError):
                os.close(descriptor)


@contextmanager
def ends_of(*pids: int) -> Iterator[Ends]:
    ends = Ends(*pids)
    yield ends
    ends.close()


def test_workers_are_forked_and_their_ends_reported() -> None:
    with ends_of(101, 102) as ends:
        ends.command(3)
        ends.command(4)
        assert ends.answers() == [
            {"forked": 3, "pid": 101},
            {"forked": 4, "pid": 102},
            {"ended": 3, "status": 5},
        ]


def test_a_worker_serves_with_its_sockets_and_its_exit_status_is_the_servers() -> None:
    with ends_of(102, 0) as ends:
        ends.command(1)
        ends.command(2)
        assert ends.template.serve() == 7
        assert ends.work == [(Kit({}), 2, 1)]


def test_a_fork_that_fails_is_reported() -> None:
    with ends_of(-1) as ends:
        ends.command(1)
        assert ends.answers() == [{"ended": 1, "status": None, "why": "too many processes"}]


def test_a_template_ends_with_its_supervisor_whatever_its_workers_do() -> None:
    with ends_of(101) as ends:
        ends.command(1)
        ends.channel.close()
        assert ends.template.serve() == 0


def test_ends_of_processes_are_watched_by_the_kernel() -> None:
    ours, theirs = pair()
    with ours:
        channel = Packets(theirs)
        template = Template(channel, Kit({}), lambda *_: 0)
        descriptor = template._watch(os.getpid())
        assert not select.select([descriptor], [], [], 0)[0]
        os.close(descriptor)
        channel.close()


class TestMain:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[Packets, int]]:
        ours, theirs = pair()
        channel = Packets(ours)
        yield channel, theirs.detach()
        channel.close()

    def test_it_imports_what_workers_need_and_then_forks(
        self, ends: tuple[Packets, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel, descriptor = ends
        done: list[Any] = []

        def run(kit: Kit, number: int, connected: socket, copies: Sequence[socket], *, made: Any) -> int:
            done.append((kit, number, made))
            connected.close()
            return 7

        monkeypatch.setattr(worker, "run", run)
        monkeypatch.setitem(vars(Template)["__init__"].__kwdefaults__, "fork", lambda: 0)
        channel.send({"kit": True}, Kit({}).packed())
        with socket(AF_UNIX) as line:
            channel.send({"fork": 1}, b"", [line.fileno()])
        assert main(descriptor) == 7
        assert channel.receive()[0] == {"ready": True}
        assert done == [(Kit({}), 1, None)]
        assert gc.get_freeze_count() > 0
        assert {signal.getsignal(number) for number in SHARED} == {signal.SIG_IGN}

    def test_it_ends_if_its_supervisor_has_gone(self, ends: tuple[Packets, int]) -> None:
        channel, descriptor = ends
        channel.close()
        assert main(descriptor) == 0

    def test_it_says_why_it_can_not_prepare(self, ends: tuple[Packets, int]) -> None:
        channel, descriptor = ends
        channel.send({"kit": True}, Kit({"preload": True, "handler": "no.such.handler"}).packed())
        assert main(descriptor) == 1
        head, _, _ = channel.receive()
        assert "no.such.handler" in head["failed"]
        assert isinstance(failure(head), ConfigurationError)


class TestPreload:
    @pytest.fixture(autouse=True)
    def _without_reactor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "twisted.internet.reactor", raising=False)

    def handler(self, folder: Path, text: str) -> Kit:
        # A module's name means one file for the life of a process.
        path = folder / f"preloaded_{folder.name}.py"
        path.write_text(f"{text}\n\ndef init(options): ...\n\ndef handle(message, state): ...\n")
        name = str(path)
        given = {
            "preload": True,
            "route": {"/": name, "/object": object()},
            "protocol_module": [("http", {}), ("own", {})],
        }
        return Kit(given, str(folder))

    def test_handlers_are_imported(self, tmp_path: Path) -> None:
        prepare(self.handler(tmp_path, "import sys; sys.preloaded_here = True"))
        assert vars(sys).pop("preloaded_here")
        assert str(tmp_path) in sys.path

    @pytest.mark.parametrize("timed", [False, True])
    def test_the_chain_of_all_workers_is_made(self, timed: bool) -> None:
        given = {"preload": True, "handler": "wshost.handlers.echo", **({"admin": "9090"} if timed else {})}
        made = prepare(Kit(given))
        assert made is not None
        assert [link.name for link in made.links] == ["http", "websocket"]
        assert (made.timings is not None) == timed

    def test_the_chain_is_not_made_if_others_modules_are_in_it(self, tmp_path: Path) -> None:
        assert prepare(self.handler(tmp_path, "")) is None

    def test_a_chain_that_can_not_be_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="object"):
            prepare(Kit({"preload": True, "handler": object()}))

    def test_without_uvloop_there_is_no_need_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        asked: list[str] = []
        monkeypatch.setattr("importlib.import_module", asked.append)
        prepare(Kit({}))
        assert "uvloop" not in asked
        assert asked

    def test_an_import_that_starts_a_thread_is_refused(self, tmp_path: Path) -> None:
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        kit = self.handler(tmp_path, "import sys; sys.start_here()")
        vars(sys)["start_here"] = thread.start
        try:
            with pytest.raises(ConfigurationError, match="preload: a handler's import has started a thread"):
                prepare(kit)
        finally:
            event.set()
            thread.join()
            del vars(sys)["start_here"]

    def test_an_import_that_installs_a_reactor_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kit = self.handler(tmp_path, "")
        monkeypatch.setitem(sys.modules, "twisted.internet.reactor", sys)
        with pytest.raises(ConfigurationError, match="preload: a handler's import has installed a reactor"):
            prepare(kit)


def test_what_another_process_has_told_of_an_error_is_an_error() -> None:
    assert str(failure({"failed": "so"})) == "so"
    error = failure({"failed": "so", "traceback": "Traceback"})
    assert isinstance(error, UserCodeError)
    assert error.traceback_text == "Traceback"


def test_a_template_is_started_with_a_line_and_without_what_means_the_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append((args, kwargs)))
    connected, _ = spawn()
    ((command,), more), *_ = started
    assert command[0] == sys.executable
    assert more["pass_fds"] == [int(command[4])]
    assert command[5:] == sys.path
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS"} & more["env"].keys()
    assert "PATH" in more["env"]
    assert connected.recv(1) == b""
    connected.close()


def test_a_template_that_can_not_be_started_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        spawn()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
