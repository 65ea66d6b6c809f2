"""Runs brokers in processes of their own, on free ports of the loopback; must not know what is tested with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.integration.server import PATIENCE, SCRIPTS


class NatsServer:
    """A NATS server, which may be killed and started again at the same port.

    :param directory: for its files.
    :param output: for its log.
    :param options: of the command ``nats-server``.
    :param configuration: the text of a file that it reads.
    """

    def __init__(self, directory: Path, output: IO[bytes], *options: str, configuration: str = "") -> None:
        self._directory = directory
        file = directory / "nats.conf"
        file.write_text(configuration)
        self._options = [*options, "--config", str(file), "--ports_file_dir", str(directory)]
        self._log = output
        #: Where clients and other servers connect; -1 lets the system choose.
        self.port = self.cluster_port = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        deadline = time.monotonic() + PATIENCE
        ports = None
        while ports is None:
            # Started again, it may find that a connection of others has its port for a moment.
            assert time.monotonic() < deadline, f"the NATS server does not listen:\n{self.log}"
            self._process = subprocess.Popen(
                [str(SCRIPTS / "nats-server"), "--addr", "127.0.0.1", "--port", str(self.port), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "GOMEMLIMIT": "256MiB", "GOMAXPROCS": "2"},
            )
            ports = self._ports(self._process, deadline)
        self.port = _port(ports["nats"])
        self.cluster_port = _port(ports["cluster"]) if "cluster" in ports else -1

    def _ports(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
        """Wait for the file that it writes when it listens; None if its port is taken."""
        file = self._directory / f"nats-server_{process.pid}.ports"
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError, ValueError):
                ports: dict[str, Any] = json.loads(file.read_text())
                return ports
            time.sleep(0.02)
        taken = self.port != -1 and "address already in use" in self.log
        assert process.poll() is None or taken, f"the NATS server ended with {process.returncode}:\n{self.log}"
        return None

    def send(self, how: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(how)

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does; harmless if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def cpu(self) -> float:
        """How many seconds of CPU it has used."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _port(urls: list[str]) -> int:
    return int(urls[0].rpartition(":")[2])


@contextmanager
def nats_server(directory: Path, *options: str, configuration: str = "") -> Iterator[NatsServer]:
    """Run a NATS server until the block ends."""
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as output:
        server = NatsServer(directory, output, *options, configuration=configuration)
        try:
            server.start()
            yield server
        finally:
            server.kill()
