"""Keeps account of connections: counts them, refusals and ends, and logs each at its end. Knows no protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from twisted.logger import Logger

from wshost.logs.text import loggable

#: How many kinds of refusals, and of crashes, are counted apart. All further kinds count as one.
KINDS = 100
#: The facts of a connection in the access log, in this order. Those that are not known are left out.
FACTS = (
    "path",
    "route",
    "status",
    "code",
    "closed_by",
    "reason",
    "seconds",
    "messages_in",
    "bytes_in",
    "messages_out",
    "bytes_out",
    "errors",
    "subprotocol",
    "deflate",
    "user_agent",
    "traceparent",
)
#: Further kinds of refusals, and of crashes.
OTHERS = (0, "other reasons")
OTHER_CRASHES = ("other handlers", "other kinds")
#: The status of a connection that was upgraded, and the code of one that ended then without a Close (RFC 6455 §7.1.5).
UPGRADED, ABNORMAL = 101, 1006
_SIDES = ("peer", "server")

_log = Logger("wshost.access")


class Traffic(NamedTuple):
    """What has gone through connections."""

    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0


class Account:
    """The account of one hub.

    :param access: whether there is an access log.
    :param ends: whether connections are counted at their end.
    """

    def __init__(self, access: bool = False, ends: bool = False) -> None:
        self.access = access
        #: Whether connections keep notes of what is to be logged or counted at their end.
        self.takes_notes = access or ends
        #: How many connections were made.
        self.opened = 0
        #: How often WebSockets were closed, by the code as `code_class` shows it, and the side: ``peer``, ``server``;
        #: ``none`` without a Close.
        self.closed: Counter[tuple[str, str]] = Counter()
        #: What has gone through the connections that have ended, or have gone over to another process.
        self.ended = Traffic()
        #: How often clients were refused, by the status of HTTP, 0 without one, and the reason.
        self.refused: Counter[tuple[int, str]] = Counter()
        # Other threads count here, too.
        self._dropped: Counter[str] = Counter()
        self._lock = Lock()
        #: How often users' code has raised an exception, by the handler's or the module's name, and the kind of call.
        self.crashes: Counter[tuple[str, str]] = Counter()

    def count_refusal(self, status: int, reason: str) -> None:
        """Count one refusal.

        :param status: of the response; 0 when there was none.
        :param reason: one of a few; nothing that a peer or a handler has said.
        """
        kind = (status, reason)
        self.refused[kind if kind in self.refused or len(self.refused) < KINDS else OTHERS] += 1

    def count_dropped(self, policy: str) -> None:
        """Count one message that was dropped because too much waited. Safe in any thread."""
        with self._lock:
            self._dropped[policy] += 1

    @property
    def dropped(self) -> Counter[str]:
        """How many messages of refs were dropped because a peer was slow, by the policy (``--when-slow``)."""
        with self._lock:
            return self._dropped.copy()

    def count_crash(self, handler: str, kind: str) -> None:
        """Count one exception of users' code.

        :param handler: the name of the handler, or of the protocol module.
        :param kind: "init", "handle", "connection_close" or "code_change"; "module" for a protocol module.
        """
        crash = (handler, kind)
        self.crashes[crash if crash in self.crashes or len(self.crashes) < KINDS else OTHER_CRASHES] += 1

    def count_end(self, notes: Mapping[str, Any], traffic: Traffic) -> None:
        """Count a connection that has ended. Called only if notes are taken.

        :param notes: facts, by the names in `FACTS`.
        """
        self.count_traffic(traffic)
        if notes.get("status") == UPGRADED:
            side = notes.get("closed_by")
            self.closed[code_class(notes.get("code", ABNORMAL)), side if side in _SIDES else "none"] += 1

    def count_traffic(self, traffic: Traffic) -> None:
        """Count what has gone through a connection that leaves. Called only if notes are taken."""
        before = self.ended
        self.ended = Traffic(*(total + one for total, one in zip(before, traffic, strict=True)))

    def log(self, id: str, peer: str, notes: Mapping[str, Any]) -> None:
        """Log a connection that has ended. Called only if there is an access log.

        :param id: the connection's id.
        :param peer: the peer's address.
        :param notes: facts, by the names in `FACTS`.
        :raises BaseException: when a fact can't be shown: modules may have noted anything.
        """
        known = {name: notes[name] for name in FACTS if notes.get(name) is not None}
        facts = {name: _fact(value) for name, value in known.items() if not (type(value) is str and not value)}
        line = " ".join(f"{name}={_shown(value)}" for name, value in facts.items())
        _log.info("{line}", line=line, connection=id, peer=peer, access=facts)


def code_class(code: Any) -> str:
    """Return a close code as metrics have it: peers may send any of 2,000 codes of applications (RFC 6455 §7.4.2)."""
    if type(code) is not int or not 1000 <= code < 5000:
        return "other"
    if code <= 1015:
        return str(code)
    return {3: "3xxx", 4: "4xxx"}.get(code // 1000, "other")


def _fact(value: Any) -> Any:
    """Return a fact as JSON knows it: peers and handlers may have said it."""
    return value if type(value) in {int, bool} else round(value, 3) if type(value) is float else loggable(str(value))


def _shown(value: Any) -> str:
    """Return a fact as text: in quotes if it has spaces, or could be mistaken for more than one."""
    if type(value) is bool:
        return "yes" if value else "no"
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
