"""In which order entries that need each other come, and which of them go in a circle."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["circular_among", "needed_first"]


def needed_first(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Each after those that it needs, otherwise in their order. It goes as deep as entries need each other."""
    done: dict[str, None] = {}
    for start in needs:
        path = {} if start in done else {start: iter(needs[start])}
        while path:
            name = next(reversed(path))
            need = next((need for need in path[name] if need in needs and need not in done and need not in path), None)
            if need is None:
                del path[name]
                done[name] = None
            else:
                path[need] = iter(needs[need])
    return list(done)


def circular_among(needs: Mapping[str, Collection[str]]) -> frozenset[str]:
    """The entries that, needing on and on, come back to themselves.

    Kosaraju's way, for a long list takes for ever if each entry is followed on its own: walked backwards from those
    that need most, who can be reached is who can be reached both ways.
    """
    needed_by: dict[str, list[str]] = {}
    for name, theirs in needs.items():
        for need in theirs:
            needed_by.setdefault(need, []).append(name)
    found: set[str] = set()
    seen: set[str] = set()
    for start in reversed(needed_first(needs)):
        run_all, waiting = [], [start]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                run_all.append(name)
                waiting.extend(needed_by.get(name, ()))
        if len(run_all) > 1 or start in needs[start]:
            found.update(run_all)
    return frozenset(found)
