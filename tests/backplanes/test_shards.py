from __future__ import annotations

import hashlib

import pytest

from wshost.backplanes.resp import Parser
from wshost.backplanes.shards import (
    AROUND,
    LOAD,
    PARTS,
    SLOT_OF_PART,
    SLOTS,
    beginning,
    channel,
    marker,
    part_of,
    part_of_channel,
    part_of_command,
    part_of_slot,
    parts_of_prefix,
    prefix_of,
)


def words(data: bytes) -> list[str]:
    """Those of a command."""
    found: list[list[bytes]] = []
    Parser({}, lambda _: None, lambda *_: None, found.append, 1 << 20).feed(data)  # type: ignore[arg-type]
    return [word.decode() for word in found[0]]


class TestParts:
    def test_each_part_has_a_slot_in_its_own_64th_of_all(self) -> None:
        assert [slot * PARTS // SLOTS for slot in SLOT_OF_PART] == list(range(PARTS))
        assert list(SLOT_OF_PART) == sorted(SLOT_OF_PART)

    def test_tags_and_parts_are_the_same_in_all_versions(self) -> None:
        """Slots as `CLUSTER KEYSLOT` says them."""
        assert (channel(32, "a.b"), SLOT_OF_PART[32]) == ("{12}a.b", 8_373)
        assert [part_of(subject) for subject in ("wshost.all", "wshost.t.news", "wshost.t.rooms.7")] == [43, 36, 9]

    def test_the_first_four_tokens_decide(self) -> None:
        assert part_of("a.b.c.d") == part_of("a.b.c.d.e") == part_of("a.b.c.d.f.g")
        assert len({part_of(f"a.b.c.{number}") for number in range(1_000)}) == PARTS

    def test_a_slot_has_at_most_one_part(self) -> None:
        assert part_of_slot(SLOT_OF_PART[5]) == 5
        assert part_of_slot(SLOT_OF_PART[5] + 1) is None

    def test_a_channel_names_its_part(self) -> None:
        assert part_of_channel(channel(7, "a").encode()) == part_of_channel(marker(7).encode()) == 7
        assert [part_of_channel(name) for name in (b"a", b"{x}a", b"")] == [None, None, None]


class TestPrefixes:
    @pytest.mark.parametrize(
        ("pattern", "prefix"),
        [
            ("a.b.*", "a.b.*"),
            ("a.b.>", "a.b.*"),
            ("a.*.c", "a.*"),
            (">", "*"),
            ("*.a", "*"),
            ("a.b.c.d.e.f.g.h.i.*", "a.b.c.d.e.f.g.h.*"),
        ],
    )
    def test_a_prefix_is_what_is_before_the_first_wildcard(self, pattern: str, prefix: str) -> None:
        assert prefix_of(pattern) == prefix

    def test_a_prefix_of_four_tokens_is_in_one_part_and_a_shorter_one_in_all(self) -> None:
        assert parts_of_prefix("a.b.c.d.*") == (part_of("a.b.c.d.e"),)
        assert list(parts_of_prefix("a.b.c.*")) == list(parts_of_prefix("*")) == list(range(PARTS))


class TestCommands:
    def test_a_publication_calls_the_script_by_its_hash(self) -> None:
        part = part_of("a.b")
        _, _, script = words(LOAD)
        found = words(beginning(part, "a.b") + b"2\r\nhi\r\n")
        name = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        assert found == ["EVALSHA", name, "0", channel(part, "a.b"), marker(part), "hi"]

    def test_the_part_of_a_publication_is_known_whatever_is_in_it(self) -> None:
        data = beginning(9, "a" * 1_024) + b"4\r\n{12}\r\n"
        assert part_of_command(data) == 9

    def test_what_is_around_a_payload_is_limited(self) -> None:
        assert len(beginning(0, "a" * 1_024)) + 1_024 + 100 < AROUND
