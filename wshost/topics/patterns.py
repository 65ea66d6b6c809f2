"""Patterns of topics: what they are, and which of many match a topic. Knows no subscriber and no exchange.

A topic's tokens are joined by dots: "a..b" has three, and the second is empty. In a pattern, the token ``*`` stands for
one token of any text; the last token may be ``>``, for one token or more. In other tokens, both are plain characters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Generic, TypeVar

from wshost.messages import check_topic

#: The token that stands for one token.
ONE = "*"
#: The last token, when it stands for one or more.
REST = ">"
# The keys of these tokens.
_ONE, _REST = object(), object()
#: Results are kept for so many topics.
MAX_TOPICS = 1_024
#: A result with more matches is not kept.
MAX_MATCHES = 64

V = TypeVar("V")


def is_pattern(topic: str) -> bool:
    """Say whether a subscription to this topic is a pattern.

    :param topic: one that `check_topic` has passed.
    """
    if ONE not in topic and REST not in topic:
        return False
    tokens = topic.split(".")
    return ONE in tokens or tokens[-1] == REST


def check_published(topic: str) -> str:
    """Return the topic of a publication as an exact str.

    :raises TypeError: when it is not a str.
    :raises ValueError: when it is a pattern, or `check_topic` refuses it.
    """
    # A subclass of str may compare as it likes: it is not looked up.
    return _checked(topic) if type(topic) is str else _check_published(topic)


def _check_published(topic: str) -> str:
    topic = check_topic(topic)
    if is_pattern(topic):
        raise ValueError(f"a message is published to a topic, not to a pattern: {topic!r}")
    return topic


#: Most publications are to a topic that was checked lately.
_checked = lru_cache(maxsize=1_024)(_check_published)


class _Node(Generic[V]):
    """The patterns that begin with the same tokens: the value of the one that ends here, and those that go on."""

    __slots__ = ("following", "value")

    def __init__(self) -> None:
        self.value: V | None = None
        self.following: dict[object, _Node[V]] = {}


class Patterns(Generic[V]):
    """Values of patterns; none may be None. Finds the values of all patterns that match a topic.

    Changed by one thread at a time, which may have to hold a lock. `matching` needs none, in any thread.
    """

    def __init__(self) -> None:
        #: The values by pattern: empty when there is no pattern. Only to be read.
        self.values: dict[str, V] = {}
        # A tree of the same values, by token.
        self._root: _Node[V] = _Node()
        # Results for topics. When patterns have changed, another dict takes its place: a thread that was looking for
        # matches meanwhile keeps its result, which may be out of date, in the old one.
        self._found: dict[str, tuple[V, ...]] = {}

    def put(self, pattern: str, value: V) -> None:
        """Set the value of a pattern."""
        node = self._root
        for key in _keys(pattern):
            node = node.following.setdefault(key, _Node())
        node.value = value
        self.values[pattern] = value
        self._found = {}

    def remove(self, pattern: str) -> None:
        """Remove a pattern, which must have a value."""
        node, way = self._root, []
        for key in _keys(pattern):
            way.append((node, key))
            node = node.following[key]
        node.value = None
        for parent, key in reversed(way):
            if node.following or node.value is not None:
                break
            del parent.following[key]
            node = parent
        del self.values[pattern]
        self._found = {}

    def matching(self, topic: str) -> tuple[V, ...]:
        """Return the value of each pattern that matches a topic, in no certain order."""
        found = self._found
        try:
            return found[topic]
        except KeyError:
            pass
        values = self._look_for(topic)
        if len(values) <= MAX_MATCHES:
            if len(found) >= MAX_TOPICS:
                found.clear()
            found[topic] = values
        return values

    def _look_for(self, topic: str) -> tuple[V, ...]:
        ended: list[_Node[V] | None] = []
        nodes = [self._root]
        for token in topic.split("."):
            ended += [node.following.get(_REST) for node in nodes]
            following = [node.following.get(key) for node in nodes for key in (token, _ONE)]
            nodes = [node for node in following if node is not None]
        values = (None if node is None else node.value for node in (*ended, *nodes))
        return tuple(value for value in values if value is not None)


def _keys(pattern: str) -> list[object]:
    """Return a key in the tree for each token. No token of a topic is the key of a wildcard."""
    *tokens, last = pattern.split(".")
    return [*(_ONE if token == ONE else token for token in tokens), {ONE: _ONE, REST: _REST}.get(last, last)]
