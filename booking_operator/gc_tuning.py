"""When the garbage collector looks through what: a full look stops the loop, and makes a boundary late."""

import gc
from typing import Protocol

GC_THRESHOLD = 20_000
"""So many new objects are looked through for garbage at a time, which takes about a millisecond. With 700, as
Python has it, a first list of 50,000 bookings is walked over eight times, each time from its beginning."""


class GcTuning(Protocol):
    """The objects of the process."""

    def freeze(self) -> None:
        """All that is there stays: do not look through it again."""
        ...

    def freeze_young(self) -> None:
        """The same, where all but the youngest was looked through a moment ago."""
        ...

    def collect_all(self) -> None:
        """Something large was dropped: look through all of it once, what was settled included."""
        ...


class ProcessGcTuning:
    """Exempts what stays, modules and caches, from garbage collection.

    Otherwise a full collection walks over all of it, for 80 ms with few objects and 300 with 50,000 bookings.
    """

    def freeze(self) -> None:
        """All that is there stays: do not look through it again."""
        gc.collect()
        gc.freeze()

    def freeze_young(self) -> None:
        """The same, where all but the youngest was looked through a moment ago."""
        gc.collect(1)
        gc.freeze()

    def collect_all(self) -> None:
        """Something large was dropped: look through all of it once, what was settled included."""
        gc.unfreeze()
        self.freeze()
