"""What a rule of a manifest found in an answer, as a person reads it who writes one.

Where nothing stands at a path: what stands beside it, and which path was probably meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.model.request import operator
from reconciler.model.scope import follow, steps, walk
from reconciler.model.text import cut, hint, some
from reconciler.model.value import Frozen, replace

LONGEST = 100
SAID = 400
"""Characters of what follows from a rule that are shown: it names what the answer has."""


class RuleFound(Frozen):
    """A rule of the manifest, what it wants, what stands there, and whether it holds (None: it only reads).

    `follows` says what there is instead where nothing was found, and what comes of that. `nowhere` is true where no
    item, or not the account's record, has anything at a path that finds or identifies it: most likely a mistake.
    """

    rule: str
    wanted: str
    found: str
    holds: bool | None = None
    follows: str = ""
    nowhere: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        """Return it as lines of text."""
        verdict = {True: ": yes", False: ": no", None: ""}[self.holds]
        wants = f" {self.wanted}" if self.wanted else ""
        line = f"{self.rule}{wants}: {self.found}{verdict}" if self.found else f"{self.rule}{wants}{verdict}"
        return (line, f"  {self.follows}") if self.follows else (line,)

    def shown(self, redact: Callable[[Any], Any]) -> RuleFound:
        """Return it without secrets, and no longer than a line: a secret that was cut would not be found."""
        wanted, found = (cut(redact(text), LONGEST) for text in (self.wanted, self.found))
        return replace(self, wanted=wanted, found=found, follows=cut(redact(self.follows), SAID))


_STEPS = {
    401: "the service does not accept the token: look at how `headers` send it, then at the token itself, which "
    "`reconcile initial-data set` asks for",
    403: "the service does not know the token, or does not let it do this: look at it, at its scopes, then at the URL",
    404: "look at the URL: it leads nowhere",
    407: "a proxy on the way asks for a login",
    429: "the service is asked too often: try again in a minute",
}


def next_step(status: int) -> str:
    """Return what to do about an answer that says nothing of a person."""
    if status in _STEPS:
        return _STEPS[status]
    if 300 <= status < 400:
        return "a redirect that is not followed: write the URL that it leads to"
    if status >= 500:
        return "the service, or something in front of it, failed: try again later"
    return "the service does not take the request: what it answered should say why"


def nearest(items: Sequence[Any], match: str) -> str:
    """Say what stands at a path in the first items, none of which is the account."""
    if not items:
        return "no items"
    found = [walk(item, match) for item in items]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{', '.join(quoted(value) for value in found[:3])}{more}"


def quoted(value: Any) -> str:
    """Write a value, or what is compared with one, as JSON."""
    if (word := operator(value)) is not None:
        return f"{word} {quoted(value[word])}"
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def kind(value: Any) -> str:
    """Say what a value is."""
    match value:
        case None:
            return "nothing there"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a record with {', '.join(list(value)[:8])}{', …' if len(value) > 8 else ''}"
        case _:
            return quoted(value)


DEEPEST, MOST_PATHS, MOST_ITEMS, MOST_KEYS = 5, 500, 50, 12

_ONWARD = ("next", "cursor", "token", "after", "more", "page", "offset", "link")
"""Parts of the names by which services call what leads to the next page."""


def has(content: Any, path: str) -> bool:
    """Whether something stands at a path, if only a null."""
    if not (keys := steps(path)):  # the whole
        return True
    *parents, last = keys
    holder = follow(content, parents)
    return (isinstance(holder, Mapping) and last in holder) or follow(holder, [last]) is not None


def lacks(items: Sequence[Any], path: str, one: str) -> str | None:
    """Say that no item has anything at a path, and what the items have; None if one has.

    `one` names what is looked at, such as `the record`; of several it is `item`.
    """
    if not items or any(has(item, path) for item in items):
        return None
    items = items[:MOST_ITEMS]
    keys = steps(path)
    known = next((at for at in range(len(keys) - 1, 0, -1) if any(_holds(item, keys[:at]) for item in items)), 0)
    below = [holder for item in items if (holder := follow(item, keys[:known])) is not None]
    there = ".".join(keys[:known])
    several = one == "item"
    who = "items" if several else one
    subject = f"{there} of {who}" if there else who
    verb = "have" if several and not there else "has"
    said = f"no item has {path}" if several else f"{one} has no {path}"
    return f"{said}; {subject} {verb}: {_described(below)}{_meant(items, path)}"


def place_of(item: Any, value: str) -> str | None:
    """Return the path at which a text stands as a whole, without case; None if it stands nowhere."""
    return next((path for path, leaf in leaves(item) if str(leaf).lower() == value.lower()), None)


def ways_on(content: Any) -> list[tuple[str, Any]]:
    """Return the paths with their values, outside of the items, that look as if they lead to a next page."""
    return [
        (path, leaf)
        for path, leaf in leaves(content, lists=False)
        if leaf not in (None, "", False)
        and not isinstance(leaf, float)
        and any(word in path.lower().rsplit(".", 2)[-1] or word in path.lower().split(".")[0] for word in _ONWARD)
    ]


def totals(content: Any, more_than: int) -> list[tuple[str, Any]]:
    """Return the numbers, outside of the items, that may say how many items there are, beyond so many."""
    return [
        (path, leaf)
        for path, leaf in leaves(content, lists=False)
        if isinstance(leaf, int | str) and str(leaf).isdecimal() and int(leaf) > more_than and "total" in path.lower()
    ]


def lists_in(content: Any, path: str = "", deepest: int = 3) -> Iterator[str]:
    """Yield the paths at which a list of maps, or an empty one, stands."""
    if isinstance(content, list) and all(isinstance(item, Mapping) for item in content):
        yield path or "the answer itself: leave data_from out"
    elif isinstance(content, Mapping) and deepest:
        for key, value in content.items():
            yield from lists_in(value, f"{path}.{key}" if path else str(key), deepest - 1)


def _holds(item: Any, keys: Sequence[str]) -> bool:
    return isinstance(follow(item, keys), Mapping | list)


def _described(holders: Sequence[Any]) -> str:
    """Name what these have: the keys of maps; of a list, that a place has to be given."""
    keys = dict.fromkeys(_escaped(key) for holder in holders if isinstance(holder, Mapping) for key in holder)
    if keys:
        return some(list(keys), MOST_KEYS)
    if any(isinstance(holder, list) for holder in holders):
        return (
            f"a list of {max(len(holder) for holder in holders if isinstance(holder, list))}, where a number says which"
        )
    return "nothing" if not holders or all(isinstance(holder, Mapping) for holder in holders) else "a single value"


def _meant(items: Sequence[Any], path: str) -> str:
    """Name the path that ends like this one, or is nearly the same."""
    known = list(dict.fromkeys(each for item in items for each, _ in leaves(item)))
    last = steps(path)[-1].lower() if path else ""
    same = next((each for each in known if steps(each)[-1].lower() == last), None)
    return f"; did you mean {same}?" if same else hint(path, known)


def leaves(content: Any, *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the paths of all that is neither a map nor a list, level by level, a bounded number."""
    level: list[tuple[str, Any]] = [("", content)]
    found = 0
    for _ in range(DEEPEST + 1):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if found >= MOST_PATHS:
                return
            start = f"{path}." if path else ""
            if isinstance(value, Mapping):
                below += [(f"{start}{_escaped(key)}", each) for key, each in value.items()]
            elif isinstance(value, list) and lists:
                below += [(f"{start}{place}", each) for place, each in enumerate(value[:MOST_KEYS])]
            elif path and not isinstance(value, list):
                found += 1
                yield path, value
        level = below[:MOST_PATHS]


def _escaped(key: Any) -> str:
    return str(key).replace(".", "\\.")
