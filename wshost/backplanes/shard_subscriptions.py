"""Owns what one process has subscribed to, as shard channels of a Redis Cluster. Knows no connection and no master."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from wshost.backplanes.redis_subscriptions import BATCH, KNOWN
from wshost.backplanes.resp import command, message_head
from wshost.backplanes.shards import PARTS, channel, marker, part_of, parts_of_prefix, prefix_of
from wshost.backplanes.subjects import is_pattern, is_subject, matches
from wshost.interfaces import IBackplaneReceiver


class ShardSubscriptions:
    """All subscriptions of a process. They outlive connections."""

    def __init__(self) -> None:
        #: The subjects that have been subscribed to, and the prefixes of patterns, by the message's head.
        self.subjects: dict[bytes, str] = {}
        # The channels of each part, in order, and how often each was asked for.
        self._channels: list[Counter[str]] = [Counter() for _ in range(PARTS)]
        # Our patterns, by their prefixes, in order.
        self._patterns: dict[str, list[str]] = {}
        # Whether a subject that has come for a prefix matches one of the patterns.
        self._found: dict[tuple[str, str], bool] = {}

    def add(self, subject: str) -> list[tuple[int, list[str]]]:
        """Add a subscription; return the channels to which to subscribe, by part."""
        if not is_pattern(subject):
            return self._add([part_of(subject)], subject)
        self._found.clear()
        prefix = prefix_of(subject)
        patterns = self._patterns.setdefault(prefix, [])
        patterns.append(subject)
        return self._add(parts_of_prefix(prefix), prefix) if len(patterns) == 1 else []

    def remove(self, subject: str) -> list[tuple[int, list[str]]]:
        """Undo an `add`; return the channels from which to unsubscribe, by part."""
        if not is_pattern(subject):
            return self._remove([part_of(subject)], subject)
        self._found.clear()
        prefix = prefix_of(subject)
        patterns = self._patterns[prefix]
        patterns.remove(subject)
        if patterns:
            return []
        del self._patterns[prefix]
        return self._remove(parts_of_prefix(prefix), prefix)

    def _add(self, parts: Sequence[int], name: str) -> list[tuple[int, list[str]]]:
        done = []
        for part in parts:
            names, channels = _channels(part, name), self._channels[part]
            done.append((part, [one for one in names if one not in channels]))
            channels.update(names)
            self.subjects[message_head("smessage", names[0])] = name
        return done

    def _remove(self, parts: Sequence[int], name: str) -> list[tuple[int, list[str]]]:
        done = []
        for part in parts:
            names, channels = _channels(part, name), self._channels[part]
            channels.subtract(names)
            gone = [one for one in names if not channels[one]]
            for one in gone:
                del channels[one]
            del self.subjects[message_head("smessage", names[0])]
            done.append((part, gone))
        return done

    def commands(self, part: int) -> Iterator[bytes]:
        """Return the commands that make all subscriptions of a part on a new connection."""
        left = iter(self._channels[part])
        while batch := list(islice(left, BATCH)):
            yield command("SSUBSCRIBE", *batch)

    def has(self, part: int, name: str) -> bool:
        """Whether a channel of a part is to be subscribed to."""
        return name in self._channels[part]

    def wants(self, prefix: str, subject: str) -> bool:
        """Whether a subject that has come on the channel of a prefix was subscribed to."""
        key = prefix, subject
        wanted = self._found.get(key)
        if wanted is None:
            if len(self._found) >= KNOWN:
                self._found.clear()
            patterns = self._patterns.get(prefix, ())
            # Others may publish there what is no subject.
            wanted = is_subject(subject) and any(matches(pattern, subject) for pattern in patterns)
            self._found[key] = wanted
        return wanted


class Sorter:
    """Gives a receiver what comes on shard channels: on those of patterns, the subject is before the payload."""

    def __init__(self, subscriptions: ShardSubscriptions, receiver: IBackplaneReceiver) -> None:
        self._wants = subscriptions.wants
        self._receiver = receiver

    def received(self, name: str, payload: bytes) -> None:
        """:param name: the subject, or the prefix of patterns."""
        if name.endswith("*"):
            before, _, payload = payload.partition(b" ")
            prefix, name = name, before.decode(errors="replace")
            if not self._wants(prefix, name):
                return
        self._receiver.received(name, payload)

    def dropped(self, payloads: int) -> None:
        """Pass it on."""
        self._receiver.dropped(payloads)


def _channels(part: int, name: str) -> list[str]:
    """Return the channels of a part for a subject, or for a prefix: then, the one that says that there is one, too."""
    own = channel(part, name)
    return [own, marker(part)] if name.endswith("*") else [own]
