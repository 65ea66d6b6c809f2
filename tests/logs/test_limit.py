from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from twisted.python import context, log
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from wshost.logs.limit import KINDS, MOST, PERIOD, LogLimit, by_format, by_library


class Limited:
    """A log that is limited, and what comes of it."""

    def __init__(self, kind: Any = by_format, later: bool = False) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        observer: Any = self.events.append
        self.limit: Any = LogLimit(observer, kind, self.clock.callLater if later else None, self.clock.seconds)

    def logger(self, namespace: str = "twisted.x") -> Logger:
        return Logger(namespace, observer=self.limit)

    def take(self) -> list[str | None]:
        texts: list[str | None] = [formatEvent(event) for event in self.events]
        self.events.clear()
        return texts


@pytest.fixture
def limited() -> Limited:
    return Limited()


def run_as(module: str, code: str, **names: Any) -> None:
    """Run code as if it were of this module."""
    exec(code, {"__name__": module, **names})


class TestLevels:
    def test_what_is_less_important_is_neither_passed_on_nor_counted(self) -> None:
        clock = Clock()
        events: list[Any] = []
        observer: Any = events.append
        limit: Any = LogLimit(observer, by_format, None, clock.seconds, least=LogLevel.warn)
        log = Logger("twisted.x", observer=limit)
        for _ in range(MOST + 7):
            log.info("less")
        for level in LogLevel.iterconstants():
            log.emit(level, "one")
        limit({"log_format": "without a level"})
        clock.advance(PERIOD)
        log.error("two")
        assert [formatEvent(event) for event in events] == ["one", "one", "one", "two"]


