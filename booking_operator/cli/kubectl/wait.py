"""The command `wait`: until all instances of a Resource run."""

from contextlib import suppress
from datetime import timedelta

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.cli.kubectl.show import show_explanation
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.object_names import parse_object_name
from booking_operator.client.progress import progress_of
from booking_operator.client.remedies import checked_remedies
from booking_operator.client.view import ResourceView, View
from booking_operator.client.why import explain_resource
from booking_operator.domain.local_time import format_span
from booking_operator.engine.store import Key
from booking_operator.reconcilers.informers import Informers

_REDRAW_SECONDS = 1.0


async def wait(options: Options, console: Console, *, resource: str, limit: float) -> int:
    """Wait until all instances of a Resource run."""
    name = parse_object_name(resource, RESOURCE).name
    async with open_session(options, console) as session:
        _, view = await session.view_of(name)  # an unknown name is reported with the closest names
        return await wait_until_running(session, view.name, limit)


async def wait_until_running(session: Session, resource: str, limit: float) -> int:
    """Wait until all instances run, for `limit` seconds at most, and report the progress.

    Raises:
        CommandError: the time is up, or the instances can never run.
    """
    clock, console = session.clock, session.console
    began, deadline = clock.monotonic(), clock.now() + timedelta(seconds=limit)
    async with session.live(RESOURCE, BOOKING) as live:
        shown = ""
        while True:
            known, view = live.changes.number(), _view(session, live.informers, resource)
            progress = progress_of(view, session.viewer_named(""), deadline)
            elapsed = clock.monotonic() - began
            if progress.done:
                console.out(f"{progress.text}, after {format_span(timedelta(seconds=elapsed))}")
                return ExitCode.DONE
            if progress.impossible:
                await _explain(session, view)
                raise CommandError(progress.impossible, code=ExitCode.IMPOSSIBLE)
            if elapsed >= limit:
                await _explain(session, view)
                text = f"timed out after {format_span(timedelta(seconds=limit))}: {progress.text}"
                raise CommandError(text, hint="wait longer with --timeout", code=ExitCode.TIMED_OUT)
            lost = "; the API server does not answer" if live.disconnected else ""
            if console.interactive or f"{progress.change}{lost}" != shown:
                console.redraw(f"{progress.text}{lost}")
                shown = f"{progress.change}{lost}"
            await live.changes.wait(known, min(_REDRAW_SECONDS, limit - elapsed))


def _view(session: Session, informers: Informers, resource: str) -> ResourceView:
    view = View(informers, session.clock.now()).resource(Key(session.namespace, resource))
    if view is None:
        raise CommandError(f"resource {resource} was deleted", code=ExitCode.IMPOSSIBLE)
    return view


async def _explain(session: Session, view: ResourceView) -> None:
    """Print the explanation. If the API server does not answer, there is none."""
    with suppress(CommandError):
        explanation = explain_resource(view, await session.viewer())
        show_explanation(session.console, await checked_remedies(session.cluster, explanation))
