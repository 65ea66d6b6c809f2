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
from wshost.connections.registry import Guests, Registry
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


class TestGuests:
    """Connections of another home that live here."""

    def test_they_are_found_as_long_as_they_are_here(self) -> None:
        homes, connection, one = Homes(), Connection(), registry(Home("web", "AAAAAAAAAAA"))
        events: list[Any] = []

        def come(guests: Guests) -> None:
            homes.add(guests)
            events.append(("come", guests.home))

        one.when_guests_come, one.when_guests_go = come, lambda guests: events.append(("go", guests.home))
        where = one.lodge(connection.id, HOME)
        assert one.lodge("c2", HOME) is where
        one.add(connection)
        other = Connection()
        other.id = "c2"
        one.add(other)
        ref = Ref(where, connection.id)
        assert Ref(homes.find(HOME), connection.id) == ref
        assert str(ref) == "web.hD3kP0aQ9zE.c1"
        assert ref.send("x") is Sent.ACCEPTED
        one.remove(other)
        assert events == [("come", HOME)]
        one.remove(connection)
        assert events == [("come", HOME), ("go", HOME)]
        assert ref.send("x") is Sent.DROPPED
        assert results_of(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]

    def test_without_a_server_nobody_is_told(self) -> None:
        connection, one = Connection(), registry(Home("web", "AAAAAAAAAAA"))
        where = one.lodge(connection.id, HOME)
        one.add(connection)
        assert where.find(connection.id) is connection
        assert where.find("c9") is None
        one.remove(connection)
        assert where.find(connection.id) is None

    def test_one_of_the_own_home_is_no_guest(self) -> None:
        one = registry()
        assert one.lodge("c1", HOME) is one

    def test_they_have_the_directory_of_the_registry(self) -> None:
        one: Any = registry()
        where: Any = one.lodge("c1", Home("web", "AAAAAAAAAAA"))
        where.directory = directory = object()
        assert one.directory is where.directory is directory

    def test_others_of_their_home_may_be_elsewhere(self) -> None:
        homes, here, there, one = Homes(), Connection(), Connection(), registry(Home("web", "AAAAAAAAAAA"))
        homes.add(one.lodge(here.id, HOME))
        one.add(here)

        class Away:
            def find(self, id: str) -> Any:
                return there

        homes.elsewhere = lambda _: Away()
        assert Ref(homes.find(HOME), here.id).send("x") is Sent.ACCEPTED
        assert Ref(homes.find(HOME), "c2").send("y") is Sent.ACCEPTED
        assert ([what[2] for what in here.asked], [what[2] for what in there.asked]) == (["x"], ["y"])
