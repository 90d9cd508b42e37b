"""What the bookings of a span of time ask of the cloud, and which of them the request limits will make late.

Pure: the same backlog and buckets that decide for real are run on bookings and sizes of groups, from buckets
that are full, with nobody else in the account and every call let through.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.cloud.batching.fair_queue import Backlog, Parcel, simulate
from booking_operator.cloud.batching.token_bucket import LimitsOf, full_limiter
from booking_operator.cloud.driver import Action, Group
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.decision_trigger import BusyPeriod, busy_periods
from booking_operator.domain.delay import TOLERANCE, round_up
from booking_operator.engine.store import Key

MOST = {"ec2": 1000, "rds": 1}
"""Instances that one call of a service can name."""
CALLS = {
    ("ec2", Action.START): "StartInstances",
    ("ec2", Action.STOP): "StopInstances",
    ("rds", Action.START): "StartDBInstance",
    ("rds", Action.STOP): "StopDBInstance",
}
_ROUNDS = 6
_LONGEST = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Member:
    """One Resource with its bookings.

    Attributes:
        key: the Resource.
        group: the instances it stands for.
        size: how many there are.
        warm_up: how long before a booking they are to be started.
        claims: its bookings.
    """

    key: Key
    group: Group
    size: int
    warm_up: timedelta
    intervals: Collection[BookingInterval]


@dataclass(frozen=True, slots=True)
class Load:
    """What one action is asked for in one region of one account.

    Attributes:
        call: the action, like StartInstances.
        account: name of the account; empty for the operator's own.
        region: the region.
        calls: how many calls it takes.
        instances: how many instances they name in all.
        peak_at: the instant that most instances are wanted at (aware UTC).
        peak: how many that are.
        peak_done_at: when the last of those leaves.
    """

    call: str
    account: str
    region: str
    calls: int
    instances: int
    peak_at: datetime
    peak: int
    peak_done_at: datetime


@dataclass(frozen=True, slots=True)
class Late:
    """A booking whose instances cannot all be started when they should be.

    Attributes:
        resource: the Resource.
        booking: name of the booking; empty for an ad-hoc one.
        start_at: its start (aware UTC).
        started_at: when the last of its instances is started.
        late_by: how much later that is than it should be.
        warm_up: the warm-up as it is.
        remedy: the warm-up with which it is on time; None where there is none.
    """

    resource: Key
    booking: str
    start_at: datetime
    started_at: datetime
    late_by: timedelta
    warm_up: timedelta
    remedy: timedelta | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """All that is to be said of a span of time."""

    loads: Sequence[Load]
    late: Sequence[Late]


@dataclass(frozen=True, slots=True, eq=False)
class _Event:
    """The start or stop of a group; `run` is the unbroken run of bookings that it begins or ends."""

    member: Member
    action: Action
    at: datetime
    run: BusyPeriod


_Lane = tuple[str, str, str, Action]


def forecast(members: Sequence[Member], begin: datetime, end: datetime, limits: LimitsOf) -> Forecast:
    """What is to come from `begin` until before `end`, both aware UTC."""
    warm_ups = {member.key: member.warm_up for member in members}
    left = _departures(members, warm_ups, begin, end, limits)
    late = list(_late(left))
    remedies = _remedies(members, begin, end, limits, late)
    told = [
        Late(
            item.member.key,
            item.run.first.name,
            item.run.first.start_at,
            started_at,
            late_by,
            item.member.warm_up,
            remedies.get(item.member.key),
        )
        for item, started_at, late_by in late
    ]
    loads = [_load(lane, calls) for lane, calls in sorted(left.items())]
    return Forecast(loads, sorted(told, key=lambda item: (item.start_at, item.resource, item.booking)))


_Left = Mapping[_Lane, Sequence[tuple[datetime, list[Parcel[_Event]]]]]


def _departures(
    members: Iterable[Member],
    warm_ups: Mapping[Key, timedelta],
    begin: datetime,
    end: datetime,
    limits: LimitsOf,
) -> _Left:
    """What leaves when, by lane, a call each."""
    lanes: defaultdict[_Lane, list[Parcel[_Event]]] = defaultdict(list)
    earliest = begin
    for member in (member for member in members if member.size):
        for event in _events(member, warm_ups[member.key], begin, end):
            earliest = min(earliest, event.at)
            group = member.group
            ids = [str(number) for number in range(member.size)]
            parcel = Parcel(event, ids, member.key.namespace, event.at, event.at, event.at)
            lanes[group.service, group.account, group.region, event.action].append(parcel)
    left: dict[_Lane, Sequence[tuple[datetime, list[Parcel[_Event]]]]] = {}
    for lane, parcels in lanes.items():
        service, _, _, action = lane
        throttle = full_limiter(
            limits(parcels[0].payload.member.group.scope, CALLS[service, action]), earliest
        )
        backlog: Backlog[_Event] = Backlog(MOST[service])
        left[lane] = list(simulate(backlog, throttle, earliest, parcels))
    return left


def _events(member: Member, warm_up: timedelta, begin: datetime, end: datetime) -> Iterator[_Event]:
    """The starts and stops of the span; with another warm-up than the member's own some may be before it."""
    for run in busy_periods(member.intervals, warm_up):
        if begin <= run.first.power_on_at(member.warm_up) < end:
            yield _Event(member, Action.START, run.begins_at, run)
        if begin <= run.ends_at < end:
            yield _Event(member, Action.STOP, run.ends_at, run)


