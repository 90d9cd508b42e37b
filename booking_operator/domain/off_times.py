"""Off times: when instances are stopped that run without a booking, under `unbooked: Leave`.

`stop_at` stops them at times of the day, and `unbooked_for` after a duration. Both count from the instant
since which an instance runs unbooked. The status of the Resource has that instant. So the operator makes up
for an off time that comes while no operator runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.instance import InstanceState, Observation
from booking_operator.domain.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class OffTimes:
    """The off times of a Resource.

    Attributes:
        schedules: the times at which unbooked instances are stopped.
        unbooked_for: how long an instance may run unbooked; None without a limit.
    """

    schedules: tuple[Recurrence, ...] = ()
    unbooked_for: timedelta | None = None

    def __bool__(self) -> bool:
        """Whether there are any off times."""
        return bool(self.schedules) or self.unbooked_for is not None

    def due_at(self, since: datetime) -> datetime | None:
        """Return when an instance is stopped that runs unbooked since `since` (aware UTC); None for never."""
        return _due_at(self, since)

    def due(self, since: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return when instances are stopped that run unbooked since `since`; both in aware UTC, by id."""
        return {id_: due for id_, at in since.items() if (due := self.due_at(at)) is not None}


NO_OFF_TIMES = OffTimes()
_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=4096)
def _due_at(off_times: OffTimes, since: datetime) -> datetime | None:
    # A booking that ends at an off time does not protect its instances from it.
    instants = [next(schedule.after(since - _SECOND), None) for schedule in off_times.schedules]
    if off_times.unbooked_for is not None:
        instants.append(since + off_times.unbooked_for)
    return min((instant for instant in instants if instant is not None), default=None)


def unbooked_since(
    known: Mapping[str, datetime], observation: Observation | None, state: TimelineState
) -> dict[str, datetime]:
    """Return since when the instances of a group run without a booking (aware UTC), by id.

    Args:
        known: what was known before.
        observation: the newest observation; None before the first one.
        state: the state of the bookings.
    """
    if observation is None:
        return dict(known)
    if state.running_wanted:
        return {}
    # The next whole second: an instance that is started right after an off time is left alone.
    now, last = state.at.replace(microsecond=0), state.last_ended
    if now < state.at:
        now += _SECOND
    running = observation.ids(InstanceState.RUNNING, InstanceState.PENDING)
    # An instant in the future is from before the clock was set back.
    since = {id_: min(known.get(id_, now), now) for id_ in running}
    return {id_: max(at, last.end_at) if last else at for id_, at in since.items()}


def with_off_times(observation: Observation, off_at: Mapping[str, datetime]) -> Observation:
    """Return an observation whose instances have their off times (aware UTC), given by id."""
    instances = (replace(item, off_at=off_at.get(item.id)) for item in observation.instances)
    return replace(observation, instances=tuple(instances))
