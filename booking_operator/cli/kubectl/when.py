"""The command `when`: what a time means."""

import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.client.errors import ExitCode
from booking_operator.domain.formatting import format_rfc3339, format_utc
from booking_operator.domain.local_time import format_day, format_span, format_time, zone_abbreviation


async def when(
    options: Options, console: Console, *, instant: datetime, now: datetime, zone: ZoneInfo
) -> int:
    """Print an instant in the time zone of the user, in UTC, and relative to `now`."""
    local, ahead = instant.astimezone(zone), instant - now
    if options.output == "json":
        found = {"local": format_rfc3339(local), "utc": format_utc(instant), "zone": zone.key}
        console.raw(json.dumps(found | {"seconds": int(ahead.total_seconds())}, indent=2))
        return ExitCode.DONE
    distance = f"in {format_span(ahead)}" if ahead >= timedelta(0) else f"{format_span(-ahead)} ago"
    name, day = zone_abbreviation(local), format_day(local, year=True)
    time = format_time(local).removesuffix(f" {name}")
    console.out(f"means {day} {time} {name} · utc {format_utc(instant)} · {distance}")
    return ExitCode.DONE
