"""A scripted conversation, from the handshake to the Close, with everything a peer may say in it."""

from __future__ import annotations

import zlib
from typing import Any

from tests.memory import request
from tests.regressions.wire import CONTINUATION, PING, RSV1, TAIL, TEXT, close, frame

_COMPRESSOR = zlib.compressobj(wbits=-12)
_COMPRESSED = (_COMPRESSOR.compress(b"wide " * 20) + _COMPRESSOR.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

#: What the client sends; it needs a server that agrees to compression.
BYTES = b"".join(
    [
        request("/chat?room=1", {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=12"}),
        frame(TEXT, "schön".encode()),
        frame(TEXT, b"one ", fin=False),
        frame(PING, b"in between"),
        frame(CONTINUATION, b"two ", fin=False),
        frame(CONTINUATION, b"three"),
        frame(PING, b"alone"),
        frame(TEXT, _COMPRESSED, rsv=RSV1),
        close(1000, "bye"),
    ]
)

#: What the handler hears of it.
MESSAGES: list[Any] = [
    ("text", "schön"),
    ("ping", b"in between"),
    ("text", "one two three"),
    ("ping", b"alone"),
    ("text", "wide " * 20),
    ("close", (1000, "bye")),
]
