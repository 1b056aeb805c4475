"""`reconcile oauth connect`: authorize a service through a browser and the callback."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import run_in_context
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import as_json, echo

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.engine.state import OpenState
    from reconciler.model.settings import Settings
    from reconciler.repository.git.checkout import Tree

__all__ = ["oauth"]

POLL_SECONDS = 0.25
"""How often to read the outcome of the authorization."""


def _span(_ctx: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    from reconciler.model.base import duration

    try:
        return duration(int(value) if value.isascii() and value.isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def oauth() -> None:
    """Connect services that use OAuth."""


@oauth.command(short_help="Authorize a service, in a browser")
@click.argument("integration", shell_complete=complete.services)
@option("--timeout", default="10m", show_default=True, callback=_span, help="How long to wait for the callback.")
@shared(csv=False)
def connect(options: SharedOptions, integration: str, timeout: timedelta) -> int:
    """Authorize an integration: open the URL that is printed, and allow access.

    If a daemon runs, it serves the callback on `listen`, otherwise this command does. INTEGRATION may also be the name
    of a service or an import.
    """
    redactor = set_up(options)
    why = run_in_context(options, redactor, lambda context: _connect(context, options, integration, timeout))
    if why:
        note(f"error: {integration} is not connected: {redactor.redact(why)}", "error")
        return 1
    if options.output != "json":
        echo(f"{integration} is connected")
    return 0


async def _connect(context: Context, options: SharedOptions, integration: str, timeout: timedelta) -> str:  # noqa: ASYNC109
    """Begin, and wait; return why it is not connected, or an empty text."""
    import asyncio

    from reconciler.daemon.authorize import begin, outcome, shared_state
    from reconciler.engine.run.accepted import in_force

    force = in_force(context)
    settings, tree = force.settings, force.tree
    with shared_state(context, settings, tree) as state:
        authorization = await begin(context, settings, tree, state, integration)
        async with AsyncExitStack() as stack:
            if await _in_use(settings.listen):
                note(
                    f"waiting for the daemon that listens on {settings.listen} to be called back; if another "
                    "program has that port, free it, or set another `listen`"
                )
            else:
                await stack.enter_async_context(_serving_callback(context, settings, tree, state))
                note(f"waiting on {settings.listen} to be called back")
            # Not redacted, unlike anywhere else: the person has to open it, with its client id and state.
            echo(as_json({"url": authorization.url}) if options.output == "json" else authorization.url)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout.total_seconds()):
                    # Another process may serve the callback: only the ledger shows what came of it.
                    while (result := await outcome(state, authorization)) is None:  # noqa: ASYNC110
                        await asyncio.sleep(POLL_SECONDS)
                    return result
        return f"nobody came back within {timeout.total_seconds():g} s"


def _serving_callback(context: Context, settings: Settings, tree: Tree, state: OpenState) -> Any:
    """Serve the callback in this process."""
    from starlette.applications import Starlette

    from reconciler.daemon.authorize import callback
    from reconciler.web.app import callback_route
    from reconciler.web.serve import in_this_loop, serving

    async def come_back(service: str, query: Any) -> tuple[int, str]:
        return await callback(context, settings, tree, state, service=service, query=query)

    return serving(Starlette(routes=[callback_route(in_this_loop(come_back))]), settings.listen)


async def _in_use(listen: str) -> bool:
    """Whether another process listens there already."""
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
