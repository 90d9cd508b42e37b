"""Configures structured logs on stderr: each record has an event name and key-value pairs."""

import logging
import sys
import traceback
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

Format = Literal["json", "console"]


def _escaped(text: str) -> str:
    """Escape control characters and line breaks as in a Python string literal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _on_one_line(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape all string values, because some of them come from users. The console shows others by `repr`."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _traceback(to: TextIO, exception: ExcInfo) -> None:
    """Write a traceback without the values of variables.

    It is indented, so that no line of it looks like a log record.
    """
    lines = "".join(traceback.format_exception(*exception)).splitlines()
    to.writelines(f"\n    {_escaped(line)}" for line in lines)


def configure(format_: Format, level: str) -> None:
    """Configure logging to stderr, with the same processors for the operator and for libraries."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if format_ == "json":
        # Tracebacks leave out the values of variables, because some of them are secrets.
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
    # This logger prints a traceback for each failed renewal of credentials, which
    # `cloud.aws.credential_renewal` already reports in one line.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.ERROR)
