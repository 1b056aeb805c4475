"""`reconcile desk`: a page where people without git ask for access."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from reconciler.cli.commands.diff import compared
from reconciler.cli.context import context_of
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import set_up
from reconciler.cli.output.text import echo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.engine.context import Context

__all__ = ["desk"]


@click.command()
@option(
    "--listen",
    metavar="HOST:PORT",
    envvar="RECONCILE_DESK_LISTEN",
    default="127.0.0.1:8090",
    help="Where to serve it.",
    show_default=True,
)
@option("--public-url", metavar="URL", help="Its own address, which a form's Origin has to be.  [default: the Host]")
@option(
    "--status",
    metavar="URL",
    envvar="RECONCILE_DESK_STATUS",
    help="The daemon's address, to show how far a request is.",
)
@shared
@click.pass_obj
def desk(options: SharedOptions, listen: str, public_url: str | None, status: str | None) -> int:
    """Serve a page where people without git ask for access.

    Who is signed in is what the proxy of `pages.trusted_header` says; without that setting it does not start. It needs
    a clone and RECONCILE_FORGE_TOKEN, and neither a key nor the state. It never merges: give it a token that cannot.
    """
    import asyncio

    from reconciler.cli.output.difference import as_markdown
    from reconciler.desk.app import desk as application
    from reconciler.desk.app import statuses
    from reconciler.web.serve import serving

    def text(context: Context, base: str, head: str) -> str:
        return as_markdown(compared(context.checkout, base, head)[0])

    def status_of(hire: str) -> Mapping[str, str]:
        return statuses(status, os.environ.get("RECONCILE_PAGES_TOKEN") or None, hire) if status else {}

    async def run() -> None:
        stopped = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stopped.set)
        async with serving(
            application(context_of(options, redactor), public_url or None, text, status_of), listen
        ) as address:
            echo(f"http://{address}/")
            await stopped.wait()

    redactor = set_up(options)
    asyncio.run(run())
    return 0
