from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock

from wshost.workers.asks import Asks
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

    def test_a_connection_counts_as_the_address_that_a_proxy_has_named_until_it_ends(self) -> None:
        gate = Gate(10, 1, 0, Clock().seconds)
        for number in (1, 2, 3):
            gate.judge(number, None)
        assert [gate.judge_named(number, "192.0.2.1") for number in (1, 2)] == [ADMITTED, CROWDED]
        assert gate.judge(4, "192.0.2.1") == CROWDED
        gate.forget(2)
        assert gate.judge_named(3, "192.0.2.1") == CROWDED
        gate.forget(1)
        assert gate.judge(5, "192.0.2.1") == ADMITTED

    def test_a_named_client_that_is_refused_takes_no_place(self) -> None:
        gate = Gate(2, 0, 1, Clock().seconds)
        for number in (1, 2):
            gate.judge(number, None)
            gate.judge_named(number, "192.0.2.1")
        gate.forget(1)
        assert gate.judge(3, None) == ADMITTED
        assert gate.judge_named(3, "192.0.2.1") == 1
        assert gate.judge(4, None) == ADMITTED
        assert gate.judge(5, None) == FULL

    def test_what_counts_already_or_has_ended_is_not_counted_again(self) -> None:
        gate = Gate(10, 1, 0, Clock().seconds)
        gate.judge(1, "192.0.2.1")
        assert gate.judge_named(1, "192.0.2.2") == ADMITTED
        assert gate.judge_named(2, "192.0.2.2") == ADMITTED
        assert gate.judge(3, "192.0.2.2") == ADMITTED


def nobody() -> Asks:
    """Asks that nobody answers."""
    return Asks(Clock(), lambda _: True)


class Named:
    """The clients of a worker that proxies have named."""

    def __init__(self, per_address: int = 1, rate: int = 0) -> None:
        self.asks = nobody()
        self.judged = Judged(9, per_address, rate, Clock().seconds, ended=lambda _: None, asks=self.asks)
        self.counted: list[tuple[str, int, bool]] = []
        self.went_on: list[str] = []

    def connect(self, number: int) -> bool:
        id = f"c{number}"
        with self.judged.deciding(number, ADMITTED):
            self.judged.has_room(0, id)
        return self.judged.ask(id, "192.0.2.1", partial(self.count, id), partial(self.went_on.append, id))

    def count(self, id: str) -> None:
        wait = 0 if self.judged.rate is None else self.judged.rate.take("192.0.2.1")
        self.counted.append((id, wait, not wait and self.judged.count_address("192.0.2.1")))


class TestNamedClients:
    def test_the_supervisors_verdict_holds_and_the_connection_goes_on_after_it(self) -> None:
        named = Named(per_address=1, rate=1)
        assert all(named.connect(number) for number in (1, 2, 3, 4))
        assert (named.counted, named.went_on) == ([], [])
        named.asks.answered([(1, ADMITTED), (2, ADMITTED), (3, CROWDED), (4, 17)])
        assert named.counted == [("c1", 0, True), ("c2", 0, True), ("c3", 0, False), ("c4", 17, False)]
        assert named.went_on == ["c1", "c2", "c3", "c4"]

    def test_without_an_answer_the_workers_own_limits_hold_for_all_that_it_has_counted(self) -> None:
        named = Named()
        for number in (1, 2):
            named.connect(number)
        named.asks.answered([(1, ADMITTED)])
        named.asks.give_up()
        assert named.counted == [("c1", 0, True), ("c2", 0, False)]

    def test_nobody_is_asked_without_a_limit_on_addresses(self) -> None:
        assert not Named(per_address=0).connect(1)
        assert Named(per_address=0, rate=1).connect(1)

    def test_nobody_is_asked_about_a_connection_of_another_process(self) -> None:
        assert not Named().judged.ask("c1", "192.0.2.1", lambda: None, lambda: None)

    def test_a_connection_that_has_ended_does_not_go_on(self) -> None:
        named = Named()
        named.connect(1)
        named.judged.forget("c1")
        named.asks.answered([(1, ADMITTED)])
        assert (named.counted, named.went_on) == ([], [])


class TestJudged:
    def test_the_verdict_on_the_number_of_connections_holds(self) -> None:
        ended: list[int] = []
        judged = Judged(1, 0, 0, Clock().seconds, ended=ended.append, asks=nobody())
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
        judged = Judged(1, 0, 0, Clock().seconds, ended=ended.append, asks=nobody())
        with judged.deciding(7, ADMITTED):
            pass
        assert ended == [7]

    def test_the_verdict_on_an_address_holds(self) -> None:
        judged = Judged(9, 1, 1, Clock().seconds, ended=lambda _: None, asks=nobody())
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
        judged = Judged(1, 1, 1, Clock().seconds, ended=lambda _: None, asks=nobody())
        assert judged.rate is not None
        assert [judged.rate.take("192.0.2.1") for _ in range(3)] == [0, 0, 1]
        assert [judged.count_address("192.0.2.1") for _ in range(2)] == [True, False]
        assert [judged.has_room(number, "c1") for number in (0, 1)] == [True, False]
        judged.forget("c1")

    def test_one_of_another_process_is_counted_and_its_end_is_told(self) -> None:
        ended: list[int] = []
        judged = Judged(1, 1, 0, Clock().seconds, ended=ended.append, asks=nobody())
        for number in (7, 8):
            with judged.carrying(number, f"w1c{number}", counted=True):
                assert judged.count_address("192.0.2.1")
        judged.forget("w1c7")
        assert ended == [7]

    def test_one_of_another_process_behind_a_proxy_counts_for_the_worker(self) -> None:
        judged = Judged(1, 1, 0, Clock().seconds, ended=lambda _: None, asks=nobody())
        with judged.carrying(7, "w1c7", counted=False):
            assert judged.count_address("192.0.2.1")
        with judged.carrying(8, "w1c8", counted=False):
            assert not judged.count_address("192.0.2.1")
