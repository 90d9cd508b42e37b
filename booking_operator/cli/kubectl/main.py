"""The commands of `kubectl booking`, their options, and their exit codes.

Only the standard library, click and the time grammar are imported here. A command imports its module when it
runs: see `_run`.
"""

import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from booking_operator.cli.kubectl.completion import DAYS, DURATIONS, TIMES, complete_names, words_of
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import (
    BookRequest,
    Command,
    HintedUsageError,
    ListRequest,
    Options,
    before_command,
    frozen_now,
    parsed,
    shared,
    time_zone,
)
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.domain import time_grammar
from booking_operator.errors import UserError

_PROGRAM = "kubectl booking"
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_PIPE_CLOSED = 141
"""The exit code of a program that SIGPIPE ends, as in a shell."""
_TABLE = ("table", "wide", "json", "yaml", "name", "csv")


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="booking-operator", prog_name=_PROGRAM)
@before_command
def cli(**_: Any) -> None:
    """Book groups of cloud machines, and see who has them until when.

    A TIME is like 17:00, "wed 9:00", "tomorrow noon", "2026-11-27 17:00" or +4h. A DURATION is like 90m,
    1h30m, 2d or 1w. `kubectl booking when TIME` shows what a time means.
    """


def main() -> None:
    """Run the plugin, and exit with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may have characters that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - closed by the caller
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error becomes a message and a hint on stderr."""
    try:
        result = cli.main(list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.DONE
    except (KeyboardInterrupt, click.exceptions.Abort):
        return ExitCode.INTERRUPTED
    except SystemExit:  # click exits when a pipe is closed
        return _closed_pipe()
    except Exception as error:  # noqa: BLE001 - see _failed
        return _failed(error, Console(_color(arguments)))


def _color(arguments: Sequence[str]) -> str:
    """Return the value of `--color`, for an error before the options are parsed."""
    joined = " ".join(arguments)
    return next(
        (choice for choice in ("always", "never") if re.search(f"--color[= ]{choice}", joined)), "auto"
    )


def _failed(error: Exception, console: Console) -> int:
    """Report an error and return its exit code. A user gets no traceback, whatever the mistake."""
    if isinstance(error, click.UsageError):
        console.error(error.format_message(), _usage_hint(error))
        return ExitCode.USAGE
    if isinstance(error, CommandError):
        console.error(str(error), error.hint)
        return error.code
    if isinstance(error, UserError):
        console.error(str(error))
        return ExitCode.FAILED
    if os.environ.get("BOOKING_DEBUG"):
        traceback.print_exception(error)
    text = f"unexpected {type(error).__name__}: {error}"
    console.error(text, "run it again with BOOKING_DEBUG=1 and report the traceback")
    return ExitCode.FAILED


def _usage_hint(error: click.UsageError) -> str:
    if isinstance(error, HintedUsageError) and error.hint:
        return error.hint
    return f"{error.ctx.command_path} --help" if error.ctx else f"{_PROGRAM} --help"


def _closed_pipe() -> int:
    """Let the interpreter exit without another write to the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _PIPE_CLOSED


def _run(command: str, options: Options, **arguments: Any) -> int:
    """Run the coroutine function `module.function` of this package with the shared options."""
    import asyncio  # noqa: PLC0415 - takes longer than all imports of this module

    module, _, function = command.partition(".")
    work = getattr(import_module(f"booking_operator.cli.kubectl.{module}"), function)
    console = Console(options.color, quiet=options.quiet)
    try:
        return int(asyncio.run(work(options, console, **arguments)) or 0)
    except BrokenPipeError:  # click would exit with 1
        return _closed_pipe()
    except Exception as error:  # noqa: BLE001 - see _failed
        return _failed(error, console)  # on a console that knows the line of progress


@dataclass(frozen=True, slots=True)
class _Times:
    """Parses the times of one command line, all by the same present instant (aware UTC) and time zone."""

    now: datetime
    zone: ZoneInfo

    @classmethod
    def of(cls, options: Options) -> "_Times":
        from booking_operator.engine.clock import SystemClock  # noqa: PLC0415 - imports asyncio

        return cls(frozen_now() or SystemClock().now(), time_zone(options.tz))

    def when(self, name: str, text: str, *, after: datetime | None = None) -> datetime:
        """Return the instant of a time."""
        found: datetime = parsed(
            name, lambda: time_grammar.parse_when(text, self.now, self.zone, after=after)
        )
        return found

    def range(self, begin: str, end: str) -> tuple[datetime, datetime]:
        """Return the time range of `--from` and `--to`."""
        first = self.when("--from", begin)
        last = self.when("--to", end, after=first)
        if last <= first:
            raise HintedUsageError(f'--to "{end}" is not after --from', "write --to +24h")
        return first, last

    def after(self, name: str, text: str, start: datetime) -> datetime:
        """Return the instant that is a duration after `start`."""
        found: datetime = parsed(name, lambda: time_grammar.parse_span(text).after(start, self.zone))
        return found

    def seconds(self, name: str, text: str) -> float:
        """Return a duration in seconds."""
        return (self.after(name, text, self.now) - self.now).total_seconds()

    def check(self, name: str, text: str) -> None:
        """Check a time whose reference is not known yet, so that it may occur when the clocks change."""

        def parse() -> None:
            try:
                time_grammar.parse_when(text, self.now, self.zone)
            except time_grammar.TimeError as error:
                if not error.clocks_change:
                    raise

        parsed(name, parse)


def _time_option(flag: str, name: str, **more: Any) -> Callable[[Command], Command]:
    if "default" in more:
        more["show_default"] = True
    return click.option(flag, name, metavar="TIME", shell_complete=words_of(*TIMES), **more)


_RANGE = (
    _time_option("--from", "begin", default="now", help="Start of the time range."),
    _time_option("--to", "end", default="+24h", help="End of the time range."),
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only check and show it; the cluster stores nothing.")
_WHOSE = click.option("--who", metavar="USER", default="", help="Whose booking. Default: yours.")
_TIMEOUT = click.option(
    "--timeout", metavar="DURATION", default="10m", show_default=True, help="How long to wait."
)
_RESOURCE = click.argument("resource", shell_complete=complete_names)
_ANY_RESOURCE = click.argument("resource", required=False, shell_complete=complete_names)
_TARGET = click.argument("target", metavar="RESOURCE|BOOKING", shell_complete=complete_names)


# Changes


@cli.command(short_help="Book a Resource.")
@_RESOURCE
@_time_option("--from", "start", default="now", help="When it begins.")
@_time_option("--to", "end", help="When it ends. Without a date: the first such time after the start.")
@click.option(
    "--duration",
    metavar="DURATION",
    help="How long it takes, in place of --to.",
    shell_complete=words_of(*DURATIONS),
)
@click.option("--who", metavar="USER", default="", help="For whom. Default: you.")
@click.option("--notify", metavar="MAIL", multiple=True, help="Whom to notify; also TYPE:RECIPIENT.")
@click.option(
    "--notify-on",
    multiple=True,
    type=click.Choice(["Ending", "Ready", "NotReady", "Ended", "Conflict"], case_sensitive=False),
    help="Of what to notify them. Default: Ending. Repeatable.",
)
@click.option("--queue", is_flag=True, help="Make it also if it must wait for another booking to end.")
@click.option("--wait", is_flag=True, help="Wait until all instances run.")
@_TIMEOUT
@_DRY_RUN
@shared(outputs=("table", "json", "yaml", "name"))
def book(
    options: Options, resource: str, start: str, end: str, duration: str, timeout: str, **more: Any
) -> int:
    """Book a Resource: its instances run from the start to the end."""
    if more["notify_on"] and not more["notify"]:
        raise HintedUsageError("--notify-on needs --notify", "add --notify ada@example.com")
    if bool(end) == bool(duration):
        text = "--to and --duration exclude each other" if end else "the end is missing"
        raise HintedUsageError(text, f"{_PROGRAM} book {shlex.quote(resource)} --duration 2h")
    times = _Times.of(options)
    begin = times.when("--from", start)
    finish = times.when("--to", end, after=begin) if end else times.after("--duration", duration, begin)
    if finish <= begin:
        raise HintedUsageError(f'--to "{end}" is not after the start', "write --duration 2h")
    if finish <= times.now:
        raise HintedUsageError("the booking would end in the past", "leave out --from to begin now")
    limit = times.seconds("--timeout", timeout)
    request = BookRequest(resource=resource, begin=begin, end=finish, limit=limit, **more)
    return _run("change.book", options, request=request)


@cli.command(short_help="Extend a booking.")
@_TARGET
@click.argument("duration", required=False, shell_complete=words_of(*DURATIONS))
@_time_option("--until", "until", help="The new end, in place of a duration.")
@_WHOSE
@_DRY_RUN
@shared(outputs=("table", "json", "yaml", "name"))
def extend(options: Options, target: str, duration: str | None, until: str | None, **more: Any) -> int:
    """Extend a booking by a DURATION, from its present end."""
    if bool(duration) == bool(until):
        text = "DURATION and --until exclude each other" if until else "the duration is missing"
        raise HintedUsageError(text, f"{_PROGRAM} extend {shlex.quote(target)} 1h")
    # The present end is not known yet, but a mistake is reported before the cluster is asked.
    if duration:
        parsed("DURATION", lambda: time_grammar.parse_span(duration))
    elif until:
        _Times.of(options).check("--until", until)
    return _run("change.extend", options, target=target, duration=duration or "", until=until or "", **more)


@cli.command(short_help="End a booking now.")
@_TARGET
@_WHOSE
@_DRY_RUN
@shared(outputs=("table", "json", "yaml", "name"))
def release(options: Options, target: str, **more: Any) -> int:
    """End a booking now, or delete it if it has not begun."""
    return _run("change.release", options, target=target, **more)


@cli.command(short_help="Skip a day of a BookingScheduler.")
@click.argument("scheduler", shell_complete=complete_names)
@click.argument("day", shell_complete=words_of(*DAYS))
@_DRY_RUN
@shared(outputs=("table", "json", "yaml", "name"))
def skip(options: Options, scheduler: str, day: str, **more: Any) -> int:
    """Let a BookingScheduler make no booking on a DAY, like wed, tomorrow or 2026-12-24."""
    times = _Times.of(options)
    parsed("DAY", lambda: time_grammar.parse_day(day, times.now, times.zone))
    return _run("change.skip", options, scheduler=scheduler, day=day, **more)


# Views


@cli.command(short_help="Show who has what until when.")
@_ANY_RESOURCE
@shared(everywhere=True, outputs=_TABLE)
def status(options: Options, resource: str | None) -> int:
    """Show the Resources: who has them until when, and what happens next."""
    return _run("show.status", options, resource=resource or "")


@cli.command("list", short_help="List bookings.")
@_ANY_RESOURCE
@click.option("--mine", is_flag=True, help="Only your bookings.")
@click.option("--all", "finished", is_flag=True, help="Also the bookings that have ended.")
@_time_option("--from", "begin", help="Only bookings that end after this time.")
@_time_option("--to", "end", help="Only bookings that begin before this time.")
@click.option("--watch", "-w", is_flag=True, help="Go on, and print each change.")
@shared(everywhere=True, outputs=("table", "json", "yaml", "name", "csv"))
def list_(options: Options, resource: str | None, begin: str | None, end: str | None, **more: Any) -> int:
    """List the bookings that have not ended."""
    times = _Times.of(options)
    first = times.when("--from", begin) if begin else None
    last = times.when("--to", end, after=first) if end else None
    if more["watch"] and options.output not in {"table", "name"}:
        raise HintedUsageError(
            f"--watch and -o {options.output} exclude each other", "use -o table or -o name"
        )
    request = ListRequest(resource=resource or "", begin=first, end=last, **more)
    return _run("show.list_bookings", options, request=request)


@cli.command(short_help="Explain a state, and what to do.")
@_TARGET
@click.option("--exit-status", is_flag=True, help="Exit with 1 if things are not as booked.")
@shared(outputs=("table", "json", "yaml"))
def why(options: Options, target: str, **more: Any) -> int:
    """Explain the state of a Resource or a Booking, and what to do about it."""
    return _run("show.why", options, target=target, **more)


@cli.command(short_help="Draw a Gantt chart of the bookings.")
@_ANY_RESOURCE
@_RANGE[0]
@_RANGE[1]
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw without characters beyond ASCII.")
@shared(everywhere=True)
def timeline(options: Options, resource: str | None, begin: str, end: str, **more: Any) -> int:
    """Draw the bookings as a Gantt chart."""
    first, last = _Times.of(options).range(begin, end)
    return _run("timeline.timeline", options, resource=resource or "", begin=first, end=last, **more)


@cli.command(short_help="Wait until all instances run.")
@_RESOURCE
@_TIMEOUT
@shared()
def wait(options: Options, resource: str, timeout: str) -> int:
    """Wait until all instances of a Resource run."""
    return _run(
        "wait.wait", options, resource=resource, limit=_Times.of(options).seconds("--timeout", timeout)
    )


@cli.command(short_help="Forecast AWS API calls and late starts.")
@_RANGE[0]
@_RANGE[1]
@click.option("--region", default="", help="AWS region of Resources without spec.region.")
@click.option(
    "--config", metavar="FILE", default="", help="Configuration file of the operator, for its limits."
)
@shared(everywhere=True, outputs=("text", "json"))
def plan(options: Options, begin: str, end: str, **more: Any) -> int:
    """Print the AWS API calls that the bookings need, and the starts that will be late.

    This command makes no AWS API calls. The token buckets of AWS count as full.
    """
    first, last = _Times.of(options).range(begin, end)
    return _run("plan.plan", options, begin=first, end=last, **more)


@cli.command(short_help="Show how long instances ran in a month.")
@click.option("--month", metavar="YYYY-MM", default="", help="The month in UTC. Default: the present one.")
@click.option(
    "--by",
    "group_by",
    type=click.Choice(["resource", "who", "namespace"]),
    default="resource",
    show_default=True,
    help="What a row is: a Resource, a user or a namespace.",
)
@click.option("--prices", metavar="FILE", default="", help="YAML file with the hourly rate of each size.")
@shared(everywhere=True, outputs=("table", "json", "yaml", "csv"))
def report(options: Options, month: str, **more: Any) -> int:
    """Show how long instances existed, ran, and were booked in a month."""
    now = _Times.of(options).now
    wanted = parsed("--month", lambda: time_grammar.parse_month(month, now))
    return _run("report.report", options, month=wanted, **more)


@cli.command(short_help="Show and book in a browser.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on loopback. Default: any free one."
)
@click.option("--read-only", is_flag=True, help="Refuse all changes.")
@click.option("--browser/--no-browser", default=True, help="Open the browser.", show_default=True)
@shared()
def board(options: Options, **more: Any) -> int:
    """Serve a page on this machine that shows who has what until when, and changes it.

    The page has the permissions of your kubeconfig. Its address contains a secret token.
    """
    return _run("board.board", options, **more)


@cli.command(short_help="Write bookings as calendar files.")
@_ANY_RESOURCE
@click.option("--mine", is_flag=True, help="Only your bookings.")
@click.option(
    "--output-dir", "directory", metavar="DIR", help="Write one file for each Resource. Default: stdout."
)
@shared(everywhere=True)
def ical(options: Options, resource: str | None, directory: str | None, **more: Any) -> int:
    """Print bookings as an iCalendar file, from 30 days ago to 400 days ahead."""
    target = Path(directory) if directory else None
    return _run("ical.ical", options, resource=resource or "", directory=target, **more)


@cli.command(short_help="Make a secret address for a calendar program.")
@click.argument("resource", required=False, shell_complete=complete_names)
@click.option("--mine", is_flag=True, help="Your bookings in the namespace, instead of those of a resource.")
@click.option("--busy", is_flag=True, help="Show only when something is booked, and not by whom.")
@click.option(
    "--expires",
    metavar="TIME",
    default="+365d",
    show_default=True,
    help="When the address stops working; never for no end.",
)
@click.option(
    "--board-url",
    metavar="URL",
    envvar="BOOKING_BOARD_URL",
    default="",
    show_envvar=True,
    help="Address of the board in the cluster, like https://bookings.example.com.",
)
@shared(outputs=("text", "json", "yaml"))
def feed(options: Options, resource: str | None, *, mine: bool, expires: str, **more: Any) -> int:
    """Make an address at which calendar programs find the bookings of a RESOURCE, or with --mine your own.

    The board in the cluster serves it. Everybody who has the address sees the bookings, for as long as you
    may see them. Delete the CalendarFeed to revoke it.
    """
    if bool(resource) == mine:
        raise HintedUsageError("name a resource, or --mine", f"{_PROGRAM} feed --mine")
    times = _Times.of(options)
    expires_at = None if expires == "never" else times.when("--expires", expires)
    if expires_at is not None and expires_at <= times.now:
        raise HintedUsageError(f'--expires "{expires}" is in the past', "write --expires +365d")
    return _run("feed.feed", options, resource=resource or "", expires_at=expires_at, **more)


@cli.command(short_help="Show what a time means.")
@click.argument("time", nargs=-1, required=True)
@shared(cluster=False, outputs=("table", "json"))
def when(options: Options, time: tuple[str, ...]) -> int:
    """Show what a TIME means. This command needs no cluster."""
    times = _Times.of(options)
    instant = times.when("TIME", " ".join(time))
    return _run("when.when", options, instant=instant, now=times.now, zone=times.zone)


if __name__ == "__main__":
    main()
