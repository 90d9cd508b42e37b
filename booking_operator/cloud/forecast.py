"""Forecasts when the request limits allow each call, and which bookings are late because of them.

`simulate` is the only simulation. It runs the fair queue and the token buckets of the real calls ahead of
time. It has two callers:
- The request queues forecast the waiting entries and the demand of the next hour, for the condition
  `Delayed`.
- `forecast` covers the bookings of a whole time span, for `booking-operator plan`. It assumes full buckets,
  no other client in the account, and no failures.

This module is pure: it never waits or reads a clock.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.cloud.batching.batch import Entry, call_key
from booking_operator.cloud.batching.fair_queue import FairQueue
from booking_operator.cloud.batching.token_bucket import LimitsOf, RateLimiter, full_limiter
from booking_operator.cloud.driver import Action, Demand, Operation, Order, api_action
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BusyPeriod, busy_periods
from booking_operator.domain.delay import TOLERANCE, late_by_required
from booking_operator.domain.formatting import round_up
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.services import SERVICES
from booking_operator.engine.store import Key

_MAX_ROUNDS = 6
_MAX_WARM_UP = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)


def simulate(
    queue: FairQueue, limiter: RateLimiter, now: datetime, coming: Iterable[Entry] = ()
) -> Iterator[tuple[datetime, list[Entry]]]:
    """Simulate the calls, on the assumption that no other client uses the buckets and AWS accepts all calls.

    The simulation changes neither `queue` nor `limiter`. The same code decides about the real calls, so the
    forecast is as accurate as the model of the limits.

    Args:
        queue: the entries that wait already.
        limiter: the buckets at `now`.
        now: the start of the forecast (aware UTC).
        coming: the entries that will be added.

    Yields:
        The instant of each call (aware UTC) and its entries.
    """
    waiting = queue.copy()
    for entry in coming:
        waiting.add(entry)
    instant: datetime | None = now
    while instant is not None:
        if taken := waiting.take(instant, limiter):
            limiter = limiter.sent(sum(len(entry.ids) for entry in taken), instant)
            yield instant, taken
        else:
            instant = waiting.next_at(instant, limiter)


def entry_of(demand: Demand) -> Entry:
    """Create an entry for a forecast. Its ids are numbers, and its order has no futures."""
    order = Order(demand.group, {}, demand.at, demand.tenant)
    operation = Operation(demand.action)
    ids = [str(number) for number in range(demand.count)]
    return Entry(order, operation, ids, demand.at, demand.at, call_key(operation))


@dataclass(frozen=True, slots=True)
class Member:
    """One Resource with its bookings.

    Attributes:
        key: the key of the Resource.
        group: the group of the Resource.
        size: the number of instances.
        warm_up: how long before a booking the instances start.
        bookings: the bookings of the Resource.
        off_at: when instances that run without a booking are stopped, one instant for each (aware UTC).
        required: the Resources that must be ready before it starts.
    """

    key: Key
    group: Group
    size: int
    warm_up: timedelta
    bookings: Collection[BookingInterval]
    off_at: Collection[datetime] = ()
    required: Collection[Key] = ()


@dataclass(frozen=True, slots=True)
class CallForecast:
    """The calls of one action in one region of one account.

    Attributes:
        call: the AWS API action, such as StartInstances.
        account: the name of the account; empty for the operator's own.
        region: the region.
        calls: the number of calls.
        instances: the number of instances in all calls.
        peak_at: the instant at which most instances are due (aware UTC).
        peak: the number of instances that are due at `peak_at`.
        peak_done_at: when the last of these is sent (aware UTC).
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
class LateBooking:
    """A booking whose instances cannot all start in time.

    Attributes:
        resource: the key of the Resource.
        booking: the name of the booking; empty for an ad-hoc one.
        start_at: the start of the booking (aware UTC).
        started_at: when the start of its last instance is sent (aware UTC).
        late_by: the time from the planned power-on to `started_at`.
        warm_up: the current warm-up.
        remedy: a warm-up with which the booking is on time; None if none was found.
        required: the Resource whose late start it waits for; None if its own start is late.
    """

    resource: Key
    booking: str
    start_at: datetime
    started_at: datetime
    late_by: timedelta
    warm_up: timedelta
    remedy: timedelta | None
    required: Key | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The calls of a time span, and the late bookings."""

    calls: Sequence[CallForecast]
    late: Sequence[LateBooking]


@dataclass(frozen=True, slots=True)
class _Switch:
    """The start of a group at the beginning of a busy period, its stop at the end, or a stop at an off time.

    Attributes:
        member: the Resource.
        period: the busy period; None for an off time.
        demand: the call.
    """

    member: Member
    period: BusyPeriod | None
    demand: Demand


@dataclass(frozen=True, slots=True)
class _Start:
    """The start of a group for a busy period, and when the call for its last instance is sent (aware UTC)."""

    member: Member
    period: BusyPeriod
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class _LateStart:
    """A late start: when its last instance is sent (aware UTC), and how late that is.

    With `required`, it waits for a required Resource whose start is late.
    """

    member: Member
    first: BookingInterval
    sent_at: datetime
    late_by: timedelta
    required: Key | None = None


_CallKey = tuple[str, Scope, Action]
_Call = tuple[datetime, list[Entry]]


class _Simulation:
    """The calls of all members with the given warm-ups."""

    def __init__(
        self,
        members: Iterable[Member],
        warm_ups: Mapping[Key, timedelta],
        begin: datetime,
        end: datetime,
        limits: LimitsOf,
    ) -> None:
        self._switches: dict[Order, _Switch] = {}
        # A start and a stop that are the same call share its limits.
        waiting: defaultdict[tuple[str, Scope, str], list[Entry]] = defaultdict(list)
        earliest = begin
        for member in (member for member in members if member.size):
            for switch in _switches(member, warm_ups[member.key], begin, end):
                entry, demand = entry_of(switch.demand), switch.demand
                self._switches[entry.order] = switch
                earliest = min(earliest, demand.at)
                service, scope = demand.group.service, demand.group.scope
                waiting[service, scope, api_action(SERVICES[service], demand.action)].append(entry)
        self.calls: defaultdict[_CallKey, list[_Call]] = defaultdict(list)
        for (service, scope, call), entries in waiting.items():
            limiter = full_limiter(limits(scope, call), earliest)
            queue = FairQueue(SERVICES[service].max_batch)
            for at, sent in simulate(queue, limiter, earliest, entries):
                action = self._switches[sent[0].order].demand.action
                self.calls[service, scope, action].append((at, sent))

    def late_starts(self) -> Iterator[_LateStart]:
        """Yield the starts that are late, measured against the current warm-up of their Resource."""
        starts: defaultdict[Key, list[_Start]] = defaultdict(list)
        for calls in self.calls.values():
            last = {entry.order: at for at, entries in calls for entry in entries}
            for order, at in last.items():
                switch = self._switches[order]
                if switch.period is not None and switch.demand.action is Action.START:
                    starts[switch.member.key].append(_Start(switch.member, switch.period, at))
        for start in [start for found in starts.values() for start in found]:
            due_at = start.period.first.power_on_at(start.member.warm_up)
            late_by, required = start.sent_at - due_at, None
            for key in start.member.required:
                for other in starts.get(key, ()):
                    waits = late_by_required(other.sent_at, other.member.warm_up, due_at)
                    if other.period.begins_at <= due_at < other.period.ends_at and waits > late_by:
                        late_by, required = waits, key
            if late_by > TOLERANCE:
                yield _LateStart(start.member, start.period.first, due_at + late_by, late_by, required)


def forecast(members: Sequence[Member], begin: datetime, end: datetime, limits: LimitsOf) -> Forecast:
    """Forecast the calls for the bookings from `begin` until before `end` (aware UTC)."""
    warm_ups = {member.key: member.warm_up for member in members}
    simulation = _Simulation(members, warm_ups, begin, end, limits)
    late = list(simulation.late_starts())
    remedies = _remedies(members, begin, end, limits, late)
    bookings = [
        LateBooking(
            item.member.key,
            item.first.name,
            item.first.start_at,
            item.sent_at,
            item.late_by,
            item.member.warm_up,
            remedies.get(item.member.key) if item.required is None else None,
            item.required,
        )
        for item in late
    ]
    calls = [_summary(key, made) for key, made in sorted(simulation.calls.items(), key=_call_order)]
    return Forecast(calls, sorted(bookings, key=lambda item: (item.start_at, item.resource, item.booking)))


def _switches(member: Member, warm_up: timedelta, begin: datetime, end: datetime) -> Iterator[_Switch]:
    """Yield the starts and stops of the span.

    With a longer warm-up than the current one, a start may precede it.
    """

    def switch(period: BusyPeriod, action: Action, at: datetime) -> _Switch:
        return _Switch(member, period, Demand(member.group, action, member.size, at, member.key.namespace))

    for period in busy_periods(member.bookings, warm_up):
        if begin <= period.first.power_on_at(member.warm_up) < end:
            yield switch(period, Action.START, period.begins_at)
        if begin <= period.ends_at < end:
            yield switch(period, Action.STOP, period.ends_at)
    for at, count in Counter(member.off_at).items():
        if begin <= at < end:
            demand = Demand(member.group, Action.STOP, count, at, member.key.namespace)
            yield _Switch(member, None, demand)


def _remedies(
    members: Sequence[Member], begin: datetime, end: datetime, limits: LimitsOf, late: Iterable[_LateStart]
) -> Mapping[Key, timedelta]:
    """Find warm-ups with which all starts are on time, by trial. Only late Resources get one."""
    tried = {member.key: member.warm_up for member in members}
    late = [item for item in late if item.required is None]
    concerned = {item.member.key for item in late}
    for _ in range(_MAX_ROUNDS):
        worst: dict[Key, timedelta] = {}
        for item in late:
            key = item.member.key
            worst[key] = max(item.late_by, worst.get(key, timedelta(0)))
        if not worst:
            break
        tried |= {key: tried[key] + round_up(late_by, _MINUTE) for key, late_by in worst.items()}
        found = _Simulation(members, tried, begin, end, limits).late_starts()
        late = [item for item in found if item.required is None]
    unsolved = {item.member.key for item in late}
    unsolved |= {
        member.key
        for member in members
        if any(switch.demand.at < begin for switch in _switches(member, tried[member.key], begin, end))
    }
    return {key: tried[key] for key in concerned - unsolved if tried[key] <= _MAX_WARM_UP}


def _call_order(item: tuple[_CallKey, Sequence[_Call]]) -> tuple[str, str, str, Action]:
    (service, scope, action), _ = item
    return service, scope.account, scope.region, action


def _summary(key: _CallKey, calls: Sequence[_Call]) -> CallForecast:
    service, scope, action = key
    due: defaultdict[datetime, int] = defaultdict(int)
    done: dict[datetime, datetime] = {}
    for at, entries in calls:
        for entry in entries:
            due[entry.due_at] += len(entry.ids)
            done[entry.due_at] = at
    peak_at = max(due, key=lambda instant: (due[instant], -instant.timestamp()))
    return CallForecast(
        call=api_action(SERVICES[service], action),
        account=scope.account,
        region=scope.region,
        calls=len(calls),
        instances=sum(due.values()),
        peak_at=peak_at,
        peak=due[peak_at],
        peak_done_at=done[peak_at],
    )
