from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.cluster.bus import Backplane, Bus
from tests.cluster.processes import Pair, results
from tests.cluster.test_local import Local
from tests.memory import MemoryReactor
from wshost.cluster.exchange import ALONE, SHARED, Cluster, Exchange, Way
from wshost.connections.homes import Homes
from wshost.interfaces import IExchange
from wshost.results import ConfigurationError

BOOT = "hD3kP0aQ9zE"


class Joining:
    """A process that joins a bus, and has not yet."""

    def __init__(self) -> None:
        self.reactor = MemoryReactor()
        self.bus = Bus()
        self.homes = Homes()
        self.exchange = Exchange(self.homes)
        self.backplanes: list[Backplane] = []
        self.cluster = Cluster(ways=[Way("bus", self.make), Way("other", self.make, local=True)])

    def make(self) -> Backplane:
        backplane = self.bus.backplane()
        backplane.connecting = Deferred()
        self.backplanes.append(backplane)
        return backplane

    def connect(self) -> Deferred[Any]:
        return self.exchange.connect(self.reactor, self.cluster)

    def connected(self) -> None:
        for backplane in self.backplanes:
            if not backplane.connecting.called:
                backplane.connecting.callback(None)


def errors(fired: list[Any]) -> list[Any]:
    return [failure.type for failure in fired]


def test_an_exchange_is_what_it_says() -> None:
    assert verifyObject(IExchange, Exchange())
    assert verifyObject(IExchange, SHARED)


class TestAlone:
    def test_a_process_that_joins_nothing_has_connected_at_once(self) -> None:
        exchange = Exchange(Homes())
        fired = results(*(exchange.connect(MemoryReactor()) for _ in range(2)))
        assert fired == [None] * 2
        fired = results(*(exchange.close() for _ in range(2)))
        assert (fired, exchange.outside) == ([None] * 2, None)

    def test_messages_reach_the_hubs_of_this_process(self) -> None:
        exchange, one, other = Exchange(Homes()), Local(), Local(answer=False)
        exchange.subscribe("a", one)
        exchange.subscribe("a", other)
        assert exchange.publish("a", "x") is False
        exchange.unsubscribe("a", other)
        assert exchange.publish("a", "y") is True
        exchange.unsubscribe("a", one)
        assert exchange.publish("a", "z") is True
        assert (one.brought, other.brought) == ([("a", "x"), ("a", "y")], [("a", "x")])

    def test_homes_may_be_opened_and_shut(self) -> None:
        exchange = Exchange(Homes())
        exchange.open(BOOT)
        exchange.shut(BOOT)
        exchange.shut(BOOT)
        assert exchange.outside is None


class TestTogether:
    def test_a_message_reaches_the_subscribers_of_all_processes_once(self) -> None:
        pair = Pair()
        peers = [process.open("/room") for process in (pair.here, pair.there)]
        assert pair.here.exchange.publish("room", "x") is True
        pair.turn()
        assert [peer.messages() for peer in peers] == [["x"], ["x"]]

    def test_a_topic_is_subscribed_to_while_any_hub_has_subscribers(self) -> None:
        pair = Pair()
        exchange, one, other = pair.here.exchange, Local(), Local()
        subject = pair.here.outside._subjects.of_topic("a")
        seen = []
        for change, local in (
            (exchange.subscribe, one),
            (exchange.subscribe, other),
            (exchange.unsubscribe, one),
            (exchange.unsubscribe, other),
        ):
            change("a", local)
            seen.append(subject in pair.here.backplane.subscriptions)
        assert seen == [True, True, True, False]

    def test_what_is_dropped_for_others_is_said(self) -> None:
        pair = Pair()
        assert pair.here.exchange.publish("a", bytes(pair.here.backplane.largest)) is False

    def test_a_home_is_open_until_it_is_shut(self) -> None:
        pair = Pair()
        subject = pair.here.outside._subjects.of_home(BOOT)
        pair.here.exchange.open(BOOT)
        assert subject in pair.here.backplane.subscriptions
        for _ in range(2):
            pair.here.exchange.shut(BOOT)
        assert subject not in pair.here.backplane.subscriptions


