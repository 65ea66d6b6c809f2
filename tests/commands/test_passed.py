from __future__ import annotations

import pytest

from wshost.commands.passed import options, unused
from wshost.process.passed_sockets import FIRST, PassedSocket, PassedSockets
from wshost.results import ConfigurationError

#: That of no file.
IDENTITY = (-1, -1)


def passed(*sockets: tuple[str, str | None]) -> PassedSockets:
    """Sockets of these names and domains."""
    return PassedSockets(
        tuple(PassedSocket(FIRST + place, *one, IDENTITY) for place, one in enumerate(sockets)),
    )


def test_clients_get_all_sockets() -> None:
    found = options(passed(("chat.socket", "INET"), ("chat.socket", "INET6"), ("local", "UNIX")), {"handler"})
    assert found == {
        "listen": ["systemd:domain=INET:index=0", "systemd:domain=INET6:index=1", "systemd:domain=UNIX:index=2"]
    }


def test_the_first_socket_that_is_named_so_is_the_operators() -> None:
    found = options(passed(("admin", "UNIX"), ("chat", "INET"), ("admin", "INET")), ())
    assert found == {"listen": ["systemd:domain=INET:index=1"], "admin": "systemd:domain=UNIX:index=0"}


def test_the_operators_socket_is_never_for_clients() -> None:
    assert options(passed(("admin", "UNIX")), {"admin"}) == {}


@pytest.mark.parametrize("given", ["port", "interface", "listen"])
def test_a_command_that_is_told_where_to_listen_listens_there(given: str) -> None:
    assert options(passed(("chat", "INET"), ("admin", "INET")), {given, "handler"}) == {}


def test_nothing_is_passed() -> None:
    assert options(PassedSockets(), ()) == {}
    assert unused(PassedSockets()) is None


def test_wrong_variables_are_an_error_whatever_is_given() -> None:
    with pytest.raises(ConfigurationError, match=r"^LISTEN_FDS is wrong$"):
        options(PassedSockets(error="LISTEN_FDS is wrong"), {"port"})


@pytest.mark.parametrize("name", ["chat", "admin"])
def test_what_is_no_socket_can_not_be_served(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^systemd has passed the descriptor 3 \({name}\), which is no socket$"
    ):
        options(passed((name, None)), ())


def test_sockets_that_nothing_listens_on_are_named() -> None:
    idle = tuple(PassedSocket.of(descriptor, name) for descriptor, name in ((0, "in"), (2, "err")))
    used = passed(("chat", "INET")).sockets
    line = unused(PassedSockets((*used, *idle)))
    assert line == "systemd has passed sockets that nothing listens on: 0 (in), 2 (err)"
