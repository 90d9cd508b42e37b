"""The command `timeline`: a Gantt chart of the bookings in the terminal."""

import shutil
from datetime import datetime

from booking_operator.api.kinds import RESOURCE
from booking_operator.cli.kubectl.console import Console, Styled
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.session import open_session
from booking_operator.cli.kubectl.show import footer, nothing_here, resource_name
from booking_operator.client.errors import ExitCode
from booking_operator.client.gantt import ASCII, UNICODE, Role, draw

_STYLES = {
    Role.TEXT: "",
    Role.HEAD: "dim",
    Role.HOLDER: "green",
    Role.OTHER: "cyan",
    Role.WARM_UP: "yellow",
    Role.NOW: "red",
}


async def timeline(
    options: Options, console: Console, *, resource: str, begin: datetime, end: datetime, ascii_only: bool
) -> int:
    """Draw the bookings between two instants (aware UTC)."""
    name = resource_name(resource)
    async with open_session(options, console) as session:
        shown = await session.resources(name)
        if not shown:
            console.note(nothing_here(session, RESOURCE))
            return ExitCode.DONE
        glyphs = UNICODE if console.unicode and not ascii_only else ASCII
        width = shutil.get_terminal_size().columns
        for line in draw(shown, (begin, end), session.zone, width, glyphs):
            console.out(*(Styled(text, _STYLES[role]) for text, role in line))
        legend = f"{glyphs.holder} holds the lock  {glyphs.other} runs too  {glyphs.warm_up} warm-up"
        console.note(f"{legend}  {glyphs.now} now")
        console.note(footer(session))
    return ExitCode.DONE
