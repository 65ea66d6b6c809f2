from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from wshost.process import passed_sockets
from wshost.process.passed_sockets import PassedSockets, take

#: Where the sockets of these tests begin: nothing else is there.
FIRST = 700

Pass = Callable[..., dict[str, str]]


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Passes files to this process, as systemd does; returns the variables."""
    monkeypatch.setattr(passed_sockets, "FIRST", FIRST)
    passed: list[int] = []

    def pass_on(*files: socket.socket | IO[str], names: str | None = None) -> dict[str, str]:
        for place, one in enumerate(files):
            os.dup2(one.fileno(), FIRST + place)
            passed.append(FIRST + place)
            one.close()
        named = {} if names is None else {"LISTEN_FDNAMES": names}
        return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(files)), **named}

    yield pass_on
    for descriptor in passed:
        os.close(descriptor)


def test_sockets_have_names_and_domains_in_their_order(passing: Pass) -> None:
    environ = passing(socket.socket(socket.AF_UNIX), socket.socket(), names="chat:admin")
    passed = take(environ)
    assert [(one.index, one.name, one.domain) for one in passed.sockets] == [(0, "chat", "UNIX"), (1, "admin", "INET")]
    assert [str(one) for one in passed.sockets] == ["700 (chat)", "701 (admin)"]
    assert passed.error is None


@pytest.mark.parametrize("names", [None, ""])
def test_sockets_without_names_are_named_as_systemd_names_them(passing: Pass, names: str | None) -> None:
    """Twisted takes no sockets without names."""
    environ = passing(socket.socket(), socket.socket(), names=names)
    assert [one.name for one in take(environ).sockets] == ["unknown", "unknown"]
    assert environ == {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "unknown:unknown"}


def test_programs_that_this_process_starts_do_not_get_the_sockets(passing: Pass) -> None:
    environ = passing(socket.socket())
    assert os.get_inheritable(FIRST)
    take(environ)
    assert not os.get_inheritable(FIRST)


@pytest.mark.parametrize("pid", [None, "1", "", "x"])
def test_what_is_meant_for_another_process_is_left_alone(pid: str | None) -> None:
    environ = {"LISTEN_FDS": "1"} if pid is None else {"LISTEN_PID": pid, "LISTEN_FDS": "1"}
    before = dict(environ)
    assert take(environ) == PassedSockets()
    assert environ == before


def test_a_file_has_no_domain(passing: Pass, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        [passed] = take(passing(file)).sockets
    assert passed.domain is None


class TestWrongVariables:
    @pytest.mark.parametrize("count", ["x", "-1", "", "1.5", "\N{SUPERSCRIPT TWO}", "9999999999"])
    def test_a_count_that_is_none_is_an_error(self, count: str) -> None:
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
        assert take(environ) == PassedSockets(error=f"LISTEN_FDS: {count!r} is no number of sockets")

    def test_a_count_is_missing(self) -> None:
        assert take({"LISTEN_PID": str(os.getpid())}).error == "LISTEN_FDS: '' is no number of sockets"

    def test_a_descriptor_is_missing(self, passing: Pass) -> None:
        environ = {**passing(socket.socket()), "LISTEN_FDS": "1000000"}
        assert take(environ).error == "LISTEN_FDS=1000000: descriptor 701: Bad file descriptor"

    def test_each_socket_needs_a_name_if_one_has_a_name(self, passing: Pass) -> None:
        environ = passing(socket.socket(), names="a:b")
        assert take(environ).error == "LISTEN_FDNAMES has 2 names, but LISTEN_FDS is 1"

    def test_wrong_variables_are_removed_as_twisted_would_use_them(self) -> None:
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "a", "HOME": "/"}
        take(environ)
        assert environ == {"HOME": "/"}


class TestUse:
    def test_a_socket_is_used_when_its_descriptor_was_closed(self, passing: Pass) -> None:
        [passed] = take(passing(socket.socket())).sockets
        assert not passed.is_used
        os.close(FIRST)
        assert passed.is_used
        os.dup2(2, FIRST)  # for the fixture

    def test_a_socket_is_used_when_its_descriptor_is_another_files(self, passing: Pass) -> None:
        [passed] = take(passing(socket.socket())).sockets
        os.dup2(2, FIRST)
        assert passed.is_used


def test_nothing_was_passed_to_the_process_that_runs_the_tests() -> None:
    found = passed_sockets.PASSED
    assert found == PassedSockets()
