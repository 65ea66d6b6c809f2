"""Numbers what is published on each subject, and finds out what was lost or has come twice. Knows no payload."""

from __future__ import annotations

from collections import OrderedDict

#: So many subjects are remembered: those that were used last.
MOST = 50_000
#: And so many senders on one subject.
MOST_SENDERS = 4_096


class Outgoing:
    """The numbers of what one process publishes.

    A subject's numbers begin at 0 in an epoch. A later epoch has a greater number: one begins when the subject was
    forgotten.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._epoch = 0
        # The epoch of each subject, and how many messages were published in it; the subject used last is the last.
        self._subjects: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def count(self, subject: str, messages: int) -> tuple[int, int]:
        """Count messages that are published; return the subject's epoch, and how many were before these in it."""
        found = self._subjects.pop(subject, None)
        if found is None:
            self._epoch += 1
            found = self._epoch, 0
            if len(self._subjects) >= self._most:
                self._subjects.popitem(last=False)
        epoch, before = found
        self._subjects[subject] = epoch, before + messages
        return found

    def recent(self, most: int) -> list[str]:
        """Return the subjects that were used last, at most so many."""
        return [subject for subject, _ in zip(reversed(self._subjects), range(most), strict=False)]


class Incoming:
    """What has come from other processes, by subject and sender."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        # By subject, the one used last is the last; then by sender: the epoch, and how many messages of it are over,
        # as they have come or are lost.
        self._over: OrderedDict[str, dict[str, tuple[int, int]]] = OrderedDict()

    def count(self, sender: str, subject: str, epoch: int, before: int, messages: int) -> tuple[int, int]:
        """Count messages that have come.

        :param epoch: with `before`, what `Outgoing.count` has returned there.
        :returns: how many of them have come before, which are the first; and how many were lost before them.
        """
        senders = self._over.pop(subject, None)
        if senders is None:
            senders = {}
            if len(self._over) >= self._most:
                self._over.popitem(last=False)
        self._over[subject] = senders
        known, over = senders.get(sender, (epoch, before))
        if known > epoch:
            # The epoch has ended, so these are late or have come.
            return messages, 0
        if known < epoch:
            # It begins at 0, and all of it was to come here.
            over = 0
        if sender not in senders and len(senders) >= MOST_SENDERS:
            # Processes that have ended are not known.
            del senders[next(iter(senders))]
        senders[sender] = epoch, max(over, before + messages)
        return min(max(over - before, 0), messages), max(before - over, 0)

    def forget(self, subject: str | None) -> None:
        """Forget a subject, of all senders: what comes on it from now on is not missed before. None: forget all."""
        if subject is None:
            self._over.clear()
        else:
            self._over.pop(subject, None)
