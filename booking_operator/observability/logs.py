"""Structured logs on stderr: one event name per fact, keys instead of prose."""

import logging
import sys
import traceback
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

Format = Literal["json", "console"]


def _escaped(text: str) -> str:
    """`text` with all that would move a cursor, or begin a line, written as Python writes it."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _on_one_line(_: Any, __: str, event: EventDict) -> EventDict:
    """Users write some of the values, and libraries quote them. Of others the console shows the `repr`."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _traceback(to: TextIO, exception: ExcInfo) -> None:
    """Indented, so that no line of it can pass for a line of the log, and without the values of variables."""
    lines = "".join(traceback.format_exception(*exception)).splitlines()
    to.writelines(f"\n    {_escaped(line)}" for line in lines)


def configure(format_: Format, level: str) -> None:
    """Send our own events and the libraries' records through the same processors, to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if format_ == "json":
        # Without the values of variables, of which some are secrets.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    else:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback)
        renderer = [_on_one_line, console]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiobotocore", "botocore", "aiohttp", "kubernetes_asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It prints a traceback for each renewal that fails, which `cloud.aws.credential_renewal` reports in a
    # line.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.ERROR)
