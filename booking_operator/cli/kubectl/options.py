"""The options that all commands of the plugin share, and what they mean."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from difflib import get_close_matches
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import click
from click.core import ParameterSource

from booking_operator.domain.time_grammar import TimeError

NOW_VARIABLE = "BOOKING_NOW"
"""The environment variable that replaces the present time, in RFC 3339. For tests and previews."""


@dataclass(frozen=True, slots=True)
class Options:
    """The values of the shared options."""

    namespace: str = ""
    all_namespaces: bool = False
    context: str | None = None
    kubeconfig: str | None = None
    impersonate: str = ""
    impersonate_groups: tuple[str, ...] = ()
    tz: str = ""
    color: str = "auto"
    quiet: bool = False
    output: str = "table"

    @property
    def access(self) -> tuple[str, ...]:
        """The flags by which a command reaches the same cluster as the same user."""
        flags = (
            ("--context", self.context),
            ("--kubeconfig", self.kubeconfig),
            ("--as", self.impersonate),
            *(("--as-group", group) for group in self.impersonate_groups),
        )
        return tuple(word for flag, value in flags if value for word in (flag, value))


@dataclass(frozen=True, slots=True)
class BookRequest:
    """The arguments of `book`. The instants are aware UTC, and `limit` is in seconds."""

    resource: str
    begin: datetime
    end: datetime
    who: str
    notify: tuple[str, ...]
    notify_on: tuple[str, ...]
    wait: bool
    queue: bool
    limit: float
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The arguments of `list`. The instants are aware UTC; None selects no time range."""

    resource: str
    mine: bool
    finished: bool
    begin: datetime | None
    end: datetime | None
    watch: bool


class HintedUsageError(click.UsageError):
    """A usage error with a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Create it from a message and a hint."""
        super().__init__(message)
        self.hint = hint


Command = Callable[..., Any]
_NAMES = {field.name for field in fields(Options)}

_ACCESS = (
    click.option("--namespace", "-n", metavar="NAME", default="", help="Default: that of the context."),
    click.option("--context", metavar="NAME", default=None, help="The kubeconfig context."),
    click.option("--kubeconfig", metavar="FILE", default=None, help="The kubeconfig file."),
    click.option("--as", "impersonate", metavar="USER", default="", help="Impersonate a user."),
    click.option(
        "--as-group", "impersonate_groups", metavar="GROUP", multiple=True, help="Impersonate a group."
    ),
)
_DISPLAY = (
    click.option(
        "--tz", metavar="ZONE", default="", help="Time zone. Default: BOOKING_TZ, TZ, the system's."
    ),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto"),
    click.option("--quiet", "-q", is_flag=True, help="Print no notes and no progress."),
)
_ALL = click.option("--all-namespaces", "-A", is_flag=True, help="All namespaces.")


def shared(
    *, cluster: bool = True, everywhere: bool = False, outputs: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Return a decorator that adds the shared options, and passes them as one `Options`.

    An option may also stand before the command; the one after it wins.

    Args:
        cluster: whether the command needs a cluster.
        everywhere: whether the command can show all namespaces.
        outputs: the output formats; the first is the default.
    """
    options = [*(_ACCESS if cluster else ()), *_DISPLAY, *([_ALL] if everywhere else [])]
    if outputs:
        options.append(
            click.option("--output", "-o", type=click.Choice(outputs), default=outputs[0], show_default=True)
        )

    def decorate(command: Command) -> Command:
        @wraps(command)
        @click.pass_context
        def with_options(context: click.Context, /, **values: Any) -> Any:
            before = context.parent.params if context.parent else {}
            given = {name: value for name, value in values.items() if name in _NAMES}
            own = {name: value for name, value in values.items() if name not in _NAMES}
            for name in given:
                if context.get_parameter_source(name) is ParameterSource.DEFAULT and before.get(name):
                    given[name] = before[name]
            return command(Options(**given), **own)

        for option in reversed(options):
            with_options = option(with_options)
        return with_options

    return decorate


def before_command(command: Command) -> Command:
    """Add the shared options to the group, so that they may stand before the command."""
    for option in reversed((*_ACCESS, *_DISPLAY)):
        command = option(command)
    return command


def time_zone(option: str, environ: Mapping[str, str] = os.environ) -> ZoneInfo:
    """Return the time zone: `option`, BOOKING_TZ, TZ, or that of the system.

    Raises:
        HintedUsageError: there is no such time zone.
    """
    given = [("--tz", option), *((name, environ.get(name, "")) for name in ("BOOKING_TZ", "TZ"))]
    source, name = next(((source, name.removeprefix(":")) for source, name in given if name), ("", ""))
    if not name:
        source, name = "the system", _system_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(name, available_timezones(), n=1, cutoff=0.5)
        hint = f"use an IANA name: --tz {close[0] if close else 'Europe/Berlin'}"
        raise HintedUsageError(f'{source}: "{name}" is not a time zone', hint) from None


def _system_zone() -> str:
    from tzlocal import get_localzone_name  # noqa: PLC0415 - only without a setting

    try:
        return get_localzone_name() or "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def parsed(name: str, parse: Callable[[], Any]) -> Any:
    """Return the result of `parse`; a `TimeError` becomes a usage error of the option or argument `name`."""
    try:
        return parse()
    except TimeError as error:
        raise HintedUsageError(f"{name} {error}", error.hint) from None


def frozen_now(environ: Mapping[str, str] = os.environ) -> datetime | None:
    """Return the instant in BOOKING_NOW (aware UTC); None if the variable is not set.

    Raises:
        HintedUsageError: it is not an RFC 3339 date.
    """
    text = environ.get(NOW_VARIABLE, "")
    if not text:
        return None
    from booking_operator.domain.parsing import parse_rfc3339  # noqa: PLC0415 - only for tests

    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise HintedUsageError(f"{NOW_VARIABLE}: {error}") from None