class TestConnecting:
    def test_a_server_waits_until_all_ways_have_connected(self) -> None:
        process = Joining()
        fired = results(process.connect())
        process.backplanes[0].connecting.callback(None)
        assert fired == []
        process.backplanes[1].connecting.callback(None)
        assert fired == [None]
        assert [line.local for line in process.exchange.outside.lines] == [False, True]  # type: ignore[union-attr]

    def test_what_was_subscribed_before_is_subscribed_to_on_each_way(self) -> None:
        process = Joining()
        process.exchange.subscribe("a", Local())
        process.exchange.open(BOOT)
        process.connect()
        process.exchange.subscribe("b", Local())
        for backplane in process.backplanes:
            assert {"wshost.t.a", "wshost.t.b", f"wshost.h.{BOOT}", "wshost.all"} < backplane.subscriptions.keys()
            assert len(backplane.subscriptions) == 5

    def test_several_servers_wait_for_one_connection(self) -> None:
        process = Joining()
        fired = results(process.connect(), process.connect())
        assert len(process.backplanes) == 2
        process.connected()
        assert fired == [None] * 2

    def test_a_server_that_starts_later_finds_the_connection(self) -> None:
        process = Joining()
        process.connect()
        process.connected()
        assert results(process.connect()) == [None]
        assert len(process.backplanes) == 2

    def test_a_server_that_gives_up_leaves_the_others_waiting(self) -> None:
        process = Joining()
        one, other = process.connect(), process.connect()
        fired = results(one)
        one.cancel()
        assert errors(fired) == [CancelledError]
        process.exchange.close()
        waiting = results(other)
        process.connected()
        assert waiting == [None]
        assert not process.backplanes[0].closed

    def test_the_last_server_that_gives_up_closes_all_and_a_connection_comes_too_late(self) -> None:
        process = Joining()
        waiting = process.connect()
        fired = results(waiting)
        waiting.cancel()
        assert results(process.exchange.close()) == [[(True, None)] * 2]
        assert [backplane.closed for backplane in process.backplanes] == [True] * 2
        process.connected()
        assert errors(fired) == [CancelledError]
        assert process.homes.elsewhere is None

    def test_the_end_of_an_earlier_attempt_says_nothing_of_the_next_one(self) -> None:
        process = Joining()
        process.connect().addErrback(lambda _: None).cancel()
        process.exchange.close()
        fired = results(process.connect())
        earlier, later = process.backplanes[:2], process.backplanes[2:]
        for backplane in earlier:
            backplane.connecting.callback(None)
        assert fired == []
        for backplane in later:
            backplane.connecting.callback(None)
        assert fired == [None]

    def test_a_way_that_can_not_connect_is_why_no_server_starts(self) -> None:
        process = Joining()
        fired = results(process.connect(), process.connect())
        process.backplanes[1].connecting.errback(ConfigurationError("a wrong password"))
        assert errors(fired) == [ConfigurationError] * 2
        later = results(process.connect())
        assert errors(later) == [ConfigurationError]
        assert str(later[0].value) == "a wrong password"
        process.backplanes[0].connecting.errback(Failure(ConfigurationError("that, too")))
        for _ in range(3):
            process.exchange.close()
        again = results(process.connect())
        process.connected()
        assert again == [None]

    def test_a_way_that_can_not_be_made_is_why_no_server_starts(self) -> None:
        reactor, exchange = MemoryReactor(), Exchange(Homes())

        def make() -> Any:
            raise ConfigurationError("no such file")

        cluster = Cluster(ways=[Way("bus", make)])
        for _ in range(2):
            fired = results(*(exchange.connect(reactor, cluster) for _ in range(2)))
            assert [str(failure.value) for failure in fired] == ["no such file"] * 2
            for _ in range(2):
                exchange.close()
        assert exchange.outside is None

    @pytest.mark.parametrize("other", [ALONE, Cluster("other"), Cluster(ways=[Way("bus", Bus().backplane)])])
    def test_all_servers_of_a_process_have_the_same_ways(self, other: Cluster) -> None:
        process = Joining()
        fired = results(process.connect())
        with pytest.raises(ConfigurationError, match=r"^all servers of a process have the same backplane$"):
            process.exchange.connect(process.reactor, other)
        process.exchange.close()
        process.connected()
        assert fired == [None]
        process.exchange.close()
        assert [backplane.closed for backplane in process.backplanes] == [True] * 2

    def test_what_waits_to_be_told_may_give_up_another(self) -> None:
        process = Joining()
        one, other, third = (process.connect() for _ in range(3))
        fired = results(other, third)
        one.addCallback(lambda _: other.cancel())
        process.connected()
        assert [getattr(result, "type", result) for result in fired] == [CancelledError, None]


class TestTheEnd:
    def test_the_last_server_closes_and_one_may_start_again(self) -> None:
        pair = Pair()
        process = pair.here
        peer = pair.there.open("/room")
        process.exchange.connect(process.reactor, Cluster(ways=[Way("bus", Bus().backplane)]))
        assert results(process.exchange.close()) == [None]
        assert not process.backplane.closed
        process.exchange.publish("room", "last")
        assert results(process.exchange.close()) == [[(True, None)]]
        assert process.backplane.closed
        assert process.exchange.publish("room", "to nobody") is True
        pair.turn()
        assert peer.messages() == ["last"]
        process.backplane = pair.bus.backplane()
        assert results(
            process.exchange.connect(process.reactor, Cluster(ways=[Way("bus", lambda: process.backplane)]))
        ) == [None]
        process.exchange.publish("room", "again")
        pair.turn()
        assert peer.messages() == ["again"]
