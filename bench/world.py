"""Repositories to measure on, and passes over them in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from reconciler.engine.notify import Notifier
from reconciler.engine.observed import Selection
from reconciler.engine.passes import look, reconcile
from reconciler.engine.report import Report
from reconciler.engine.session import holding
from reconciler.engine.world import SystemClock, World
from reconciler.model.secret import Redactor

__all__ = ["folder", "reconcile_once", "seed"]


def folder(root: Path, url: str, people: int, *, settings: str = "") -> Path:
    """A plain folder with one integration and so many hires that have it."""
    for name in ("hires", "manifests", "config"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "manifests" / "tool.yaml").write_text(
        f"exists: {{url: '{url}/users/{{{{email}}}}', expected: '{{{{email}}}}'}}\n"
        f"execute: [{{url: '{url}/users', data: {{email: '{{{{email}}}}'}}}}]\n"
        "headers: {Accept: application/json}\n"
    )
    (root / "config" / "reconciler.yaml").write_text("state: sqlite:///.reconciler/state.db\n" + settings)
    for number in range(people):
        shard = root / "hires" / f"{number % 256:02x}"
        shard.mkdir(exist_ok=True)
        (shard / f"p{number}.yaml").write_text(
            f"email: p{number}@example.com\nfirst_name: P{number}\nlast_name: Example\naccess: [tool]\n"
        )
    return root


def seed(root: Path) -> None:
    """Make the state, without a pass."""

    async def go() -> None:
        world = World(root, SystemClock(), Redactor())
        settings = world.reader.settings(world.checkout.head())
        with holding(world, settings, world.checkout.head(), "bench"):
            pass
        await world.aclose()

    asyncio.run(go())


def reconcile_once(root: Path, world: Any = None) -> Report:
    """One pass over everything."""

    async def go() -> Report:
        mine = world or World(root, SystemClock(), Redactor())
        tree = mine.checkout.head()
        settings = mine.reader.settings(tree)
        with holding(mine, settings, tree, "bench") as held:
            found = await look(mine, tree, held.ledger, held.sealing, Selection())
            notifier = Notifier(None, mine.clock, mine.redactor)  # type: ignore[arg-type]
            report = await reconcile(mine, found, held.ledger, held.sealing, notifier, author=None)
        await mine.aclose()
        return report

    return asyncio.run(go())
