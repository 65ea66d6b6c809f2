"""Runs `load.c`: one process for each server, for all its turns. Does not know cells."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.building import UnavailableError, built
from benchmarks.children import CHILDREN
from benchmarks.frames import WrongAnswerError
from benchmarks.samples import Sample

_TLS = ("-DTLS", "-lssl", "-lcrypto")


@cache
def program(*, tls: bool) -> Path:
    """Compile the load, if it has changed; return the program.

    :raises UnavailableError: without a compiler; for TLS also without OpenSSL's headers.
    """
    return built("load.c", _TLS, "load-tls") if tls else built("load.c")


def missing(*, tls: bool) -> str:
    """Return the reason why the load can't be used; empty if it can."""
    try:
        program(tls=tls)
    except UnavailableError as error:
        return str(error)
    return ""


class CompiledLoad:
    """The connections to one server, in a process of their own.

    :param mode: one of the modes of `load.c`.
    :param port: the server's.
    :param connections: how many there are; in the mode `connect`, how many at the same time.
    :param messages: the messages to send, without line ends.
    :param replies: the answer to each message; None for an echo.
    :param authority: the file with the certificate of the authority that signed the server's; empty without TLS.
    :param options: more options of `load.c`, such as ``{"rate": 20_000}``.
    :raises WrongAnswerError: when the connections can't be opened.
    """

    def __init__(
        self,
        mode: str,
        port: int,
        connections: int,
        messages: Sequence[bytes],
        replies: Sequence[bytes] | None = None,
        *,
        authority: str = "",
        options: Mapping[str, int] | None = None,
    ) -> None:
        # When the load writes its first line, it has read both files.
        with tempfile.NamedTemporaryFile() as asked, tempfile.NamedTemporaryFile() as answered:
            asked.write(b"".join(message + b"\n" for message in messages))
            asked.flush()
            command = [str(program(tls=bool(authority))), mode, f"--port={port}", f"--connections={connections}"]
            command += [f"--messages={asked.name}"]
            if replies is not None:
                answered.write(b"".join(reply + b"\n" for reply in replies))
                answered.flush()
                command += [f"--replies={answered.name}"]
            command += [f"--tls={authority}"] if authority else []
            command += [f"--{name.replace('_', '-')}={value}" for name, value in (options or {}).items()]
            pipe = subprocess.PIPE
            self._process = CHILDREN.start(
                lambda: subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace")
            )
            try:
                self._answer()
            except BaseException:
                self.close()
                raise

    def _answer(self) -> dict[str, Any]:
        """Return its next line.

        :raises WrongAnswerError: when it has ended; the message is its last line.
        """
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().removeprefix("load: ")
            raise WrongAnswerError(said or f"the load ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def turn(self, seconds: float, cpu: Callable[[], float]) -> Sample:
        """Send for so many seconds, then wait for the last answers; return the figures.

        :param cpu: returns the server's CPU time so far, in seconds.
        :raises WrongAnswerError: when an answer is wrong or missing.
        """
        assert self._process.stdin
        before = cpu()
        with suppress(BrokenPipeError):  # the load has ended: `_answer` says why
            self._process.stdin.write(f"run {seconds}\n")
            self._process.stdin.flush()
        said = self._answer()
        used = cpu() - before
        count, took = said["messages"], said["seconds"]
        return Sample(
            cpu_us=used / count * 1e6,
            per_second=count / took,
            p50_us=said["p50_us"],
            p99_us=said["p99_us"],
            p999_us=said["p999_us"],
            max_us=said["max_us"],
            busy=used / took,
            seconds=took,
        )

    def close(self) -> None:
        """End the process, which closes the connections."""
        self._process.kill()
        self._process.communicate()
