from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from wshost.process import open_files
from wshost.process.open_files import OTHERS, raise_limit, shortage

INFINITE = resource.RLIM_INFINITY


class Limits:
    """The process's, as it would have them."""

    def __init__(self, soft: int, hard: int, error: Exception | None = None) -> None:
        self.now = (soft, hard)
        self.error = error

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        if self.error is not None:
            raise self.error
        self.now = limits


class TestRaiseLimit:
    @pytest.mark.parametrize(
        ("limits", "then", "may"),
        [
            (Limits(1024, 524_288), (524_288, 524_288), 524_288),
            (Limits(4096, 4096), (4096, 4096), 4096),
            (Limits(256, INFINITE), (INFINITE, INFINITE), None),
            (Limits(256, INFINITE, ValueError("not allowed")), (256, INFINITE), 256),
            (Limits(256, 512, OSError("no")), (256, 512), 256),
        ],
    )
    def test_the_limit_is_raised_to_the_hard_limit(
        self, monkeypatch: pytest.MonkeyPatch, limits: Limits, then: tuple[int, int], may: int | None
    ) -> None:
        monkeypatch.setattr(resource, "getrlimit", limits.get)
        monkeypatch.setattr(resource, "setrlimit", limits.set)
        assert raise_limit() == may
        assert limits.now == then

    def test_without_the_module_resource_there_is_no_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "resource", None)
        assert raise_limit() is None


class TestShortage:
    @pytest.mark.parametrize(("limit", "connections"), [(None, 1_000_000), (1000 + OTHERS, 1000)])
    def test_there_is_no_shortage_where_all_connections_fit(self, limit: int | None, connections: int) -> None:
        assert shortage(limit, connections) is None

    @pytest.mark.parametrize(("limit", "room"), [(1049, 999), (60, 10), (20, 0)])
    def test_a_shortage_is_told_with_its_numbers(self, limit: int, room: int) -> None:
        assert shortage(limit, 1000) == (
            f"max-connections is 1000, and this process may have {limit} files open: that is enough for about {room} "
            "connections, others will be closed at once. Raise the hard limit on open files to 1050 (ulimit -Hn, "
            "LimitNOFILE= of systemd), or lower max-connections"
        )


class TestStandardStreams:
    def test_one_that_is_closed_is_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fstat = os.fstat

        def closed(descriptor: int) -> os.stat_result:
            if descriptor == 1:
                raise OSError
            return fstat(descriptor)

        opened: list[str] = []
        monkeypatch.setattr(os, "fstat", closed)
        monkeypatch.setattr(os, "open", lambda path, _: opened.append(path))
        open_files.open_standard_streams()
        monkeypatch.undo()
        assert opened == [os.devnull]

    def test_no_socket_gets_the_number_of_a_closed_one(self) -> None:
        program = (
            "import os; os.close(2)\nfrom wshost.process import open_files; open_files.open_standard_streams()\n"
            "import socket; print(socket.socket().fileno() > 2, os.readlink('/proc/self/fd/2'))"
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30)
        assert done.stdout == "True /dev/null\n"
