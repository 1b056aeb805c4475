"""`reconcile oauth connect`: the authorization of a service, through a person's browser and the callback."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.options import Asked, option, shared

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.engine.state import OpenState
    from reconciler.model.settings import Settings
    from reconciler.repository.git.checkout import Tree

__all__ = ["oauth"]

POLL_SECONDS = 0.25
"""Seconds between two looks at what became of the authorization."""


def _span(_ctx: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    from reconciler.model.base import duration

    try:
        return duration(int(value) if value.isascii() and value.isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def oauth() -> None:
    """Connect services that want OAuth."""


@oauth.command(short_help="Authorize a service, in a browser")
@click.argument("integration", shell_complete=complete.services)
@option("--timeout", default="10m", show_default=True, callback=_span, help="How long to wait for the callback.")
@shared
@click.pass_obj
def connect(asked: Asked, integration: str, timeout: timedelta) -> int:
    """Authorize an integration: open the URL that is printed, allow access, and come back to the callback.

    The callback is served by the daemon where one runs on `listen`, else by this command. INTEGRATION may also be the
    name of a service.
    """
    import asyncio

    from reconciler.cli.logs import set_up, tell
    from reconciler.cli.text import say
    from reconciler.model.secret import Redactor

    redactor = Redactor()
    set_up(asked, redactor)
    why = asyncio.run(_connect(asked, redactor, integration, timeout))
    if why:
        tell(f"error: {integration} is not connected: {redactor.redact(why)}", "error")
        return 1
    if asked.output != "json":
        say(f"{integration} is connected")
    return 0


async def _connect(asked: Asked, redactor: Any, integration: str, timeout: timedelta) -> str:  # noqa: ASYNC109
    """Begin, and wait; gives why it is not connected, or nothing."""
    import asyncio

    from reconciler.cli.logs import tell
    from reconciler.cli.text import as_json, say
    from reconciler.daemon.authorize import begin, outcome, shared_state
    from reconciler.engine.accepted import in_force
    from reconciler.engine.context import Context, SystemClock

    context = Context(asked.repo, SystemClock(), redactor)
    force = in_force(context)
    settings, tree = force.settings, force.tree
    try:
        with shared_state(context, settings, tree) as opened:
            authorization = begin(context, settings, tree, opened, integration)
            async with AsyncExitStack() as stack:
                if await _taken(settings.listen):
                    tell(
                        f"waiting for the daemon that listens on {settings.listen} to be called back; if another "
                        "program has that port, free it, or set another `listen`"
                    )
                else:
                    await stack.enter_async_context(_served(context, settings, tree, opened))
                    tell(f"waiting on {settings.listen} to be called back")
                # The one place where the URL is shown whole: it is the person's to open, client id and state included.
                say(as_json({"url": authorization.url}) if asked.output == "json" else authorization.url)
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout.total_seconds()):
                        # What happens may happen in another process: there is nothing to wait for but the ledger.
                        while (told := outcome(opened, authorization)) is None:  # noqa: ASYNC110
                            await asyncio.sleep(POLL_SECONDS)
                        return told
            return f"nobody came back within {timeout.total_seconds():g} s"
    finally:
        await context.aclose()


def _served(context: Context, settings: Settings, tree: Tree, opened: OpenState) -> Any:
    """The callback, served by this process."""
    from starlette.applications import Starlette

    from reconciler.daemon.authorize import callback
    from reconciler.web.callback import callback_route
    from reconciler.web.serve import in_this_loop, serving

    async def come_back(service: str, query: Any) -> tuple[int, str]:
        return await callback(context, settings, tree, opened, service=service, query=query)

    return serving(Starlette(routes=[callback_route(in_this_loop(come_back))]), settings.listen)


async def _taken(listen: str) -> bool:
    """Whether somebody listens there already."""
    import asyncio

    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:  # a TimeoutError is one
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
