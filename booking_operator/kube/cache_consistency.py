"""Decides whether the informer caches are complete enough to stop instances.

The operator stops instances that have no booking, so a missing booking leads to a wrong stop. This module
reports why bookings may be missing: a reflector is not in sync, or the CRD or the namespace is being deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.meta import WIRE_CONFIG
from booking_operator.engine.clock import Clock
from booking_operator.engine.reflector import Reflector
from booking_operator.kube.client import KubeClient
from booking_operator.kube.decoding import decode_response
from booking_operator.kube.errors import ApiError

T = TypeVar("T")

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CHECKED = (BOOKING, RESOURCE)
"""The kinds whose deletion by a user stops instances: a deleted Resource no longer books what it requires."""
_DISCOVERY = f"/apis/{BOOKING.api_version}"

CONFIRM_TIMEOUT_SECONDS = 10.0
"""Timeout of a confirmation, for callers that no user waits for."""
CRD_READ_TIMEOUT_SECONDS = 2.0
"""Timeout of the first read of the CRDs. Existing bookings must not wait longer at the start of the
operator."""
DISCOVERY_LAG_SECONDS = 1.0
"""Delay before discovery is read. Discovery learns of a deletion by its own watch, up to about 10 ms before
or after the operator."""
JOIN_SECONDS = 0.1
"""How long a call waits for more callers, at most, while another call is in flight."""


class _Call:
    """A check with the API server that several callers share.

    Attributes:
        ended: set when the check has ended.
        answer: the stale reason, empty if the caches are consistent; None if the check was cancelled.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.answer: str | None = None


class _SharedCheck:
    """A check with the API server that many callers share.

    A check answers all callers that asked before it began. While another check is in flight, a new one waits
    `JOIN_SECONDS` for more callers. It does not wait longer, so that a slow API server does not delay it
    twice.
    """

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._next: _Call | None = None  # the call that has not started
        self._under_way = 0
        self._idle = asyncio.Event()

    @property
    def unused(self) -> bool:
        """Whether no call is in flight, and none is requested."""
        return self._next is None and not self._under_way

    async def answer(self) -> str:
        """Return the result of a call that starts now or later."""
        while True:
            call = self._next
            if call is None:
                call = self._next = _Call()
                return await self._make(call)
            await call.ended.wait()
            if call.answer is not None:
                return call.answer

    async def _make(self, call: _Call) -> str:
        """Make one request for all callers that join `call` before it starts."""
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
            # If this caller is cancelled, one of the waiting callers makes another call.
            if self._next is call:
                self._next = None
            call.ended.set()


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Meta:
    uid: str = ""
    deletion_timestamp: str = Field(default="", alias="deletionTimestamp")


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Object:
    metadata: _Meta


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Kind:
    name: str
    verbs: list[str]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Discovery:
    resources: list[_Kind]


_OBJECT, _SERVED = TypeAdapter(_Object), TypeAdapter(_Discovery)


