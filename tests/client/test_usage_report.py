"""The usage report as a pure function of Usage objects."""

from decimal import Decimal
from typing import Any

import pytest

from booking_operator.api.kinds import USAGE
from booking_operator.client.usage_report import GroupBy, UsageReport, cost, hours, report, share
from tests.support.people import NOW, usage_body

WEB = usage_body(
    "web", {"s": (10, 6, 5, 2, 1, 1), "l": (2, 1, 1, 0, 0, 0)}, {("ada", "s"): 4, ("ada", "l"): 1}
)
DB = usage_body("db", {"l": (4, 4, 4, 0, 0, 0)}, {("bob", "l"): 4})


def reported(group_by: GroupBy, *bodies: dict[str, Any]) -> UsageReport:
    return report([USAGE.adapter.validate_python(body) for body in bodies], group_by)


def running(found: UsageReport) -> dict[str, int]:
    return {row.name: row.total.running // 3600 for row in (*found.rows, found.total)}


@pytest.mark.parametrize(
    ("group_by", "rows"),
    [
        (GroupBy.RESOURCE, {"db": 4, "web": 7, "TOTAL": 11}),
        (GroupBy.WHO, {"(unbooked)": 2, "ada": 5, "bob": 4, "TOTAL": 11}),
        (GroupBy.NAMESPACE, {"team-a": 11, "TOTAL": 11}),
    ],
)
def test_all_groupings_have_the_same_total(group_by: GroupBy, rows: dict[str, int]) -> None:
    found = reported(group_by, WEB, DB)
    assert (running(found), found.until) == (rows, NOW)


def test_resources_of_two_namespaces_stay_apart_and_users_do_not() -> None:
    elsewhere = WEB | {"metadata": WEB["metadata"] | {"namespace": "team-b"}}
    rows = reported(GroupBy.RESOURCE, WEB, elsewhere).rows
    assert [(row.namespace, row.name) for row in rows] == [("team-a", "web"), ("team-b", "web")]
    assert running(reported(GroupBy.WHO, WEB, elsewhere)) == {"(unbooked)": 4, "ada": 10, "TOTAL": 14}


def test_a_usage_without_sums_is_left_out() -> None:
    fresh, broken = WEB | {"status": {}}, WEB | {"status": {"observed_until": "soon"}}
    found = reported(GroupBy.RESOURCE, fresh, broken)
    assert (list(found.rows), found.until) == ([], None)


def test_sizes_without_a_price_cost_nothing() -> None:
    [row] = reported(GroupBy.RESOURCE, WEB).rows
    assert cost(row, {"s": Decimal("0.10")}) == Decimal("0.60")
    assert cost(row, {"s": Decimal("0.10"), "l": Decimal(1)}) == Decimal("1.60")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0h"),
        (48, "48s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (9000, "2.5h"),
        (36_000, "10h"),
        (37_900, "11h"),
        (4_068_000, "1130h"),
    ],
)
def test_hours(seconds: int, text: str) -> None:
    assert hours(seconds) == text


def test_a_share_of_nothing_is_empty() -> None:
    assert (share(1, 3), share(0, 0)) == ("33%", "")
