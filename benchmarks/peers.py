"""Lists the compared servers, and starts them. Knows nothing of what is measured."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.accounting import cpu

HERE = Path(__file__).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))

#: Servers run on the first core that this process may use, the load on the last one.
CORES = sorted(os.sched_getaffinity(0))

#: This environment variable names the checkout of another commit, in which `python hatch_build.py` was run. The server
#: wshost-before runs from there.
BEFORE = "WSHOST_BEFORE"

#: How many seconds a server may take until it listens.
PATIENCE = 20.0


class UnavailableError(Exception):
    """A server can't run on this machine; the message says why."""


@dataclass(frozen=True)
class Launch:
    """The features that a cell needs of a server."""

    broadcast: bool = False
    deflate: bool = False
    #: A file with key and certificate, for TLS; or empty.
    cert: str = ""
    #: The server must accept at least so many connections; 0: its default is enough.
    connections: int = 0

    def flags(self) -> list[str]:
        """Return the options for the programs in `servers`."""
        return [
            *(["--broadcast"] if self.broadcast else []),
            *(["--deflate"] if self.deflate else []),
            *([f"--cert={self.cert}"] if self.cert else []),
        ]


@dataclass(frozen=True)
class Peer:
    """One server."""

    name: str
    #: The distribution package whose version is shown.
    distribution: str
    command: Callable[[Launch, int], list[str]]
    #: The features that it has, of broadcast, deflate and tls.
    can: frozenset[str] = frozenset({"broadcast", "deflate", "tls"})
    #: The module that its users import.
    module: str = ""
    #: Whether it runs from the checkout of another commit.
    before: bool = False
    #: Whether wshost is compared with it. False for wshost's own rows and for the limit.
    rival: bool = True

    def suits(self, launch: Launch) -> bool:
        """Return whether the server has the features that a cell needs."""
        wanted = {"broadcast": launch.broadcast, "deflate": launch.deflate, "tls": bool(launch.cert)}
        return {feature for feature, needed in wanted.items() if needed} <= self.can

    def root(self) -> Path:
        """Return the checkout that it runs from.

        :raises UnavailableError: when it needs another checkout, and none is named.
        """
        if not self.before:
            return HERE.parent
        if not Path(os.environ.get(BEFORE, ""), "wshost").is_dir() or not os.environ.get(BEFORE):
            raise UnavailableError(f"{BEFORE} names no checkout")
        return Path(os.environ[BEFORE])

    def version(self) -> str:
        """Return the version.

        :raises UnavailableError: when the server is not installed.
        """
        if self.name == "node-ws":
            return f"ws {node_modules()[1]}"
        if self.name == "limit":
            compiled_limit()
            return "C"
        if self.before:
            return str(self.root())
        try:
            return f"{self.distribution} {importlib.metadata.version(self.distribution)}"
        except importlib.metadata.PackageNotFoundError:
            raise UnavailableError(f"{self.distribution} is not installed") from None


@cache
def cache_directory() -> Path:
    """Return the directory for files that are built or fetched for the benchmarks, inside the virtual environment."""
    made = Path(sys.prefix, "benchmarks")
    made.mkdir(exist_ok=True)
    return made


