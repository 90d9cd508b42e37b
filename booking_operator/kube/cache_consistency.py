"""Whether the caches may be believed when they say that nobody has a resource booked."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import WIRE_CONFIG
from booking_operator.engine.clock import Clock
from booking_operator.engine.reflector import Reflector
from booking_operator.kube.client import KubeClient
from booking_operator.kube.decoding import decode_response
from booking_operator.kube.errors import ApiError

T = TypeVar("T")

_CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{BOOKING.crd_name}"
_DISCOVERY = f"/apis/{BOOKING.api_version}"

CONFIRM_TIMEOUT_SECONDS = 10.0
"""How long a confirmation may take, for callers that no user waits for."""
CRD_READ_TIMEOUT_SECONDS = 2.0
"""How long the start waits for the CRD, at most: what is booked must not wait for it."""
DISCOVERY_LAG_SECONDS = 1.0
"""Discovery hears of a deletion by a watch of its own, some 10 ms later, before or after we hear of it."""
JOIN_SECONDS = 0.1
"""How long a call waits for more callers, at most, while another one is under way."""


class _Call:
    """A question to the API server that several callers share.

    Attributes:
        ended: set when the call has ended.
        answer: the answer; None if the call was cancelled.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.answer: str | None = None


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Meta:
    uid: str = ""
    deletion_timestamp: str = Field(default="", alias="deletionTimestamp")


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Definition:
    metadata: _Meta


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Kind:
    name: str
    verbs: list[str]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Discovery:
    resources: list[_Kind]


_DEFINITION, _SERVED = TypeAdapter(_Definition), TypeAdapter(_Discovery)


class CacheConsistency:
    """Trusts the caches while all reflectors do, and asks the API server before what nobody could foresee.

    When a CRD is deleted, the API server deletes all its objects, and the watch reports each as if a user
    had deleted it. A booking that vanishes so must not stop machines; the CRD itself knows better, because it
    carries its deletionTimestamp before the first object goes.

    A CRD that was deleted and applied again before anybody asks looks as good as new, but has another uid
    than the one whose bookings were listed: then all are listed again.

    An operator that may not read the CRD asks discovery, which every ServiceAccount may read: it takes
    `create` from the verbs of a kind whose CRD is being deleted. It is a cache, so it is asked a second
    later. It has no uid.

    Callers share requests: a call answers all callers that asked before it began. While another one is
    under way, a call waits `JOIN_SECONDS` for more callers. It does not wait longer: a slow API server must
    not delay it twice.
    """

    def __init__(self, client: KubeClient, reflectors: Sequence[Reflector[Any]], clock: Clock) -> None:
        self._client = client
        self._reflectors = reflectors
        self._clock = clock
        self._warned = False
        self._uid = ""  # of the CRD, read before the bookings were listed
        self._next: _Call | None = None  # the call that has not begun
        self._under_way = 0
        self._idle = asyncio.Event()
        self._log = structlog.get_logger()

    async def record_crd(self) -> None:
        """Note which CRD there is, before bookings are listed; unknown, it has them listed once more."""
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(CRD_READ_TIMEOUT_SECONDS):
                self._uid = (await self._read(_CRD, _DEFINITION)).metadata.uid

    def stale_reason(self) -> str:
        """Why bookings may be missing from the caches; empty when they are trusted."""
        return next((reflector.stale_reason for reflector in self._reflectors if reflector.stale_reason), "")

    async def confirm(self) -> str:
        """The same, and whether the bookings are about to vanish altogether."""
        if stale_reason := self.stale_reason():
            return stale_reason
        return await self._shared() or self.stale_reason()

    async def confirm_within(self, seconds: float = CONFIRM_TIMEOUT_SECONDS) -> str:
        """The same; no answer within `seconds` counts as stale data."""
        try:
            async with asyncio.timeout(seconds):
                return await self.confirm()
        except TimeoutError:
            return "the API server has not confirmed in time that no booking is missing"

    async def _shared(self) -> str:
        """Why the bookings may be about to vanish, by a call that begins now or later."""
        while True:
            call = self._next
            if call is None:
                call = self._next = _Call()
                return await self._make(call)
            await call.ended.wait()
            if call.answer is not None:
                return call.answer

    async def _make(self, call: _Call) -> str:
        """Ask the API server for all callers that join `call` before it begins."""
        try:
            if self._under_way:
                with suppress(TimeoutError):
                    async with asyncio.timeout(JOIN_SECONDS):
                        await self._idle.wait()
            self._next = None
            self._under_way += 1
            self._idle.clear()
            try:
                call.answer = await self._ask()
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()
            return call.answer
        finally:
            # If this caller is cancelled, one of the others makes another call.
            if self._next is call:
                self._next = None
            call.ended.set()

    async def _ask(self) -> str:
        try:
            vanishing = await self._vanishing()
        except ApiError as error:
            return self._unconfirmed(error)
        return f"the CustomResourceDefinition {BOOKING.crd_name} is being deleted" if vanishing else ""

    async def _vanishing(self) -> bool:
        """Whether the CRD is being deleted. If it is another one than was known, all is listed again.

        Raises:
            ApiError: neither the CRD nor discovery can be read.
        """
        try:
            metadata = (await self._read(_CRD, _DEFINITION)).metadata
        except ApiError as error:
            if not error.forbidden:
                raise
        else:
            self._record_uid(metadata.uid)
            return bool(metadata.deletion_timestamp)
        await self._clock.sleep(DISCOVERY_LAG_SECONDS)
        served = (await self._read(_DISCOVERY, _SERVED)).resources
        return not any(item.name == BOOKING.plural and "create" in item.verbs for item in served)

    def _record_uid(self, uid: str) -> None:
        if uid == self._uid:
            return
        self._uid = uid
        for reflector in self._reflectors:
            reflector.relist(f"the CustomResourceDefinition {BOOKING.crd_name} is new; all is listed again")

    async def _read(self, path: str, model: TypeAdapter[T]) -> T:
        """What is at a path.

        Raises:
            ApiError: nothing that can be read.
        """
        return await decode_response(model, await self._client.request("GET", path))

    def _unconfirmed(self, error: ApiError) -> str:
        if not error.forbidden:
            return f"the CustomResourceDefinition of the bookings cannot be read: {error}"
        if not self._warned:
            self._warned = True
            self._log.warning("crd_unreadable", fix=f"grant get on {BOOKING.crd_name}", error=str(error))
        return ""
