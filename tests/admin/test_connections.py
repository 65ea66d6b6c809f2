from __future__ import annotations

from typing import Any

import pytest

from tests.admin.conftest import Look
from tests.memory import MemoryHost
from wshost.admin.connections import CLOSE, Connections


@pytest.fixture
def connections() -> Connections:
    return Connections()


def ids(page: dict[str, Any]) -> list[str]:
    return [one["id"] for one in page["connections"]]


class TestPages:
    def test_a_connection_is_shown_with_what_is_known_of_it(
        self, connections: Connections, look: Look, host: MemoryHost
    ) -> None:
        peer = host.open()
        peer.text("hello")
        peer.turn(2.5)
        (facts,) = connections.page(look())["connections"]
        assert facts == {
            "id": "c1",
            "peer": "127.0.0.1:50000",
            "route": None,
            "module": "websocket",
            "seconds": pytest.approx(2.5, abs=0.5),
            "messages_in": 1,
            "bytes_in": peer.connection.bytes_in,
            "messages_out": 1,
            "bytes_out": peer.connection.stream.bytes_out,
            "waiting": 0,
            "closing": False,
        }
        assert connections.one(look(), "c1") == facts

    def test_a_connection_that_is_gone_is_not_shown(self, connections: Connections, look: Look) -> None:
        assert connections.one(look(), "c1") is None
        assert connections.page(look()) == {"connections": [], "total": 0, "next": None}

    def test_pages_follow_each_other_until_there_is_no_next(
        self, connections: Connections, look: Look, host: MemoryHost
    ) -> None:
        peers = [host.open() for _ in range(12)]
        peers[3].leave()
        page = connections.page(look(), 5)
        assert (ids(page), page["total"], page["next"]) == (["c1", "c2", "c3", "c5", "c6"], 11, "c6")
        peers[5].leave()
        page = connections.page(look(), 5, "c6")
        assert (ids(page), page["next"]) == (["c7", "c8", "c9", "c10", "c11"], "c11")
        page = connections.page(look(), 5, "c11")
        assert (ids(page), page["next"]) == (["c12"], None)

    @pytest.mark.parametrize("id", ["7", "c", "c-7", "c٣", "d7", "cc7", f"c{10**20}"])
    def test_what_is_no_id_has_no_next_page(self, connections: Connections, look: Look, id: str) -> None:
        with pytest.raises(ValueError, match=r"is not the id of a connection, such as c7$"):
            connections.page(look(), after=id)


class TestClose:
    def test_a_connection_is_closed_properly(self, connections: Connections, look: Look, host: MemoryHost) -> None:
        peer = host.open()
        assert connections.close(look(), "c1") == "closing"
        assert peer.messages() == [("close", *CLOSE)]
        shown = connections.one(look(), "c1")
        assert shown is not None
        assert shown["closing"]

    def test_code_and_reason_are_the_operators(self, connections: Connections, look: Look, host: MemoryHost) -> None:
        peer = host.open()
        assert connections.close(look(), "c1", 4000, "by hand") == "closing"
        assert peer.messages() == [("close", 4000, "by hand")]

    def test_a_code_that_may_not_be_sent_is_refused(
        self, connections: Connections, look: Look, host: MemoryHost
    ) -> None:
        peer = host.open()
        with pytest.raises(ValueError, match="1006"):
            connections.close(look(), "c1", 1006)
        assert not peer.gone

    def test_a_second_close_aborts(self, connections: Connections, look: Look, host: MemoryHost) -> None:
        peer = host.open()
        connections.close(look(), "c1")
        peer.turn()
        assert not peer.gone
        assert connections.close(look(), "c1") == "aborted"
        peer.turn()
        assert peer.gone

    def test_a_connection_without_a_handshake_is_aborted(
        self, connections: Connections, look: Look, host: MemoryHost
    ) -> None:
        """It can't get a Close."""
        peer = host.connect()
        assert connections.close(look(), "c1") == "aborted"
        peer.turn()
        assert peer.gone

    def test_a_connection_that_is_gone_is_not_closed(self, connections: Connections, look: Look) -> None:
        assert connections.close(look(), "c1") is None
