"""Runs `twistd wshost` or `wshost` in processes of its own; must not know what is tested with them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from tests.integration.fork_server import ForkedProcess

#: The scripts of the environment that runs the tests.
SCRIPTS = Path(sysconfig.get_path("scripts"))
#: Becomes the command that follows, which SIGINT can end: in the background of a script, a shell has it ignored, and
#: what is ignored is inherited.
INTERRUPTIBLE = (
    sys.executable,
    "-ISc",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
)

#: How many seconds to wait for what must come, on a machine that may be very busy.
PATIENCE = 60.0

_LISTENING = re.compile(r"wshost listening on (\S+)")
_PORT = re.compile(r":(\d+)$")


def listening_ports(pid: int) -> list[int]:
    """Return the TCP ports at which a process listens; asked of the kernel, as its ports are soon those of others."""
    descriptors = Path(f"/proc/{pid}/fd")
    sockets = {descriptor.readlink().name for descriptor in descriptors.iterdir()}
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


class Server:
    """A server in its own process; its log goes to a file that nobody needs to empty."""

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self.pid = process.pid
        #: Where it listens, as its log says: ``ws://127.0.0.1:40000``; of several listeners the first.
        self.url = ""

    @property
    def port(self) -> int:
        """The TCP port in `url`."""
        found = _PORT.search(self.url)
        assert found, f"{self.url} has no port"
        return int(found[1])

    @property
    def listening_ports(self) -> list[int]:
        """The TCP ports at which the process listens; see `listening_ports`."""
        return listening_ports(self.pid)

    @property
    def log(self) -> str:
        """What the process has written so far, log and stderr."""
        return os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0).decode()

    def wait_for(self, pattern: str | re.Pattern[str], seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until the log has a match.

        :raises AssertionError: when the process ended, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = self._process.poll()
            found = re.search(pattern, self.log)
            if found:
                return found
            assert ended is None, f"the server ended with {ended}:\n{self.log}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds} s in:\n{self.log}"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> tuple[int, str]:
        """Send a signal, and wait for the end.

        :returns: the exit status (negative: the signal that ended it) and everything that the process has written.
        """
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait(seconds)

    def wait(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Wait for the end; returns what `stop` does."""
        try:
            return self._process.wait(seconds), self.log
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(seconds)
            raise


@contextmanager
def running_server(
    *options: str,
    reactor: str | None = None,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    command: Literal["twistd", "twist", "wshost"] = "twistd",
    application: str | None = None,
    before: Sequence[str] = (),
    own: Sequence[str] = ("--nodaemon", "--pidfile="),
    ready: re.Pattern[str] = _LISTENING,
    forked: bool = True,
    port: Sequence[str] = ("--port", "0"),
) -> Iterator[Server]:
    """Run `twistd wshost` in the foreground until the block ends.

    A free port and the echo handler are taken where the options name none.

    :param options: those of `wshost`.
    :param reactor: a name for twistd's `--reactor`.
    :param cwd: the working directory.
    :param env: variables beside those of this process.
    :param command: twist or `wshost` itself may run it instead.
    :param application: a ``.tac`` file for twistd to run instead of the plugin; it then takes no options.
    :param before: a command that becomes the server in the end, by ``exec``.
    :param own: options of twistd itself.
    :param ready: what its log says when the block may begin; the URL, if there is one, is the first group.
    :param forked: start it quickly, by `ForkedProcess`. Where it can't be, it is started as a shell does it: behind
        another command, and with variables that Python itself reads.
    :param port: the options that say where it listens if none of `options` does.
    """
    words = [str(SCRIPTS / command), *{"twistd": own, "twist": ["--log-format=text"], "wshost": ()}[command]]
    if reactor:
        words.append(f"--reactor={reactor}")
    if application:
        words += ["--python", application]
    else:
        words += [*(() if command == "wshost" else ("wshost",)), *_completed(options, port)]
    with tempfile.TemporaryFile() as output:
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        process: subprocess.Popen[bytes] | ForkedProcess
        if forked and not before and not any(name.startswith("PYTHON") for name in env or {}):
            process = ForkedProcess(words, str(cwd or Path.cwd()), variables, output)
        else:
            process = subprocess.Popen(
                [*INTERRUPTIBLE, *before, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=variables,
            )
        server = Server(process, output)
        try:
            found = server.wait_for(ready)
            server.url = found[1] if found.lastindex else ""
            yield server
        finally:
            server.stop()


def _completed(options: Sequence[str], port: Sequence[str]) -> list[str]:
    given = {option.partition("=")[0] for option in options}
    port = () if given & {"--port", "--listen", "--config"} else port
    handler = ("--handler", "wshost.handlers.echo")
    return [*port, *(() if given & {"--handler", "--route", "--protocol-module", "--config"} else handler), *options]
