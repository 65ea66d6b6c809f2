"""Drives `load.c`: one process for each server, kept open while the servers take turns; knows nothing of cells."""

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
from benchmarks.frames import WrongAnswerError
from benchmarks.samples import Sample

#: What OpenSSL's headers are found by is the compiler: without them the load is built without TLS.
_TLS = ("-DTLS", "-lssl", "-lcrypto")


@cache
def program(*, tls: bool) -> Path:
    """Compile the load.

    :raises UnavailableError: without a compiler, or for TLS without OpenSSL's headers.
    """
    return built("load.c", _TLS, "load-tls") if tls else built("load.c")


def missing(*, tls: bool) -> str:
    """Say why the load can't be used; empty when it can."""
    try:
        program(tls=tls)
    except UnavailableError as error:
        return str(error)
    return ""


class CompiledLoad:
    """The connections to one server, in a process of their own.

    :param mode: one of the modes of `load.c`.
    :param port: the server's.
    :param connections: so many; in the mode `connect` as many at one time.
    :param messages: what is sent, without line ends.
    :param replies: what is to come back, message by message, where that is something else.
    :param authority: the file of the certificate that signed the server's, for TLS.
    :param options: others of `load.c`, such as ``{"rate": 20_000}``.
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
        # The load has read them when it says its first word.
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
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            try:
                #: Seconds that it took to open the connections.
                self.opened_in = float(self._answer()["seconds"])
            except BaseException:
                self.close()
                raise

    def _answer(self) -> dict[str, Any]:
        """Read its next line.

        :raises WrongAnswerError: when it has ended; with what it says of that.
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
        """Let it send for so many seconds, and until all answers have come.

        :param cpu: the seconds of CPU that the server has had until now.
        :raises WrongAnswerError: when an answer is wrong, or missing.
        """
        assert self._process.stdin
        before = cpu()
        with suppress(BrokenPipeError):  # why it has ended is read below
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
        """End it, and with it the connections."""
        self._process.kill()
        self._process.communicate()
