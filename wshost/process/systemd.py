"""Tells systemd, or who else started the process so, what becomes of it: sd_notify(3). Knows no server.

It must not fail a server: what can't be told is logged at the level debug.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds that a datagram may wait for room at systemd's socket. The reactor waits, too.
PATIENCE = 0.5

_log = Logger("wshost")


class Notifier:
    """One process, as systemd sees it. Without systemd, all methods do nothing.

    The variables that systemd has set are taken out of the environment: they mean this process, not its children.

    :param environ: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, or not.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        # An @ stands for the null byte of an abstract address (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        patience, self._watched = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        # Seconds from one sign of life to the next, half of what systemd waits; 0: it waits for none.
        self._interval = int(patience) / 2e6 if patience.isdecimal() and self._address else 0.0

    def ready(self, status: str) -> None:
        """Tell that clients are let in, or are served with new settings after `reloading`.

        :param status: one line for `systemctl status`.
        """
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that settings are being read again. `ready` must follow."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self, status: str) -> None:
        """Tell that the server stops. May be called again, with another status.

        :param status: one line for `systemctl status`.
        """
        self._tell("STOPPING=1", f"STATUS={status}")

    def live(self, reactor: Any) -> None:
        """Give signs of life from now on, if systemd waits for this process's. A reactor that stands still gives none.

        :param reactor: provides `IReactorTime`.
        """
        if self._interval and self._watched in {"", str(os.getpid())}:
            calls = LoopingCall(self._tell, "WATCHDOG=1")
            calls.clock = reactor
            calls.start(self._interval)

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(PATIENCE)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            _log.debug("systemd can't be told {first}: {error}", first=assignments[0], error=error)
