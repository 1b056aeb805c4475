"""`reconcile demo`: the whole thing on this machine."""

from __future__ import annotations

import click

from reconciler.cli.options import option, shared
from reconciler.model.errors import UsageError

__all__ = ["demo"]


@click.command()
@option("--once", is_flag=True, help="Walk through it without waiting, and exit.")
@shared
def demo(*, once: bool) -> int:
    """Show the main job live: sample repository, sample services on loopback, daemon.

    Uses no service and no key but its own, in temporary folders that are removed at its end.
    """
    try:
        from reconciler.demo.walk import walk
    except ModuleNotFoundError as error:
        raise UsageError(f"the demo needs {error.name}: pip install 'access-reconciler[demo]'") from error
    return walk(once=once)
