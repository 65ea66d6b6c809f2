"""A supervisor, and processes that are none."""

from __future__ import annotations

import os
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from tests.workers.surroundings import Listener, Peer, Ports, Reactor, Template, heads, pair
from wshost.results import ConfigurationError
from wshost.settings.options import Settings
from wshost.workers.kit import Kit
from wshost.workers.supervisor import Supervisor


class Notifier:
    """Notes what systemd is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ready(self, status: str) -> None:
        self.told.append("ready")

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self, status: str) -> None:
        self.told.append(status)

    def live(self, reactor: Any) -> None:
        self.told.append("live")


class Scene:
    """A supervisor, and processes that are none."""

    def __init__(self, **given: Any) -> None:
        self.reactor = Reactor()
        self.templates: list[Template] = []
        self.killed: list[tuple[int, int]] = []
        # What `waitpid` returns, by the process id.
        self.statuses: dict[int, int | None] = {}
        # How often no template can be started.
        self.unable = 0
        self.supervisor = Supervisor(
            Settings(**{"workers": 2, "drain_timeout": 10.0, "worker_timeout": 0.0, **given}),
            Kit({}),
            self.reactor,
            spawn=self.spawn,
            listen=Ports,  # type: ignore[arg-type]
            kill=self.kill,
            wait=self.wait,
        )
        self.ports: Any = self.supervisor._passing.ports
        self.listener: Any = self.ports.listeners[0]
        self.crew = self.supervisor._crew

    def spawn(self) -> tuple[socket, Any]:
        if self.unable:
            self.unable -= 1
            raise OSError(11, "too many processes")
        ours, theirs = pair()
        self.templates.append(Template(theirs))
        return ours, self.templates[-1].process

    def kill(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))
        if pid < 0:
            raise ProcessLookupError

    def wait(self, pid: int, how: int) -> tuple[int, int]:
        assert how == os.WNOHANG
        status = self.statuses.get(pid)
        if status is None and pid in self.statuses:
            raise ChildProcessError
        return (0, 0) if status is None else (pid, status)

    @property
    def template(self) -> Template:
        return self.templates[-1]

    @property
    def workers(self) -> dict[int, Peer]:
        return {number: peer for template in self.templates for number, peer in template.workers.items()}

    def start(self) -> None:
        """Start, until all workers serve."""
        self.supervisor.startService()
        self.go_on()

    def go_on(self) -> None:
        """Fork what is to be forked; new workers serve."""
        for number in self.template.fork():
            self.template.workers[number].say(serves=True)
        self.reactor.read()

    def end(self, number: int, status: int | None = 0, **more: Any) -> list[str]:
        """A worker ends; return what is logged."""
        template = next(one for one in self.templates if number in one.workers)
        with capturedLogs() as logged:
            template.end(number, status, **more)
            self.reactor.read()
        return [formatEvent(event) for event in logged]

    def kill_template(self) -> None:
        self.template.channel.close()
        self.reactor.read()

    def connect(self) -> None:
        """Pretend that each serving worker has one connection."""
        for number, worker in enumerate(self.crew.serving):
            worker.connections.add(number)
            self.supervisor._passing.gate.judge(number, None)

    def said(self, kind: str) -> dict[int, list[Any]]:
        return {number: heads(peer.read(), kind) for number, peer in self.workers.items()}

    def close(self) -> None:
        for worker in self.crew:
            worker.line.close()
        self.supervisor._forking.stop()
        self.supervisor._succession.stop()
        for one in (*self.templates, self.ports, *self.ports.inherited.values()):
            one.close()


class Endpoint:
    """An endpoint for operators that listens nowhere."""

    description = "tcp:9090"

    def __init__(self, served: Any) -> None:
        self.served = served
        self.events: list[Any] = []
        self.fails = False
        self.listener: Listener | None = None
        self.inherited: Any = None

    def listen(self, _: Any, unix: bool, inherited: Any) -> None:
        if self.fails:
            raise ConfigurationError("admin: it is taken")
        self.events.append(("listen", unix))
        self.listener = self.listener or Listener(self.description)
        self.inherited = self.inherited or inherited

    def announce(self) -> None:
        self.events.append("announce")

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return succeed(None)
