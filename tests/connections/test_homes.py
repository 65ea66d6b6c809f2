from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.connections.modules import in_threads
from tests.connections.test_ref import Connection, results_of
from tests.memory import MemoryReactor
from wshost.connections.home import Home
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref
from wshost.connections.registry import Registry
from wshost.connections.thread import ReactorThread
from wshost.results import Outcome, Sent

HOME = Home("web", "hD3kP0aQ9zE")


def registry(home: Home = HOME) -> Registry:
    return Registry(ReactorThread(MemoryReactor()), home)


class TestHere:
    def test_a_registry_of_this_process_is_found_whatever_the_node_is_called(self) -> None:
        homes, one = Homes(), registry()
        homes.add(one)
        assert homes.find(HOME) is homes.here(HOME.boot) is one
        assert homes.find(Home("renamed", HOME.boot)) is one

    def test_a_registry_goes_when_nobody_else_has_it(self) -> None:
        homes, one = Homes(), registry()
        homes.add(one)
        del one
        gc.collect()
        assert homes.here(HOME.boot) is None

    def test_a_registry_has_a_home_of_its_own_unless_it_is_given_one(self) -> None:
        one, other = (Registry(ReactorThread(MemoryReactor())) for _ in range(2))
        assert one.home != other.home
        assert registry().home is HOME


class TestElsewhere:
    def test_without_a_way_to_others_nothing_is_found(self) -> None:
        ref = Ref(Homes().find(HOME), "c1")
        assert str(ref) == "web.hD3kP0aQ9zE.c1"
        assert (ref.send("x"), ref.ping(), ref.waiting) == (Sent.DROPPED, False, 0)
        assert results_of(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]

    def test_what_stands_for_a_home_is_asked_as_from_another_thread(self) -> None:
        homes, connection, asked = Homes(), Connection(), []

        class Away:
            def find(self, id: str) -> Any:
                asked.append(id)
                return connection

        homes.elsewhere = lambda home: Away() if home == HOME else None
        ref = Ref(homes.find(HOME), "c7")
        assert ref.send("x") is Sent.WAITING
        assert ref.ping(b"p")
        assert results_of(ref.send("x", confirm=True)) == [Outcome.WRITTEN]
        assert asked == ["c7"] * 3
        assert [what[1] for what in connection.asked_from_threads] == ["send", "ping"]
        with pytest.raises(RuntimeError, match="reactor's thread only"):
            ref.drained()


class TestAHomeThatComesLater:
    """A reference to a home that is in this process by now, as after a takeover."""

    def test_its_connections_are_found_in_their_own_thread(self) -> None:
        homes, connection = Homes(), Connection()
        ref = Ref(homes.find(HOME), "c1")
        one = registry()
        homes.add(one)
        assert results_of(ref.send("x", confirm=True)) == [Outcome.GONE]
        one.add(connection)
        assert ref.send("x") is Sent.ACCEPTED
        assert results_of(ref.drained()) == [True]
        assert results_of(ref.send("x", confirm=True)) == [Outcome.WRITTEN]
        told: list[Any] = []

        def wait() -> None:
            with pytest.raises(RuntimeError):
                ref.send("y", confirm=True)
            told.append(ref.send("z"))

        in_threads(wait)
        assert told == [Sent.WAITING]
        assert [what[2] for what in connection.asked] == ["x", "x"]

    def test_it_may_share_its_home_with_another_process(self) -> None:
        homes = Homes()
        ref = Ref(homes.find(HOME), "c1")
        one = registry()
        one.shares_home = True
        homes.add(one)
        assert results_of(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]
