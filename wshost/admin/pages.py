"""What operators get: finds the answer to a request by its path and its method. Knows no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wshost.admin.connections import CLOSE, MOST, PAGE

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


class Served(Protocol):
    """What is served, by one process or by several. An answer may come later.

    Each may fail with a `ValueError` if nobody may ask that, with a `TimeoutError` if a process does not answer.
    """

    def state(self) -> tuple[bool, str]:
        """Return whether clients are let in, and the state in one line."""

    def export(self, accept: str) -> Deferred[tuple[bytes, str]]:
        """Return all metrics in the format that the scraper prefers, and its media type."""

    def page(self, limit: int, after: str) -> dict[str, Any] | Deferred[dict[str, Any]]:
        """Return some connections, those after an id."""

    def one(self, id: str) -> dict[str, Any] | Deferred[dict[str, Any] | None] | None:
        """Return one connection; None when there is none of this id."""

    def close(self, id: str, code: int, reason: str) -> str | Deferred[str | None] | None:
        """Close one connection, and return what becomes of it; None when there is none of this id."""


class Pages:
    """The answers about what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

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
        if path == "/readyz":
            ready, line = self._served.state()
            return text(200 if ready else 503, line)
        if path == "/metrics":
            exported = self._served.export(accept)
            return exported.addCallback(lambda made: Answer(200, made[0], {"Content-Type": made[1]}))
        try:
            return self._about_connections(method, path.removeprefix(_ONE), query)
        except ValueError as error:
            return text(400, str(error))

    def _about_connections(self, method: str, id: str, query: Mapping[str, str]) -> Answer | Deferred[Answer]:
        if id == PATHS[-1]:
            limit = _integer(query, "limit", PAGE, MOST)
            return _shown(self._served.page(limit, query.get("after", "")), partial(_json, 200))
        if method != "DELETE":
            return _shown(self._served.one(id), lambda one: _gone(id) if one is None else _json(200, one))
        code = _integer(query, "code", CLOSE[0], 4999)
        return _shown(self._served.close(id, code, query.get("reason", CLOSE[1])), partial(_ended, id))


def _shown(found: Any, show: Callable[[Any], Answer]) -> Answer | Deferred[Answer]:
    if isinstance(found, Deferred):
        return found.addCallbacks(show, _explained)
    return show(found)


def _explained(failure: Failure) -> Answer:
    if failure.check(TimeoutError):
        return text(504, str(failure.value))
    failure.trap(ValueError)
    return text(400, str(failure.value))


def _ended(id: str, result: str | None) -> Answer:
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
