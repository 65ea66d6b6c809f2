from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs, formatEvent
from wsproto.events import CloseConnection

from tests.memory import MemoryHost, Peer, request
from wshost.cluster.exchange import Exchange
from wshost.connections.account import FACTS, KINDS, OTHER_CRASHES, OTHERS, Account, code_class
from wshost.networks import Networks


class Handler:
    """Answers with what it gets; fails when it is told to."""

    def init(self, options: Any) -> None: ...

    def handle(self, message: Any, state: None) -> Any:
        match message:
            case ("text", "fail"):
                raise ValueError("on purpose")
            case ("text", "leave"):
                return ("close", 4000, "enough", state)
            case ("text", data):
                return ("reply", [data, data], state)
        return ("noreply", state)


class Logged:
    """The lines of an access log, and their facts."""

    def __init__(self) -> None:
        self.host = MemoryHost(Handler(), access=True, http_options={"paths": ["/chat/*"]})

    def of(self, peer: Peer) -> dict[str, Any]:
        """Let a peer leave, and return the facts about its connection."""
        with capturedLogs() as events:
            if not peer.gone:
                peer.leave()
        [event] = [event for event in events if event["log_namespace"] == "wshost.access"]
        assert (event["connection"], event["peer"]) == (peer.connection.id, "127.0.0.1:50000")
        facts: dict[str, Any] = event["access"]
        return facts


@pytest.fixture
def logged() -> Logged:
    return Logged()


class TestRefusals:
    def test_refusals_are_counted_by_status_and_reason(self) -> None:
        account = Account()
        account.count_refusal(404, "no such path")
        account.count_refusal(404, "no such path")
        account.count_refusal(503, "full")
        assert account.refused == {(404, "no such path"): 2, (503, "full"): 1}

    def test_further_kinds_count_as_one(self) -> None:
        account = Account()
        for number in range(KINDS + 7):
            account.count_refusal(400, str(number))
        account.count_refusal(400, "0")
        assert len(account.refused) == KINDS + 1
        assert (account.refused[OTHERS], account.refused[400, "0"]) == (7, 2)

    def test_messages_that_are_dropped_are_counted_by_policy(self) -> None:
        account = Account()
        for policy in ("close", "drop_old", "close"):
            account.count_dropped(policy)
        assert account.dropped == {"close": 2, "drop_old": 1}

    def test_what_was_dropped_does_not_change_while_it_is_read(self) -> None:
        """Another thread may drop the first message of a policy meanwhile."""
        account = Account()
        account.count_dropped("close")
        before = account.dropped
        account.count_dropped("drop_old")
        assert before == {"close": 1}

    def test_crashes_are_counted_by_handler_and_kind_and_not_more_than_some_kinds_apart(self) -> None:
        account = Account()
        account.count_crash("chat", "handle")
        account.count_crash("chat", "handle")
        account.count_crash("chat", "init")
        assert account.crashes == {("chat", "handle"): 2, ("chat", "init"): 1}
        for number in range(2 * KINDS):
            account.count_crash(str(number), "init")
        account.count_crash("chat", "init")
        assert len(account.crashes) == KINDS + 1
        assert account.crashes[OTHER_CRASHES] == KINDS + 2
        assert account.crashes["chat", "init"] == 2

    def test_refusals_are_counted_without_an_access_log(self) -> None:
        host = MemoryHost(Handler(), http_options={"paths": ["/chat"]})
        with capturedLogs() as events:
            peer = host.connect()
            peer.upgrade("/none")
            peer.leave()
        assert host.hub.shared.account.refused == {(404, "Nothing is served on this path."): 1}
        assert events == []

    def test_connections_that_are_not_admitted_are_counted(self) -> None:
        host = MemoryHost(Handler(), max_connections=1)
        host.open()
        for _ in range(130):
            host.connect()
        assert host.hub.shared.account.refused == {(503, "The server is full."): 128, (0, "The server is full."): 2}


