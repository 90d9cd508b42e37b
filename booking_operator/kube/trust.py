"""Whether the caches may be believed when they say that nobody has a resource booked."""

import json
from collections.abc import Sequence
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING
from booking_operator.engine.reflector import Reflector
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError

_FORBIDDEN = 403
_CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{BOOKING.crd_name}"


class CacheTrust:
    """Trusts the caches while all reflectors do, and asks the API server before what nobody could foresee.

    When a CRD is deleted, the API server deletes all its objects, and the watch tells of each as if a user
    had deleted it. A booking that vanishes so must not stop machines; the CRD itself knows better, because it
    carries its deletionTimestamp before the first object goes.
    """

    def __init__(self, client: KubeClient, reflectors: Sequence[Reflector[Any]]) -> None:
        self._client = client
        self._reflectors = reflectors
        self._warned = False
        self._log = structlog.get_logger()

    def doubt(self) -> str:
        """Why bookings may be missing from the caches; empty when they are trusted."""
        return next((reflector.doubt for reflector in self._reflectors if reflector.doubt), "")

    async def confirm(self) -> str:
        """The same, and whether the bookings are about to vanish altogether."""
        if doubt := self.doubt():
            return doubt
        try:
            crd = json.loads(await self._client.request("GET", _CRD))
        except ApiError as error:
            return self._unconfirmed(error)
        if crd["metadata"].get("deletionTimestamp"):
            return f"the CustomResourceDefinition {BOOKING.crd_name} is being deleted"
        return self.doubt()

    def _unconfirmed(self, error: ApiError) -> str:
        if error.status != _FORBIDDEN:
            return f"the CustomResourceDefinition of the bookings cannot be read: {error}"
        if not self._warned:
            self._warned = True
            self._log.warning("crd_unreadable", mend=f"grant get on {BOOKING.crd_name}", error=str(error))
        return ""
