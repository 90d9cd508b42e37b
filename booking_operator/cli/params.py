"""The types of command-line parameters. Each parses one notation, and its error messages show an example."""

from datetime import datetime, timedelta
from typing import Any

import click

from booking_operator.domain.parsing import parse_duration, parse_rfc3339
from booking_operator.engine.clock import SystemClock
from booking_operator.observability.bind_address import BindAddress


class Duration(click.ParamType[timedelta]):
    """A duration in Go's notation, as in manifests."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse a duration, or fail with a message that shows an example."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


class Instant(click.ParamType[datetime]):
    """An instant in UTC: an RFC 3339 date as in manifests, or a duration from now."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse an instant, or fail with a message that shows examples."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            return parse_rfc3339(text)
        except ValueError:
            pass
        try:
            return SystemClock().now() + parse_duration(text.removeprefix("+"))
        except ValueError:
            example = "use a date like 2026-01-31T20:00:00Z, or a duration from now like 8h"
            return self.fail(f"{text!r} is not a date or a duration; {example}", param, ctx)


MIN_LEASE_DURATION = timedelta(seconds=2)
"""The minimum of `--lease-duration`.

A Lease has whole seconds. Requests in flight must end within the last third of its duration.
"""


def check_lease_duration(_: click.Context, __: click.Parameter, value: timedelta) -> timedelta:
    """Return the duration of a Lease unchanged.

    Raises:
        click.BadParameter: the duration is shorter than `MIN_LEASE_DURATION`.
    """
    if value < MIN_LEASE_DURATION:
        seconds = MIN_LEASE_DURATION.total_seconds()
        raise click.BadParameter(
            f"{value.total_seconds():g}s is too short; use {seconds:.0f}s or more, or 30s to outlast a "
            "restart of the API server"
        )
    return value


class Address(click.ParamType[str]):
    """An address to listen on, in the notation of Go programs."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Validate an address, or fail with a message that shows examples."""
        try:
            BindAddress.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)
