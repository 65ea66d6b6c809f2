"""Fuzzes one part of the server with atheris. It runs as ``python -m torture.fuzzer PART RUNS``.

An exception, a failure in the log or a difference ends the process with an error. Knows no part, only its oracle.
"""

from __future__ import annotations

import sys

import atheris
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import provider

from torture.peers import frame, head

with atheris.instrument_imports(include=["wshost"]):
    from torture.oracles import ORACLES

#: Inputs to begin with.
SEEDS = {"frames": [frame(1, b"hello"), head(2, 4_097), frame(8, b"\x03\xe8")]}
#: Failures that were logged since the last look.
_failures: list[str] = []


@provider(ILogObserver)
def _watch(event: LogEvent) -> None:
    if event["log_level"] >= LogLevel.error:
        _failures.append(str(event.get("log_format")) + str(event.get("log_failure", "")))


def main(part: str, runs: int) -> None:
    """Fuzz."""
    globalLogPublisher.addObserver(_watch)
    oracle = ORACLES[part]

    def one_input(data: bytes) -> None:
        oracle(data, sum(data) % (len(data) + 1))
        if _failures:
            raise AssertionError(_failures.pop())

    for seed in SEEDS.get(part, []):
        one_input(seed)
    options = [f"-runs={runs}", "-max_len=2048", "-print_final_stats=1", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
