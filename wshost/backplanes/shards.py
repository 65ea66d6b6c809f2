"""Divides the subjects among the masters of a Redis Cluster, and names their shard channels. Knows no connection.

Subjects are in 64 parts. Each part has a hash tag, so all its channels have one slot, and one master. Sharded publish
and subscribe has no patterns. So each pattern has a channel for what is before its first wildcard, in each part
where it may match. A script, which runs in the master, publishes there, too, if somebody listens.
"""

from __future__ import annotations

import hashlib
from binascii import crc_hqx
from collections.abc import Sequence
from itertools import count, takewhile

from wshost.backplanes.resp import command

#: Neither number may ever change: all processes of a cluster divide in the same way.
PARTS = 64
#: The part of a subject depends on so many tokens, its first ones.
DIVIDING = 4
#: So many tokens before the first wildcard make the channel of a pattern.
PREFIX = 8
#: The longest command around a payload, in bytes; on the channel of a pattern, the subject is before the payload.
AROUND = 2_400
#: How many slots a Redis Cluster has.
SLOTS = 16_384

_WIDTH = SLOTS // PARTS
# So many bytes of a command have its hash tag among them.
_HEAD = 200

#: Publishes: the arguments are the channel, the channel that says whether the part has patterns, and the payload.
_SCRIPT = f"""\
local channel, payload = ARGV[1], ARGV[3]
redis.call('SPUBLISH', channel, payload)
if redis.call('PUBSUB', 'SHARDNUMSUB', ARGV[2])[2] == 0 then return 0 end
local at = channel:find('}}', 1, true)
local tag, subject = channel:sub(1, at), channel:sub(at + 1)
local names = {{tag .. '*'}}
for number = 2, {PREFIX + 1} do
  at = channel:find('.', at + 1, true)
  if not at then break end
  names[number] = channel:sub(1, at) .. '*'
end
local asked = redis.call('PUBSUB', 'SHARDNUMSUB', unpack(names))
for number = 2, #asked, 2 do
  if asked[number] > 0 then redis.call('SPUBLISH', asked[number - 1], subject .. ' ' .. payload) end
end
return 0
"""
#: Makes a master know the script.
LOAD = command("SCRIPT", "LOAD", _SCRIPT)
_NAME = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def _slot(tag: str) -> int:
    return crc_hqx(tag.encode(), 0) % SLOTS


def _find_tags() -> tuple[str, ...]:
    """Return the hash tag of each part: the smallest number whose slot lies in this 64th of the slots."""
    found: dict[int, str] = {}
    numbers = map(str, count())
    while len(found) < PARTS:
        tag = next(numbers)
        found.setdefault(_slot(tag) // _WIDTH, tag)
    return tuple(found[part] for part in range(PARTS))


_TAGS = _find_tags()
_PARTS = {tag.encode(): part for part, tag in enumerate(_TAGS)}
#: The slot of each part.
SLOT_OF_PART = tuple(map(_slot, _TAGS))
_PART_OF_SLOT = {slot: part for part, slot in enumerate(SLOT_OF_PART)}


def part_of(subject: str) -> int:
    """Return the part to which a subject belongs."""
    tokens = subject.split(".", DIVIDING)
    return crc_hqx(".".join(tokens[:DIVIDING]).encode(), 0) % PARTS


def part_of_slot(slot: int) -> int | None:
    """Return the part whose channels have this slot, if there is one."""
    return _PART_OF_SLOT.get(slot)


def part_of_channel(name: bytes) -> int | None:
    """Return the part of the first channel that is named in these bytes, by its hash tag; None for another's."""
    return _PARTS.get(name.partition(b"{")[2].partition(b"}")[0])


def part_of_command(data: bytes) -> int:
    """Return the part of a command of `beginning`."""
    return _PARTS[data[:_HEAD].partition(b"{")[2].partition(b"}")[0]]


def prefix_of(pattern: str) -> str:
    """Return what is before the first wildcard of a pattern, with a star behind it: the name of its channels."""
    tokens = list(takewhile(lambda token: token not in ("*", ">"), pattern.split(".")))
    return "".join(f"{token}." for token in tokens[:PREFIX]) + "*"


def parts_of_prefix(prefix: str) -> Sequence[int]:
    """Return the parts of the subjects that begin so."""
    if prefix.count(".") >= DIVIDING:
        return (part_of(prefix),)
    return range(PARTS)


def channel(part: int, name: str) -> str:
    """Return the shard channel of a part for a subject, or for a prefix of `prefix_of`."""
    return f"{{{_TAGS[part]}}}{name}"


def marker(part: int) -> str:
    """Return the shard channel on which nothing is published: who has a pattern in the part listens there."""
    return channel(part, "?")


def beginning(part: int, subject: str) -> bytes:
    """Return the beginning of the command that publishes to a subject, up to the payload's length."""
    words = ("EVALSHA", _NAME, "0", channel(part, subject), marker(part), "")
    return command(*words).removesuffix(b"0\r\n\r\n")
