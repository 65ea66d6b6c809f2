from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.client.brokers import Nats, Pairs, answer_with, read
from wshost.backplanes.nats import NatsBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.client import blocking, forks
from wshost.client.blocking import Cluster, Sockets, connect
from wshost.client.session import Session
from wshost.client.steps import Connect, Pause, Read, StartTLS, Steps, UndeliveredError, Write
from wshost.interfaces import IBackplaneReceiver
from wshost.results import Outcome

REF = "web-1.hD3kP0aQ9zE.c17"


class Memory(Sockets):
    """Sockets to brokers on socket pairs."""

    pairs: Pairs

    def __init__(self, tls: Any) -> None:
        super().__init__(tls, self.pairs.dial)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    Memory.pairs = Pairs()
    monkeypatch.setattr(blocking, "Sockets", Memory)
    yield Memory.pairs
    for end in Memory.pairs.ends:
        end.close()


def one(*steps: Any) -> Steps[bytes]:
    """Carry out these steps; return what the last one has read."""
    read = b""
    for step in steps:
        read = yield step
    return read


def soon() -> float:
    return time.monotonic() + 60


class TestCluster:
    def test_each_call_reaches_the_broker(self, pairs: Pairs) -> None:
        broker = Nats()
        pairs.left.append(broker)
        with connect("nats://127.0.0.1", timeout=60) as cluster:
            assert cluster.publish("room", "hi")
            assert cluster.send(REF, b"hi", "key")
            assert cluster.info(REF, [1])
            assert cluster.close(REF)
            assert cluster.ping(REF)
        assert [read(payload).messages[0] for _, payload in broker.published] == [
            "hi",
            ["send", "c17", b"hi", "key"],
            ["info", "c17", [1]],
            ["close", "c17", 1000, "Normal close"],
            ["ping", "c17", b""],
        ]

    def test_a_confirmed_message_returns_its_outcome(self, pairs: Pairs) -> None:
        pairs.left.append(Nats(answer=answer_with("gone")))
        with connect("nats://127.0.0.1", timeout=60) as cluster:
            assert cluster.send(REF, "hi", confirm=True) is Outcome.GONE

    def test_after_the_end_a_call_connects_again(self, pairs: Pairs) -> None:
        pairs.left += [Nats(), Nats()]
        with connect("nats://127.0.0.1", timeout=60) as cluster:
            cluster.publish("room", "one")
        cluster.publish("room", "two")
        cluster.disconnect()
        assert pairs.left == []

    def test_threads_take_turns(self, pairs: Pairs) -> None:
        broker = Nats()
        pairs.left.append(broker)
        with connect("nats://127.0.0.1", timeout=60) as cluster:
            threads = [Thread(target=cluster.publish, args=("room", str(n))) for n in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(read(payload).before for _, payload in broker.published) == list(range(20))

    def test_a_thread_waits_no_longer_than_the_timeout_for_another(self, pairs: Pairs) -> None:
        cluster = connect("nats://127.0.0.1", timeout=0.01)
        with cluster._lock, pytest.raises(UndeliveredError, match="another thread still waits"):
            cluster.publish("room", "hi")

    def test_a_forked_process_begins_anew_though_another_thread_had_the_lock(self, pairs: Pairs) -> None:
        first, second = Nats(), Nats()
        pairs.left += [first, second]
        with connect("nats://127.0.0.1", timeout=60) as cluster:
            cluster.publish("room", "parent")
            assert cluster._lock.acquire(timeout=60)
            forks.tell()
            cluster.publish("room", "child")
        senders = {read(payload).sender for broker in (first, second) for _, payload in broker.published}
        assert len(senders) == 2

    def test_a_client_that_is_gone_is_not_told(self) -> None:
        before = len(forks._clients)
        connect("nats://127.0.0.1")
        assert len(forks._clients) == before

    def test_a_refused_connection_is_an_error_in_time(self, pairs: Pairs) -> None:
        pairs.left += [ConnectionRefusedError(111, "Connection refused")] * 100
        cluster = connect("nats://127.0.0.1", timeout=1)
        with pytest.raises(UndeliveredError, match="Connection refused"):
            cluster.publish("room", "hi")


class TestSockets:
    def test_small_writes_leave_at_once(self) -> None:
        with socket.socket() as plain:
            sockets = Sockets(lambda: pytest.fail("no TLS is wanted"), lambda *_: plain)
            sockets.run(one(Connect(soon(), "a", 1, False)))
            assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def test_what_steps_raise_closes_the_connection(self) -> None:
        pairs = Pairs(Nats())
        sockets = Sockets(lambda: pytest.fail("no TLS is wanted"), pairs.dial)

        def steps() -> Steps[None]:
            yield Connect(soon(), "a", 1, False)
            raise ValueError("wrong")

        with pytest.raises(ValueError, match="wrong"):
            sockets.run(steps())
        with pytest.raises(ConnectionError, match="there is no connection"):
            sockets.run(one(Read(soon())))

    def test_a_name_that_is_no_hosts_is_an_os_error(self) -> None:
        sockets = Sockets(lambda: pytest.fail("no TLS is wanted"), Pairs(UnicodeError("label too long")).dial)
        with pytest.raises(OSError, match="is no host name"):
            sockets.run(one(Connect(soon(), "a" * 64, 1, False)))

    @pytest.mark.parametrize("first", [True, False])
    def test_tls_begins_when_it_is_asked_for(self, first: bool) -> None:
        asked = []

        class Context:
            def wrap_socket(self, socket: Any, server_hostname: str) -> Any:
                asked.append(server_hostname)
                return socket

        context: Any = Context()
        broker = Nats()
        sockets = Sockets(lambda: context, Pairs(broker).dial)
        steps = [Connect(soon(), "a", 1, first)] + ([] if first else [StartTLS(soon(), "a")])
        greeting = sockets.run(one(*steps, Write(soon(), b"PING\r\n"), Read(soon())))
        assert greeting.startswith(b"INFO")
        assert asked == ["a"]
        sockets.close()

    def test_a_step_after_its_time_raises_and_a_pause_never(self) -> None:
        sockets = Sockets(lambda: pytest.fail("no TLS is wanted"), Pairs(Nats()).dial)
        late = time.monotonic()
        assert sockets.run(one(Pause(0.001))) == b""
        with pytest.raises(TimeoutError, match="it did not answer in time"):
            sockets.run(one(Connect(late, "a", 1, False)))


def test_a_session_is_a_receiver_that_drops_all_but_payloads() -> None:
    came: list[Any] = []
    settings = BackplaneSettings(scheme="nats", brokers=(Broker("a", 1),))
    session = Session(NatsBackplane, settings, lambda *what: came.append(what))
    verifyObject(IBackplaneReceiver, session)
    session.connected()
    session.disconnected("gone")
    session.dropped(1)
    session.received("a", b"b")
    assert came == [("a", b"b")]
    session._link.start()
    session._link.follow()
    assert session._link.broker.host == "a"


def test_a_cluster_is_made_of_what_it_is_told() -> None:
    assert isinstance(connect(["redis://a", "redis://b"], cluster="other"), Cluster)
