from __future__ import annotations

from twisted.internet.task import Clock

from wshost.workers.verdicts import ADMITTED, CROWDED, FULL, Gate, Judged


class TestGate:
    def test_a_connection_too_many_is_judged_full_and_takes_no_place(self) -> None:
        gate = Gate(2, 0, 0, Clock().seconds)
        assert [gate.judge(number, None) for number in (1, 2, 3)] == [ADMITTED, ADMITTED, FULL]
        assert len(gate) == 3
        gate.forget(1)
        gate.forget(1)
        assert gate.judge(4, None) == ADMITTED
        assert gate.judge(5, None) == FULL

    def test_an_address_has_its_own_limit(self) -> None:
        gate = Gate(10, 1, 0, Clock().seconds)
        assert [gate.judge(number, "192.0.2.1") for number in (1, 2)] == [ADMITTED, CROWDED]
        assert gate.judge(3, "192.0.2.2") == ADMITTED
        gate.forget(2)
        assert gate.judge(4, "192.0.2.1") == CROWDED
        gate.forget(1)
        assert gate.judge(5, "192.0.2.1") == ADMITTED

    def test_an_address_that_connects_too_often_has_to_wait(self) -> None:
        gate = Gate(10, 0, 1, Clock().seconds)
        assert [gate.judge(number, "192.0.2.1") for number in (1, 2, 3)] == [ADMITTED, ADMITTED, 1]

    def test_those_of_another_process_count_whether_there_is_room_or_not(self) -> None:
        gate = Gate(2, 1, 0, Clock().seconds)
        for number in (1, 2):
            gate.count(number, "192.0.2.1")
        gate.count(3, None)
        assert gate.judge(4, "192.0.2.2") == FULL
        for number in (1, 3):
            gate.forget(number)
        assert gate.judge(5, "192.0.2.1") == CROWDED


class TestJudged:
    def test_the_verdict_on_the_number_of_connections_holds(self) -> None:
        ended: list[int] = []
        judged = Judged(1, 0, 0, Clock().seconds, ended.append)
        with judged.deciding(7, ADMITTED):
            assert judged.has_room(5, "c1")
        with judged.deciding(8, FULL):
            assert not judged.has_room(0, "c2")
        assert ended == []
        judged.forget("c1")
        judged.forget("c2")
        assert ended == [7, 8]

    def test_a_socket_without_a_connection_has_ended(self) -> None:
        ended: list[int] = []
        judged = Judged(1, 0, 0, Clock().seconds, ended.append)
        with judged.deciding(7, ADMITTED):
            pass
        assert ended == [7]

    def test_the_verdict_on_an_address_holds(self) -> None:
        judged = Judged(9, 1, 1, Clock().seconds, lambda _: None)
        assert judged.rate is not None
        with judged.deciding(1, ADMITTED):
            assert judged.rate.take("192.0.2.1") == 0
            assert judged.count_address("192.0.2.1")
        with judged.deciding(2, ADMITTED):
            assert judged.count_address("192.0.2.1")
        with judged.deciding(3, CROWDED):
            assert judged.rate.take("192.0.2.1") == 0
            assert not judged.count_address("192.0.2.1")
        with judged.deciding(4, 17):
            assert judged.rate.take("192.0.2.1") == 17
        judged.discount_address("192.0.2.1")
        judged.discount_address("192.0.2.1")
        assert judged.empty

    def test_of_a_client_behind_a_proxy_the_worker_decides_alone(self) -> None:
        judged = Judged(1, 1, 1, Clock().seconds, lambda _: None)
        assert judged.rate is not None
        assert [judged.rate.take("192.0.2.1") for _ in range(3)] == [0, 0, 1]
        assert [judged.count_address("192.0.2.1") for _ in range(2)] == [True, False]
        assert [judged.has_room(number, "c1") for number in (0, 1)] == [True, False]
        judged.forget("c1")

    def test_one_of_another_process_is_counted_and_its_end_is_told(self) -> None:
        ended: list[int] = []
        judged = Judged(1, 1, 0, Clock().seconds, ended.append)
        for number in (7, 8):
            with judged.carrying(number, f"w1c{number}", counted=True):
                assert judged.count_address("192.0.2.1")
        judged.forget("w1c7")
        assert ended == [7]

    def test_one_of_another_process_behind_a_proxy_counts_for_the_worker(self) -> None:
        judged = Judged(1, 1, 0, Clock().seconds, lambda _: None)
        with judged.carrying(7, "w1c7", counted=False):
            assert judged.count_address("192.0.2.1")
        with judged.carrying(8, "w1c8", counted=False):
            assert not judged.count_address("192.0.2.1")
