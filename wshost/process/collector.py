"""Sets how often this process looks for garbage, and where."""

from __future__ import annotations

import gc

#: The garbage collector runs when so many more objects were made than freed. By default these are 700 or 2,000; the
#: objects of a hundred new connections are more.
ALLOCATIONS = 5_000


def spare_lasting_objects() -> None:
    """Let the garbage collector leave out what exists now: modules, options and handlers live as long as the process.

    It also runs less often than by default, unless the user has changed that to be even less often.
    """
    gc.freeze()
    allocations, *others = gc.get_threshold()
    # 0 is for never.
    if 0 < allocations < ALLOCATIONS:
        gc.set_threshold(ALLOCATIONS, *others)
