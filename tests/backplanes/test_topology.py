from __future__ import annotations

from typing import Any

import pytest

from wshost.backplanes.connection import BrokerError
from wshost.backplanes.settings import Broker
from wshost.backplanes.shards import PARTS, SLOT_OF_PART
from wshost.backplanes.topology import is_topology, read

ASKED = Broker("seed", 7000, "me", "secret", tls=True)


def node(host: bytes | None, port: int) -> list[Any]:
    return [host, port, b"id", []]


class TestRead:
    def test_each_part_has_the_master_of_its_slot(self) -> None:
        slot = SLOT_OF_PART[2]
        answer: Any = [
            [0, slot - 1, node(b"a", 1), node(b"r", 9)],
            [slot, slot, node(b"b", 2)],
            [slot + 1, 16_383, node(b"c", 3)],
        ]
        topology = read(answer, ASKED)
        assert [owner.host for owner in topology.owners] == ["a", "a", "b", *["c"] * (PARTS - 3)]
        assert [found.host for found in topology.nodes] == ["a", "r", "b", "c"]
        assert topology.owners[0] == Broker("a", 1, "me", "secret", tls=True)

    @pytest.mark.parametrize("host", [None, b""])
    def test_a_server_without_a_host_is_at_the_one_that_was_asked(self, host: bytes | None) -> None:
        assert read([[0, 16_383, node(host, 7001)]], ASKED).owners[0].host == "seed"

    @pytest.mark.parametrize(
        "answer",
        [
            [],
            [[0, 16_000, node(b"a", 1)]],
            [[0, 16_383, node(b"?", 1), node(b"r", 9)]],
            [[0, 16_383, b"strange"]],
            [[0, 16_383]],
            [[0, 16_383, node(b"a", 0)]],
            [[0, 16_383, node(None, 65_536)]],
        ],
    )
    def test_a_part_without_a_master_is_an_error(self, answer: Any) -> None:
        with pytest.raises(BrokerError, match=r"^its cluster is not whole: it knows no master for the slot \d+$"):
            read(answer, ASKED)

    @pytest.mark.parametrize("answer", [[[b"0", 16_383]], [b"a"], [[]]])
    def test_another_answer_is_an_error(self, answer: Any) -> None:
        with pytest.raises(BrokerError, match="it does not answer CLUSTER SLOTS as Redis does"):
            read(answer, ASKED)


@pytest.mark.parametrize(("value", "expected"), [([], True), ([[0]], True), ([b"server"], False), (b"OK", False)])
def test_a_list_of_lists_is_an_answer(value: Any, expected: bool) -> None:
    assert is_topology(value) is expected
