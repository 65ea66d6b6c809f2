from __future__ import annotations

from tests.cluster.together import Process, Together
from tests.memory import MemoryReactor


class TestAlone:
    def test_a_registered_connection_is_found_by_its_name(self) -> None:
        process = Process(MemoryReactor())
        ref, _ = process.open()
        assert process.directory.register("ann", ref) is True
        assert process.directory.whereis("ann") == ref


class TestTogether:
    def test_a_name_is_known_in_all_processes(self) -> None:
        together = Together(3)
        one, *others = together.all
        ref, _ = one.open()
        assert one.directory.register("ann", ref)
        together.turn()
        assert [other.directory.whereis("ann") for other in others] == [ref, ref]
