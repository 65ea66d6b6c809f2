from __future__ import annotations

from wshost.admin.metrics import Family
from wshost.admin.sums import Sums, added


def counter(value: float, **labels: str) -> Family:
    return Family("wshost_messages", "Messages.", "counter", [("wshost_messages_total", labels, value)])


def gauge(name: str, value: float) -> Family:
    return Family(name, "It.", "gauge", [(name, {}, value)])


def values(families: list[Family]) -> dict[str, float]:
    return {" ".join([name, *labels.values()]): value for one in families for name, labels, value in one.samples}


def test_samples_of_the_same_labels_are_added() -> None:
    assert values(added([[counter(1, direction="in")], [counter(2, direction="in"), counter(3, direction="out")]])) == {
        "wshost_messages_total in": 3,
        "wshost_messages_total out": 3,
    }


def test_gauges_are_added_and_of_topics_the_largest_counts() -> None:
    servers = [[gauge("wshost_subscriptions", 2), gauge("wshost_topics", one)] for one in (3, 5, 4)]
    assert values(added(servers)) == {"wshost_subscriptions": 6, "wshost_topics": 5}


def test_servers_that_have_ended_count_but_for_their_gauges() -> None:
    sums = Sums()
    sums.keep([counter(4), gauge("wshost_subscriptions", 2)])
    sums.keep([counter(1)])
    assert values(sums.total([[counter(2)]], [])) == {"wshost_messages_total": 7}


def test_a_whole_value_takes_the_place_of_all_others() -> None:
    assert values(Sums().total([[gauge("wshost_ready", 1)]] * 2, [gauge("wshost_ready", 0)])) == {"wshost_ready": 0}


def test_a_counter_does_not_go_backwards_when_it_is_added_in_another_order() -> None:
    a, b, c = 0.1, 0.2, 0.3
    sums = Sums()
    before = values(sums.total([[counter(a)], [counter(b)], [counter(c)]], []))
    assert c + b + a < before["wshost_messages_total"]
    assert values(sums.total([[counter(c)], [counter(b)], [counter(a)]], [])) == before