class TestOfAKind:
    def test_only_the_first_events_of_a_kind_in_a_period_are_logged(self, limited: Limited) -> None:
        assert verifyObject(ILogObserver, limited.limit)
        log = limited.logger()
        for number in range(1_000):
            log.info("peer {number}", number=number)
        assert limited.take() == [f"peer {number}" for number in range(MOST)]

    def test_events_left_out_are_counted_and_the_count_is_logged(self, limited: Limited) -> None:
        log = limited.logger()
        before = LogLimit.left_out
        for number in range(MOST + 7):
            log.info("peer {number}", number=number)
        assert LogLimit.left_out == before + 7
        limited.take()
        limited.clock.advance(PERIOD - 0.1)
        log.info("other")
        assert limited.take() == ["other"]
        limited.clock.advance(0.1)
        log.info("peer {number}", number="x")
        assert limited.take() == ["7 more of these were not logged: twisted.x, peer {number}", "peer x"]

    def test_the_count_is_logged_as_a_warning(self, limited: Limited) -> None:
        for _ in range(MOST + 1):
            limited.logger().info("peer")
        limited.clock.advance(PERIOD)
        limited.logger().info("other")
        assert [event["log_level"] for event in limited.events[-2:]] == [LogLevel.warn, LogLevel.info]

    def test_the_count_is_logged_also_when_nothing_follows(self) -> None:
        limited = Limited(later=True)
        for _ in range(2):
            for _ in range(MOST + 7):
                limited.logger().info("peer")
            assert len(limited.clock.getDelayedCalls()) == 1
            limited.take()
            limited.clock.advance(PERIOD + 0.2)
            assert limited.take() == ["7 more of these were not logged: twisted.x, peer"]

    def test_no_count_is_logged_when_no_event_was_left_out(self, limited: Limited) -> None:
        for _ in range(MOST):
            limited.logger().info("peer")
        limited.take()
        limited.clock.advance(PERIOD)
        limited.limit.log_left_out()
        assert limited.take() == []

    def test_a_period_begins_with_an_event(self, limited: Limited) -> None:
        limited.clock.advance(1_000)
        limited.logger().info("peer")
        limited.clock.advance(PERIOD - 0.1)
        for _ in range(MOST):
            limited.logger().info("peer")
        assert len(limited.take()) == MOST

    def test_another_kind_is_not_limited_with_it(self, limited: Limited) -> None:
        for _ in range(1_000):
            limited.logger().info("peer")
        limited.take()
        limited.logger().info("other")
        limited.logger("twisted.y").info("peer")
        assert limited.take() == ["other", "peer"]

    def test_another_exception_makes_another_kind(self, limited: Limited) -> None:
        for error in (ValueError(), KeyError()):
            for _ in range(MOST + 1):
                limited.logger().failure("", Failure(error))
        assert len(limited.take()) == 2 * MOST
        limited.clock.advance(PERIOD)
        limited.limit.log_left_out()
        assert limited.take() == [
            "1 more of these were not logged: twisted.x, ValueError",
            "1 more of these were not logged: twisted.x, KeyError",
        ]

    def test_beyond_the_limit_of_kinds_all_further_kinds_are_one(self, limited: Limited) -> None:
        """What a peer says may be in the format, where a library does not care."""
        for number in range(10_000):
            limited.logger().info(f"peer {number}")
        assert len(limited.take()) == KINDS + MOST
        limited.clock.advance(PERIOD)
        limited.limit.log_left_out()
        assert limited.take() == [f"{10_000 - KINDS - MOST} more of these were not logged: other kinds"]

    def test_events_of_many_threads_are_counted(self, limited: Limited) -> None:
        def flood() -> None:
            for _ in range(1_000):
                limited.logger().info("peer")

        threads = [Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(limited.take()) == MOST
        limited.clock.advance(PERIOD)
        limited.limit.log_left_out()
        assert limited.take() == [f"{4_000 - MOST} more of these were not logged: twisted.x, peer"]

    def test_the_observer_may_log_itself(self) -> None:
        texts: list[str | None] = []

        def observer(event: Any) -> None:
            texts.append(formatEvent(event))
            if len(texts) < 3:
                logger.info("again")

        logger = Logger("twisted.x", observer=LogLimit(observer))  # type: ignore[arg-type]
        logger.info("peer")
        assert texts == ["peer", "again", "again"]


class TestByLibrary:
    @pytest.mark.parametrize(
        ("namespace", "some"),
        [
            ("twisted.internet.tcp.Port", True),
            ("twisted.web.http.Request", True),
            ("twisted.python.log", True),
            ("autobahn.websocket", True),
            ("txaio", True),
            ("twistedly", False),
            ("twisted.logger._global", False),
            ("twisted.plugins.mine", False),
            ("wshost", False),
            ("chat", False),
            ("stdout", False),
            ("stderr", False),
        ],
    )
    def test_only_events_of_libraries_are_limited(self, namespace: str, some: bool) -> None:
        limited = Limited(by_library)
        for _ in range(100):
            limited.logger(namespace).info("peer")
        assert len(limited.take()) == (MOST if some else 100)

    def test_an_event_without_a_namespace_is_not_limited(self) -> None:
        assert by_library({"log_format": "x"}) is None

    @pytest.mark.parametrize(
        "code",
        [
            "log.msg('peer', n)",
            "log.err(Failure(ValueError()), 'peer')",
            "log.callWithLogger(Source(), fail)",
        ],
    )
    @pytest.mark.parametrize(("module", "some"), [("twisted.internet.tcp", True), ("chat", False)])
    def test_the_caller_of_twisteds_older_functions_is_found(
        self, code: str, module: str, some: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited = Limited(by_library)
        older = log.LogPublisher(publishPublisher=limited.limit)
        monkeypatch.setattr(log, "theLogPublisher", older)
        monkeypatch.setattr(log, "msg", older.msg)

        class Source:
            def logPrefix(self) -> str:
                return "source"

        def fail() -> None:
            raise ValueError

        lines = f"for n in range(100):\n    {code}\n"
        run_as(module, lines, log=log, context=context, Failure=Failure, Source=Source, fail=fail)
        assert len(limited.events) == (MOST if some else 100)
        limited.clock.advance(PERIOD)
        limited.take()
        limited.limit.log_left_out()
        said = limited.take()
        assert len(said) == some
        assert all("80 more of these were not logged: twisted.internet.tcp, line 2" in str(text) for text in said)

    def test_an_event_without_a_caller_is_not_limited(self) -> None:
        """Then it is nobody's."""
        kinds: list[Any] = []
        names = {"__name__": "twisted.logger", "by_library": by_library, "kinds": kinds}
        exec("def call():\n    kinds.append(by_library({'log_namespace': 'log_legacy'}))", names)
        import _thread

        call: Callable[..., Any] = names["call"]  # type: ignore[assignment]
        _thread.start_new_thread(call, ())
        while not kinds:
            pass
        assert kinds == [None]


class TestFilter:
    """For the standard library's logs."""

    @pytest.fixture
    def logger(self, limited: Limited) -> logging.Logger:
        logger = logging.Logger("asyncio")
        logger.addFilter(limited.limit)
        self.records: list[logging.LogRecord] = []
        handler: Any = logging.Handler()
        handler.emit = self.records.append
        logger.addHandler(handler)
        return logger

    def test_records_of_the_standard_library_are_limited_by_kind(
        self, logger: logging.Logger, limited: Limited
    ) -> None:
        for number in range(100):
            logger.error(f"peer {number}")
            logger.error("x", exc_info=ValueError())
            logger.error("x", exc_info=KeyError())
            logger.warning("x", exc_info=(None, None, None))
        assert len(self.records) == 4 * MOST
        limited.clock.advance(PERIOD)
        logger.error("peer")
        assert limited.take() == [
            "80 more of these were not logged: asyncio, ERROR",
            "80 more of these were not logged: asyncio, ERROR, ValueError",
            "80 more of these were not logged: asyncio, ERROR, KeyError",
            "80 more of these were not logged: asyncio, WARNING",
        ]
