"""Determine from the paths of changed files which part of the desired state a commit touches."""

from __future__ import annotations

from pathlib import PurePosixPath

from reconciler.model.selection import Selection
from reconciler.repository.desired import Desired
from reconciler.repository.naming import is_cases

__all__ = ["changed_hires", "touched"]


def touched(paths: frozenset[str], desired: Desired) -> list[Selection]:
    """The hires and the integrations that changed files affect; everything if a file affects all.

    A hire's file also affects the hires that name it as manager or buddy. What hires have of these integrations is left
    to the pass over all of them: alone, it could be within the guard's limits.
    """
    hires: set[str] = set()
    integrations: set[str] = set()
    for text in paths:
        path = PurePosixPath(text)
        match path.parts:
            case ("hires", *_):
                hires.add(path.stem)
            case ("manifests", *_) if not is_cases(path.name):
                integrations |= _siblings(path.stem, desired)
            case ("config", "initial_data", _):
                service = path.name.partition(".")[0]
                known = desired.services.get(service)
                integrations |= set(known.manifests) if known is not None else set()
            case ("config", "requests", _) if asked := desired.requesting(path.stem):
                hires.update(asked)
            case ("config", "reviews", *_):
                pass  # reviewers may commit all day: no grant follows from their decisions
            case ("config", *_):
                return [Selection()]
            case _:
                pass
    hires |= desired.hires.index.referrers(hires)
    found = []
    if hires:
        found.append(Selection(hires=frozenset(hires), without=frozenset(integrations)))
    if integrations:
        found.append(Selection(integrations=frozenset(integrations)))
    return found


def changed_hires(desired: Desired, before: Desired) -> set[str] | None:
    """Return the hires whose grants may differ from those at another revision; None if everybody's may.

    A hire's grants follow from its file, from those that it names, and from whether another has its id or address.
    """
    paths = desired.hires.changed_paths(before.hires)
    if paths is None or desired.today != before.today:
        return None
    hires = {*(desired.broken_hires.keys() ^ before.broken_hires.keys())}
    for path in map(PurePosixPath, paths):
        match path.parts:
            case ("hires", *_):
                hires.add(path.stem)
            case ("manifests", *_) if not is_cases(path.name):
                return None
            case ("config", "requests", *_):
                hires |= {*desired.requesting(path.stem), *before.requesting(path.stem)}
            case ("config", folder, *_) if folder != "reviews":
                return None
            case _:
                pass
    return hires | desired.hires.index.referrers(hires)


def _siblings(integration: str, desired: Desired) -> set[str]:
    """List the integrations of the same service: its allowed hosts come from all their manifests."""
    service = desired.services.get(desired.service_of(integration))
    return set(service.manifests) if service is not None else {integration}
