"""Protocol modules that do what a test says, and hosts of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zope.interface import implementer

from tests.memory import MemoryHost
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IPromptDriver, IProtocolModule
from wshost.request import Headers, Request
from wshost.results import REFUSED, Close, Refused, Results

Receive = Callable[["Driver", bytes], Any]

REQUEST = Request("GET", "/", "/", "", "example.com", Headers())


def echo(driver: Driver, data: bytes) -> Results:
    return data


def do_as_told(driver: Driver, action: str, *args: Any) -> Any:
    """Send what is to be sent, return `Close` on "close", and refuse the rest."""
    if action == "send":
        return args[0]
    return Close(b"bye") if action == "close" else REFUSED


def nothing(*args: Any) -> None:
    """Do nothing."""


@implementer(IProtocolModule)
class Module:
    """A module that calls the test's functions: at its start, on what comes in, on an action, and at its end.

    It notes what it is told.
    """

    def __init__(
        self,
        receive: Receive = echo,
        *,
        start: Callable[[Driver], object] = nothing,
        action: Callable[..., Any] = do_as_told,
        close: Callable[[Driver], object] = nothing,
    ) -> None:
        self.start = start
        self.receive = receive
        self.action = action
        self.close = close
        self.drivers: list[Driver] = []
        self.options: list[Any] = []

    def init(self, options: Any, context: IContext) -> Any:
        driver = Driver(self, context)
        self.drivers.append(driver)
        self.options.append(options)
        self.start(driver)
        return driver

    @property
    def driver(self) -> Driver:
        """The only driver."""
        [driver] = self.drivers
        return driver

    @property
    def received(self) -> list[bytes]:
        return [data for driver in self.drivers for data in driver.received]

    @property
    def closed(self) -> list[list[str]]:
        """The reasons with which each driver was told of the end."""
        return [driver.closed for driver in self.drivers]


@implementer(IPromptDriver)
class Driver:
    def __init__(self, module: Module, context: Any) -> None:
        self.context = context
        self.received: list[bytes] = []
        self.actions: list[tuple[Any, ...]] = []
        self.closed: list[str] = []
        self._module = module

    def handle_connection_in(self, data: bytes) -> Any:
        self.received.append(data)
        return self._module.receive(self, data)

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        self.actions.append((action, *args))
        result: Results | Refused = self._module.action(self, action, *args)
        return result

    def handle_connection_close(self, reason: str) -> None:
        self.closed.append(reason)
        self._module.close(self)


class Failures:
    """The failures that were logged. A test that expects one takes it."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def take(self) -> str:
        """Return the only one."""
        [event] = self._events
        self._events.clear()
        return f"{event['what']}\n{event['traceback']}"


def serve(*modules: Module, **limits: Any) -> MemoryHost:
    """Return a host whose chain has these modules, by the names a, b, c and so on."""
    return MemoryHost(
        chain=[Link(name, one, name.upper()) for name, one in zip("abcde", modules, strict=False)], **limits
    )


def raises(*args: Any) -> Any:
    raise ValueError("on purpose")


def lines(on_line: Callable[[Driver, bytes, bytes], Any]) -> Receive:
    """Call a function with the first line of the bytes, and with the rest, which is unread."""

    def receive(driver: Driver, data: bytes) -> Any:
        line, _, rest = data.partition(b"\n")
        return on_line(driver, line, rest)

    return receive


THREADS = ThreadPoolExecutor(8)


def in_threads(call: Callable[[], object], number: int = 1) -> None:
    """Make a call in other threads, and wait until all have returned."""
    for done in [THREADS.submit(call) for _ in range(number)]:
        done.result()
