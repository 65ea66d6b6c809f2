from __future__ import annotations

import os
from typing import Any

import pytest

from tests.commands.given import ECHO, parsed
from tests.ports import Reactor
from wshost.commands import start


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
