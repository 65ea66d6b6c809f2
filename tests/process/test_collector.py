import gc
import weakref
from collections.abc import Iterator

import pytest

from wshost.process.collector import ALLOCATIONS, spare_lasting_objects


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_objects_that_exist_are_left_out() -> None:
    before = gc.get_freeze_count()
    spare_lasting_objects()
    assert gc.get_freeze_count() > before + 1_000


@pytest.mark.parametrize(("before", "after"), [(700, ALLOCATIONS), (0, 0), (100_000, 100_000)])
def test_the_collector_runs_less_often_unless_the_user_has_set_that(before: int, after: int) -> None:
    gc.set_threshold(before, 7, 8)
    spare_lasting_objects()
    assert gc.get_threshold()[:2] == (after, 7)


def test_garbage_that_is_made_later_is_still_collected() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    spare_lasting_objects()
    first = weakref.ref(Cycle())
    kept = [[number] for number in range(2 * ALLOCATIONS)]
    assert first() is None
    assert len(kept) > ALLOCATIONS
