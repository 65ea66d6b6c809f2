from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.commands.given import ECHO, parsed
from tests.ports import Reactor
from wshost import chain
from wshost.commands import start
from wshost.commands.log import Log
from wshost.commands.one_line import Exit
from wshost.connections.handover import Frozen
from wshost.connections.home import Home
from wshost.process import passed_sockets, takeover
from wshost.process.passed_sockets import PassedSocket, PassedSockets
from wshost.process.takeover import TakeoverError
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import Settings
from wshost.workers.kit import Kit


class Notifier:
    """Notes what systemd is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ready(self, status: str) -> None:
        self.told.append(("ready", status))

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self, status: str) -> None:
        self.told.append(("stopping", status))

    def live(self, reactor: Any) -> None:
        self.told.append(("live", reactor))


@pytest.fixture
def notifier(monkeypatch: pytest.MonkeyPatch) -> Notifier:
    notifier = Notifier()
    monkeypatch.setattr(start, "Notifier", lambda: notifier)
    return notifier


def test_systemd_is_told_when_clients_are_served_and_what_the_drain_waits_for(
    reactor: Reactor, notifier: Notifier
) -> None:
    options = parsed(*ECHO, "--port=80")
    server = start.start(options, options.settings(), {})
    server.startService()
    assert notifier.told == [("ready", "serving"), ("live", reactor)]
    server.stopService()
    assert notifier.told[2:] == [("stopping", "waiting for 0 connections")]


def test_systemd_is_told_of_a_reload_and_of_its_end(reactor: Reactor, notifier: Notifier) -> None:
    options = parsed(*ECHO, "--port=80")
    server = start.start(options, options.settings(), {})
    server.startService()
    server.reload()
    assert notifier.told[2:] == ["reloading"]
    reactor.advance(0)
    assert notifier.told[2:] == ["reloading", ("ready", "serving")]


def test_systemd_is_told_of_the_end_of_reloads_when_the_last_has_ended(
    reactor: Reactor, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = parsed(*ECHO, "--port=80")
    server = start.start(options, options.settings(), {})
    server.startService()
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    monkeypatch.setattr(chain, "reload_handlers", lambda *_: ["chat"])
    assert isinstance(server, Server)
    monkeypatch.setattr(server._hub, "renew", iter([first, second]).__next__)
    for _ in range(2):
        server.reload()
        reactor.advance(0)
    first.callback(0)
    assert notifier.told[2:] == ["reloading", "reloading"]
    second.callback(0)
    assert notifier.told[2:] == ["reloading", "reloading", ("ready", "serving")]


def test_systemd_is_told_of_no_reload_of_a_server_that_does_not_serve(reactor: Reactor, notifier: Notifier) -> None:
    options = parsed(*ECHO, "--port=80")
    server = start.start(options, options.settings(), {})
    server.reload()
    reactor.advance(0)
    assert notifier.told == []


def test_systemd_is_not_told_that_a_server_serves_which_stops_while_it_reloads(
    reactor: Reactor, notifier: Notifier
) -> None:
    options = parsed(*ECHO, "--port=80")
    server = start.start(options, options.settings(), {})
    server.startService()
    server.reload()
    server.stopService()
    reactor.advance(0)
    assert notifier.told[2:] == ["reloading", ("stopping", "waiting for 0 connections")]


def test_a_command_takes_systemds_variables(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    options = parsed(*ECHO, "--port=80")
    start.start(options, options.settings(), {})
    assert "NOTIFY_SOCKET" not in os.environ


def test_a_passed_socket_that_nothing_listens_on_is_warned_of(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passed_sockets, "PASSED", PassedSockets((PassedSocket.of(0, "chat"),)))
    options = parsed(*ECHO, "--port=80")
    with capturedLogs() as events:
        start.start(options, options.settings(), {})
    warnings = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    assert warnings == ["systemd has passed sockets that nothing listens on: 0 (chat)"]


def test_a_command_takes_the_names_of_sockets_that_twisted_leaves(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_FDNAMES", "chat")
    options = parsed(*ECHO, "--port=80")
    start.start(options, options.settings(), {})
    assert "LISTEN_FDNAMES" not in os.environ


def test_programs_that_a_handler_starts_when_it_is_imported_do_not_inherit_systemds_variables(
    reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os\nseen = 'NOTIFY_SOCKET' in os.environ\ninit = handle = print\n"
    (tmp_path / "starting_handler.py").write_text(source, encoding="ascii")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    options = parsed("--handler=starting_handler", "--port=80")
    start.start(options, options.settings(), {})
    assert not sys.modules["starting_handler"].seen


class Predecessor:
    """The process before this one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go: Any = None
        self.adopt: Any = None
        self.ended: Any = None
        self.ready: Any = None
        self.closed = False
        self.answer: dict[str, Any] = {"workers": 5}

    def ask(self, names: Sequence[str]) -> dict[str, Any]:
        self.asked += names
        return {}

    def succeed(self, reactor: Any, go: Any, adopt: Any, ended: Any, ready: Any) -> None:
        self.go, self.adopt, self.ended, self.ready = go, adopt, ended, ready

    def close(self) -> None:
        self.closed = True


