"""Says in which process it runs, and does to that process what it is told."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from wshost.process import reactors

VERSION = "1"


def init(options: Any) -> None:
    """Keep no state."""


def handle(message: Any, state: Any) -> Any:
    match message:
        case ("text", "pid"):
            return ("reply", str(os.getpid()), state)
        case ("text", "loop"):
            return ("reply", reactors.name(reactors.installed()), state)
        case ("text", "die"):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("text", "exit"):
            sys.exit(3)
        case ("text", "hang"):
            time.sleep(1_000)
        case ("text", text):
            return ("reply", text, state)
    return ("noreply", state)
