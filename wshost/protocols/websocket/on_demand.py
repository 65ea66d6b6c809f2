"""Makes engines with a server's limits. Imports Autobahn when the first one is made, or before, by `load`.

The import takes as long as a fifth of the start, and the first connections need no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wshost.protocols.websocket.autobahn_engine import Engine
    from wshost.protocols.websocket.deflate import Inflater
    from wshost.protocols.websocket.sink import EngineSink


@dataclass(frozen=True)
class Engines:
    """Call it to make an engine with these limits, for a sink. See `autobahn_engine.engine_class`."""

    max_message_size: int
    max_frame_size: int
    max_deflated_size: int
    max_fragments: int

    def __call__(self, sink: EngineSink, inflater: Inflater | None = None) -> Engine:
        return self._class(sink, inflater)

    @cached_property
    def _class(self) -> type[Engine]:
        from wshost.protocols.websocket.autobahn_engine import engine_class  # noqa: PLC0415 - slow to import

        return engine_class(
            max_message_size=self.max_message_size,
            max_frame_size=self.max_frame_size,
            max_deflated_size=self.max_deflated_size,
            max_fragments=self.max_fragments,
        )


def load() -> None:
    """Import Autobahn, so that the first engine is made without delay. May be called in any thread."""
    import_module("wshost.protocols.websocket.autobahn_engine")
