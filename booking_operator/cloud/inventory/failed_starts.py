"""Starts that were accepted, until their instances are seen to run.

EC2 may accept a start and drop it: the instance is `pending` for seconds and then `stopped` again, because
its volume's key cannot be used, say. Nothing refuses such a start, so it would be made again each time that
this is seen. Pure: the caller gives the time.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
START_BACKOFF = Backoff(initial=_MINUTE, maximum=10 * _MINUTE)
"""Between two attempts to start an instance whose start failed. Usually only a user can remove the cause."""
_WITHIN = 10 * _MINUTE  # what has stopped later than that had been started
_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _AcceptedStart:
    """One that was accepted; from when it has failed, `until` is the end of its pause."""

    accepted_at: datetime
    failures: int = 0
    why: str = ""
    until: datetime | None = None


class AcceptedStarts:
    """The starts of one scope, by instance."""

    def __init__(self) -> None:
        self._starts: dict[str, _AcceptedStart] = {}

    def record_answer(self, id_: str, state: InstanceState, at: datetime) -> None:
        """Take note of the state that the service has answered to an action."""
        if state is InstanceState.PENDING:
            known = self._starts.get(id_)
            self._starts[id_] = _AcceptedStart(at, known.failures if known else 0)
        else:
            self._starts.pop(id_, None)

    def record_state(self, id_: str, state: InstanceState, why: str, now: datetime) -> None:
        """Take note of the state in which a view shows an instance; `why` is what the service says failed.

        Where it says nothing, somebody may have stopped the instance by hand: that has no pause the first
        time.
        """
        start = self._starts.get(id_)
        if start is None:
            return
        if state is InstanceState.RUNNING:
            del self._starts[id_]
        elif state is InstanceState.STOPPED and start.until is None and now - start.accepted_at <= _WITHIN:
            failures = start.failures + 1
            pauses = failures if why else failures - 1
            until = now + START_BACKOFF.after(pauses) if pauses else now
            self._starts[id_] = replace(start, failures=failures, why=why, until=until)

    def forget(self, now: datetime) -> None:
        """Keep nothing that is long over, or from before the clock was set back."""
        self._starts = {
            id_: start
            for id_, start in self._starts.items()
            if timedelta(0) <= now - start.accepted_at <= _REMEMBERED
        }

    def active_failure(self, id_: str, now: datetime) -> CloudError | None:
        """Why an instance must not be started at `now`; None where it may."""
        start = self._starts.get(id_)
        if start is None or start.until is None or not now < start.until <= now + START_BACKOFF.maximum:
            return None
        why = f": {start.why}" if start.why else "; the AWS console may show why."
        text = f"AWS accepted the start, but it stopped again without having run{why}"
        return CloudError("StartFailed", text, kind=FailureKind.REFUSED, retry_at=start.until)
