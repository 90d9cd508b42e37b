"""The command `plan`: the forecast of `booking-operator plan`, with the permissions of a person."""

from datetime import datetime
from pathlib import Path

from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.session import open_session
from booking_operator.cli.plan import as_json, as_text, forecast_of
from booking_operator.client.errors import ExitCode
from booking_operator.config import load_config


async def plan(
    options: Options, console: Console, *, begin: datetime, end: datetime, region: str, config: str
) -> int:
    """Forecast the calls for the bookings between two instants (aware UTC)."""
    limits = load_config(Path(config) if config else None).limits_of()
    async with open_session(options, console) as session:
        view = await session.view(region)
        found = forecast_of(view.informers, begin, end, limits)
        console.raw((as_json if options.output == "json" else as_text)(found, begin, end))
    return ExitCode.DONE
