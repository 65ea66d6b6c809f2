"""Says how soon a worker that has died is replaced. Knows no process."""

from __future__ import annotations

from collections import deque

#: So many deaths within so many seconds are too many: then each further replacement waits, from the first of these
#: times to the second, in seconds.
MANY, WITHIN = 5, 30.0
FIRST, LONGEST = 1.0, 30.0


class Deaths:
    """The deaths of workers so far."""

    def __init__(self) -> None:
        #: How many there were.
        self.count = 0
        self._last: deque[float] = deque(maxlen=MANY)
        self._wait = 0.0

    def note(self, now: float) -> tuple[float, bool]:
        """Note one more.

        :param now: the time, in seconds.
        :returns: how many seconds its replacement waits; and whether that has begun with this death.
        """
        self.count += 1
        # The waits themselves must not make deaths look rare.
        patience = WITHIN + MANY * self._wait
        self._last.append(now)
        if len(self._last) < MANY or now - self._last[0] > patience:
            self._wait = 0.0
            return 0.0, False
        begins = not self._wait
        self._wait = FIRST if begins else min(2 * self._wait, LONGEST)
        return self._wait, begins
