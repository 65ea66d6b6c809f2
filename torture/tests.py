"""Lists the tests, in the order in which they run. Knows no command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torture import bombs, ends, faults, floods, fuzzing, handlers, reloading, slow, soak, stopping, takeover
from torture.figures import Figure
from torture.flooder import KINDS
from torture.server import Target
from torture.stateful.row import converse

#: Other servers, where the same attack is fair: plain Autobahn, websockets and picows.
PEERS = ("autobahn", "websockets", "picows")


@dataclass(frozen=True)
class Test:
    """One test.

    :param name: by which `--only` finds it.
    :param run: starts a server, attacks it, and yields figures.
    :param peers: run it against other servers, too.
    :param long: `--long` only.
    """

    name: str
    run: Callable[[Target], Iterator[Figure]]
    peers: bool = False
    long: bool = False


def tests(long: bool) -> Sequence[Test]:
    """Return all tests of a run.

    :param long: with the longest figures: an hour of soak, ten million inputs, 5,000 conversations.
    """
    return (
        Test("readers that never read", slow.never_reading, peers=True),
        Test("slow heads", slow.slow_heads, peers=True),
        Test("slow TLS handshakes", slow.slow_tls),
        Test("slow frames", slow.slow_frames),
        *(Test(f"flood of {kind}", floods.flood(kind), peers="TLS" not in kind) for kind in KINDS),
        Test("deflate bombs", bombs.deflate_bombs),
        Test("endless lengths", bombs.endless_lengths),
        Test("ends at every byte", ends.every_byte),
        Test("ends at every byte of TLS", ends.every_byte_tls),
        Test("no descriptors", faults.no_descriptors),
        Test("full disk", faults.full_disk),
        Test("clock that jumps", faults.clock),
        Test("process that stands still", faults.stopped(60 if long else 5)),
        Test("handlers that fail", handlers.raising),
        Test("handler that blocks", handlers.blocking),
        Test("SIGHUP under load", reloading.sighup(60 if long else 12)),
        Test("takeover under load", takeover.takeover(20 if long else 5)),
        Test("SIGTERM under load", stopping.sigterm(100 if long else 10)),
        *(
            Test(f"fuzzing: {part}", fuzzing.fuzz(part, runs if long else 5_000))
            for part, runs in fuzzing.PARTS.items()
        ),
        Test("stateful: conversations", converse(5_000 if long else 100)),
        Test("soak", soak.soak(3_600 if long else 30)),
    )
