"""Order entries that need each other, and find circles among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def needed_first(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Order names after those that they need, else as given; not recursive, as chains may be long."""
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
    """Return the entries that need themselves through others.

    Kosaraju's algorithm, which is linear: walked backwards along the needs, in the reverse of `needed_first`'s order,
    an entry reaches only those that need it and that it needs.
    """
    if not any(needs.values()):  # as nearly always
        return frozenset()
    needed_by: dict[str, list[str]] = {}
    for name, theirs in needs.items():
        for need in theirs:
            needed_by.setdefault(need, []).append(name)
    found: set[str] = set()
    seen: set[str] = set()
    for start in reversed(needed_first(needs)):
        group, waiting = [], [start]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                group.append(name)
                waiting.extend(needed_by.get(name, ()))
        if len(group) > 1 or start in needs[start]:
            found.update(group)
    return frozenset(found)
