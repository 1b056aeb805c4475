"""`reconcile demo`: the whole thing on this machine."""

from __future__ import annotations

import click

from reconciler.cli.options import option, shared

__all__ = ["demo"]


@click.command()
@option("--once", is_flag=True, help="Exit after the walk-through, without keeping the daemon running.")
@shared
def demo(*, once: bool) -> int:
    """Run a demo on this machine: sample repository, sample services on loopback, daemon.

    Uses only its own services and key, in temporary folders that are removed at the end.
    """
    from reconciler.demo.walk import walk

    return walk(once=once)
