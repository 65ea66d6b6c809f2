"""The process that workers are forked from: it has imported all that they need, so that they share its memory.

It has no reactor and no thread. It knows no connection, and runs users' code only with `--preload`.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from typing import Any

from wshost import chain, plugins
from wshost.loading import handlers
from wshost.loading.importing import UserCodeError, make_importable
from wshost.process import allocator
from wshost.protocols.websocket import on_demand
from wshost.results import ConfigurationError
from wshost.settings.options import MODULES, Settings
from wshost.workers.kit import Kit, unpacked
from wshost.workers.packets import Packets

#: What workers need besides wshost, and import late.
_LATE = (
    "OpenSSL.SSL",
    "msgpack",
    "twisted.protocols.tls",
    "wshost.fastnet.reactor",
    "wshost.listening.certificates",
    "wshost.workers.worker",
)
#: Runs `main`. It finds the same modules as the process that has started it, however that was told of them.
_CODE = (
    "import sys; sys.path[:] = sys.argv[2:]; from wshost.workers.template import main; sys.exit(main(int(sys.argv[1])))"
)
#: Variables that mean the supervisor.
_APART = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
#: Signals that reach all processes of a terminal or a service. The supervisor takes them, and tells the others.
SHARED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def spawn() -> tuple[socket, subprocess.Popen[bytes]]:
    """Start a template; return the socket by which it is told what to do, and its process.

    :raises OSError: when it can't be started.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    environ = {name: value for name, value in os.environ.items() if name not in _APART}
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                env=environ,
            )
        except OSError:
            ours.close()
            raise
    return ours, process


def main(descriptor: int) -> int:
    """Wait for commands, until the supervisor has gone; in a worker, serve.

    :param descriptor: the socket to the supervisor.
    :returns: the exit status.
    """
    for number in SHARED:
        signal.signal(number, signal.SIG_IGN)
    with socket(fileno=descriptor) as connected:
        channel = Packets(connected)
        # The supervisor may want nothing for days.
        connected.settimeout(None)
        try:
            _, data, _ = channel.receive()
            kit = unpacked(data)
            made = prepare(kit)
        except EOFError:
            return 0
        except ConfigurationError as error:
            channel.send({"failed": str(error), "traceback": getattr(error, "traceback_text", "")[-15_000:]})
            return 1
        from wshost.workers import worker  # noqa: PLC0415 - the supervisor needs `spawn` only

        channel.send({"ready": True})
        return Template(channel, kit, partial(worker.run, made=made)).serve()


def prepare(kit: Kit) -> chain.Made | None:
    """Import all that workers need, and keep the garbage collector from writing to it, which would copy its memory.

    :returns: the chain of all workers, with `--preload`: to make it writes to more memory than it takes. None if it has
        others' modules, which may need a chain for each process.
    :raises ConfigurationError: when handlers can't be imported before the fork.
    """
    # The workers inherit this, as all else.
    allocator.keep_memory()
    settings = Settings(**kit.given)
    if kit.folder is not None:
        make_importable(Path(kit.folder))
    for name in (*_LATE, *(("uvloop",) if importlib.util.find_spec("uvloop") else ())):
        importlib.import_module(name)
    on_demand.load()
    # To look for plugins takes as much memory as all the rest. Others' modules are users' code.
    for module, _ in settings.protocol_module:
        if isinstance(module, str) and module in MODULES:
            plugins.find(module)
    threads = threading.active_count()
    made = None
    if settings.preload:
        for handler in (settings.handler, *settings.route.values()):
            if isinstance(handler, str):
                handlers.load(handler)
        if all(isinstance(module, str) and module in MODULES for module, _ in settings.protocol_module):
            made = chain.make(settings)
        if "twisted.internet.reactor" in sys.modules:
            raise ConfigurationError("preload: a handler's import has installed a reactor, which can't be forked")
        if threading.active_count() > threads:
            raise ConfigurationError("preload: a handler's import has started a thread, which can't be forked")
    gc.collect()
    gc.freeze()
    return made


class Template:
    """Forks workers, and reports their ends.

    :param channel: to the supervisor; it blocks.
    :param work: serves in a worker, given the kit, its number, its socket to the supervisor, and copies of the
        listening sockets; returns the exit status.
    :param fork: as `os.fork`.
    :param watch: as `os.pidfd_open`: returns a descriptor that can be read when the process has ended.
    :param wait: as `os.waitpid`.
    """

    def __init__(
        self,
        channel: Packets,
        kit: Kit,
        work: Callable[[Kit, int, socket, Sequence[socket]], int],
        *,
        fork: Callable[[], int] = os.fork,
        watch: Callable[[int], int] | None = None,
        wait: Callable[[int, int], tuple[int, int]] = os.waitpid,
    ) -> None:
        self._channel = channel
        self._kit = kit
        self._work = work
        self._fork = fork
        # Few systems have it; and there are no workers on the others.
        self._watch = watch or os.pidfd_open
        self._wait = wait
        self._poll = select.poll()
        # The workers' numbers and process ids, by the descriptors that tell of their ends.
        self._workers: dict[int, tuple[int, int]] = {}

    def serve(self) -> int:
        """Wait for commands, and for ends of workers; return the exit status."""
        commands = self._channel.socket.fileno()
        self._poll.register(commands, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != commands:
                    self._reap(descriptor)
                    continue
                try:
                    head, _, sockets = self._channel.receive()
                except (EOFError, OSError):
                    # The workers find this out, too.
                    return 0
                if "fork" in head:
                    status = self._start(int(head["fork"]), sockets)
                    if status is not None:
                        return status

    def _start(self, number: int, sockets: list[socket]) -> int | None:
        """Fork a worker; return its exit status in the worker itself, None here."""
        try:
            pid = self._fork()
        except OSError as error:
            self._close(sockets)
            self._channel.send({"ended": number, "status": None, "why": error.strerror})
            return None
        if not pid:
            for descriptor in self._workers:
                os.close(descriptor)
            self._channel.close()
            connected, *copies = sockets
            return self._work(self._kit, number, connected, copies)
        self._close(sockets)
        descriptor = self._watch(pid)
        self._workers[descriptor] = number, pid
        self._poll.register(descriptor, select.POLLIN)
        self._tell({"forked": number, "pid": pid})
        return None

    def _reap(self, descriptor: int) -> None:
        number, pid = self._workers.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        status = os.waitstatus_to_exitcode(self._wait(pid, 0)[1])
        self._tell({"ended": number, "status": status})

    def _tell(self, head: dict[str, Any]) -> None:
        try:
            self._channel.send(head)
        except OSError:
            # The supervisor has gone: `serve` finds this out.
            return

    def _close(self, sockets: Sequence[socket]) -> None:
        for one in sockets:
            one.close()


def failure(head: Mapping[str, Any]) -> ConfigurationError:
    """Return the error that another process of this server has told of."""
    line, traceback = str(head["failed"]), str(head.get("traceback", ""))
    return UserCodeError(line, traceback) if traceback else ConfigurationError(line)
