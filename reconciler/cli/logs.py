"""Logs and prose, to stderr; every value of every line is redacted before it is written.

What nobody expected is written here too: a traceback names files and lines, never locals, and the exceptions' own
texts, which may hold anything, pass the redactor. Before a command has one, they are left out.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Asked

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType

    from reconciler.model.secret import Redactor

__all__ = ["set_up", "shown", "tell", "unexpected"]

_redactor: Redactor | None = None
"""What knows the secrets of this process, once a command has one."""


def set_up(asked: Asked, redactor: Redactor) -> None:
    """Configure logging for this process; libraries' own lines go the same way, and so does what nobody expected."""
    import structlog

    global _redactor  # noqa: PLW0603  a process has one, and an exception that ends it carries none
    _redactor = redactor
    sys.excepthook = unexpected
    logging.raiseExceptions = False  # a line that cannot be formatted would be repeated raw

    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        shown: dict[str, Any] = redactor.redact_all(event)
        return shown

    level = logging.DEBUG if asked.verbose else logging.INFO
    steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if asked.log_format == "json"
        # The default formatter of tracebacks shows the locals of every frame.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*steps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=steps, processors=[_plain, renderer]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _plain(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def tell(text: str) -> None:
    """Say something to the person, beside the results."""
    click.echo(text, err=True)


def shown(error: Exception) -> str:
    """An expected error's text as it may be shown."""
    return str(error) if _redactor is None else _redactor.redact(str(error))


def unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What takes the place of the interpreter's own word on an exception that nobody caught."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return
    if _redactor is None:
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), f"{kind.__qualname__}\n"]
        text = "".join(lines)
    else:
        text = _redactor.redact("".join(traceback.format_exception(kind, error, trace)))
    sys.stderr.write(f"{text}this is a fault of the program: please report it with the lines above\n")
