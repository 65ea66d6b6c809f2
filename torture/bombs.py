"""Messages that are larger than they look, or say that they are. Yields the close code and the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from torture.figures import Figure
from torture.peers import BINARY, CONTINUATION, close_code, connected, frame, head
from torture.server import Server, Target

#: `--max-message-size`, in MB.
LIMIT = 1.0
#: How large the bombs are when they are inflated.
ZEROS = 1 << 30
PEERS = 20


def _bomb() -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(ZEROS >> 20)]
    return b"".join([*parts, compressor.flush(zlib.Z_SYNC_FLUSH)])[:-4]


def deflate_bombs(target: Target) -> Iterator[Figure]:
    """1 GiB of zeros in one frame, and in 100 fragments."""
    bomb = _bomb()
    step = len(bomb) // 100 + 1
    pieces = [bomb[at : at + step] for at in range(0, len(bomb), step)]
    split = frame(BINARY, pieces[0], fin=False, rsv1=True)
    split += b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:]) + frame(CONTINUATION)
    with target.start(deflate=True) as server:
        yield from _throw(server, [frame(BINARY, bomb, rsv1=True), split], "bombs")


def endless_lengths(target: Target) -> Iterator[Figure]:
    """Frames that announce 2^62 and other lengths beyond the limit."""
    heads = [head(BINARY, length) for length in (2**20 + 1, 2**31, 2**32, 2**62, 2**63 - 1)]
    with target.start() as server:
        yield from _throw(server, heads, "lengths")


def _throw(server: Server, attacks: Sequence[bytes], what: str) -> Iterator[Figure]:
    """Send each attack from several peers, one after the other; all must be closed with 1009."""
    deflate = what == "bombs"
    # The first of them all imports what it needs.
    for attack in attacks:
        _attack(server, attack, deflate)
    before = peak = server.rss
    wrong = 0
    for attack in attacks:
        for _ in range(PEERS):
            wrong += _attack(server, attack, deflate) != 1009
            peak = max(peak, server.rss)
    yield Figure(f"{what} that were not closed with 1009", wrong, "", 0)
    yield Figure("RSS grew by", peak - before, "MB", 2 * LIMIT)


def _attack(server: Server, attack: bytes, deflate: bool) -> int:
    with connected(server.port, deflate=deflate) as peer:
        with suppress(OSError):  # it may be closed before all is sent
            peer.sendall(attack)
        return close_code(peer)