class Offer:
    """Notes whether it waits for a successor."""

    made: ClassVar[list[Offer]] = []
    error: ClassVar[OSError | None] = None

    def __init__(self, reactor: Any, path: Path, share: Any, give_up: Any, answer: Any) -> None:
        self.path, self.share, self.give_up, self.answer = path, share, give_up, answer
        self.listening = False
        self.made.append(self)

    def listen(self) -> None:
        if self.error is not None:
            raise self.error
        self.listening = True

    def stop(self) -> None:
        self.listening = False


class Channel:
    """What a successor is sent."""

    takes_connections = True

    def __init__(self, error: OSError | None = None) -> None:
        self.sent: list[Any] = []
        self.closed = False
        self._error = error

    def send(self, *args: Any) -> None:
        if self._error is not None:
            raise self._error
        self.sent.append(args)

    def close(self) -> None:
        self.closed = True


@pytest.mark.usefixtures("notifier")
class TestTakeover:
    @pytest.fixture(autouse=True)
    def _offers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(takeover, "Offer", Offer)
        monkeypatch.setattr(takeover, "find", lambda path: None)
        monkeypatch.setattr(Offer, "made", [])

    @pytest.fixture
    def predecessor(self, monkeypatch: pytest.MonkeyPatch) -> Predecessor:
        predecessor = Predecessor()
        monkeypatch.setattr(takeover, "find", lambda path: predecessor)
        return predecessor

    def server(self) -> start.CommandServer:
        options = parsed(*ECHO, "--port=80", "--takeover=/run/chat/takeover")
        server = start.start(options, options.settings(), {})
        assert isinstance(server, start.CommandServer)
        return server

    def test_without_the_option_there_is_none(self, reactor: Reactor) -> None:
        options = parsed(*ECHO, "--port=80")
        start.start(options, options.settings(), {}).startService()
        assert Offer.made == []

    def test_the_first_process_waits_for_a_successor_until_it_stops(self, reactor: Reactor) -> None:
        server = self.server()
        server.startService()
        (offer,) = Offer.made
        assert (offer.path, offer.listening) == (Path("/run/chat/takeover"), True)
        assert offer.answer() == {"workers": 0}
        server.stopService()
        assert not offer.listening

    def test_a_path_that_can_not_be_used_ends_the_start(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Offer, "error", PermissionError(13, "Permission denied"))
        with pytest.raises(Exit) as caught:
            self.server().startService()
        assert str(caught.value) == "takeover: /run/chat/takeover: Permission denied"

    def test_a_process_that_can_not_be_taken_over_ends_the_start(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def find(path: Path) -> Any:
            raise TakeoverError("the other process is of another user")

        monkeypatch.setattr(takeover, "find", find)
        with pytest.raises(ConfigurationError) as caught:
            self.server()
        assert str(caught.value) == "takeover: /run/chat/takeover: the other process is of another user"

    def test_a_successor_serves_when_the_process_before_has_given_up(
        self, reactor: Reactor, predecessor: Predecessor
    ) -> None:
        server = self.server()
        assert predecessor.asked == server.endpoints
        server.startService()
        assert predecessor.go is not None
        assert not server.ready
        predecessor.go({"opened": 7, "home": ["web-1", "hD3kP0aQ9zE"]})
        assert server.ready
        assert server._hub is not None
        assert server._hub.shared.account.opened == 7
        assert server._hub.shared.registry.home == Home("web-1", "hD3kP0aQ9zE")
        (offer,) = Offer.made
        assert offer.listening
        # Ids of connections that it may have name workers, and these must not come again.
        assert offer.answer() == {"workers": 5}
        # So connections of workers that were started since do not come.
        assert predecessor.ready == {"workers": 5}
        assert predecessor.ended == server.settle

    def test_a_successor_that_can_not_be_followed_serves_and_says_so(
        self, reactor: Reactor, predecessor: Predecessor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Offer, "error", OSError("AF_UNIX path too long"))
        server = self.server()
        server.startService()
        with capturedLogs() as events:
            predecessor.go({})
        assert server.ready
        assert "takeover: /run/chat/takeover: AF_UNIX path too long" in [formatEvent(event) for event in events]

    def test_a_successor_that_is_stopped_before_leaves_the_process_as_it_is(
        self, reactor: Reactor, predecessor: Predecessor
    ) -> None:
        server = self.server()
        server.startService()
        server.stopService()
        assert predecessor.closed
        predecessor.go({"opened": 7})
        assert not server.ready

    @pytest.mark.parametrize(("name", "expected"), [(["192.0.2.1", 5], ("192.0.2.1", 5)), ("", "")])
    def test_a_successor_adopts_connections(
        self, reactor: Reactor, predecessor: Predecessor, monkeypatch: pytest.MonkeyPatch, name: Any, expected: Any
    ) -> None:
        adopted: list[Any] = []
        server = self.server()
        monkeypatch.setattr(server, "adopt", lambda *args: adopted.append(args))
        server.startService()
        head, connected = {"id": "c1", "name": name}, object()
        predecessor.adopt(head, b"state", connected)
        assert adopted == [(Frozen(head, b"state"), connected, expected)]

    def test_a_process_that_gives_up_gives_its_connections_away_and_stops(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = self.server()
        server.startService()
        channel, stops = Channel(), []
        monkeypatch.setattr(reactor, "stop", lambda: stops.append(True), raising=False)

        def give_up(tell: Any, give: Any) -> Deferred[int]:
            tell(7, Home("web-1", "hD3kP0aQ9zE"))
            with socket.socket() as connected:
                give(Frozen({"id": "c1"}, b"state"), connected, ("192.0.2.1", 5))
                assert channel.sent[1] == ({"id": "c1", "name": ("192.0.2.1", 5)}, b"state", [connected.fileno()])
            return succeed(1)

        monkeypatch.setattr(server, "give_up", give_up)
        with capturedLogs() as events:
            assert Offer.made[0].give_up(channel)
        assert channel.sent[0] == ({"opened": 7, "home": ("web-1", "hD3kP0aQ9zE")},)
        assert (channel.closed, stops) == (True, [True])
        assert formatEvent(events[-1]) == "another process has taken over, with 1 connection"

    def test_a_process_that_a_signal_stops_while_it_gives_up_says_nothing_else(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = self.server()
        server.startService()
        moved: Deferred[int] = Deferred()

        def stop() -> None:
            raise ReactorNotRunning("Can't stop reactor that isn't running.")

        monkeypatch.setattr(reactor, "stop", stop, raising=False)
        monkeypatch.setattr(server, "give_up", lambda tell, give: moved)
        channel = Channel()
        Offer.made[0].give_up(channel)
        failures: list[Any] = []
        moved.callback(1)
        moved.addErrback(failures.append)
        assert (channel.closed, failures) == (True, [])

    def test_a_process_whose_successor_takes_no_connections_gives_none_away(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = self.server()
        server.startService()
        channel = Channel()
        given: list[Any] = []
        channel.takes_connections = False
        monkeypatch.setattr(reactor, "stop", lambda: None, raising=False)

        def give_up(tell: Any, give: Any) -> Deferred[int]:
            given.append(give)
            tell(7, Home("web-1", "hD3kP0aQ9zE"))
            return succeed(0)

        monkeypatch.setattr(server, "give_up", give_up)
        Offer.made[0].give_up(channel)
        assert given == [None]
        assert channel.sent == [({"opened": 7},)]

    def test_a_process_goes_on_whose_successor_has_gone(self, reactor: Reactor) -> None:
        server = self.server()
        server.startService()
        channel = Channel(BrokenPipeError(32, "Broken pipe"))
        with capturedLogs() as events:
            assert not Offer.made[0].give_up(channel)
        assert (channel.closed, server.ready) == (True, True)
        assert formatEvent(events[-1]).startswith("the process that would take over has gone: ")


class TestWorkers:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The supervisors that were made; they listen nowhere."""
        made: list[Any] = []

        class Supervisor:
            def __init__(self, settings: Settings, kit: Kit) -> None:
                self.kit = kit
                self.bound: list[bool] = []
                made.append(self)

            def bind(self, unix: bool) -> None:
                self.bound.append(unix)

        monkeypatch.setattr("wshost.workers.supervisor.Supervisor", Supervisor)
        return made

    @pytest.mark.usefixtures("reactor")
    def test_a_supervisor_is_made_instead_of_a_server(self, made: list[Any], tmp_path: Path) -> None:
        file = tmp_path / "wshost.toml"
        file.write_text('workers = 2\nhandler = "no.such.handler"\n')
        options = parsed("--config", str(file))
        settings = options.settings()
        supervisor = start.start(options, settings, {}, Log(settings, "log"))
        assert made == [supervisor]
        assert made[0].bound == [False]
        assert made[0].kit == Kit(settings.given, str(tmp_path), str(Path("log").absolute()), 2, "reactor")

    @pytest.mark.usefixtures("reactor")
    def test_without_a_file_and_on_a_stream_there_is_less_to_know(self, made: list[Any]) -> None:
        options = parsed(*ECHO, "--workers=2")
        settings = options.settings()
        start.start(options, settings, {}, Log(settings, None, 1))
        assert made[0].kit == Kit(settings.given, None, None, 1, "reactor")

    @pytest.mark.usefixtures("reactor")
    def test_anothers_log_is_refused(self) -> None:
        options = parsed(*ECHO, "--workers=2")
        with pytest.raises(ConfigurationError, match="workers: they write to wshost's own log"):
            start.start(options, options.settings(), {})

    @pytest.mark.usefixtures("reactor")
    def test_another_root_is_refused(self) -> None:
        options = parsed(*ECHO, "--workers=2")
        settings = options.settings()
        with pytest.raises(ConfigurationError, match="workers: they can't be started in another root"):
            start.start(options, settings, {"chroot": "/srv"}, Log(settings))
