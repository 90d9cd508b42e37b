"""The public holidays of countries and their subdivisions, by the library `holidays`."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import holidays
from holidays import HolidayBase

REGION_PATTERN = r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$"
"""A country or a subdivision of ISO 3166, like `DE` or `DE-BE`."""


def check_region(region: str) -> None:
    """Validate a region.

    Raises:
        ValueError: the region is malformed, or its holidays are not known. The message names known ones.
    """
    if not re.fullmatch(REGION_PATTERN, region):
        raise ValueError(f"{region!r} is not a region; use a country or a subdivision, like DE or DE-BE")
    country, _, subdivision = region.partition("-")
    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        raise ValueError(f"the holidays of {country!r} are not known; use a country like DE, FR or US")
    if subdivision and subdivision not in known[country]:
        codes = ", ".join(code for code in known[country] if re.fullmatch("[A-Z0-9]{1,3}", code)) or "none"
        raise ValueError(f"{country} has no subdivision {subdivision!r}; known are: {codes}")


@dataclass(frozen=True, slots=True)
class ExceptDays:
    """The days on which no booking starts.

    Attributes:
        dates: single days.
        regions: regions whose public holidays count; each passes `check_region`.
    """

    dates: Collection[date] = frozenset()
    regions: tuple[str, ...] = ()

    def __contains__(self, day: object) -> bool:
        if not isinstance(day, date):
            return False
        return day in self.dates or any(day in _calendar(region) for region in self.regions)


@lru_cache(maxsize=64)
def _calendar(region: str) -> HolidayBase:
    """Return the holidays of a region. The calendar computes a year when a day of it is asked for."""
    country, _, subdivision = region.partition("-")
    return holidays.country_holidays(country, subdiv=subdivision or None)
