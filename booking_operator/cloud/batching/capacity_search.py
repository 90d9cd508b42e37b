"""The search for how many instances of a capacity pool can start.

A pool is an instance type in a zone. If AWS has no capacity for a call, the call as a whole does not fit, but
a part of it may. The search halves the number of instances after a failure. Each call starts instances that
the user wants, so a success is progress and not only information. The instances of a successful call are in
no later call.

The module neither waits nor reads a clock. `request_queue` makes the calls.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CapacitySearch:
    """The state of the search in one pool. At most one call of a search is in flight.

    The search ends after at most 2 * log2(n) + 3 calls for n instances, in whatever order AWS accepts and
    refuses them: before the first failure, each call has twice as many instances as the call before. After
    it, each call halves the number of instances that may fit.

    Attributes:
        size: the number of instances in the next call; 0 if the search is over.
        limit: fewer instances than this fit now, as far as the calls show; None until a call has failed.
    """

    size: int
    limit: int | None = None

    @property
    def over(self) -> bool:
        """Whether no further instance fits."""
        return self.size == 0

    def failed(self, instances: int) -> "CapacitySearch":
        """Return the search after AWS had no capacity for a call with so many instances."""
        return CapacitySearch(instances // 2, instances)

    def accepted(self, instances: int) -> "CapacitySearch":
        """Return the search after AWS accepted a call with so many instances."""
        if self.limit is None:
            return CapacitySearch(max(self.size, 2 * instances))
        limit = max(1, self.limit - instances)
        return CapacitySearch(limit // 2, limit)


PROBE = CapacitySearch(1)
"""The search in a pool that had no capacity before. It begins with one instance, so that a pool that is still
full costs one call."""
