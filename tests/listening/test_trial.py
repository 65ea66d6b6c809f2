from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import ServerFactory

from tests.ports import Reactor
from wshost.listening.listener import Listener
from wshost.listening.trial import is_served, try_all
from wshost.results import ConfigurationError


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def endpoints(reactor: Reactor, *descriptions: str) -> list[tuple[Listener, IProtocolFactory]]:
    return [(Listener(reactor, one, None), ServerFactory()) for one in descriptions]


def use(monkeypatch: pytest.MonkeyPatch, reactor: Reactor, number: int, *used: tuple[str, int]) -> None:
    """Let these interfaces and ports be had no more, as if somebody listened there."""
    listen = reactor.listenTCP

    def try_to_listen(port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if (interface, port) in used:
            raise CannotListenError(interface, port, OSError(number, "no"))
        return listen(port, factory, backlog, interface)

    monkeypatch.setattr(reactor, "listenTCP", try_to_listen)


class TestTCP:
    def test_endpoints_that_can_be_had_listen(self, reactor: Reactor) -> None:
        assert try_all(endpoints(reactor, "tcp:1", "tcp:2")) == []
        assert [port for port, *_ in reactor.tcpServers] == [1, 2]

    def test_those_that_another_server_has_are_returned_and_the_others_listen(
        self, monkeypatch: pytest.MonkeyPatch, reactor: Reactor
    ) -> None:
        use(monkeypatch, reactor, errno.EADDRINUSE, ("", 1), ("::1", 3))
        taken = try_all(endpoints(reactor, "tcp:1", "tcp:2", r"tcp6:3:interface=\:\:1"))
        assert list(map(str, taken)) == ["can't listen on *:1: no", "can't listen on ::1:3: no"]
        assert [port for port, *_ in reactor.tcpServers] == [2]

    def test_what_can_not_be_had_is_an_error_whatever_another_server_has(
        self, monkeypatch: pytest.MonkeyPatch, reactor: Reactor
    ) -> None:
        use(monkeypatch, reactor, errno.EADDRINUSE, ("", 1))
        use(monkeypatch, reactor, errno.EACCES, ("", 2))
        with pytest.raises(ConfigurationError, match=r"^can't listen on \*:2: no$"):
            try_all(endpoints(reactor, "tcp:1", "tcp:2"))

    @pytest.mark.parametrize(
        ("first", "second", "used"),
        [
            ("tcp:1:interface=127.0.0.1", "tcp:1:interface=127.0.0.1", "127.0.0.1"),
            ("tcp:1", "tcp:1:interface=127.0.0.1", "127.0.0.1"),
            ("tcp:1:interface=127.0.0.1", "tcp:1:interface=0.0.0.0", "0.0.0.0"),
        ],
    )
    def test_a_port_that_another_endpoint_of_the_server_has_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, reactor: Reactor, first: str, second: str, used: str
    ) -> None:
        both = endpoints(reactor, first, second)
        assert try_all(both[:1]) == []
        use(monkeypatch, reactor, errno.EADDRINUSE, (used, 1))
        with pytest.raises(ConfigurationError, match=f"^can't listen on {used}:1: no$"):
            try_all(both)

    @pytest.mark.parametrize("first", ["tcp:2", "tcp:1:interface=127.0.0.2"])
    def test_a_port_that_an_endpoint_beside_it_does_not_need_is_another_servers(
        self, monkeypatch: pytest.MonkeyPatch, reactor: Reactor, first: str
    ) -> None:
        use(monkeypatch, reactor, errno.EADDRINUSE, ("127.0.0.1", 1))
        assert len(try_all(endpoints(reactor, first, "tcp:1:interface=127.0.0.1"))) == 1


class TestUnix:
    def test_a_socket_that_can_be_made_is_not_made(self, reactor: Reactor) -> None:
        assert try_all(endpoints(reactor, "unix:x", "unix:address=y", "tcp:1")) == []
        assert reactor.unixServers == []
        assert list(Path().iterdir()) == []

    def test_a_path_of_two_endpoints_is_an_error(self, reactor: Reactor) -> None:
        with pytest.raises(ConfigurationError, match=r"^can't listen on unix:\./x: another endpoint is there, too$"):
            try_all(endpoints(reactor, "unix:x", "tcp:1", "unix:./x"))

    def test_a_socket_on_which_a_server_listens_is_another_servers(self, reactor: Reactor) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
            server.listen()
            taken = try_all(endpoints(reactor, "unix:x"))
        assert list(map(str, taken)) == ["can't listen on unix:x: a server listens there already"]

    def test_what_can_not_be_made_is_an_error(self, reactor: Reactor) -> None:
        with pytest.raises(ConfigurationError, match=r"^can't listen on unix:none/x: No such file or directory$"):
            try_all(endpoints(reactor, "unix:none/x"))
        with pytest.raises(ConfigurationError, match=r"^can't listen on unix:x+: AF_UNIX path too long$"):
            try_all(endpoints(reactor, f"unix:{'x' * 120}"))


class TestIsServed:
    def test_a_socket_of_a_server_that_has_no_time_is_served(self) -> None:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("x")
            server.listen(0)
            client.connect("x")
            assert is_served("x")

    def test_a_socket_that_a_killed_server_has_left_is_not_served(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
        assert not is_served("x")

    def test_an_abstract_name_needs_no_folder(self) -> None:
        name = "\0wshost/none"
        assert not is_served(name)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            server.listen()
            assert is_served(name)

    def test_anything_else_in_its_place_is_an_error(self) -> None:
        Path("file").touch()
        Path("link").symlink_to("nowhere")
        for name in ("file", "link", "."):
            with pytest.raises(FileExistsError, match="what is there is no socket"):
                is_served(name)

    def test_a_socket_of_another_kind_is_an_error(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind("x")
            with pytest.raises(OSError, match="Protocol wrong type for socket"):
                is_served("x")

    def test_a_folder_in_which_nothing_can_be_made_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(PermissionError):
            is_served("x")
