"""What the cloud adapters tell those who measure them; without such a one nothing is measured."""

from datetime import timedelta
from typing import Protocol


class CloudMetrics(Protocol):
    """What is measured of the calls."""

    def called(self, service: str, action: str, result: str, seconds: float) -> None:
        """A call has ended after so long; `result` is the class of its failure, or "ok"."""
        ...

    def batched(self, action: str, instances: int) -> None:
        """A call for so many instances is about to leave."""
        ...

    def aws_skewed(self, ahead: timedelta) -> None:
        """So far our clock is ahead of AWS's at least; behind: negative."""
        ...


class _Unmeasured:
    def called(self, *_: object) -> None:
        """Take note of nothing."""

    def batched(self, *_: object) -> None:
        """Take note of nothing."""

    def aws_skewed(self, _: timedelta) -> None:
        """Take note of nothing."""


UNMEASURED: CloudMetrics = _Unmeasured()
"""For those who measure nothing."""
