from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.client.brokers import Nats, answer_with, read
from wshost.client import forks
from wshost.client.asynchronous import Streams, connect_async
from wshost.client.steps import Connect, Pause, Read, StartTLS, Steps, UndeliveredError, Write
from wshost.results import Outcome

REF = "web-1.hD3kP0aQ9zE.c17"


class Writer:
    """The writing side of a connection to a broker."""

    def __init__(self, broker: Any, reader: asyncio.StreamReader) -> None:
        self._broker, self._reader = broker, reader
        self.tls: list[str] = []
        reader.feed_data(broker.greeting)

    def write(self, data: bytes) -> None:
        self._reader.feed_data(self._broker.feed(data))

    async def drain(self) -> None:
        pass

    async def start_tls(self, context: Any, server_hostname: str) -> None:
        self.tls.append(server_hostname)

    def close(self) -> None:
        self._reader.feed_eof()


class Opened:
    """Stands for `asyncio.open_connection`: each connection is to the next broker; exceptions are raised instead."""

    def __init__(self, *brokers: Any) -> None:
        self.left = list(brokers)
        self.writers: list[Writer] = []
        self.options: list[Any] = []

    async def __call__(self, host: str, port: int, **options: Any) -> Any:
        self.options.append(options)
        broker = self.left.pop(0)
        if isinstance(broker, BaseException):
            raise broker
        reader = asyncio.StreamReader()
        self.writers.append(Writer(broker, reader))
        return reader, self.writers[-1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    connections = Opened()
    monkeypatch.setattr(asyncio, "open_connection", connections)
    return connections


def run(scenario: Coroutine[Any, Any, Any]) -> None:
    """Run a scenario in a thread: in this one, the reactor's loop may be running."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, scenario).result(60)


def one(*steps: Any) -> Steps[bytes]:
    """Carry out these steps; return what the last one has read."""
    read = b""
    for step in steps:
        read = yield step
    return read


def soon() -> float:
    return time.monotonic() + 60


class TestCluster:
    def test_each_call_reaches_the_broker(self, opened: Opened) -> None:
        broker = Nats()
        opened.left.append(broker)

        async def scenario() -> None:
            async with connect_async("nats://127.0.0.1", timeout=60) as cluster:
                assert await cluster.publish("room", "hi")
                assert await cluster.send(REF, b"hi", "key")
                assert await cluster.info(REF, [1])
                assert await cluster.close(REF)
                assert await cluster.ping(REF)

        run(scenario())
        assert [read(payload).messages[0] for _, payload in broker.published] == [
            "hi",
            ["send", "c17", b"hi", "key"],
            ["info", "c17", [1]],
            ["close", "c17", 1000, "Normal close"],
            ["ping", "c17", b""],
        ]

    def test_a_confirmed_message_returns_its_outcome(self, opened: Opened) -> None:
        opened.left.append(Nats(answer=answer_with("gone")))

        async def scenario() -> None:
            async with connect_async("nats://127.0.0.1", timeout=60) as cluster:
                assert await cluster.send(REF, "hi", confirm=True) is Outcome.GONE

        run(scenario())

    def test_a_cancelled_call_closes_the_connection_and_the_next_one_makes_another(self, opened: Opened) -> None:
        silent, good = Nats(), Nats()
        silent.greeting = b""
        opened.left += [silent, good]

        async def scenario() -> None:
            async with connect_async("nats://127.0.0.1", timeout=60) as cluster:
                call = asyncio.create_task(cluster.publish("room", "one"))
                while not opened.writers:
                    await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await cluster.publish("room", "two")

        run(scenario())
        assert len(good.published) == 1

    def test_a_task_waits_no_longer_than_the_timeout_for_another(self, opened: Opened) -> None:
        async def scenario() -> None:
            cluster = connect_async("nats://127.0.0.1", timeout=0.01)
            async with cluster._lock:
                with pytest.raises(UndeliveredError, match="another task still waits"):
                    await cluster.publish("room", "hi")

        run(scenario())

    def test_a_forked_process_begins_anew(self, opened: Opened) -> None:
        first, second = Nats(), Nats()
        opened.left += [first, second]

        async def scenario() -> None:
            async with connect_async("nats://127.0.0.1", timeout=60) as cluster:
                await cluster.publish("room", "parent")
                forks.tell()
                await cluster.publish("room", "child")

        run(scenario())
        assert len(first.published) == len(second.published) == 1


class TestStreams:
    def test_a_refused_connection_is_thrown_into_the_steps(self, opened: Opened) -> None:
        opened.left += [ConnectionRefusedError(111, "Connection refused")] * 100

        async def scenario() -> None:
            async with connect_async("nats://127.0.0.1", timeout=0.15) as cluster:
                with pytest.raises(UndeliveredError, match="Connection refused"):
                    await cluster.publish("room", "hi")

        run(scenario())

    def test_without_a_connection_nothing_is_read(self) -> None:
        streams = Streams(lambda: pytest.fail("no TLS is wanted"))
        with pytest.raises(ConnectionError, match="there is no connection"):
            run(streams.run(one(Read(soon()))))

    def test_a_name_that_is_no_hosts_is_an_os_error(self, opened: Opened) -> None:
        opened.left.append(UnicodeError("label too long"))
        streams = Streams(lambda: pytest.fail("no TLS is wanted"))
        with pytest.raises(OSError, match="is no host name"):
            run(streams.run(one(Connect(soon(), "a" * 64, 1, False))))

    @pytest.mark.parametrize("first", [True, False])
    def test_tls_begins_when_it_is_asked_for(self, opened: Opened, first: bool) -> None:
        opened.left.append(Nats())
        context: Any = object()
        streams = Streams(lambda: context)
        steps = [Connect(soon(), "a", 1, first)] + ([] if first else [StartTLS(soon(), "a")])

        async def scenario() -> None:
            greeting = await streams.run(one(*steps, Write(soon(), b"PING\r\n"), Read(soon())))
            assert greeting.startswith(b"INFO")

        run(scenario())
        assert opened.options == [{"ssl": context, "server_hostname": "a"} if first else {}]
        assert opened.writers[0].tls == ([] if first else ["a"])

    def test_a_step_after_its_time_raises_and_a_pause_never(self, opened: Opened) -> None:
        silent = Nats()
        silent.greeting = b""
        opened.left.append(silent)
        streams = Streams(lambda: pytest.fail("no TLS is wanted"))

        async def scenario() -> None:
            assert await streams.run(one(Pause(0.001))) == b""
            with pytest.raises(TimeoutError, match="it did not answer in time"):
                await streams.run(one(Connect(soon(), "a", 1, False), Read(time.monotonic() + 0.01)))

        run(scenario())
