"""Public holidays: the regions that are known, and days without bookings."""

from datetime import UTC, date, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from booking_operator.domain.public_holidays import ExceptDays, check_region
from booking_operator.domain.recurrence import Recurrence

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("region", ["DE", "DE-BE", "FR", "US-CA", "GB-SCT", "CH-ZH", "IN"])
def test_countries_and_subdivisions_are_known(region: str) -> None:
    check_region(region)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("Berlin", "'Berlin' is not a region; use a country or a subdivision, like DE or DE-BE"),
        ("de", "'de' is not a region"),
        ("XX", "the holidays of 'XX' are not known; use a country like DE, FR or US"),
        ("DE-ZZ", "DE has no subdivision 'ZZ'; known are: BB, BE, BW"),
    ],
)
def test_an_unknown_region_is_refused_with_known_ones(region: str, words: str) -> None:
    with pytest.raises(ValueError, match="DE") as caught:
        check_region(region)
    assert words in str(caught.value)


def test_a_holiday_of_a_subdivision_is_excluded_only_there() -> None:
    womens_day = date(2026, 3, 8)
    assert womens_day in ExceptDays(regions=("DE-BE",))
    assert womens_day not in ExceptDays(regions=("DE", "DE-BY"))
    assert womens_day in ExceptDays(dates=frozenset({womens_day}))
    assert date(2026, 10, 3) in ExceptDays(regions=("FR", "DE"))


def test_no_booking_starts_on_a_holiday_in_the_zone() -> None:
    start = datetime(2026, 4, 30, 12, tzinfo=UTC)
    found = Recurrence("0 0 * * *", BERLIN, ExceptDays(regions=("DE",))).after(start)
    assert [f"{at.astimezone(BERLIN):%m-%d}" for at in islice(found, 2)] == ["05-02", "05-03"]


def test_a_schedule_that_matches_only_holidays_ends() -> None:
    christmas = Recurrence("0 9 25 12 *", BERLIN, ExceptDays(regions=("DE",)))
    assert list(christmas.after(datetime(2026, 1, 1, tzinfo=UTC))) == []
    sometimes = Recurrence("0 9 29 2 *", BERLIN, ExceptDays(dates=frozenset({date(2028, 2, 29)})))
    assert next(sometimes.after(datetime(2026, 1, 1, tzinfo=UTC))).year == 2032
