"""Lists the compared servers: what each can do, and the command that starts it. Does not know what is measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.building import HERE, UnavailableError, built, built_by_go, cache_directory
from benchmarks.servers.answers import STYLES

SCRIPTS = Path(sysconfig.get_path("scripts"))

#: This environment variable names the checkout of another commit, in which `python hatch_build.py` was run. The server
#: wshost-before runs from there.
BEFORE = "WSHOST_BEFORE"

_PLAIN = frozenset({"broadcast", "tls"})
_COMPRESSING = _PLAIN | {"deflate"}
_EVERYTHING = _COMPRESSING | STYLES
#: The features of a server whose plain handler is an `async def` already.
_ASYNC_ECHO = _COMPRESSING | {"echo"}
#: The features of most servers in other languages: their programs have an echo and the JSON handler.
_OTHER = _COMPRESSING | {"json"}


@dataclass(frozen=True)
class Launch:
    """The features that a cell needs of a server."""

    broadcast: bool = False
    deflate: bool = False
    #: The async handler, by its name in `servers/answers.py`; empty for an echo in the server's fastest style.
    style: str = ""
    #: A file with key and certificate, for TLS; or empty.
    cert: str = ""
    #: The server must accept at least so many connections; 0: its default is enough.
    connections: int = 0

    def flags(self) -> list[str]:
        """Return the options for the programs in `servers`."""
        return [
            *(["--broadcast"] if self.broadcast else []),
            *(["--deflate"] if self.deflate else []),
            *([f"--style={self.style}"] if self.style else []),
            *([f"--cert={self.cert}"] if self.cert else []),
        ]


@dataclass(frozen=True)
class Peer:
    """One server."""

    name: str
    #: The distribution package whose version is shown; empty for a server in another language.
    distribution: str
    command: Callable[[Launch, int], list[str]]
    #: The features that it has, of broadcast, deflate, tls and the styles of async handlers.
    can: frozenset[str] = _COMPRESSING
    #: The module that its users import.
    module: str = ""
    #: The language of its handlers.
    language: str = "Python"
    #: Returns the version of a server in another language; raises UnavailableError where it is missing.
    found: Callable[[], str] | None = None
    #: Whether it runs from the checkout of another commit.
    before: bool = False
    #: Whether wshost is compared with it. False for wshost's own rows and for the limit.
    rival: bool = True

    def suits(self, launch: Launch) -> bool:
        """Return whether the server has the features that a cell needs."""
        wanted = {"broadcast": launch.broadcast, "deflate": launch.deflate, "tls": bool(launch.cert)}
        return {feature for feature, needed in wanted.items() if needed} | set(filter(None, [launch.style])) <= self.can

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
        if self.before:
            return str(self.root())
        if self.found is not None:
            return self.found()
        try:
            return f"{self.distribution} {importlib.metadata.version(self.distribution)}"
        except importlib.metadata.PackageNotFoundError:
            raise UnavailableError(f"{self.distribution} is not installed") from None


def node_modules() -> Path:
    """Return the directory in which `make bench` installs npm's packages."""
    return cache_directory() / "node_modules"


@cache
def ws_version() -> str:
    """Return the version of ws for Node.

    :raises UnavailableError: when it or Node is missing.
    """
    if not shutil.which("node"):
        raise UnavailableError("node is not found")
    listed = node_modules() / "ws" / "package.json"
    if not listed.exists():
        raise UnavailableError("npm's package ws is not installed")
    return f"ws {json.loads(listed.read_text())['version']}"


@cache
def runtime(name: str) -> tuple[str, str]:
    """Return the program and the version of Bun or Deno: npm's package, or else the first in the PATH.

    :raises UnavailableError: when it is missing, or does not run.
    """
    own = node_modules() / ".bin" / name
    program = str(own) if own.exists() else shutil.which(name)
    if not program:
        raise UnavailableError(f"{name} is not found")
    return program, f"{name.capitalize()} {_says(Path(program)).removeprefix(f'{name} ').split(' ')[0]}"


def _says(program: Path) -> str:
    """Return the version that a program prints."""
    ended = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UnavailableError(f"{program.name} does not run: {ended.stderr.strip().splitlines()[-1:]}")
    return ended.stdout.split("\n")[0].rstrip("-")


@cache
def compiled_limit() -> Path:
    """Compile the C server, if it has changed; return the program.

    :raises UnavailableError: without a compiler, or when the compiler fails.
    """
    return built("servers/limit.c")


def _program(name: str) -> Callable[[Launch, int], list[str]]:
    def command(launch: Launch, port: int) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.servers.{name}", f"--port={port}", *launch.flags()]

    return command