class TestTheAccessLog:
    def test_a_connection_is_logged_at_its_end(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a?secret=1", {"User-Agent": "a browser"})
        peer.text("hello")
        peer.turn(2.5)
        peer.connection.ref.send("by the way")
        peer.turn()
        peer.send_event(CloseConnection(1001, "bye"))
        written = peer.transport.writes
        facts = logged.of(peer)
        # A masked frame has 6 bytes more than its payload; a Close has its code besides.
        assert facts == {
            "path": "/chat/a",
            "route": "/chat/*",
            "status": 101,
            "code": 1001,
            "closed_by": "peer",
            "reason": "bye",
            "seconds": 2.5,
            "messages_in": 1,
            "bytes_in": len(request("/chat/a?secret=1", {"User-Agent": "a browser"})) + 11 + 11,
            "messages_out": 3,
            "bytes_out": sum(map(len, written)),
            "deflate": False,
            "user_agent": "a browser",
        }

    def test_the_server_may_have_closed(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        peer.text("leave")
        peer.send_event(CloseConnection(4000, "enough"))
        facts = logged.of(peer)
        assert (facts["code"], facts["closed_by"], facts["reason"]) == (4000, "server", "enough")
        assert "errors" not in facts

    def test_a_handlers_errors_are_counted(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        peer.text("fail")
        facts = logged.of(peer)
        assert (facts["code"], facts["closed_by"], facts["errors"]) == (1011, "server", 1)

    def test_a_peer_that_breaks_the_protocol_is_said_to(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        peer.send(b"\x83\x80" + bytes(4))
        facts = logged.of(peer)
        assert (facts["code"], facts["closed_by"]) == (1002, "server")
        assert facts["reason"]

    def test_a_connection_that_is_lost_has_that_reason(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        with capturedLogs() as events:
            peer.leave(ConnectionLost())
        [facts] = [event["access"] for event in events if event["log_namespace"] == "wshost.access"]
        assert facts["reason"].startswith("Connection to the other side was lost")
        assert "code" not in facts

    def test_a_peer_that_reads_nothing_has_that_reason(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        peer.transport.reading = False
        peer.text("x" * 100_000)
        with capturedLogs() as events:
            peer.turn(600)
        [facts] = [event["access"] for event in events if event["log_namespace"] == "wshost.access"]
        assert "did not read" in facts["reason"]

    def test_failures_and_the_access_log_have_the_address_that_a_trusted_proxy_names(self) -> None:
        host = MemoryHost(Handler(), access=True, trusted=Networks(["127.0.0.1"]))
        peer = host.open("/", {"X-Forwarded-For": "192.0.2.1"})
        with capturedLogs() as events:
            peer.text("fail")
            peer.leave()
        assert [event["peer"] for event in events] == ["192.0.2.1:0"] * 2

    @pytest.mark.parametrize(("path", "lines"), [("/healthz", 0), ("/other", 1)])
    def test_a_health_check_that_succeeds_is_not_logged(self, path: str, lines: int) -> None:
        host = MemoryHost(Handler(), access=True, http_options={"health_path": "/healthz"})
        peer = host.connect()
        with capturedLogs() as events:
            peer.send(f"GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())
            peer.leave()
        assert len(events) == lines
        assert host.idle()

    def test_a_client_that_is_refused_is_logged_with_the_reason(self, logged: Logged) -> None:
        peer = logged.host.connect()
        peer.upgrade("/none")
        facts = logged.of(peer)
        assert (facts["path"], facts["status"]) == ("/none", 404)
        assert facts["reason"] == "Nothing is served on this path."
        assert "messages_in" not in facts

    def test_a_client_that_says_nothing_is_logged(self, logged: Logged) -> None:
        facts = logged.of(logged.host.connect())
        assert facts == {"reason": "Connection was closed cleanly.", "seconds": 0.0, "bytes_in": 0, "bytes_out": 0}

    def test_messages_of_topics_count(self) -> None:
        backplane = Exchange()
        host = MemoryHost(Handler(), access=True, exchange=backplane)
        peer = host.open()
        peer.connection.ref.subscribe("news")
        peer.turn()
        for _ in range(3):
            backplane.publish("news", "hello")
        peer.turn()
        peer.connection.ref.send("one more")
        with capturedLogs() as events:
            peer.leave()
        assert events[-1]["access"]["messages_out"] == 4

    def test_what_a_module_notes_is_logged_as_text_and_may_be_anything(self, logged: Logged) -> None:
        peer = logged.host.open("/chat/a")
        notes = peer.connection.context.notes
        assert notes is not None
        notes["subprotocol"] = ["a", "list"]
        assert logged.of(peer)["subprotocol"] == "['a', 'list']"

    def test_a_note_that_can_not_be_shown_costs_the_line_and_nothing_else(self, logged: Logged) -> None:
        class Bad:
            def __str__(self) -> str:
                raise RuntimeError

        peer = logged.host.open("/chat/a")
        notes = peer.connection.context.notes
        assert notes is not None
        notes["subprotocol"] = Bad()
        with capturedLogs() as events:
            peer.leave()
        [event] = events
        assert event["what"] == "the access log failed"
        assert logged.host.hub.shared.registry.all() == []

    def test_the_facts_come_in_one_order(self, logged: Logged) -> None:
        facts = logged.of(logged.host.open("/chat/a"))
        assert list(facts) == [name for name in FACTS if name in facts]

    def test_without_it_nothing_is_noted_and_nothing_is_logged(self) -> None:
        peer = MemoryHost(Handler()).open()
        assert peer.connection.context.notes is None
        with capturedLogs() as events:
            peer.leave()
        assert events == []


class TestLines:
    def line(self, **notes: Any) -> str:
        with capturedLogs() as events:
            Account(True).log("c1", "127.0.0.1:50000", notes)
        return str(formatEvent(events[0]))

    def test_a_line_has_each_fact_that_is_known(self) -> None:
        assert self.line(seconds=1.23456, path="/chat", route=None, deflate=True, code=1000, reason="") == (
            "path=/chat code=1000 seconds=1.235 deflate=yes"
        )

    @pytest.mark.parametrize(
        ("reason", "shown"),
        [
            ("bye", "bye"),
            ("bye now", '"bye now"'),
            ('say "bye"', r'"say \"bye\""'),
            ("a=b", '"a=b"'),
            ("back\\slash", r'"back\\slash"'),
            ("two\nlines", r'"two\nlines"'),
            ("\x1b[1m", r'"\\x1b[1m"'),
            ("schön", "schön"),
        ],
    )
    def test_what_a_peer_says_is_one_value(self, reason: str, shown: str) -> None:
        """CWE-117."""
        assert self.line(reason=reason) == f"reason={shown}"

    def test_a_long_text_is_cut(self) -> None:
        assert len(self.line(user_agent="x" * 100_000)) < 10_000


class TestCounts:
    """What is counted for the metrics."""

    @pytest.fixture
    def host(self) -> MemoryHost:
        return MemoryHost(Handler(), counts_ends=True)

    def test_connections_are_counted_when_they_are_made(self) -> None:
        host = MemoryHost(Handler())
        host.connect()
        host.connect().leave()
        assert host.hub.shared.account.opened == 2

    def test_what_went_through_a_connection_is_known_while_it_lives_and_added_up_at_its_end(
        self, host: MemoryHost
    ) -> None:
        account = host.hub.shared.account
        for _ in range(2):
            peer = host.open()
            peer.text("hello")
            traffic = peer.connection.traffic()
            bytes_out = sum(map(len, peer.transport.writes))
            assert traffic == (1, len(request()) + 11, 2, bytes_out)
            peer.leave()
        assert account.ended == tuple(2 * one for one in traffic)

    def test_messages_are_known_while_a_closed_connection_waits_for_its_end(self, host: MemoryHost) -> None:
        """Or the sum of all would go down for a while."""
        peer = host.open()
        peer.text("hello")
        peer.send_event(CloseConnection(1000))
        assert (peer.connection.stream.closing, peer.gone) == (True, False)
        assert peer.connection.traffic()[::2] == (1, 2)
        peer.connection.context.leave("the module leaves before the connection ends")
        assert peer.connection.traffic()[::2] == (1, 2)

    def test_messages_of_topics_count(self) -> None:
        backplane = Exchange()
        host = MemoryHost(Handler(), counts_ends=True, exchange=backplane)
        peer = host.open()
        peer.connection.ref.subscribe("news")
        peer.turn()
        backplane.publish("news", "hello")
        peer.turn()
        assert peer.connection.traffic().messages_out == 1

    def test_closes_are_counted_by_code_and_side(self, host: MemoryHost) -> None:
        for code in (1001, 1001, 4000):
            peer = host.open()
            peer.send_event(CloseConnection(code))
            peer.leave()
        peer = host.open()
        peer.text("leave")
        peer.leave()
        host.open().leave(ConnectionLost())
        assert host.hub.shared.account.closed == {
            ("1001", "peer"): 2,
            ("4xxx", "peer"): 1,
            ("4xxx", "server"): 1,
            ("1006", "none"): 1,
        }

    def test_clients_that_were_refused_or_said_nothing_have_not_closed(self, host: MemoryHost) -> None:
        host.connect().leave()
        peer = host.connect()
        peer.upgrade("no path")
        peer.leave()
        assert host.hub.shared.account.closed == {}

    @pytest.mark.parametrize(
        ("code", "shown"),
        [
            (999, "other"),
            (1000, "1000"),
            (1015, "1015"),
            (1016, "other"),
            (2999, "other"),
            (3000, "3xxx"),
            (4999, "4xxx"),
            (5000, "other"),
            ("1000", "other"),
        ],
    )
    def test_codes_of_applications_count_as_two_kinds(self, code: Any, shown: str) -> None:
        assert code_class(code) == shown

    def test_whatever_a_module_has_noted_counts_as_no_messages_and_no_side(self, host: MemoryHost) -> None:
        peer = host.open()
        connection = peer.connection
        peer.leave()
        notes: Any = connection.context.notes
        notes.update(messages_in="many", messages_out=None)
        assert connection.traffic()[::2] == (0, 0)
        account = Account(ends=True)
        account.count_end({"status": 101, "code": [], "closed_by": "somebody"}, connection.traffic())
        assert account.closed == {("other", "none"): 1}

    def test_it_logs_nothing(self, host: MemoryHost) -> None:
        peer = host.open()
        with capturedLogs() as events:
            peer.leave()
        assert events == []

    def test_a_context_knows_its_module_and_its_route(self) -> None:
        peer = MemoryHost(Handler(), http_options={"paths": ["/chat"]}).connect()
        context = peer.connection.context
        assert (context.module, context.route) == ("http", None)
        peer.upgrade("/chat")
        assert (context.module, context.route) == ("websocket", "/chat")

    def test_a_stream_says_how_much_waits(self) -> None:
        peer = MemoryHost(Handler()).open()
        peer.transport.reading = False
        assert peer.connection.stream.waiting == 0
        peer.text("x" * 100_000)
        assert peer.connection.stream.waiting > 200_000