def _late(left: _Left) -> Iterator[tuple[_Event, datetime, timedelta]]:
    """The starts that come too late: each with the instant of its last instance, and how late that is."""
    for calls in left.values():
        last = {parcel.payload: at for at, parcels in calls for parcel in parcels}
        for event, at in last.items():
            if event.action is not Action.START:
                continue
            # Late is what leaves later than it would with the warm-up as it is, whatever is tried now.
            late_by = at - event.run.first.power_on_at(event.member.warm_up)
            if late_by > TOLERANCE:
                yield event, at, late_by


def _remedies(
    members: Sequence[Member],
    begin: datetime,
    end: datetime,
    limits: LimitsOf,
    late: Iterable[tuple[_Event, datetime, timedelta]],
) -> Mapping[Key, timedelta]:
    """The warm-ups that would have everything on time, found by trying; of those Resources that are late."""
    tried = {member.key: member.warm_up for member in members}
    concerned = {event.member.key for event, _, _ in late}
    for _ in range(_ROUNDS):
        worst: dict[Key, timedelta] = {}
        for event, _, late_by in late:
            worst[event.member.key] = max(late_by, worst.get(event.member.key, timedelta(0)))
        if not worst:
            break
        tried |= {key: tried[key] + round_up(late_by, _MINUTE) for key, late_by in worst.items()}
        late = list(_late(_departures(members, tried, begin, end, limits)))
    open_ = {event.member.key for event, _, _ in late}
    open_ |= {
        member.key
        for member in members
        if any(event.at < begin for event in _events(member, tried[member.key], begin, end))
    }
    return {key: tried[key] for key in concerned - open_ if tried[key] <= _LONGEST}


def _load(lane: _Lane, calls: Sequence[tuple[datetime, list[Parcel[_Event]]]]) -> Load:
    service, account, region, action = lane
    wanted: defaultdict[datetime, int] = defaultdict(int)
    done: dict[datetime, datetime] = {}
    for at, parcels in calls:
        for parcel in parcels:
            wanted[parcel.due_at] += len(parcel.ids)
            done[parcel.due_at] = at
    peak_at = max(wanted, key=lambda instant: (wanted[instant], -instant.timestamp()))
    return Load(
        call=CALLS[service, action],
        account=account,
        region=region,
        calls=len(calls),
        instances=sum(wanted.values()),
        peak_at=peak_at,
        peak=wanted[peak_at],
        peak_done_at=done[peak_at],
    )
