"""Starts a server in a tenth of a second: a process that has imported Twisted forks, and the fork becomes `twistd`.

Run as a program, it is that process. It imports nothing of wshost, so that each server does so itself, and installs no
reactor. Each request comes by a Unix socket, with two descriptors: for the output, and for the exit status.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

#: What takes longest to import of what `twistd wshost` needs.
PRELOADED = (
    "OpenSSL.SSL",
    "autobahn.websocket.protocol",
    "cryptography.x509",
    "isal.isal_zlib",
    "service_identity",
    "tomllib",
    "twisted.application.app",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.internet.epollreactor",
    "twisted.internet.ssl",
    # Those of others, which twistd looks at, too.
    "twisted.plugins.autobahn_twistd",
    "twisted.plugins.twisted_conch",
    "twisted.plugins.twisted_inet",
    "twisted.plugins.twisted_web",
    "twisted.plugins.twisted_words",
    "twisted.protocols.tls",
    "twisted.scripts.twistd",
    "uvloop",
)


class ForkedProcess:
    """A server that was forked; the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: Sequence[str], cwd: str, env: Mapping[str, str], output: IO[bytes]) -> None:
        self._status, theirs = socket.socketpair()
        self.returncode: int | None = None
        with theirs:
            request = json.dumps([list(words), cwd, dict(env)]).encode()
            socket.send_fds(_forker(), [len(request).to_bytes(4)], [output.fileno(), theirs.fileno()])
            _forker().sendall(request)
        self.pid = int.from_bytes(self._status.recv(4))
        assert self.pid, "the process that forks servers has ended"

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the server runs."""
        return self._wait(0)

    def wait(self, timeout: float) -> int:
        """Wait for the end. :raises subprocess.TimeoutExpired: when it does not come in time."""
        status = self._wait(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("twistd", timeout)
        return status

    def send_signal(self, how: int) -> None:
        # A process that has just ended may be gone before its exit status is here.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int.from_bytes(self._status.recv(4), signed=True)
            self._status.close()
        return self.returncode


@cache
def _forker() -> socket.socket:
    """Start the process that forks; it ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _become(words: list[str], cwd: str, env: dict[str, str], output: int) -> None:
    """Run a script as if this process had been started for it."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 64)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")


def _main(requests: socket.socket) -> None:
    """Fork a keeper for each request, which forks the server, waits for its end and reports its exit status."""
    keepers: list[int] = []
    while True:
        size, descriptors, _, _ = socket.recv_fds(requests, 4, 2)
        if not size:
            break
        output, status = descriptors
        words, cwd, env = json.loads(requests.recv(int.from_bytes(size), socket.MSG_WAITALL))
        if keeper := os.fork():
            os.close(output)
            os.close(status)
            keepers = [one for one in [*keepers, keeper] if not os.waitpid(one, os.WNOHANG)[0]]
            continue
        requests.detach()
        if server := os.fork():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.write(status, server.to_bytes(4))
            ended = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
            os.write(status, ended.to_bytes(4, signed=True))
            os._exit(0)
        _become(words, cwd, env, output)
        return
    for keeper in keepers:
        os.waitpid(keeper, 0)


if __name__ == "__main__":
    # A shell has what it starts in the background ignore SIGINT, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As wshost does: Autobahn asks for it at its import.
    __import__("txaio").use_twisted()
    for name in PRELOADED:
        __import__(name)
    _main(socket.socket(fileno=int(sys.argv[1])))
