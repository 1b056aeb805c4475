"""Somebody's branch, planned without handing it the tokens (docs/design/rules.md, "Pull requests").

A manifest that differs from the one in force gets a client that may go nowhere, no initial data and no connection: even
a mistake in what is planned with it could not send anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.engine.integrations import Integration
from reconciler.engine.world import World
from reconciler.model.manifest import Manifest
from reconciler.model.settings import Settings
from reconciler.repository.files import Loaded
from reconciler.requests.hosts import AllowedHosts, named_hosts

__all__ = ["as_branch_may"]

NOBODY = AllowedHosts(frozenset())


def as_branch_may(
    integrations: Mapping[str, Integration],
    in_force: Mapping[str, Loaded[Manifest]],
    branch: Mapping[str, Loaded[Manifest]],
    world: World,
    settings: Settings,
) -> dict[str, Integration]:
    """The integrations as a branch may use them: those that it leaves as they are, and the others, blocked."""
    result = dict(integrations)
    for name, loaded in branch.items():
        ours = in_force.get(name)
        if ours is None or ours.model != loaded.model:
            result[name] = _changed(name, loaded, ours, world, settings)
    return result


def _changed(
    name: str, loaded: Loaded[Manifest], ours: Loaded[Manifest] | None, world: World, settings: Settings
) -> Integration:
    known = named_hosts(ours.model) if ours is not None else frozenset()
    new = sorted(named_hosts(loaded.model) - known)
    hosts = f"; new host {', '.join(new)}" if new else ""
    return Integration(
        name=name,
        service=loaded.model.service or name,
        file=loaded.path,
        manifest=loaded.model,
        client=world.client("a manifest changed on a branch", NOBODY, settings.limits),
        hosts=NOBODY,
        initial=None,
        fault=f"{loaded.path} is changed on this branch: nothing is sent{hosts}",
        redirect_url="",
    )
