"""Logs and prose, to stderr; every value of every line is redacted before it is written."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Asked

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from reconciler.model.secret import Redactor

__all__ = ["set_up", "tell"]


def set_up(asked: Asked, redactor: Redactor) -> None:
    """Configure logging for this process; libraries' own lines go the same way."""
    import structlog

    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: redactor.redact_all(value) for key, value in event.items()}

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
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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
