"""Makes bytes of what one process publishes on one subject in one turn, and reads them: msgpack. Knows no meaning.

https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

#: The form of the payloads. One of another form is not understood.
VERSION = 1
#: How many entries a list or a mapping may have.
ENTRIES = 100_000
#: How many bytes an envelope has besides its messages, at the most.
HEAD = 128
#: How many bytes a str or bytes has besides its own, at the most.
TEXT_HEAD = 5


class MalformedError(Exception):
    """These bytes are no envelope: its text says why."""


class Envelope(NamedTuple):
    """What was published on one subject in one turn."""

    #: The machine, and the process on it, from which it comes.
    machine: str
    sender: str
    #: See `wshost.cluster.sequence.Outgoing.count`.
    epoch: int
    before: int
    #: Messages, the first one first.
    messages: Sequence[Any]


class Codec:
    """Packs and reads envelopes. Used in one thread."""

    def __init__(self) -> None:
        import msgpack  # noqa: PLC0415 - one process alone does not need it

        self._packer = msgpack.Packer(use_bin_type=True)
        # Keys may be anything: who sends here is trusted not to choose those that make dicts slow.
        self._unpack = partial(msgpack.unpackb, max_array_len=ENTRIES, max_map_len=ENTRIES, strict_map_key=False)

    def pack(self, message: Any) -> bytes:
        """Return one message as bytes.

        :param message: None, bool, int, float, str, bytes, or lists, tuples and dicts of these.
        :raises TypeError: for anything else.
        :raises ValueError: for an integer of more than 64 bits, a str with lone surrogates, or what is nested too deep.
        """
        try:
            packed: bytes = self._packer.pack(message)
        except OverflowError as error:
            self._packer.reset()
            raise ValueError(str(error)) from error
        except BaseException:
            # What is packed already must not precede the next message.
            self._packer.reset()
            raise
        return packed

    def copy(self, message: Any) -> Any:
        """Return a message as it arrives: tuples are lists then.

        :raises TypeError, ValueError: when it can't be packed, as in `pack`, or not be read again: for a list of more
            than `ENTRIES`, or a tuple as the key of a dict.
        """
        # As deep as in an envelope: reading, too, goes only so deep.
        return self._unpack(self.pack([[message]]))[0][0]

    def enclose(self, machine: str, sender: str, epoch: int, before: int, messages: Sequence[bytes]) -> bytes:
        """Return an envelope around packed messages, as bytes."""
        # The head ends with None in the place of the list of messages.
        head = self._packer.pack((VERSION, machine, sender, epoch, before, None))[:-1]
        return b"".join((head, self._packer.pack_array_header(len(messages)), *messages))

    def pack_all(self, machine: str, sender: str, epoch: int, before: int, messages: Sequence[str | bytes]) -> bytes:
        """Return an envelope around messages that are not packed yet, as bytes."""
        envelope: bytes = self._packer.pack((VERSION, machine, sender, epoch, before, messages))
        return envelope

    def read(self, payload: bytes) -> Envelope:
        """Return the envelope in a payload. :raises MalformedError: when there is none."""
        try:
            read = self._unpack(payload)
            version, machine, sender, epoch, before, messages = read
        except Exception as error:  # msgpack has many; and all else is a wrong form
            raise MalformedError(f"{type(error).__name__}: {error}") from error
        strings = type(machine) is str and type(sender) is str
        numbers = type(epoch) is int and type(before) is int and epoch >= 0 and before >= 0
        if version != VERSION or not (strings and numbers) or type(messages) is not list:
            raise MalformedError(f"it has another form than {VERSION}")
        return Envelope(machine, sender, epoch, before, messages)
