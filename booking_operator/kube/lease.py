"""Reads, writes and watches the Lease of the leader election (coordination.k8s.io/v1)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import AwareDatetime, Field
from pydantic.dataclasses import dataclass

from booking_operator.api.kinds import Kind
from booking_operator.api.meta import WIRE_CONFIG, ObjectMeta
from booking_operator.engine.clock import Clock
from booking_operator.engine.leader_election import Lease, LeaseConflictError, LeaseError
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Change, Key, Store
from booking_operator.kube.client import KubeClient
from booking_operator.kube.decoding import decode_response
from booking_operator.kube.errors import ApiError
from booking_operator.kube.list_watch import ListWatch
from booking_operator.kube.objects import micro_time


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class LeaseSpec:
    """See https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/."""

    holder: str | None = Field(default=None, alias="holderIdentity")
    seconds: int | None = Field(default=None, alias="leaseDurationSeconds")
    acquired_at: AwareDatetime | None = Field(default=None, alias="acquireTime")
    renewed_at: AwareDatetime | None = Field(default=None, alias="renewTime")
    transitions: int | None = Field(default=None, alias="leaseTransitions")


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class LeaseObject:
    """A Lease as the API server serves it."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()

    @property
    def status(self) -> LeaseSpec:
        """The spec. A Lease has no generation, so the store compares this as the status of other kinds."""
        return self.spec

    def lease(self) -> Lease:
        """Convert it to the `Lease` of the leader election."""
        spec = self.spec
        return Lease(
            spec.holder or "",
            spec.seconds or 1,
            spec.acquired_at,
            spec.renewed_at,
            spec.transitions or 0,
            self.metadata.resource_version,
        )


LEASE = Kind(
    name="Lease",
    plural="leases",
    short_name="lease",
    model=LeaseObject,
    spec=LeaseSpec,
    status=LeaseSpec,
    spec_rules=(),
    columns=(),
    api_version="coordination.k8s.io/v1",
)


class KubeLeaseLock:
    """A `LeaseLock` for one Lease.

    It needs its own client, so that renewals do not wait for other requests.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str, clock: Clock) -> None:
        self._client = client
        self._key = Key(namespace, name)
        self._store: Store[LeaseObject] = Store()
        source = ListWatch(client, LEASE, namespace, [("fieldSelector", f"metadata.name={name}")])
        self._reflector = Reflector(LEASE.plural, source, self._store, clock)

    async def get(self) -> Lease | None:
        """Read the Lease; None if it does not exist.

        Raises:
            LeaseError: the API server refused the request, or could not be reached.
        """
        with self._translated():
            try:
                answer = await self._client.request("GET", LEASE.path(*self._key))
            except ApiError as error:
                if not error.not_found:
                    raise
                self._store.delete(self._key)
                return None
            return await self._store_response(answer)

    async def write(self, lease: Lease) -> Lease:
        """Create the Lease if `lease.version` is empty, else update that version.

        Raises:
            LeaseConflictError: another replica has changed, created or deleted the Lease.
            LeaseError: the API server refused the request, or could not be reached.
        """
        namespace, name = self._key
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": meta, "spec": _spec(lease)}
        with self._translated():
            if not lease.version:
                return await self._store_response(
                    await self._client.request("POST", LEASE.path(namespace), body=body)
                )
            meta["resourceVersion"] = lease.version
            try:
                return await self._store_response(
                    await self._client.request("PUT", LEASE.path(*self._key), body=body)
                )
            except ApiError as error:
                if error.not_found:
                    raise LeaseConflictError(f"the Lease was deleted: {error}") from error
                raise

    async def watch(self, see: Callable[[Lease | None], None]) -> None:
        """Call `see` with each change that is newer than the last read or write, until cancelled."""

        def changed(change: Change[LeaseObject]) -> None:
            if change.key == self._key:
                see(change.new.lease() if change.new else None)

        self._store.subscribe(changed)
        await self._reflector.run()

    async def _store_response(self, answer: bytes) -> Lease:
        found: LeaseObject = await decode_response(LEASE.adapter, answer)
        self._store.apply(found)
        if self._reflector.backing_off:
            # The API server responds, so end the back-off of the watch. A watch that waits would miss a
            # release of the Lease.
            self._reflector.relist("the API server was unavailable")
        return found.lease()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            if error.conflict:
                raise LeaseConflictError(str(error)) from error
            raise LeaseError(self._with_fix(error)) from error

    def _with_fix(self, error: ApiError) -> str:
        if error.not_found:
            return f"{error}; create the namespace {self._key.namespace}, or set --leader-election-namespace"
        if not error.forbidden:
            return str(error)
        return f"{error}; grant get, list, watch, create and update on leases in {self._key.namespace}"


def _spec(lease: Lease) -> dict[str, Any]:
    return {
        "holderIdentity": lease.holder,
        "leaseDurationSeconds": lease.seconds,
        "acquireTime": micro_time(lease.acquired_at) if lease.acquired_at else None,
        "renewTime": micro_time(lease.renewed_at) if lease.renewed_at else None,
        "leaseTransitions": lease.transitions,
    }
