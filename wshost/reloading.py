"""Says what a running server has read again. Knows neither files nor handlers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reloaded:
    """What `wshost.server.Server.reload` has done."""

    #: How many certificates were read again.
    certificates: int = 0
    #: The names of the handlers that were imported again.
    handlers: tuple[str, ...] = ()
    #: How many connections go over to their code.
    connections: int = 0
    #: What stays as it was, and why: one line for each.
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what was read again, in one line."""
        what = []
        if self.certificates:
            what.append(_counted(self.certificates, "certificate"))
        if self.handlers:
            goes = "goes" if self.connections == 1 else "go"
            plural = "" if len(self.handlers) == 1 else "s"
            over = f"{_counted(self.connections, 'connection')} {goes} over"
            what.append(f"handler{plural} {', '.join(self.handlers)} ({over})")
        return ", ".join(what) or "nothing"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
