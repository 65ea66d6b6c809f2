"""Names and presences, as programs ask for them: `tests/cluster` tests what becomes of that in many processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wshost
from tests.memory import MemoryHost, Peer
from wshost.cluster.exchange import SHARED
from wshost.connections.ref import Ref


class Quiet:
    """A handler that does nothing."""

    def init(self, options: Any) -> Any:
        return options["worker"]

    def handle(self, message: Any, state: Any) -> Any:
        return ("noreply", state)


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A client of a server that uses the exchange of all servers."""
    host = MemoryHost(Quiet(), exchange=SHARED)
    boot = host.hub.shared.registry.home.boot
    SHARED.open(boot)
    peer = host.open()
    yield peer
    peer.leave()
    SHARED.shut(boot)


@pytest.fixture
def ref(peer: Peer) -> Ref:
    return peer.connection.ref


def test_a_connection_is_found_by_its_name_until_it_has_gone(ref: Ref, peer: Peer) -> None:
    assert wshost.whereis("ann") is None
    assert wshost.register("ann", ref) is True
    assert wshost.whereis("ann") == ref
    peer.leave()
    assert wshost.whereis("ann") is None
    assert wshost.register("ann", ref) is False


def test_a_name_can_be_taken_away(ref: Ref) -> None:
    wshost.register("ann", ref)
    assert wshost.unregister("ann") is True
    assert wshost.unregister("ann") is False


def test_a_connection_is_present_until_it_is_untracked(ref: Ref) -> None:
    assert wshost.track("room", ref) is True
    assert wshost.present("room") == {ref: None}
    assert wshost.track("room", ref, {"name": ("Ann", 7)}) is True
    assert wshost.present("room") == {ref: {"name": ["Ann", 7]}}
    assert wshost.untrack("room", ref) is True
    assert wshost.untrack("room", ref) is False
    assert wshost.present("room") == {}


#: As programs see it whose types nobody checks.
UNCHECKED: Any = wshost
WRONG: list[Any] = [
    (lambda ref: UNCHECKED.register(7, ref), TypeError, "^a name is a str, not int$"),
    (lambda ref: UNCHECKED.register("", ref), ValueError, "^a name has 1 to 255 bytes, not 0$"),
    (lambda ref: UNCHECKED.register("ü" * 128, ref), ValueError, "^a name has 1 to 255 bytes, not 256$"),
    (lambda ref: UNCHECKED.register("\ud800", ref), UnicodeEncodeError, "surrogates not allowed"),
    (lambda ref: UNCHECKED.register("ann", "c1"), TypeError, "^a connection is named by its Ref, not by str$"),
    (lambda ref: UNCHECKED.unregister(""), ValueError, "^a name has 1 to 255 bytes"),
    (lambda ref: UNCHECKED.whereis(None), TypeError, "^a name is a str, not NoneType$"),
    (lambda ref: UNCHECKED.track("rooms.*", ref), ValueError, "to a topic, not to a pattern"),
    (lambda ref: UNCHECKED.track("room", None), TypeError, "^a connection is named by its Ref"),
    (lambda ref: UNCHECKED.track("room", ref, object()), TypeError, "object"),
    (lambda ref: UNCHECKED.track("room", ref, bytes(4_097)), ValueError, "has at most 4096 bytes, not 4100$"),
    (lambda ref: UNCHECKED.untrack("room", 7), TypeError, "^a connection is named by its Ref"),
    (lambda ref: UNCHECKED.present(7), TypeError, "^a topic is a str, not int$"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG)
def test_a_wrong_argument_raises(ref: Ref, call: Callable[[Ref], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(ref)
