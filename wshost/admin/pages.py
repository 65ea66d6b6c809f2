"""What operators get: finds the answer to a request by its path and its method. Knows no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from wshost.admin.connections import CLOSE, MOST, PAGE, Connections
from wshost.admin.metrics import export
from wshost.admin.seen import READY, Seen

#: The paths, for those who ask for another.
PATHS = ("/healthz", "/readyz", "/metrics", "/connections")
_ONE = "/connections/"
_READ = ("GET", "HEAD")


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer in plain text, of one line."""
    return Answer(status, f"{body}\n".encode(), {"Content-Type": "text/plain; charset=utf-8", **(headers or {})})


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode() + b"\n", {"Content-Type": "application/json"})


class Pages:
    """The answers about one server.

    :param look: returns the server as it is now.
    """

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._connections = Connections()

    def answer(self, method: str, path: str, query: Mapping[str, str], accept: str) -> Answer | Deferred[Answer]:
        """Return the answer to a request; that to HEAD is as the one to GET.

        :param query: the values in the query, by name.
        :param accept: the field Accept.
        """
        allowed = (*_READ, "DELETE") if path.startswith(_ONE) else _READ
        if path not in PATHS and not path.startswith(_ONE):
            return text(404, f"There are {', '.join(PATHS)}.")
        if method not in allowed:
            return text(405, f"Only {', '.join(allowed)} are served here.", {"Allow": ", ".join(allowed)})
        if path == "/healthz":
            return text(200, "ok")
        seen = self._look()
        if path == "/readyz":
            return text(200 if seen.state == READY else 503, seen.line)
        if path == "/metrics":
            return export(seen, accept).addCallback(lambda made: Answer(200, made[0], {"Content-Type": made[1]}))
        try:
            return self._about_connections(seen, method, path.removeprefix(_ONE), query)
        except ValueError as error:
            return text(400, str(error))

    def _about_connections(self, seen: Seen, method: str, id: str, query: Mapping[str, str]) -> Answer:
        if id == PATHS[-1]:
            limit = _integer(query, "limit", PAGE, MOST)
            return _json(200, self._connections.page(seen, limit, query.get("after", "")))
        if method != "DELETE":
            found = self._connections.one(seen, id)
            return _gone(id) if found is None else _json(200, found)
        code = _integer(query, "code", CLOSE[0], 4999)
        result = self._connections.close(seen, id, code, query.get("reason", CLOSE[1]))
        return _gone(id) if result is None else _json(200 if result == "aborted" else 202, {"id": id, "result": result})


def _gone(id: str) -> Answer:
    return text(404, f"There is no connection {id!r} now.")


def _integer(query: Mapping[str, str], name: str, otherwise: int, most: int) -> int:
    """Return a number of the query. :raises ValueError: when it is none from 1 to `most`."""
    given = query.get(name)
    if given is None:
        return otherwise
    if not (given.isascii() and given.isdecimal() and len(given) < 6 and 1 <= int(given) <= most):
        raise ValueError(f"{name}: {given!r} is not a number from 1 to {most}")
    return int(given)
