"""Makes the messages that the load sends: plain text, and typical JSON of services. They are the same in every run."""

from __future__ import annotations

import json
import random
import string

from benchmarks.servers.answers import worked


def texts(size: int, count: int) -> list[bytes]:
    """Return so many different ASCII texts of so many bytes."""
    chance = random.Random(size)
    alphabet = (string.ascii_letters + string.digits + "      .,").encode()
    # Long texts differ only in their beginning, as making megabytes of random text takes seconds.
    block = bytes(chance.choices(alphabet, k=min(size, 65_536)))
    text = (block * (size // len(block) + 1))[:size]
    return [(f"{number:08x} ".encode() + text)[:size] for number in range(count)]


def jsons(size: int, count: int) -> list[bytes]:
    """Return so many different JSON texts of about so many bytes, as an API may send them to its clients."""
    chance = random.Random(size)
    made = []
    for _ in range(count):
        items: list[dict[str, object]] = []
        text = b""
        while len(text) < size:
            items.append(
                {
                    "id": chance.getrandbits(40),
                    "user": chance.choice(("ana", "bo", "chris", "dana", "eli")) + str(chance.randrange(1000)),
                    "price": round(chance.uniform(1, 500), 2),
                    "side": chance.choice(("buy", "sell")),
                    "tags": chance.sample(("new", "hot", "limit", "market", "retail"), 2),
                    "at": f"2026-0{chance.randrange(1, 10)}-{chance.randrange(10, 29)}T12:{chance.randrange(10, 60)}Z",
                }
            )
            text = _compact({"type": "update", "items": items})
        made.append(text)
    return made


def requests(count: int) -> list[tuple[bytes, bytes]]:
    """Return different requests in JSON, of about 130 bytes, each with the answer of `servers/answers.py`."""
    chance = random.Random(130)
    made = []
    for number in range(count):
        request = {
            "id": number,
            "action": "order.update",
            "user": "ana" + str(chance.randrange(1_000, 10_000)),
            "amounts": [chance.randrange(10, 100) for _ in range(4)],
            "tags": chance.sample(("alpha", "bravo", "delta", "hotel"), 2),
            "at": f"2026-11-26T12:{chance.randrange(10, 60)}:{chance.randrange(10, 60)}.125Z",
        }
        made.append((_compact(request), _compact(worked(request))))
    return made


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
