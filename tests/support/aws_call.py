"""The record that the proxy keeps of each request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.aws_fleet import values

ON_ITS_WAY = timedelta(seconds=0.5)
"""A call that was sent before a booking began, ended, or was edited may arrive this long after the change."""


@dataclass(slots=True)
class Call:
    """One request, with its time of arrival: `at` (wall clock, UTC) and `monotonic` (seconds).

    Attributes:
        account: the account of its credentials.
        status: the HTTP status of the reply, even if the reply was lost; 0 before there is a reply, and for a
            request that was never carried out.
    """

    action: str
    service: str
    region: str
    access_key: str
    account: str
    params: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    at: datetime
    monotonic: float
    status: int = 0

    @property
    def instance_ids(self) -> tuple[str, ...]:
        return values(self.params, "InstanceId.") or values(self.params, "ResourceId.")
