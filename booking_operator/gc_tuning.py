"""Garbage collection that does not make boundaries late.

A full collection stops the event loop while it walks over all objects: for 0.2 s with 50,000 bookings. The
operator therefore exempts long-lived objects, and runs full collections only while no boundary is near.
docs/bench.md has the figures.
"""

import gc
from typing import Protocol

GC_THRESHOLD = 20_000
"""The number of new objects that triggers a collection of the youngest generation, which takes about 1 ms.
With the default of CPython, 700, a first list of 50,000 bookings triggers several full collections."""


class GcTuning(Protocol):
    """Control of the garbage collector."""

    def freeze(self) -> None:
        """Collect, then exempt all living objects from later collections."""
        ...

    def freeze_young(self) -> None:
        """Do the same as `freeze`, but collect only the objects created since the last `freeze`."""
        ...

    def collect_all(self) -> None:
        """Collect all objects, also the exempt ones, then exempt those that live."""
        ...


class ProcessGcTuning:
    """Controls the garbage collector of this process."""

    def freeze(self) -> None:
        """Collect, then exempt all living objects from later collections."""
        gc.collect()
        gc.freeze()

    def freeze_young(self) -> None:
        """Do the same as `freeze`, but collect only the objects created since the last `freeze`."""
        gc.collect(1)
        gc.freeze()

    def collect_all(self) -> None:
        """Collect all objects, also the exempt ones, then exempt those that live."""
        gc.unfreeze()
        self.freeze()
