"""Makes subjects of topics and of homes, and topics of subjects. Knows no backplane.

A topic is any text; a subject has only characters that every broker takes (`wshost.interfaces.IBackplane`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

#: What begins the subjects of topics, and of homes, behind the cluster's name.
_TOPIC, _HOME, _ALL = "t", "h", "all"
#: The token of a topic that is empty.
_EMPTY = "~"
#: The tokens that are wildcards in a subscription: before the last token, and as the last one.
_WILD = (("*",), ("*", ">"))

_UNSAFE = re.compile(rb"[^A-Za-z0-9_=-]")


class Subjects:
    """The subjects of one cluster.

    :param cluster: its name: one token.
    """

    def __init__(self, cluster: str = "wshost") -> None:
        self._topics = f"{cluster}.{_TOPIC}."
        self._homes = f"{cluster}.{_HOME}."
        #: The subject on which all processes receive.
        self.all = f"{cluster}.{_ALL}"

    def of_topic(self, topic: str) -> str:
        """Return the subject on which a topic's messages are published. It has no wildcards, whatever the topic is."""
        return self._topics + _encoded(topic, wild=False)

    def of_subscription(self, topic: str) -> str:
        """Return the subject of a subscription to a topic, or to a pattern of topics."""
        return self._topics + _encoded(topic, wild=True)

    def of_home(self, boot: str) -> str:
        """Return the subject on which a home receives."""
        return self._homes + boot

    def topic(self, subject: str) -> str | None:
        """Return the topic of a subject; None when it is not that of a topic."""
        if not subject.startswith(self._topics):
            return None
        return _decoded(subject[len(self._topics) :])

    def boot(self, subject: str) -> str | None:
        """Return the boot of a home's subject; None when it is another."""
        return subject[len(self._homes) :] if subject.startswith(self._homes) else None


@lru_cache(maxsize=4_096)
def _encoded(topic: str, wild: bool) -> str:
    *tokens, last = topic.split(".")
    inner, end = _WILD if wild else ((), ())
    return ".".join([*(_token(token, inner) for token in tokens), _token(last, end)])


def _token(token: str, wildcards: Sequence[str]) -> str:
    if token in wildcards:
        return token
    return _UNSAFE.sub(lambda found: f"%{found[0][0]:02X}".encode(), token.encode()).decode("ascii") or _EMPTY


@lru_cache(maxsize=4_096)
def _decoded(encoded: str) -> str:
    return ".".join(["" if token == _EMPTY else unquote(token, errors="replace") for token in encoded.split(".")])
