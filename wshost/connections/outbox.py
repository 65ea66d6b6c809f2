"""Messages of refs that wait for a slow peer and may still be dropped, or give way to newer ones.

Knows the stream of the connection, and no frames: the module makes these when the transport takes output again. Made
only for a policy that drops waiting messages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from wshost.connections.stream import Stream

#: The policy that never uses this, and the one that keeps only the last message of each key.
CLOSE, CONFLATE = "close", "conflate"
#: The policies that drop waiting messages.
OUTBOX_POLICIES = frozenset({"drop_old", CONFLATE})
#: At most this many messages wait for one connection.
MAX_MESSAGES = 10_000
#: The module gets about this many bytes of messages at a time. The rest may still be dropped.
BATCH = 65_536


class _Waiting(NamedTuple):
    """A message that waits."""

    data: str | bytes
    size: int
    #: Called with True instead of sending it, and returns whether the module has taken it; called with False when it is
    #: dropped. Never users' code.
    fate: Callable[[bool], bool] | None


class Outbox:
    """What waits for the peer of one connection, the oldest first.

    :param stream: once it is not blocked any more, messages leave.
    :param send: gives the module a message; returns False if the module refuses it.
    :param most: so many bytes wait at the most; but one message may always wait.
    :param conflates: a message takes the place of a waiting one with the same key.
    :param dropped: called for each message that is dropped.
    """

    def __init__(
        self,
        stream: Stream,
        send: Callable[[str | bytes], bool],
        most: int,
        conflates: bool,
        dropped: Callable[[], object],
    ) -> None:
        self._stream = stream
        self._send = send
        self._most = most
        self._conflates = conflates
        self._dropped = dropped
        # By key, or by a number of their own.
        self._messages: OrderedDict[str | int, _Waiting] = OrderedDict()
        self._number = 0
        #: How many bytes wait.
        self.size = 0
        stream.refill = self.empty

    def put(self, size: int, data: str | bytes, key: str | None, fate: Callable[[bool], bool] | None = None) -> None:
        """Let one more message wait; drop others, the oldest first, if there is no room.

        :param size: how many bytes it counts for.
        :param key: the message keeps the place of a waiting one with this key.
        :param fate: called once, unless the connection is closed before: with True to send the message, when it returns
            whether the module has taken it; with False as it is dropped.
        """
        place: str | int
        if key is not None and self._conflates:
            place = key
            if key in self._messages:
                before = self._messages[key]
                self.size -= before.size
                self._drop(before)
        else:
            place = self._number = self._number + 1
        self._messages[place] = _Waiting(data, size, fate)
        self.size += size
        while len(self._messages) > 1 and (self.size > self._most or len(self._messages) > MAX_MESSAGES):
            if next(iter(self._messages)) == place:
                # The newest message is never the one that is dropped.
                self._messages.move_to_end(place)
            self._drop(self._pop())
        self._stream.keep(self.size)

    def empty(self) -> None:
        """Give the module messages for as long as the transport takes them."""
        stream = self._stream
        while self._messages and not (stream.blocked or stream.closing):
            stop = self.size - BATCH
            while self._messages and self.size > stop and not (stream.blocked or stream.closing):
                one = self._pop()
                if not (self._send(one.data) if one.fate is None else one.fate(True)):
                    self._dropped()
            stream.flush()

    def take(self) -> list[str | bytes]:
        """Remove and return all messages; use the outbox no more."""
        self._stream.refill = None
        messages = [one.data for one in self._messages.values()]
        self._messages.clear()
        self.size = self._stream.kept = 0
        return messages

    def _pop(self) -> _Waiting:
        _, one = self._messages.popitem(last=False)
        self.size -= one.size
        self._stream.kept = self.size
        return one

    def _drop(self, one: _Waiting) -> None:
        self._dropped()
        if one.fate is not None:
            one.fate(False)
