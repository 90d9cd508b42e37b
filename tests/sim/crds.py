"""Which kinds the simulated API server serves, and what becomes of the objects of one that goes."""

import json
import random
from collections.abc import Callable

from booking_operator.api.kinds import KINDS
from booking_operator.kube.errors import ApiError
from tests.sim.kernel import Kernel
from tests.sim.storage import Storage, Version, stamp

PLURALS = sorted(kind.plural for kind in KINDS)


class Crds:
    """The CustomResourceDefinitions, by the plural names of their kinds."""

    def __init__(self, kernel: Kernel, storage: Storage, chance: random.Random) -> None:
        self._kernel = kernel
        self._storage = storage
        self._random = chance
        self._dying: dict[str, str] = dict.fromkeys(PLURALS, "")
        self._uids = {plural: f"crd-{plural}" for plural in PLURALS}

    def check(self, plural: str) -> None:
        """See that a kind is served.

        Raises:
            ApiError: 404.
        """
        if plural in PLURALS and plural not in self._dying:
            raise ApiError(404, "HTTP 404: the kind is not served")

    def check_lasting(self, plural: str) -> None:
        """See that a kind is not being deleted.

        Raises:
            ApiError: 405.
        """
        if self._dying.get(plural):
            raise ApiError(
                405, "HTTP 405: create not allowed while custom resource definition is terminating"
            )

    def definition(self, plural: str) -> bytes:
        """The CRD of a kind.

        Raises:
            ApiError: 404.
        """
        if plural not in self._dying:
            raise ApiError(404, "HTTP 404: no such CRD")
        metadata = {"uid": self._uids[plural]}
        if self._dying[plural]:
            metadata["deletionTimestamp"] = self._dying[plural]
        return json.dumps({"metadata": metadata}).encode()

    def discovery(self) -> bytes:
        """What may be done with each kind."""
        verbs = ["delete", "get", "list"]
        served = [
            {"name": plural, "verbs": verbs if dying else [*verbs, "create"]}
            for plural, dying in self._dying.items()
        ]
        return json.dumps({"resources": served}).encode()

    def delete(self, plural: str) -> None:
        """Delete a CRD: first it says so, then its objects go, then it is not served any more."""
        if self._dying.get(plural, "gone"):
            return
        self._dying[plural] = stamp(int(self._kernel.now))
        # That they are gone is nobody's wish: in the past that is kept they stay, until it is known better.
        past = self._storage.past[plural]
        kept = {name: list(versions) for name, versions in past.items()}

        def empty() -> None:
            left = next(iter(self._storage.objects[plural].values()), None)
            if left:
                self._storage.commit("", plural, left, None)
                past.update(kept)
                self._kernel.after(self._random.uniform(0, 0.02), empty)
            else:
                self._kernel.after(self._random.uniform(0.1, 1), close)

        def close() -> None:
            del self._dying[plural]
            self._storage.end_watches(plural)

        self._kernel.after(self._random.uniform(0.01, 0.5), empty)

    def restore(self, plural: str, then: Callable[[], None]) -> None:
        """Apply a CRD again, once it is gone, and at once `then` the objects that its users had."""
        if plural in self._dying:
            self._kernel.after(1, lambda: self.restore(plural, then))
            return
        self._dying[plural] = ""
        self._uids[plural] += "+"
        then()
        for name, versions in self._storage.past[plural].items():
            if name not in self._storage.objects[plural] and versions[-1].object is not None:
                versions.append(Version(self._kernel.now, None))
