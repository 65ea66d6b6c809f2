"""What the workers of one server have to know, as plain data that goes from process to process. Knows no process."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wshost.connections.home import Home
from wshost.process.takeover import LARGEST
from wshost.results import ConfigurationError

#: The rest of a packet is for its head.
_MOST = LARGEST - 1_024


@dataclass(frozen=True)
class Kit:
    """The same for all workers."""

    #: The options that were given, by name.
    given: Mapping[str, Any]
    #: The directory of the configuration's file, in which handlers may lie; None if there is no file.
    folder: str | None = None
    #: The log's file where the options name none; None: the stream of this descriptor.
    log_path: str | None = None
    log_stream: int = 2
    #: The event loop that they run on, as `wshost.process.reactors.name` has it; None: uvloop where it is installed.
    loop: str | None = None
    #: Names the workers of one supervisor together, among all processes of a cluster.
    machine: str = field(default_factory=lambda: Home.new().boot, compare=False)

    def packed(self) -> bytes:
        """Return this as bytes.

        :raises ConfigurationError: when that can't be, or they are too many.
        """
        try:
            data = pickle.dumps(self)
        except Exception as error:  # values of a file or of a caller may be anything
            raise ConfigurationError(f"workers: the options can't be passed on: {error}") from error
        if len(data) > _MOST:
            raise ConfigurationError(f"workers: the options are {len(data)} bytes, too many to be passed on")
        return data


def unpacked(data: bytes) -> Kit:
    """Return the kit that another process of this server has packed."""
    kit: Kit = pickle.loads(data)  # noqa: S301 - from our own process, by a socket that only we have
    return kit
