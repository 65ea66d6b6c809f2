"""Finds out that a payload has reached nobody, whatever way it has taken. Knows no process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any


class _Search:
    """Looks for somebody who gets one payload.

    :param ways: how many ways there are.
    :param nobody: the calls to be made when none of them leads to anybody.
    """

    def __init__(self, ways: int, nobody: Sequence[Callable[[], object]]) -> None:
        self._left = set(range(ways))
        self._nobody = nobody

    def rule_out(self, way: int) -> None:
        """Note that one way leads to nobody."""
        self._left.discard(way)
        if not self._left:
            calls, self._nobody = self._nobody, ()
            for call in calls:
                call()


def publish_or_tell(
    backplanes: Sequence[Any], subject: str, payload: bytes, nobody: Sequence[Callable[[], object]]
) -> bool:
    """Publish a payload on several backplanes; make these calls if it is known that nobody gets it on any of them.

    :returns: whether one has taken it. If none has, the calls are made at once.
    """
    search = _Search(len(backplanes), nobody)
    refused = []
    for way, backplane in enumerate(backplanes):
        if len(payload) > backplane.largest:
            taken = False
        elif hasattr(backplane, "publish_or_tell"):
            taken = backplane.publish_or_tell(subject, payload, partial(search.rule_out, way))
        else:
            # It says nothing of who has got it.
            taken = backplane.publish(subject, payload)
        if not taken:
            refused.append(way)
    for way in refused:
        search.rule_out(way)
    return len(refused) < len(backplanes)
