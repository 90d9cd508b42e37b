"""Requests of the plugin: repeated when the API server asks for a pause, and explained when it refuses."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from booking_operator.api.kinds import BOOKING
from booking_operator.client.cluster import MAX_RETRIES, Cluster, Permission, explained
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError

BUSY = ApiError(429, "HTTP 429: storage is (re)initializing", retry_after=2)


class Sleeper:
    """A clock that records its sleeps."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


class Server:
    """Answers requests with errors, and then with a list without objects."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)

    async def request(self, *_: Any, **__: Any) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        return b'{"metadata": {}, "items": []}'


def cluster(*errors: ApiError) -> tuple[Cluster, Sleeper]:
    clock = Sleeper()
    return Cluster(cast("KubeClient", Server(*errors)), clock), clock


async def test_a_busy_api_server_is_asked_again_when_it_says() -> None:
    busy, clock = cluster(BUSY, BUSY)
    assert await busy.list_objects(BOOKING, "team-a") == []
    assert clock.sleeps == [2, 2]
    busy, clock = cluster(BUSY)
    assert await busy.list_raw(BOOKING, "team-a") == []
    assert clock.sleeps == [2]


async def test_an_api_server_that_stays_busy_is_an_error() -> None:
    busy, clock = cluster(*[BUSY] * (MAX_RETRIES + 1))
    with pytest.raises(CommandError, match="initializing"):
        await busy.get_raw(BOOKING, "team-a", "x")
    assert len(clock.sleeps) == MAX_RETRIES


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (ApiError(0, "the request failed"), ExitCode.FAILED, "check the address"),
        (ApiError(401, "HTTP 401: Unauthorized"), ExitCode.FAILED, "log in to the cluster again"),
        (
            ApiError(403, 'HTTP 403: User "ada" cannot list resource'),
            ExitCode.FORBIDDEN,
            "ask an administrator for the role booking-operator-view there",
        ),
        (ApiError(403, "HTTP 403: denied by a policy"), ExitCode.FORBIDDEN, ""),
        (
            ApiError(404, "HTTP 404: 404 page not found"),
            ExitCode.NOT_FOUND,
            "kubectl apply -k manifests/crds",
        ),
        (
            ApiError(404, 'HTTP 404: namespaces "x" not found', reason="NotFound"),
            ExitCode.NOT_FOUND,
            "name another namespace with -n",
        ),
        (ApiError(500, "HTTP 500: etcd"), ExitCode.FAILED, "try again"),
        (ApiError(422, "HTTP 422: end_at must be later"), ExitCode.FAILED, ""),
    ],
)
def test_a_refusal_has_an_exit_code_and_a_fix(error: ApiError, code: ExitCode, hint: str) -> None:
    found = explained(error, Permission("list", BOOKING, "team-a"))
    assert found.code is code
    assert hint in found.hint
    assert bool(hint) == bool(found.hint)
