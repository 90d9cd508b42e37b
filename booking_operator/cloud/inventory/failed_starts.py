"""Tracks accepted starts until their instances run.

EC2 may accept a start and then drop it, for example because the key of a volume is unusable. The instance is
`pending` for seconds and then `stopped` again. No response reports this failure. Without this module, the
operator would start the instance again after each Describe. The module reads no clock: the caller passes the
time.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
START_BACKOFF = Backoff(initial=_MINUTE, maximum=10 * _MINUTE)
"""Back-off between attempts to start an instance whose start failed. Usually only a user can remove the
cause."""
_MAX_START_TIME = 10 * _MINUTE  # an instance that stops later had started successfully
_RETENTION = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _AcceptedStart:
    """An accepted start. After it has failed, `until` is the end of its back-off."""

    accepted_at: datetime
    failures: int = 0
    why: str = ""
    until: datetime | None = None


class AcceptedStarts:
    """The accepted starts of one scope, by instance."""

    def __init__(self) -> None:
        self._starts: dict[str, _AcceptedStart] = {}

    def record_answer(self, id_: str, state: InstanceState, at: datetime) -> None:
        """Record the state in the service's response to an action."""
        if state is InstanceState.PENDING:
            known = self._starts.get(id_)
            self._starts[id_] = _AcceptedStart(at, known.failures if known else 0)
        else:
            self._starts.pop(id_, None)

    def record_state(self, id_: str, state: InstanceState, why: str, now: datetime) -> None:
        """Record the state of an instance in a Describe; `why` is the failure that the service reports.

        If `why` is empty, a user may have stopped the instance. So the first such failure has no back-off.
        """
        start = self._starts.get(id_)
        if start is None:
            return
        if state is InstanceState.RUNNING:
            del self._starts[id_]
        elif (
            state is InstanceState.STOPPED
            and start.until is None
            and now - start.accepted_at <= _MAX_START_TIME
        ):
            failures = start.failures + 1
            pauses = failures if why else failures - 1
            until = now + START_BACKOFF.after(pauses) if pauses else now
            self._starts[id_] = replace(start, failures=failures, why=why, until=until)

    def forget(self, now: datetime) -> None:
        """Drop starts that are older than `_RETENTION`, or from before the clock was set back."""
        self._starts = {
            id_: start
            for id_, start in self._starts.items()
            if timedelta(0) <= now - start.accepted_at <= _RETENTION
        }

    def active_failure(self, id_: str, now: datetime) -> CloudError | None:
        """Return why an instance must not be started at `now`, or None if it may be."""
        start = self._starts.get(id_)
        if start is None or start.until is None or not now < start.until <= now + START_BACKOFF.maximum:
            return None
        why = f": {start.why}" if start.why else "; the AWS console may show the reason."
        text = f"AWS accepted the start, but the instance stopped again before it ran{why}"
        return CloudError("StartFailed", text, kind=FailureKind.REFUSED, retry_at=start.until)
