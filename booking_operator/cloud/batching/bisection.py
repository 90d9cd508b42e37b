"""The search for the instances that make a batch fail."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Bisection:
    """One search. It sends halves of the batch, then halves of each half that fails.

    All parts of the batch share the search and its budget of failed calls. If the budget is used up, the
    failure does not depend on single instances. A search for refused instances has no budget after a part was
    accepted: the service responds, and each further call refuses fewer instances. Any other search gets a new
    budget with each accepted part, because an outage may begin meanwhile.

    Attributes:
        size: the number of instances in the batch.
        refusals: whether the search is for instances that the service refuses. Otherwise the calls fail
            without a response about the instances.
        named: the number of calls that were repeated without the instances that their error named.
        failures: the number of failed calls for the batch and its parts.
        accepted: whether any part was accepted, in a search for refused instances.
    """

    MAX_FAILURES = 31
    """The whole batch, two halves, four quarters, eight eighths, and sixteen sixteenths."""
    MAX_NAMED = 5
    """So many calls may each drop the instances that their error names. After that, the search sends halves
    too: AWS may name only one of a thousand bad instances."""

    size: int
    refusals: bool
    named: int = 0
    failures: int = 0
    accepted: bool = False

    def record_accepted(self) -> None:
        """Record that a part was accepted."""
        if self.refusals:
            self.accepted = True
        else:
            self.failures = 0

    @property
    def exhausted(self) -> bool:
        """Whether the budget is used up."""
        return self.failures >= min(self.MAX_FAILURES, 2 * self.size - 1) and not self.accepted
