"""Runs one server on its core: starts it, stops it between turns, and ends it. Does not know what is measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accounting import cpu
from benchmarks.building import HERE, UnavailableError
from benchmarks.children import CHILDREN, end, send
from benchmarks.peers import Launch, Peer

#: Servers run on the first core that this process may use, the load on the last one.
CORES = sorted(os.sched_getaffinity(0))

#: How many seconds a server may take until it listens.
PATIENCE = 20.0


@dataclass
class Running:
    """A server that listens."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int
    #: Seconds from its start until it accepted the first connection.
    started_in: float

    def cpu(self) -> float:
        """Return its CPU time so far, in seconds."""
        return cpu(self.process.pid)

    def pause(self) -> None:
        """Stop its processes: a server that polls would take the core from the others."""
        send(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        send(self.process, signal.SIGCONT)

    def ended(self) -> str:
        """Return in words how it has ended; empty if it still runs."""
        try:
            return f"it has ended with status {self.process.wait(0.5)}"
        except subprocess.TimeoutExpired:
            return ""


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process, and those it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(peer: Peer, directory: Path) -> dict[str, str]:
    root = _lay_out(peer, directory) if peer.before else peer.root()
    environment = {**os.environ, "PYTHONPATH": str(root), "NODE_ENV": "production"}
    # What pip installs is compiled to bytecode. The servers of this checkout are when they have run once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"DENO_DIR": str(directory / "deno"), "DENO_NO_UPDATE_CHECK": "1"}
    if peer.before:
        # It names this checkout's modules. Another checkout has its own, where `python hatch_build.py` has put them.
        environment.pop("WSHOST_COMPILED", None)
    return environment


def _lay_out(peer: Peer, directory: Path) -> Path:
    """Make the directory from which another commit's server imports: its own wshost, and this checkout's handlers."""
    for name in ("wshost", "twisted"):
        (directory / name).symlink_to(peer.root() / name)
    (directory / "benchmarks").symlink_to(HERE)
    return directory


@contextmanager
def running(peer: Peer, launch: Launch) -> Iterator[Running]:
    """Start a server on its core, wait until it listens, and end it afterwards.

    :raises UnavailableError: when it ends before it listens, or does not listen in time.
    """
    peer.version()
    port = free_port()
    command = peer.command(launch, port)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        with on_core(CORES[0]):
            process = CHILDREN.start(
                lambda: subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    cwd=directory,
                    env=_environment(peer, Path(directory)),
                )
            )
        try:
            try:
                _wait_for_port(process, port, start + PATIENCE)
            except UnavailableError as error:
                output.seek(0)
                said = output.read().decode(errors="replace").strip().splitlines()[-1:]
                raise UnavailableError(f"{error} {said}") from None
            yield Running(peer, process, port, time.perf_counter() - start)
        finally:
            end(process)


def _wait_for_port(process: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    while True:
        with socket.socket() as tried:
            tried.settimeout(1.0)
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise UnavailableError(f"it ended with status {process.returncode}:")
        if time.perf_counter() > deadline:
            raise UnavailableError(f"it does not listen after {PATIENCE:.0f} s:")
        time.sleep(0.002)
