"""The user of a request to a board in the cluster."""

import asyncio
from typing import cast

import pytest
from multidict import CIMultiDict

from booking_operator.board.authentication import ProxyHeaders, TokenReviewer, bearer_token
from booking_operator.board.expiring import MAX_ENTRIES, ExpiringCache
from booking_operator.client.cluster import Cluster, UserInfo
from booking_operator.client.errors import CommandError
from tests.support.reviews import ReviewingCluster
from tests.support.virtual import VirtualClock, run

ADA = UserInfo("ada", ("team-a", "system:authenticated"))


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
        ("Bearer \udcff", ""),
        ("", ""),
    ],
)
def test_the_bearer_token_of_a_request(header: str, token: str) -> None:
    assert bearer_token({"Authorization": header}) == token


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ({"x-forwarded-email": "ada@example.com"}, ("ada@example.com", ("system:authenticated",))),
        (
            {"X-Forwarded-Email": "ada", "X-Forwarded-Groups": "team-a, team-b,,"},
            ("ada", ("team-a", "team-b", "system:authenticated")),
        ),
        ({"X-Forwarded-Email": ""}, None),
        ({"X-Forwarded-User": "ada"}, None),
        ({}, None),
        ({"X-Forwarded-Email": "system:admin"}, None),
        (
            {"X-Forwarded-Email": "ada", "X-Forwarded-Groups": "system:masters,team-a"},
            ("ada", ("team-a", "system:authenticated")),
        ),
    ],
)
def test_the_user_whom_a_proxy_names(
    headers: dict[str, str], user: tuple[str, tuple[str, ...]] | None
) -> None:
    assert ProxyHeaders().user_of(CIMultiDict(headers)) == (UserInfo(*user) if user else None)


def test_prefixes_are_those_of_the_api_server() -> None:
    rules = ProxyHeaders("X-User", "X-Groups", "oidc:", "oidc-group:")
    found = rules.user_of({"X-User": "ada", "X-Groups": "system:masters"})
    assert found == UserInfo("oidc:ada", ("oidc-group:system:masters", "system:authenticated"))
    # No prefix makes a reserved name.
    assert ProxyHeaders("X-User", user_prefix="sys").user_of({"X-User": "tem:admin"}) is None


def test_a_token_is_reviewed_once_in_ten_seconds() -> None:
    cluster = ReviewingCluster(secret=ADA)

    async def main() -> None:
        reviewer = TokenReviewer(cast("Cluster", cluster), VirtualClock())
        assert await reviewer.user_of("secret") == ADA
        assert await reviewer.user_of("wrong") is None
        assert await reviewer.user_of("secret") == ADA
        assert cluster.reviews == 2
        del cluster.tokens["secret"]  # the token is revoked
        await asyncio.sleep(9)
        assert await reviewer.user_of("secret") == ADA
        await asyncio.sleep(1)
        assert await reviewer.user_of("secret") is None

    run(main())


def test_an_error_is_not_remembered() -> None:
    cluster = ReviewingCluster(secret=ADA)

    async def main() -> None:
        reviewer = TokenReviewer(cast("Cluster", cluster), VirtualClock())
        cluster.error = CommandError("no answer")
        with pytest.raises(CommandError):
            await reviewer.user_of("secret")
        cluster.error = None
        assert await reviewer.user_of("secret") == ADA

    run(main())


def test_a_caller_asks_when_the_one_before_has_failed_or_left() -> None:
    cache: ExpiringCache[str, int] = ExpiringCache(VirtualClock(), 10)
    asked: list[int] = []

    async def ask() -> int:
        asked.append(len(asked))
        await asyncio.sleep(1)
        if len(asked) == 2:
            raise CommandError("the API server does not answer")
        return len(asked)

    async def main() -> None:
        callers = [asyncio.ensure_future(cache.get("key", ask)) for _ in range(4)]
        await asyncio.sleep(0.5)
        callers[0].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(answer) for answer in answers[:2]] == [asyncio.CancelledError, CommandError]
        assert answers[2:] == [3, 3]

    run(main())


def test_a_cache_has_a_maximum_size() -> None:
    asked: list[int] = []

    async def ask(key: int) -> int:
        asked.append(key)
        return key

    async def main() -> None:
        cache: ExpiringCache[int, int] = ExpiringCache(VirtualClock(), 10)
        for key in range(MAX_ENTRIES + 1):
            assert await cache.get(key, lambda key=key: ask(key)) == key  # type: ignore[misc]
        await cache.get(1, lambda: ask(1))
        assert len(asked) == MAX_ENTRIES + 1
        await cache.get(0, lambda: ask(0))  # the oldest entry had to go
        assert asked[-1] == 0

    run(main())
