"""The bookings of one round, with boundaries before, during and after the fault. No I/O."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

SIZE = 2
"""The number of instances of each group."""
LEAD = 3.0
"""Seconds from the creation of the first booking to the fault."""


@dataclass(frozen=True, slots=True)
class Span:
    """A booking to create (aware UTC)."""

    tag: str
    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit by a user during the fault: `make` the booking, `delete` it, or `extend` it to its new end."""

    do: Literal["make", "delete", "extend"]
    span: Span


@dataclass(slots=True)
class Round:
    """One occurrence of a fault.

    Attributes:
        begin: when the fault begins.
        over: when all bookings are over.
        spans: the bookings that exist before the fault.
        edits: the edits of the round.
    """

    begin: datetime
    over: datetime
    spans: list[Span] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def edited(self) -> datetime:
        """The time of the edits."""
        return self.begin + timedelta(seconds=1)


TAGS = (
    "starts-in",
    "ends-in",
    "back-to-back",
    "nested",
    "starts-after",
    "ends-after",
    "overlapping",
    "short",
    "made",
    "called-off",
    "extended",
    "released",
)


def layout(
    chance: random.Random,
    number: str,
    begin: datetime,
    fault: float,
    settle: float,
    *,
    dead: bool = False,
    quiet: float = 0,
) -> Round:
    """Lay out a round around a fault of `fault` seconds, whose effects are over `settle` seconds later.

    If the operator is `dead` during the fault, no booking lies entirely within it, because no replica could
    act on it. There is no boundary in the first `quiet` seconds.
    """
    calm = fault + settle
    draw = chance.uniform
    found = Round(begin, begin + timedelta(seconds=calm + 5))

    def span(tag: str, start: float, end: float, part: str = "") -> Span:
        instants = (begin + timedelta(seconds=seconds) for seconds in (start, end))
        return Span(tag, f"{tag}-{number}{part}", *instants)

    def within(least: float, most: float) -> float:
        return quiet + draw(least, most) * (fault - quiet)

    turn = within(0.2, 0.8)
    after = fault + draw(0, 0.5)
    late = calm + draw(1, 2)
    found.spans = [
        span("starts-in", within(0, 1), late),
        span("ends-in", -1.5, within(0, 1)),
        span("back-to-back", -1.5, turn, "a"),
        span("back-to-back", turn, after, "b"),
        span("nested", within(0, 0.2), late),
        span("nested", within(0.3, 0.5), within(0.6, 0.9), "b"),
        span("starts-after", after, late),
        span("ends-after", -1.5, after),
        span("overlapping", -1.5, turn, "a"),
        span("overlapping", turn - draw(0.2, 0.5), late, "b"),
        span("short", within(0.1, 0.3), late if dead else within(0.7, 0.9)),
        called_off := span("called-off", calm, calm + 3),
        extended := span("extended", -1.5, calm),
        released := span("released", -1.5, calm + 3),
    ]
    found.edits = [
        Edit("make", span("made", calm, calm + 3)),
        Edit("delete", called_off),
        Edit("extend", span(extended.tag, -1.5, calm + 3)),
        Edit("delete", released),
    ]
    return found
