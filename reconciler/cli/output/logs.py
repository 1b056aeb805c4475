"""Logs and prose on stderr; every value of every line is redacted before it is written.

So are unexpected errors: a traceback names files and lines, never locals, and the texts of exceptions, which may
contain anything, are redacted. Before a command has its redactor, they are left out.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import SharedOptions
from reconciler.cli.output.text import as_json, count, fit, in_colour
from reconciler.model.log import event_log, set_up_with
from reconciler.model.secret import Redactor
from reconciler.model.text import printable

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from types import TracebackType

QUIET_SECONDS = 5.0
"""How often to report; a pass that ends within this time reports nothing."""

_redactor: Redactor | None = None
"""The redactor of this process, once a command has one."""

_json = False
"""Whether every line on stderr is JSON."""


def begin(arguments: Sequence[str]) -> None:
    """Read --log-format before the command line is parsed, so that errors in it are logged in that format, too."""
    global _json, _redactor  # noqa: PLW0603  a process has one standard error
    _redactor = None
    chosen = os.environ.get("RECONCILE_LOG_FORMAT")
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, value = argument.partition("=")
        if name == "--log-format":
            chosen = value or following
    _json = chosen == "json"
    sys.excepthook = unexpected
    threading.excepthook = lambda args: unexpected(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[_Line()], level=logging.WARNING, force=True)


class _Line(logging.Handler):
    """Writes a library's log lines in a command that has not set up logging."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record).rstrip()
        _write("library.note", record.levelname.lower(), "text", text if _redactor is None else _redactor.redact(text))


def begin_redacting(options: SharedOptions) -> Redactor:
    """Redact every line from now on, by the redactor that is returned. Logging is set up with the first event."""
    global _redactor  # noqa: PLW0603  a process has one, and an exception that ends it carries none
    _redactor = Redactor()
    logging.raiseExceptions = False  # a line that cannot be formatted would be repeated raw
    set_up_with(partial(_configure, options, _redactor))
    return _redactor


def set_up(options: SharedOptions) -> Redactor:
    """Configure logging for this process, also of libraries and unexpected errors, and return the redactor."""
    redactor = begin_redacting(options)
    event_log()
    return redactor


def _configure(options: SharedOptions, redactor: Redactor) -> None:
    import structlog

    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        shown: dict[str, Any] = redactor.redact_all(event)
        if options.log_format == "json":
            return shown
        return {key: _one_line(key, value) for key, value in shown.items()}

    level = logging.DEBUG if options.verbose else logging.INFO
    steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if options.log_format == "json"
        # The default formatter of tracebacks shows the locals of every frame.
        else structlog.dev.ConsoleRenderer(
            colors=in_colour(sys.stderr), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*steps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    shown = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=steps, processors=shown))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _one_line(key: str, value: Any) -> Any:
    """Make a value safe for a terminal, on one line unless it is a traceback."""
    if isinstance(value, list | tuple):
        return [_one_line(key, item) for item in value]
    return value if not isinstance(value, str) else fit(value if key == "exception" else printable(value))


def note(text: str, level: str = "info") -> None:
    """Write a note to the person, on stderr."""
    _write("command.error" if level == "error" else "command.note", level, "text", text)


class ProgressReporter:
    """Reports every `QUIET_SECONDS` how many hires a pass has checked."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` hires are checked, unless the last report is recent."""
        now = time.monotonic()
        if now - self._told >= QUIET_SECONDS:
            self._told = now
            note(f"looked at {done} of {count(total, 'hire')}, {now - self._began:.0f} s")


def _write(event: str, level: str, key: str, text: str) -> None:
    if not _json:
        click.echo(fit(text), err=True)
        return
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    click.echo(as_json({key: text, "event": event, "level": level, "timestamp": now}), err=True)


def shown(error: Exception) -> str:
    """Return the redacted text of an expected error."""
    return str(error) if _redactor is None else _redactor.redact(str(error))


def unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that nothing caught, in place of the interpreter."""
    if issubclass(kind, KeyboardInterrupt):
        note("interrupted")
        return
    if _redactor is None:
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), f"{kind.__qualname__}\n"]
        text = "".join(lines)
    else:
        text = _redactor.redact("".join(traceback.format_exception(kind, error, trace)))
    report = "this is a fault of the program: please report it with the lines above"
    _write("program.fault", "critical", "exception", text if _json else f"{text}{report}")
