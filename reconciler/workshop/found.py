"""What a rule of a manifest found in an answer, as a person reads it who writes one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from reconciler.model.exists import operator
from reconciler.model.scope import walk
from reconciler.model.value import Frozen, replace

__all__ = ["RuleFound", "kind", "nearest", "next_step", "quoted"]

LONGEST = 100
SAID = 400
"""Characters of what follows from a rule that are shown: it names what the answer has."""


class RuleFound(Frozen):
    """A rule of the manifest, what it wants, what stands there, and whether it holds (None: it only reads).

    `follows` says what there is instead where nothing was found, and what comes of that. `nowhere` is true where no
    item, or not the account's record, has anything at a path that finds or identifies it: most likely a slip.
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
        wanted, found = _cut(redact(self.wanted)), _cut(redact(self.found))
        return replace(self, wanted=wanted, found=found, follows=_cut(redact(self.follows), SAID))


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


def _cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


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