def _wshost(*twistd: str) -> Callable[[Launch, int], list[str]]:
    def command(launch: Launch, port: int) -> list[str]:
        handler = "wshost.handlers.echo"
        if launch.broadcast:
            handler = "benchmarks.servers.wshost_broadcast"
        elif launch.style:
            handler = f"benchmarks.servers.wshost_async:{launch.style.capitalize()}"
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
            sys.executable,
            "-m",
            "uvicorn",
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
            # A server that is stopped between its turns would miss the answers to its pings.
            "--ws-ping-interval=86400",
            *([f"--ssl-keyfile={launch.cert}", f"--ssl-certfile={launch.cert}"] if launch.cert else []),
        ]

    return command


def _daphne(launch: Launch, port: int) -> list[str]:
    tls = f"ssl:{port}:privateKey={launch.cert}:certKey={launch.cert}:interface=127.0.0.1"
    return [
        sys.executable,
        "-m",
        "daphne",
        "--verbosity=0",
        *([f"--endpoint={tls}"] if launch.cert else ["--bind=127.0.0.1", f"--port={port}"]),
        f"benchmarks.servers.asgi:{'broadcast' if launch.broadcast else 'echo'}",
    ]


def _node(launch: Launch, port: int) -> list[str]:
    program = HERE / "servers" / "ws_server.cjs"
    return ["node", str(program), f"--modules={node_modules()}", f"--port={port}", *launch.flags()]


def _bun(launch: Launch, port: int) -> list[str]:
    return [runtime("bun")[0], str(HERE / "servers" / "bun_server.js"), f"--port={port}", *launch.flags()]


def _deno(launch: Launch, port: int) -> list[str]:
    program = str(HERE / "servers" / "deno_server.js")
    return [
        runtime("deno")[0],
        "run",
        "--quiet",
        "--no-config",
        "--allow-net=127.0.0.1",
        "--allow-read",
        program,
        f"--port={port}",
        *launch.flags(),
    ]


def _gorilla(launch: Launch, port: int) -> list[str]:
    return [str(built_by_go("servers/gorilla_server.go")), f"--port={port}", *launch.flags()]


def _gorilla_version() -> str:
    return f"gorilla, {_says(built_by_go('servers/gorilla_server.go'))}"


def _libwebsockets(launch: Launch, port: int) -> list[str]:
    program = built("servers/libwebsockets_server.c", ["-lwebsockets"])
    return [str(program), f"--port={port}", *launch.flags()]


def _libwebsockets_version() -> str:
    return f"libwebsockets {_says(built('servers/libwebsockets_server.c', ['-lwebsockets']))}"


def _limit_version() -> str:
    compiled_limit()
    return "C"


def _limit(launch: Launch, port: int) -> list[str]:
    return [str(compiled_limit()), "--port", str(port), *launch.flags()]


#: The servers by name, in the order in which they are shown.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("wshost", "wshost", _wshost(), _EVERYTHING, module="wshost", rival=False),
        Peer("wshost-epoll", "wshost", _wshost("--reactor=epoll"), rival=False),
        Peer("wshost-before", "wshost", _wshost(), _EVERYTHING, rival=False, before=True),
        Peer("picows", "picows", _program("picows_server"), _PLAIN, module="picows"),
        Peer(
            "picows.websockets",
            "picows",
            _program("picows_websockets_server"),
            _EVERYTHING,
            module="picows.websockets.asyncio",
        ),
        Peer("socketify", "socketify", _program("socketify_server"), module="socketify"),
        Peer("node-ws", "", _node, _OTHER, language="JavaScript", found=ws_version),
        Peer("bun", "", _bun, _OTHER, language="JavaScript", found=lambda: runtime("bun")[1]),
        Peer("deno", "", _deno, _OTHER - {"deflate"}, language="JavaScript", found=lambda: runtime("deno")[1]),
        Peer(
            "websockets", "websockets", _program("websockets_server"), _EVERYTHING, module="websockets.asyncio.server"
        ),
        Peer("aiohttp", "aiohttp", _program("aiohttp_server"), _EVERYTHING, module="aiohttp.web"),
        Peer("uvicorn", "uvicorn", _uvicorn("websockets-sansio"), _ASYNC_ECHO, module="uvicorn"),
        Peer("uvicorn-wsproto", "uvicorn", _uvicorn("wsproto")),
        Peer(
            "tornado",
            "tornado",
            _program("tornado_server"),
            _ASYNC_ECHO,
            module="tornado.websocket",
        ),
        Peer("daphne", "daphne", _daphne, _PLAIN, module="daphne.server"),
        Peer("autobahn", "autobahn", _program("autobahn_server"), module="autobahn.twisted.websocket"),
        Peer("twisted.web", "Twisted", _program("twisted_web_server"), _PLAIN, module="twisted.web.websocket"),
        Peer("gorilla", "", _gorilla, _OTHER, language="Go", found=_gorilla_version),
        Peer("libwebsockets", "", _libwebsockets, _COMPRESSING, language="C", found=_libwebsockets_version),
        Peer("limit", "", _limit, frozenset({"broadcast", "echo"}), language="C", found=_limit_version, rival=False),
    )
}
