"""What the calls of all AWS services have in common."""

from asyncio import TaskGroup
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar

from booking_operator.cloud.aws.clients import AwsClients, ClientName
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.records import SkippedRows
from booking_operator.domain.group import Scope
from booking_operator.domain.services import ServiceFacts
from booking_operator.metrics import NO_METRICS, CloudMetrics


class BaseApi:
    """The part of `ServiceApi` that is the same for all services.

    Attributes:
        facts: the names and the size of the calls.
        client_names: the clients of botocore that the service needs.
    """

    facts: ClassVar[ServiceFacts]
    client_names: ClassVar[tuple[ClientName, ...]]

    def __init__(
        self, clients: AwsClients, describes: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        self._clients = clients
        self._describes = describes
        self._skipped = SkippedRows(self.facts.name, metrics)

    async def ready(self, scope: Scope) -> None:
        """Prepare the clients and the credentials.

        Raises:
            CloudError: the account or the region does not exist, or there are no credentials.
        """
        for name in self.client_names:
            await self._clients.ready(name, scope)

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        """Return an empty text for each id: most services have no status checks."""
        return dict.fromkeys(ids, "")

    async def release(self, scope: Scope) -> None:
        """Close the clients of a scope that is no longer polled; the next call opens others."""
        self._describes.forget(scope, *self.facts.describe_calls)
        self._skipped.forget(scope)
        self._forget(scope)
        async with TaskGroup() as closing:
            for name in self.client_names:
                closing.create_task(self._clients.release(name, scope), name=f"release {name}")

    async def _pages(
        self,
        scope: Scope,
        permission: str,
        call: Callable[..., Awaitable[Any]],
        *,
        next_field: str = "NextToken",
        **query: Any,
    ) -> AsyncIterator[Any]:
        """Yield the pages of one list; each is one call.

        Args:
            scope: the scope of the calls.
            permission: the call in the form of an IAM permission, such as `ec2:DescribeInstances`.
            call: the method of the client.
            next_field: the field of the request and of the response that names the next page.
            query: the other fields of the request.

        Raises:
            CloudError: a call failed.
        """
        action = permission.partition(":")[2]
        while True:
            async with self._describes.slot(scope, action), self._clients.call(permission, scope):
                page = await call(**query)
            yield page
            if not page.get(next_field):
                return
            query[next_field] = page[next_field]

    def _forget(self, scope: Scope) -> None:
        """Drop what the service knows of a scope. By default, it knows nothing."""
