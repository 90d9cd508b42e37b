"""Creates, updates and deletes objects with one request each.

Updates and deletes contain the resourceVersion that the decision was based on, so that a stale one fails with
a conflict.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from booking_operator.api.kinds import Kind
from booking_operator.engine.store import Object, key_of
from booking_operator.kube.client import MERGE_PATCH, KubeClient
from booking_operator.kube.errors import ApiError

MANAGED_BY = {"app.kubernetes.io/managed-by": "booking-operator"}


class ObjectWriter:
    """Writes objects of any kind. It does not update a store: the watch delivers the result."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def create(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        annotations: Mapping[str, str],
        owner: tuple[Kind[Any], Object] | None = None,
    ) -> None:
        """Create an object. Garbage collection deletes it together with its `owner`, if there is one.

        Raises:
            ApiError: the API server refused it; `conflict` if the name exists.
        """
        metadata: dict[str, Any] = {"name": name, "labels": MANAGED_BY, "annotations": dict(annotations)}
        if owner is not None:
            metadata["ownerReferences"] = [_reference(*owner)]
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": dict(spec)}
        await self._client.request("POST", kind.path(namespace), body=body)

    async def update(
        self, kind: Kind[Any], object_: Object, spec: Mapping[str, Any], annotations: Mapping[str, str]
    ) -> None:
        """Set some spec fields and annotations of an object, by a merge patch.

        Raises:
            ApiError: the API server refused it; `conflict` if the object has changed since it was read.
        """
        await self._patch(kind, object_, {"annotations": dict(annotations)}, {"spec": dict(spec)})

    async def adopt(self, kind: Kind[Any], object_: Object, owner: tuple[Kind[Any], Object]) -> None:
        """Make `owner` the controller of an object that has none.

        Raises:
            ApiError: the API server refused it; `conflict` if the object has changed since it was read.
        """
        await self._patch(kind, object_, {"ownerReferences": [_reference(*owner)]}, {})

    async def set_finalizers(self, kind: Kind[Any], object_: Object, finalizers: Sequence[str]) -> None:
        """Replace the finalizers of an object.

        Raises:
            ApiError: the API server refused it; `conflict` if the object has changed since it was read.
        """
        await self._patch(kind, object_, {"finalizers": list(finalizers)}, {})

    async def delete(self, kind: Kind[Any], object_: Object) -> None:
        """Delete an object if it is unchanged. It is no error if the object does not exist.

        Raises:
            ApiError: the API server refused it; `conflict` if the object has changed since it was read.
        """
        key, meta = key_of(object_), object_.metadata
        seen = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        try:
            await self._client.request("DELETE", kind.path(*key), body={"preconditions": seen})
        except ApiError as error:
            if not error.not_found:
                raise

    async def _patch(
        self, kind: Kind[Any], object_: Object, metadata: dict[str, Any], more: dict[str, Any]
    ) -> None:
        version = {"resourceVersion": object_.metadata.resource_version}
        body = {"metadata": version | metadata} | more
        await self._client.request("PATCH", kind.path(*key_of(object_)), body=body, content_type=MERGE_PATCH)


def micro_time(instant: datetime) -> str:
    """Format an aware instant as a Kubernetes MicroTime (UTC)."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _reference(kind: Kind[Any], object_: Object) -> dict[str, Any]:
    meta = object_.metadata
    known = {"apiVersion": kind.api_version, "kind": kind.name, "name": meta.name, "uid": meta.uid}
    return known | {"controller": True}
