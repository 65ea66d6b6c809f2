"""Counts connections for all workers, in the supervisor; and brings its decisions to the worker. Knows no process.

A verdict is a number: `ADMITTED`, `FULL`, `CROWDED`; a larger one is the number of seconds after which the address has
room again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wshost.connections.admission import Admission
from wshost.connections.rate import ConnectionRate
from wshost.workers.asks import Asks

#: There is room; the server is full; the address has too many connections.
ADMITTED, FULL, CROWDED = 0, -1, -2


class Gate:
    """Decides which connections are admitted, for all workers.

    :param max_connections: the most that are admitted.
    :param max_connections_per_address: the most from one IP address; 0 for no limit.
    :param rate: the most from one address a second; 0 for no limit.
    :param seconds: returns the time.
    """

    def __init__(
        self, max_connections: int, max_connections_per_address: int, rate: int, seconds: Callable[[], float]
    ) -> None:
        limit = ConnectionRate(rate, seconds) if rate else None
        self._admission = Admission(max_connections, max_connections_per_address, limit)
        # The address as which each open connection counts, by its number; None if it counts as none.
        self._open: dict[int, str | None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def judge(self, number: int, host: str | None) -> int:
        """Count a connection, and return its verdict.

        :param number: it is forgotten by this number.
        :param host: the IP address as which it counts; None if it counts as none.
        """
        admission, id = self._admission, str(number)
        verdict = ADMITTED if admission.has_room(len(self._open), id) else FULL
        if verdict == ADMITTED and host is not None:
            verdict = self._judge_host(host)
        if verdict != ADMITTED:
            admission.refuse(id)
        self._open[number] = host if verdict == ADMITTED else None
        return verdict

    def judge_named(self, number: int, host: str) -> int:
        """Count a connection as an address that a proxy has named, and return the verdict on that.

        :param host: the IP address. The connection counted as none before.
        """
        if self._open.get(number, "") is not None:
            # It counts already, or has ended.
            return ADMITTED
        verdict = self._judge_host(host)
        if verdict == ADMITTED:
            self._open[number] = host
        else:
            # From now on, it takes no place.
            self._admission.refuse(str(number))
        return verdict

    def _judge_host(self, host: str) -> int:
        admission = self._admission
        wait = 0 if admission.rate is None else admission.rate.take(host)
        return wait or (ADMITTED if admission.count_address(host) else CROWDED)

    def count(self, number: int, host: str | None) -> None:
        """Count a connection that another process has admitted, whether there is room or not.

        :param number: as for `judge`, and `host`, too.
        """
        if host is not None:
            self._admission.count_admitted(host)
        self._open[number] = host

    def forget(self, number: int) -> None:
        """Forget a connection that has ended, if it is known."""
        if number in self._open:
            host = self._open.pop(number)
            self._admission.forget(str(number))
            if host is not None:
                self._admission.discount_address(host)


class _JudgedRate(ConnectionRate):
    """The rate of an address, as the supervisor has judged it; of one that it did not see, as the worker knows it."""

    def __init__(self, rate: int, seconds: Callable[[], float]) -> None:
        super().__init__(rate, seconds)
        self.verdict: int | None = None

    def take(self, host: str) -> int:
        return super().take(host) if self.verdict is None else max(self.verdict, 0)


class Deciding:
    """The block of `Judged.deciding`. A generator would take as long as all else that it does."""

    __slots__ = ("_judged", "_number", "_verdict")

    def __init__(self, judged: Judged, number: int, verdict: int) -> None:
        self._judged = judged
        self._number = number
        self._verdict = verdict

    def __enter__(self) -> None:
        self._judged.begin(self._number, self._verdict)

    def __exit__(self, *_: object) -> None:
        self._judged.end()


class Judged(Admission):
    """The admission of a worker's connections: the supervisor has decided.

    Behind a proxy, the client's address is known only to the worker, which asks back. Without an answer, the worker's
    own limits hold, by which all its connections count.

    :param ended: called with the number of each connection that has ended.
    :param asks: asks the supervisor.
    """

    def __init__(
        self,
        max_connections: int,
        max_connections_per_address: int,
        rate: int,
        seconds: Callable[[], float],
        *,
        ended: Callable[[int], None],
        asks: Asks,
    ) -> None:
        self._rate = _JudgedRate(rate, seconds) if rate else None
        super().__init__(max_connections, max_connections_per_address, self._rate)
        self._ended = ended
        self._asks = asks
        self._limits_addresses = bool(max_connections_per_address or rate)
        # The connection that is made now, and its verdict.
        self._number = -1
        self._verdict: int | None = None
        # The numbers of connections, by id.
        self._numbers: dict[str, int] = {}

    def deciding(self, number: int, verdict: int) -> Deciding:
        """In this block, a connection is made that the supervisor has judged. It may come to nothing."""
        return Deciding(self, number, verdict)

    def begin(self, number: int, verdict: int) -> None:
        """Go by the supervisor's verdict on the connection that is made next."""
        self._number = number
        self._use(verdict)

    def end(self) -> None:
        """Undo `begin`."""
        self._use(None)
        if self._number >= 0:
            # A socket of which no connection was made.
            self._number, number = -1, self._number
            self._ended(number)

    @contextmanager
    def carrying(self, number: int, id: str, counted: bool) -> Iterator[None]:
        """In the block, a connection of another process is made, which has admitted it. `forget` follows.

        :param counted: the supervisor counts it as one of its address.
        """
        self._numbers[id] = number
        self._use(ADMITTED if counted else None)
        try:
            yield
        finally:
            self._use(None)

    def _use(self, verdict: int | None) -> None:
        self._verdict = verdict
        if self._rate is not None:
            self._rate.verdict = verdict

    def has_room(self, connections: int, id: str) -> bool:
        if self._number < 0:
            return super().has_room(connections, id)
        self._numbers[id], self._number = self._number, -1
        return self._verdict != FULL

    def count_address(self, host: str) -> bool:
        if self._verdict is None:
            return super().count_address(host)
        if self._verdict == CROWDED:
            return False
        # Counted even so: `discount_address` follows at the end.
        self.count_admitted(host)
        return True

    def ask(self, id: str, host: str, count: Callable[[], None], then: Callable[[], None]) -> bool:
        number = self._numbers.get(id)
        if number is None or not self._limits_addresses:
            return False

        def decide(verdict: int | None) -> None:
            self._use(verdict)
            try:
                count()
            finally:
                self._use(None)
            then()

        return self._asks.ask(number, host, decide)

    def forget(self, id: str) -> None:
        super().forget(id)
        number = self._numbers.pop(id, None)
        if number is not None:
            self._asks.forget(number)
            self._ended(number)
