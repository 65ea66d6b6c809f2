"""Starts a server on a core of its own, and reads what the kernel knows of it: memory, descriptors, CPU time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

from benchmarks import running as benchmark
from benchmarks.accounting import cpu
from benchmarks.peers import PEERS, Launch
from benchmarks.running import CORES, on_core
from benchmarks.turns import certificate
from torture.peers import PATIENCE, ask, connected
from torture.processes import running

_ROOT = Path(__file__).parent.parent
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LISTENING = re.compile(r"wshost listening on \w+://127\.0\.0\.1:(\d+)")


class Server:
    """A server that listens.

    :param log: what it has written; None if that says nothing.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes] | None = None) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port
        self._log = log

    @property
    def rss(self) -> float:
        """The resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def waited(self) -> float:
        """Seconds for which it was ready to run, but something else had its core."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9

    @property
    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        return cpu(self.pid)

    @property
    def log(self) -> str:
        """What it has written so far."""
        assert self._log is not None
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def counts(self) -> dict[str, int]:
        """Ask the handler for the objects of connections, and the descriptors. This question's connection counts."""
        with connected(self.port) as client:
            counted: dict[str, int] = json.loads(ask(client, "!counts"))
            return counted

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


class Target:
    """One kind of server, which can be started.

    :param name: wshost, or one of the benchmarks' peers.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: The share of the time in which a server was ready to run, but something else had its core; the largest one.
        self.waited = 0.0

    @property
    def is_wshost(self) -> bool:
        """Whether it is the one that the goals are for."""
        return self.name == "wshost"

    @contextmanager
    def start(
        self,
        *options: str,
        handler: str = "torture.handler",
        tls: bool = False,
        deflate: bool = False,
        command: Sequence[str] = (),
        environment: Mapping[str, str] = _NOTHING,
        listen: Sequence[str] = ("--port=0",),
    ) -> Iterator[Server]:
        """Start it with an echo, wait until it listens, and end it afterwards.

        :param options: further options of wshost.
        :param handler: of wshost.
        :param command: runs it, such as prlimit.
        :param environment: variables, besides those of this process.
        :param listen: options of wshost that say where it listens: at 127.0.0.1, too.
        """
        with ExitStack() as stack:
            if self.is_wshost:
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                log = stack.enter_context(Path(directory, "log").open("w+b"))
                flags = [f"--handler={handler}", *(["--compress"] if deflate else [])]
                flags += [f"--tls-cert={certificate()[0]}"] if tls else []
                with on_core(CORES[0]):
                    process = stack.enter_context(
                        running(
                            [*command, sys.executable, "-m", "wshost", *listen, *flags, *options],
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL,
                            stderr=log,
                            cwd=directory,
                            env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
                        )
                    )
                server = Server(process, _port(process, log), log)
            else:
                launch = Launch(deflate=deflate, cert=certificate()[0] if tls else "", connections=20_000)
                started = stack.enter_context(benchmark.running(PEERS[self.name], launch))
                server = Server(started.process, started.port)
            start, before = time.monotonic(), server.waited
            yield server
            with suppress(OSError):  # it may have ended
                self.waited = max(self.waited, (server.waited - before) / (time.monotonic() - start))


def _port(process: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        said = os.pread(log.fileno(), 1 << 16, 0).decode(errors="replace")
        found = _LISTENING.search(said)
        if found:
            return int(found[1])
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not listen: {said[-500:]}")
        time.sleep(0.01)
