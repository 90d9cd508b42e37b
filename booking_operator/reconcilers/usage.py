"""Writes the usage of each Resource into objects of the kind Usage.

Every replica meters: see `reconcilers.usage_recorder`. Only the leader writes: it adds the metered time to
the stored sums. The stored sums say up to when they count, and a meter remembers the last two hours. A
replica that takes over therefore continues where the last write ended, and no time is counted twice.

A Usage is written `WRITE_DELAY` after the power or the active bookings have changed, before the process ends,
and otherwise once in `WRITE_INTERVAL`.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from booking_operator.api.kinds import USAGE
from booking_operator.api.usage import MONTH_LABEL, Usage, to_status, to_sums, usage_name
from booking_operator.domain.usage import (
    UsageAmounts,
    UsageSpan,
    UsageSums,
    by_month,
    month_before,
    month_begin,
    month_of,
    months_until,
    to_second,
)
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.reflector import ListWatchError, ResourceExpiredError
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.kube.client import MERGE_PATCH, KubeClient
from booking_operator.kube.decoding import decode_response
from booking_operator.kube.errors import ApiError
from booking_operator.kube.list_watch import ListWatch
from booking_operator.kube.objects import MANAGED_BY
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.usage_recorder import UsageRecorder

WRITE_INTERVAL = timedelta(hours=1)
WRITE_DELAY = timedelta(seconds=10)
"""The pause between a change and its write. Writes then do not compete with the starts at a boundary, and
several changes need one write."""
RETENTION_MONTHS = 13
UNAVAILABLE_INTERVAL = timedelta(minutes=10)
"""How often the operator tries again if the API server does not serve the kind, or refuses it."""

Recorded = Callable[[UsageAmounts], None]
"""Receives the amounts that a write has added."""


@dataclass(slots=True)
class _Stored:
    """A Usage in the cluster, and the sums of its next version.

    Attributes:
        resource_version: the version in the cluster.
        sums: the sums, to which time may have been added; None if the object has none yet.
        total: the total in the cluster.
    """

    resource_version: str
    sums: UsageSums | None
    total: UsageAmounts


class UsageReconciler:
    """Writes the Usage of one Resource. It exists for one leadership.

    Args:
        client: the API client.
        recorder: the meters.
        informers: the caches.
        clock: the clock.
        namespace: the namespace of the operator; empty for all namespaces.
        recorded: receives what each write has added.
    """

    def __init__(
        self,
        client: KubeClient,
        recorder: UsageRecorder,
        informers: Informers,
        clock: Clock,
        namespace: str = "",
        recorded: Recorded = lambda _: None,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._informers = informers
        self._clock = clock
        self._namespace = namespace
        self._recorded = recorded
        self._tidied = ""
        self._stored: dict[Key, dict[str, _Stored]] = {}  # by month
        self._unavailable = False
        self._log = structlog.get_logger()

    def introspect(self) -> Contents:
        """The keys of the Resources whose Usage is known."""
        return {"stored": self._stored.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Write what was metered since the last write."""
        meter, now = self._recorder.meter(key), self._clock.now()
        if meter is None:
            return Result()
        months = defaultdict[str, list[UsageSpan]](list)
        for month, span in by_month(meter.spans):
            months[month].append(span)
        try:
            await self._delete_old(month_of(to_second(now)))
            for month, spans in months.items():
                await self._write(key, month, spans)
        except ApiError as error:
            return self._failed(key, error, now)
        self._unavailable = False
        if self._informers.resources.get(key) is None:
            self._stored.pop(key, None)
            self._recorder.forget(key)
            return Result()
        self._stored[key] = {month: self._stored[key][month] for month in months}
        return Result(now + WRITE_INTERVAL)

    def _failed(self, key: Key, error: ApiError, now: datetime) -> Result:
        """Return when to try again. The write may have reached the API server, so the object is read then."""
        self._stored.pop(key, None)
        if error.conflict or error.reason == "NotFound":  # somebody else has changed or deleted it
            return Result(failed=True)
        if error.not_found or error.forbidden:
            if not self._unavailable:
                self._log.warning("usage_not_recorded", error=str(error))
            self._unavailable = True
            if self._informers.resources.get(key) is None:
                self._recorder.forget(key)
                return Result()
            return Result(now + UNAVAILABLE_INTERVAL)
        self._log.warning("usage_write_failed", resource=str(key), error=str(error))
        return Result(failed=True)

    async def _delete_old(self, month: str) -> None:
        """Delete the objects of months that are over for `RETENTION_MONTHS`, once in each month."""
        if self._tidied == month:
            return
        self._tidied = month
        kept = ", ".join(months_until(month, RETENTION_MONTHS + 1))
        selector = (("labelSelector", f"{MONTH_LABEL},{MONTH_LABEL} notin ({kept})"),)
        source = ListWatch(self._client, USAGE, self._namespace, selector)
        try:
            page = await source.list()
            for item in page.items:
                await self._client.request("DELETE", USAGE.path(*key_of(item)))
        except (ListWatchError, ResourceExpiredError, ApiError) as error:
            self._tidied = ""
            self._log.info("usage_not_deleted", error=str(error))  # it is tried again at the next write

    async def _write(self, key: Key, month: str, spans: list[UsageSpan]) -> None:
        """Add spans of one month to the stored sums, and write them."""
        first, since = spans[0], self._exists_since(key)
        stored = await self._known(key, month)
        if stored is None or stored.sums is None:
            continues = await self._complete(key, month_before(month), first)
            stored = stored or await self._create(key, month)
            stored.sums = UsageSums(month_begin(month) if continues else first.begin)
            self._stored.setdefault(key, {})[month] = stored
        elif stored.sums.until >= spans[-1].end:
            return
        stored.sums.skip_to(first.begin, first.fleet, exists_since=since)
        for span in spans:
            stored.sums.add(span)
        await self._patch(key, month, stored, stored.sums)

    def _exists_since(self, key: Key) -> int:
        resource = self._informers.resources.get(key)
        return 0 if resource is None else to_second(resource.metadata.creation_timestamp)

    async def _complete(self, key: Key, month: str, following: UsageSpan) -> bool:
        """Count the rest of a month as unobserved, if there is any. Returns whether the month has a Usage."""
        stored, end = await self._known(key, month), month_begin(month_of(following.begin))
        if stored is None or stored.sums is None:
            return False
        if stored.sums.until < end:
            stored.sums.skip_to(end, following.fleet, exists_since=self._exists_since(key))
            await self._patch(key, month, stored, stored.sums)
        return True

    async def _known(self, key: Key, month: str) -> _Stored | None:
        """Return the Usage of a month; None if there is none."""
        stored = self._stored.setdefault(key, {})
        if month not in stored:
            try:
                path = USAGE.path(key.namespace, usage_name(key.name, month))
                found = await _decoded(await self._client.request("GET", path))
            except ApiError as error:
                if error.not_found and error.reason == "NotFound":
                    return None
                raise
            sums = to_sums(found.status)
            total = sums.total if sums else UsageAmounts()
            stored[month] = _Stored(found.metadata.resource_version, sums, total)
        return stored[month]

    async def _create(self, key: Key, month: str) -> _Stored:
        body: dict[str, Any] = {
            "apiVersion": USAGE.api_version,
            "kind": USAGE.name,
            "metadata": {"name": usage_name(key.name, month), "labels": MANAGED_BY | {MONTH_LABEL: month}},
            "spec": {"resource_name": key.name, "month": month},
        }
        answer = await self._client.request("POST", USAGE.path(key.namespace), body=body)
        return _Stored((await _decoded(answer)).metadata.resource_version, None, UsageAmounts())

    async def _patch(self, key: Key, month: str, stored: _Stored, sums: UsageSums) -> None:
        body = {
            "metadata": {"resourceVersion": stored.resource_version},
            "status": USAGE.status_adapter.dump_python(to_status(sums), mode="json", by_alias=True),
        }
        path = USAGE.path(key.namespace, usage_name(key.name, month), "status")
        answer = await self._client.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        total = sums.total
        self._recorded(total - stored.total)
        stored.resource_version, stored.total = (await _decoded(answer)).metadata.resource_version, total


async def _decoded(answer: bytes) -> Usage:
    return await decode_response(USAGE.adapter, answer)
