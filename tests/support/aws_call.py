"""What the proxy records of each request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.aws_fleet import values

ON_ITS_WAY = timedelta(seconds=0.5)
"""What was sent before a booking began, ended, or was edited may arrive that much after."""


@dataclass(slots=True)
class Call:
    """One request as it arrived: at `at` on the wall clock (UTC), at `monotonic` on the monotonic one (s).

    Attributes:
        account: the account of its credentials.
        status: the HTTP status of the reply, whether it arrived or was lost; 0 before there is one, and where
            the request was never carried out.
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