@cache
def node_modules() -> tuple[Path, str]:
    """Install ws for Node, once; return its directory and version.

    :raises UnavailableError: without Node or npm, or when npm fails.
    """
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise UnavailableError("node and npm are not found")
    found = cache_directory() / "node_modules"
    if not (found / "ws").exists():
        command = [npm, "install", "--prefix", str(cache_directory()), "--no-audit", "--no-fund", "ws", "bufferutil"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UnavailableError(f"npm can't install ws: {ended.stderr.strip().splitlines()[-1:]}")
    listed = (found / "ws" / "package.json").read_text()
    return found, listed.partition('"version": "')[2].partition('"')[0]


@cache
def compiled_limit() -> Path:
    """Compile the C server, if it has changed; return the program.

    :raises UnavailableError: without a compiler, or when the compiler fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise UnavailableError("no C compiler is found")
    source, program = HERE / "servers" / "limit.c", cache_directory() / "limit"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        command = [compiler, "-O2", "-o", str(program), str(source)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UnavailableError(f"{compiler} fails: {ended.stderr.strip().splitlines()[:1]}")
    return program


def _program(name: str) -> Callable[[Launch, int], list[str]]:
    def command(launch: Launch, port: int) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.servers.{name}", f"--port={port}", *launch.flags()]

    return command


def _wshost(*twistd: str) -> Callable[[Launch, int], list[str]]:
    def command(launch: Launch, port: int) -> list[str]:
        handler = "benchmarks.servers.wshost_broadcast" if launch.broadcast else "wshost.handlers.echo"
        return [
            str(SCRIPTS / "twistd"),
            "--nodaemon",
            "--pidfile=",
            *twistd,
            "wshost",
            f"--port={port}",
            f"--handler={handler}",
            *(["--compress"] if launch.deflate else []),
            # As is uWebSockets' default.
            *(["--server-no-context-takeover"] if launch.deflate and launch.broadcast else []),
            *([f"--tls-cert={launch.cert}"] if launch.cert else []),
            *([f"--max-connections={launch.connections + 100}"] if launch.connections else []),
        ]

    return command


def _uvicorn(implementation: str) -> Callable[[Launch, int], list[str]]:
    def command(launch: Launch, port: int) -> list[str]:
        return [
            str(SCRIPTS / "uvicorn"),
            f"benchmarks.servers.asgi:{'broadcast' if launch.broadcast else 'echo'}",
            f"--port={port}",
            f"--ws={implementation}",
            f"--ws-per-message-deflate={launch.deflate}",
            "--loop=uvloop",
            "--http=httptools",
            "--no-access-log",
            "--log-level=warning",
            "--lifespan=off",
            "--backlog=4096",
            *([f"--ssl-keyfile={launch.cert}", f"--ssl-certfile={launch.cert}"] if launch.cert else []),
        ]

    return command


def _daphne(launch: Launch, port: int) -> list[str]:
    tls = f"ssl:{port}:privateKey={launch.cert}:certKey={launch.cert}:interface=127.0.0.1"
    return [
        str(SCRIPTS / "daphne"),
        "--verbosity=0",
        *([f"--endpoint={tls}"] if launch.cert else ["--bind=127.0.0.1", f"--port={port}"]),
        f"benchmarks.servers.asgi:{'broadcast' if launch.broadcast else 'echo'}",
    ]


def _node(launch: Launch, port: int) -> list[str]:
    program = HERE / "servers" / "ws_server.cjs"
    return ["node", str(program), f"--modules={node_modules()[0]}", f"--port={port}", *launch.flags()]


def _limit(launch: Launch, port: int) -> list[str]:
    return [str(compiled_limit()), "--port", str(port), *launch.flags()]


_PLAIN = frozenset({"broadcast", "tls"})

#: The servers by name, in the order in which they are shown.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("wshost", "wshost", _wshost(), module="wshost", rival=False),
        Peer("wshost-epoll", "wshost", _wshost("--reactor=epoll"), rival=False),
        Peer("wshost-before", "wshost", _wshost(), rival=False, before=True),
        Peer("picows", "picows", _program("picows_server"), _PLAIN, module="picows"),
        Peer("picows.websockets", "picows", _program("picows_websockets_server"), module="picows.websockets.asyncio"),
        Peer("socketify", "socketify", _program("socketify_server"), module="socketify"),
        Peer("node-ws", "ws", _node),
        Peer("websockets", "websockets", _program("websockets_server"), module="websockets.asyncio.server"),
        Peer("aiohttp", "aiohttp", _program("aiohttp_server"), module="aiohttp.web"),
        Peer("uvicorn", "uvicorn", _uvicorn("websockets-sansio"), module="uvicorn"),
        Peer("uvicorn-wsproto", "uvicorn", _uvicorn("wsproto")),
        Peer("tornado", "tornado", _program("tornado_server"), module="tornado.websocket"),
        Peer("daphne", "daphne", _daphne, _PLAIN, module="daphne.server"),
        Peer("autobahn", "autobahn", _program("autobahn_server"), module="autobahn.twisted.websocket"),
        Peer("twisted.web", "Twisted", _program("twisted_web_server"), _PLAIN, module="twisted.web.websocket"),
        Peer("limit", "", _limit, frozenset({"broadcast"}), rival=False),
    )
}


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


def _environment(peer: Peer) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(peer.root()), "NODE_ENV": "production"}
    # What pip installs is compiled to bytecode. The servers of this checkout are when they have run once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if peer.before:
        # It names this checkout's modules. Another checkout has its own, where `python hatch_build.py` has put them.
        environment.pop("WSHOST_COMPILED", None)
    return environment


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
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=directory,
                env=_environment(peer),
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
            _end(process)


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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a server, as its shutdown is not measured."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
