"""The command `feed`: a secret address at which calendar programs find bookings."""

from datetime import datetime

from booking_operator.api.calendar_feed import Detail
from booking_operator.api.kinds import CALENDAR_FEED
from booking_operator.board.security import new_token
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.output import full_name, print_document
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.cli.kubectl.show import resource_name
from booking_operator.client.errors import CommandError
from booking_operator.client.feeds import WantedFeed, feed_path
from booking_operator.domain.local_time import format_relative


async def feed(
    options: Options,
    console: Console,
    *,
    resource: str,
    busy: bool,
    expires_at: datetime | None,
    board_url: str,
) -> None:
    """Create a CalendarFeed, and print its address, which nobody can read later."""
    wanted = WantedFeed(resource_name(resource), Detail.BUSY if busy else Detail.FULL, expires_at)
    secret = new_token()
    address = f"{board_url.rstrip('/')}{feed_path(secret)}"
    async with open_session(options, console) as session:
        if wanted.resource:
            await session.resources(wanted.resource)  # an unknown name is reported with the closest names
        owner = await session.cluster.user()
        made = await session.cluster.create(CALENDAR_FEED, session.namespace, wanted.body(owner, secret))
        if made is None:
            raise CommandError("another calendar feed has the same name", hint="repeat the command")
        name = made["metadata"]["name"]
        if options.output != "text":
            print_document(console, options.output, {"name": name, "address": address})
            return
        console.note(f"{full_name(CALENDAR_FEED, name)} created")
        console.note(f"  {_description(wanted, session)}")
        console.out(address)
        if not board_url:
            console.note("Put the address of the board before it, such as https://bookings.example.com")
        console.note("It is secret and not shown again: everybody who has it sees these bookings.")
        viewer = session.viewer_named(owner.name)
        revoke = viewer.command("delete", "calendarfeed", name, namespace=session.namespace)
        console.note(f"To revoke it: {revoke}")


def _description(wanted: WantedFeed, session: Session) -> str:
    shown = f"the bookings of {wanted.resource}" if wanted.resource else "your bookings"
    detail = "only when they are" if wanted.detail is Detail.BUSY else "with their users"
    text = f"{shown} in {session.namespace}, {detail}"
    if wanted.expires_at is None:
        return text
    return f"{text}, until {format_relative(wanted.expires_at, session.clock.now(), session.zone)}"
