"""What a worker asks its supervisor: whether a client has room whom a proxy has named. Knows no connection.

The worker waits for each answer, but not for long. Without one, it decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

#: At most so many answers are waited for; meanwhile, the worker decides on further clients alone.
MOST_ASKED = 1_000
#: Looks at an ask without an answer before the worker decides alone, and seconds between two of them: 1.5 to 2 seconds.
LOOKS, EVERY = 4, 0.5

#: Gets the verdict; None: the worker decides alone.
Decide: TypeAlias = Callable[[int | None], None]


class Asks:
    """The asks of one worker. Those of one turn go together.

    :param reactor: provides `IReactorTime`.
    :param send: sends the supervisor a packet now; returns False if that can't be.
    """

    def __init__(self, reactor: Any, send: Callable[[Mapping[str, Any]], bool]) -> None:
        self._reactor = reactor
        self._send = send
        # What decides, by the number of the connection; and how often each was looked at.
        self._waiting: dict[int, Decide] = {}
        self._looks: dict[int, int] = {}
        # The numbers and the addresses that leave at the end of the turn.
        self._unsent: list[list[Any]] = []
        self._looking = False

    def ask(self, number: int, host: str, decide: Decide) -> bool:
        """Ask about a connection.

        :param number: the connection's, by which the supervisor knows it.
        :param host: the IP address.
        :param decide: called once, in a later turn, unless the connection is forgotten.
        :returns: False when too many answers are waited for: the worker decides alone, and nothing is called.
        """
        if len(self._waiting) >= MOST_ASKED or number in self._waiting:
            return False
        self._waiting[number] = decide
        self._looks[number] = 0
        if not self._unsent:
            self._reactor.callLater(0, self._send_all)
        self._unsent.append([number, host])
        if not self._looking:
            self._looking = True
            self._reactor.callLater(EVERY, self._look)
        return True

    def answered(self, verdicts: Iterable[Sequence[int]]) -> None:
        """The supervisor has answered: decide.

        :param verdicts: the numbers of connections, and their verdicts.
        """
        for number, verdict in verdicts:
            self._decide(number, verdict)

    def forget(self, number: int) -> None:
        """Forget a connection that has ended."""
        self._waiting.pop(number, None)
        self._looks.pop(number, None)

    def give_up(self) -> None:
        """Decide alone: the supervisor has gone."""
        for number in list(self._waiting):
            self._decide(number, None)

    def _decide(self, number: int, verdict: int | None) -> None:
        decide = self._waiting.get(number)
        if decide is not None:
            self.forget(number)
            decide(verdict)

    def _send_all(self) -> None:
        asked, self._unsent = self._unsent, []
        if not self._send({"judge": asked}):
            for number, _ in asked:
                self._decide(number, None)

    def _look(self) -> None:
        # By looks, not by the clock: while this process stood still, the answer may have come.
        self._looks = {number: looks + 1 for number, looks in self._looks.items()}
        for number in [number for number, looks in self._looks.items() if looks >= LOOKS]:
            self._decide(number, None)
        self._looking = bool(self._waiting)
        if self._looking:
            self._reactor.callLater(EVERY, self._look)
