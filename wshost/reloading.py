"""Says what a running server has read again. Knows neither files nor handlers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reloaded:
    """What `wshost.server.Server.reload` has done."""

    #: How many certificates were read again.
    certificates: int = 0
    #: What stays as it was, and why: one line for each.
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what was read again, in one line."""
        plural = "" if self.certificates == 1 else "s"
        return f"{self.certificates} certificate{plural}" if self.certificates else "nothing"
