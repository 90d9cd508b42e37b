"""The CRDs that the simulated API server serves, and the deletion of their objects."""

import json
import random
from collections.abc import Callable

from booking_operator.api.kinds import ALL_KINDS
from booking_operator.kube.errors import ApiError
from tests.sim.kernel import Kernel
from tests.sim.storage import Storage, Version, timestamp

PLURALS = sorted(kind.plural for kind in ALL_KINDS)


class Crds:
    """The CustomResourceDefinitions, by the plural names of their kinds."""

    def __init__(self, kernel: Kernel, storage: Storage, rng: random.Random) -> None:
        self._kernel = kernel
        self._storage = storage
        self._rng = rng
        self._deletion_timestamps: dict[str, str] = dict.fromkeys(PLURALS, "")
        self._uids = {plural: f"crd-{plural}" for plural in PLURALS}

    def check(self, plural: str) -> None:
        """Check that a kind is served.

        Raises:
            ApiError: 404, the kind is not served.
        """
        if plural in PLURALS and plural not in self._deletion_timestamps:
            raise ApiError(404, "HTTP 404: the kind is not served")

    def check_not_terminating(self, plural: str) -> None:
        """Check that the CRD of a kind is not terminating.

        Raises:
            ApiError: 405, the CRD is terminating.
        """
        if self._deletion_timestamps.get(plural):
            raise ApiError(
                405, "HTTP 405: create not allowed while custom resource definition is terminating"
            )

    def definition(self, plural: str) -> bytes:
        """Return the CRD of a kind as JSON.

        Raises:
            ApiError: 404, there is no such CRD.
        """
        if plural not in self._deletion_timestamps:
            raise ApiError(404, "HTTP 404: no such CRD", reason="NotFound")
        metadata = {"uid": self._uids[plural]}
        if self._deletion_timestamps[plural]:
            metadata["deletionTimestamp"] = self._deletion_timestamps[plural]
        return json.dumps({"metadata": metadata}).encode()

    def discovery(self) -> bytes:
        """Return the discovery document: the verbs of each kind."""
        verbs = ["delete", "get", "list"]
        served = [
            {"name": plural, "verbs": verbs if deleted_at else [*verbs, "create"]}
            for plural, deleted_at in self._deletion_timestamps.items()
        ]
        return json.dumps({"resources": served}).encode()

    def delete(self, plural: str) -> None:
        """Delete a CRD: it is terminating, then its objects are deleted, then the kind is not served."""
        if self._deletion_timestamps.get(plural, "gone"):
            return
        self._deletion_timestamps[plural] = timestamp(int(self._kernel.now))

        def delete_next() -> None:
            remaining = next(iter(self._storage.objects[plural].values()), None)
            if remaining:
                meta = remaining["metadata"]
                self._storage.commit("", plural, remaining, None)
                # No user has deleted the object. For the oracle it still exists, until the CRD is applied
                # again without it.
                self._storage.versions[plural][meta["namespace"], meta["name"]].pop()
                self._kernel.call_later(self._rng.uniform(0, 0.02), delete_next)
            else:
                self._kernel.call_later(self._rng.uniform(0.1, 1), finish)

        def finish() -> None:
            del self._deletion_timestamps[plural]
            self._storage.end_watches(plural)

        self._kernel.call_later(self._rng.uniform(0.01, 0.5), delete_next)

    def restore(self, plural: str, on_served: Callable[[], None]) -> None:
        """Apply a CRD again after its deletion is complete, then call `on_served`."""
        if plural in self._deletion_timestamps:
            self._kernel.call_later(1, lambda: self.restore(plural, on_served))
            return
        self._deletion_timestamps[plural] = ""
        self._uids[plural] += "+"
        on_served()
        for name, versions in self._storage.versions[plural].items():
            if name not in self._storage.objects[plural] and versions[-1].object is not None:
                versions.append(Version(self._kernel.now, None))