class CacheConsistency:
    """Checks the reflectors, and confirms with the API server before an unplanned stop.

    When a CRD is deleted, the API server deletes all its objects. The watch reports each as if a user had
    deleted it. Such a deletion must not stop instances. The CRD gets its deletionTimestamp before its first
    object is deleted, so the operator reads the CRDs of Bookings and of Resources.

    If a CRD was deleted and created again in the meantime, it has another uid than before. Then the
    reflectors relist.

    If the watch of a kind is down for long, etcd may have been restored from a backup with bookings that the
    caches do not contain. Then the reflector relists at once.

    If the operator may not read a CRD, it reads discovery, which every ServiceAccount may read. While a CRD
    is being deleted, discovery lists its kind without the verb `create`. Discovery is cached, so the operator
    waits `DISCOVERY_LAG_SECONDS` before it reads it. Discovery contains no uid.

    While a namespace is being deleted, its Bookings vanish as well, and the watch reports each as if a user
    had deleted it. `confirm_namespace` reads the namespace.
    """

    def __init__(self, client: KubeClient, reflectors: Sequence[Reflector[Any]], clock: Clock) -> None:
        self._client = client
        self._reflectors = reflectors
        self._clock = clock
        self._logged: set[tuple[str, str]] = set()  # what the operator may not read, with the event
        self._uids: dict[str, str] = {}  # of the CRDs, by their names, read before the objects were listed
        self._crds = {kind: _SharedCheck(partial(self._ask, kind.crd_name)) for kind in _CHECKED}
        self._namespaces: dict[str, _SharedCheck] = {}
        self._log = structlog.get_logger()

    async def record_crds(self) -> None:
        """Record the uids of the CRDs before the objects are listed.

        If this fails, the first `confirm` relists.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CRD_READ_TIMEOUT_SECONDS):
                for kind in _CHECKED:
                    with suppress(ApiError):
                        self._uids[kind.crd_name] = (await self._crd(kind.crd_name)).uid

    def stale_reason(self) -> str:
        """Why bookings may be missing from the caches; empty if all caches are in sync."""
        return next((reflector.stale_reason for reflector in self._reflectors if reflector.stale_reason), "")

    async def confirm(self, *, required: bool = False) -> str:
        """Return `stale_reason`, or that the API server is deleting a CRD.

        Args:
            required: whether other Resources require, or have required, the one in question. Then the CRD of
                the Resources counts as well as that of the Bookings.
        """
        if stale_reason := self.stale_reason():
            return stale_reason
        async with asyncio.TaskGroup() as tasks:
            checks = [
                tasks.create_task(self._crds[kind].answer(), name=f"confirm: {kind.crd_name}")
                for kind in (_CHECKED if required else (BOOKING,))
            ]
        if stale_reason := next((reason for check in checks if (reason := check.result())), ""):
            return stale_reason
        for reflector in self._reflectors:
            if reflector.had_outage:
                kind = reflector.kind
                reflector.relist(f"the watch of the {kind} was interrupted, and a relist is pending")
        return self.stale_reason()

    async def confirm_namespace(self, namespace: str) -> str:
        """Return that the API server is deleting a namespace; empty if it is not, or if it is unreadable."""
        check = self._namespaces.get(namespace)
        if check is None:
            check = self._namespaces[namespace] = _SharedCheck(partial(self._ask_namespace, namespace))
        try:
            return await check.answer()
        finally:
            if check.unused and self._namespaces.get(namespace) is check:
                del self._namespaces[namespace]

    async def confirm_within(
        self, seconds: float = CONFIRM_TIMEOUT_SECONDS, *, namespace: str = "", required: bool = False
    ) -> str:
        """Call `confirm` with a timeout, and at the same time `confirm_namespace` if `namespace` is given.

        A timeout counts as stale data.
        """
        try:
            async with asyncio.timeout(seconds):
                if not namespace:
                    return await self.confirm(required=required)
                async with asyncio.TaskGroup() as tasks:
                    checks = [
                        tasks.create_task(self.confirm(required=required), name="confirm: CRDs"),
                        tasks.create_task(self.confirm_namespace(namespace), name="confirm: namespace"),
                    ]
                return next((reason for check in checks if (reason := check.result())), "")
        except TimeoutError:
            return "the API server did not confirm in time that no booking is missing"

    async def _ask(self, name: str) -> str:
        """Return that the API server is deleting the CRD `name`, or that the operator cannot know it."""
        try:
            crd = await self._crd(name)
        except ApiError as error:
            if not error.forbidden:
                return _unreadable(name, error)
            self._log_once(self._log.info, "crd_read_forbidden", name, error)
            return await self._ask_discovery(name)
        if crd.deletion_timestamp:
            return _deleted(name)
        self._record_uid(name, crd.uid)
        return ""

    async def _ask_namespace(self, namespace: str) -> str:
        try:
            found = await self._read(f"/api/v1/namespaces/{namespace}", _OBJECT)
        except ApiError as error:
            if error.not_found:
                return f"the namespace {namespace} does not exist any more"
            if not error.forbidden:
                return f"the operator cannot read the namespace {namespace}: {error}"
            self._log_once(self._log.warning, "namespace_read_forbidden", "namespaces", error)
            return ""
        return f"the namespace {namespace} is being deleted" if found.metadata.deletion_timestamp else ""

    async def _ask_discovery(self, name: str) -> str:
        """Return that the API server is deleting the CRD `name`, which the operator may not read."""
        await self._clock.sleep(DISCOVERY_LAG_SECONDS)
        try:
            served = (await self._read(_DISCOVERY, _SERVED)).resources
        except ApiError as error:
            if not error.forbidden:
                return _unreadable(name, error)
            self._log_once(self._log.warning, "discovery_forbidden", name, error)
            return ""
        kept = {item.name for item in served if "create" in item.verbs}
        return "" if name.partition(".")[0] in kept else _deleted(name)

    def _log_once(self, log: Callable[..., None], event: str, what: str, error: ApiError) -> None:
        """Log the first time that a permission is missing."""
        if (event, what) not in self._logged:
            self._logged.add((event, what))
            log(event, fix=f"grant get on {what}", error=str(error))

    async def _crd(self, name: str) -> _Meta:
        """Read a CRD.

        Raises:
            ApiError: the request failed, or the response is invalid.
        """
        return (await self._read(f"{_CRDS}/{name}", _OBJECT)).metadata

    def _record_uid(self, name: str, uid: str) -> None:
        """Record the uid of a CRD. If it is new, the reflectors relist."""
        if uid == self._uids.get(name, ""):
            return
        self._uids[name] = uid
        for reflector in self._reflectors:
            reflector.relist(f"the CustomResourceDefinition {name} is new, and a relist is pending")

    async def _read(self, path: str, model: TypeAdapter[T]) -> T:
        """GET `path` and parse the response.

        Raises:
            ApiError: the request failed, or the response is invalid.
        """
        return await decode_response(model, await self._client.request("GET", path))


def _unreadable(crd: str, error: ApiError) -> str:
    return f"the operator cannot read the CustomResourceDefinition {crd}: {error}"


def _deleted(crd: str) -> str:
    return f"the CustomResourceDefinition {crd} is being deleted"
