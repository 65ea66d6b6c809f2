"""Has workers do something one after another, such as to reload. Knows neither what it is, nor a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wshost.workers.crew import Worker


class Round:
    """Asks one worker after the other.

    :param ask: asks a worker; `answered` follows.
    :param done: called when all were asked and have answered.
    """

    def __init__(self, ask: Callable[[Worker], None], done: Callable[[], None]) -> None:
        self._ask = ask
        self._done = done
        # The workers that have not answered, that which was asked first; None while there is no round.
        self._left: list[Worker] | None = None

    @property
    def runs(self) -> bool:
        """Whether a round has begun, and has not ended."""
        return self._left is not None

    def asks(self, worker: Worker) -> bool:
        """Whether this worker is at it."""
        return bool(self._left) and worker is self._left[0]  # type: ignore[index]

    def begin(self, workers: Sequence[Worker]) -> None:
        """Begin a round. Called while there is none."""
        self._left = list(workers)
        self._go_on()

    def answered(self, worker: Worker, others: bool = True) -> None:
        """A worker has done it, or has ended meanwhile.

        :param others: whether the others are to do it, too.
        """
        if self._left is None or worker not in self._left:
            return
        asked = worker is self._left[0]
        self._left.remove(worker)
        if not others:
            self._left.clear()
        if asked:
            self._go_on()

    def _go_on(self) -> None:
        if self._left:
            self._ask(self._left[0])
        else:
            self._left = None
            self._done()
