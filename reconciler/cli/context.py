"""The context of a command: the repository that --repo names, and the secrets to redact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from reconciler.cli.options import SharedOptions
from reconciler.model.secret import Redactor

if TYPE_CHECKING:
    from reconciler.engine.context import Context

__all__ = ["context_of", "run_in_context"]

T = TypeVar("T")


def context_of(options: SharedOptions, redactor: Redactor | None = None) -> Context:
    """Make a context; a command that shows nothing secret needs no `redactor`."""
    from reconciler.engine.context import Context, SystemClock

    return Context(
        options.repo,
        SystemClock(),
        Redactor() if redactor is None else redactor,
        branch=options.branch,
        programs=options.programs,
    )


def run_in_context(options: SharedOptions, redactor: Redactor, work: Callable[[Context], Awaitable[T]]) -> T:
    """Run `work` in an event loop, and close its context."""
    import asyncio

    async def run() -> T:
        async with aclosing(context_of(options, redactor)) as context:
            return await work(context)

    return asyncio.run(run())
