"""`reconcile demo`: the whole thing on this machine."""

from __future__ import annotations

import click

from reconciler.cli.options import option, shared

__all__ = ["demo"]


@click.command()
@option("--once", is_flag=True, help="Walk through it without waiting, and exit.")
@shared
def demo(*, once: bool) -> int:
    """Show the main job live: sample repository, sample services on loopback, daemon.

    Uses no service and no key but its own, in temporary folders that are removed at its end.
    """
    from reconciler.demo.walk import walk

    return walk(once=once)
