"""Structured logs on stderr: one event name per fact, keys instead of prose."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

Format = Literal["json", "console"]


def configure(format_: Format, level: str) -> None:
    """Send our own events and the libraries' records through the same processors, to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if format_ == "json":
        renderer = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
    # It prints a traceback for each renewal that fails, which `cloud.renewal` tells in a line.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.ERROR)
