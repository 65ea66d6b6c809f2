"""Measures the import of a package, and which modules it imports. Each import runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.running import CORES, on_core

#: Modules that `import wshost` must not import before they are needed: a reactor, TLS, Autobahn.
UNWANTED = ("twisted.internet.reactor", "OpenSSL", "cryptography", "ssl", "asyncio", "autobahn")

_TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
_LISTED = "import sys; import {}; print(*sys.modules)"


def _said(program: str) -> str:
    # With bytecode, as pip installs modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with on_core(CORES[0]):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
    return done.stdout


def import_seconds(module: str) -> float:
    """Return the seconds that an import takes, without the interpreter's own start."""
    return float(_said(_TIMED.format(module)))


def brought_in(module: str, unwanted: tuple[str, ...] = UNWANTED) -> list[str]:
    """Return the unwanted modules that an import also imports."""
    loaded = set(_said(_LISTED.format(module)).split())
    return [name for name in unwanted if name in loaded]
