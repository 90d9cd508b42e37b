"""Dates and durations: the parsers and the CRD patterns accept the same values."""

import re
from calendar import isleap
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.parsing import RFC3339, parse_duration, parse_rfc3339

instants = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 - Hypothesis adds the time zone
    datetime(2999, 12, 30),  # noqa: DTZ001 - the same
    timezones=st.timezones() | st.just(UTC),
)


@given(instants)
def test_every_date_that_python_formats_is_parsed(instant: datetime) -> None:
    text = instant.isoformat()
    if re.search(r"[+-]\d\d:\d\d$", text):  # zones of the 19th century have offsets with seconds
        # Compared in UTC, because a repeated wall-clock time is unequal to the same instant in another zone
        # (PEP 495).
        assert parse_rfc3339(text) == instant.astimezone(UTC)


@given(st.integers(1970, 2999), st.integers(1, 12), st.integers(28, 31))
def test_only_days_that_exist_match(year: int, month: int, day: int) -> None:
    days = [31, 29 if isleap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    assert bool(re.fullmatch(RFC3339, f"{year}-{month:02}-{day:02}T00:00:00Z")) == (day <= days)


@given(st.text(max_size=40))
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    if not re.fullmatch(RFC3339, text):
        with pytest.raises(ValueError, match="use a value like 2026-01-31T20:00:00Z"):
            parse_rfc3339(text)


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", "0001-01-01T00:00:00Z",
     "2026-01-01T00:00:00+1:00", "2026-01-01t00:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00Z\n"],
)  # fmt: skip
def test_invalid_dates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an RFC 3339 date"):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("24h", 86400)],
)
def test_valid_durations_are_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1d", "soon", "5 m"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="use a value like 90s, 10m or 1h30m"):
        parse_duration(text)
