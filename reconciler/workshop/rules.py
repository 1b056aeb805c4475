"""Say what each rule of a check found in an answer: what a person reads who writes a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.model.exists import Exists, operator
from reconciler.model.scope import walk
from reconciler.model.value import value_class
from reconciler.requests.match import contains
from reconciler.requests.record import Compared, find, same
from reconciler.transports.answer import Response

__all__ = ["RuleFound", "rules_found"]

LONGEST = 100


@value_class
class RuleFound:
    """A rule of the manifest, what it wants, what stands there, and whether it holds (None: it only reads)."""

    rule: str
    wanted: str
    found: str
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = {True: ": yes", False: ": no", None: ""}[self.holds]
        wants = f" {self.wanted}" if self.wanted else ""
        return f"{self.rule}{wants}: {self.found}{verdict}" if self.found else f"{self.rule}{wants}{verdict}"

    def shown(self, redact: Callable[[Any], Any]) -> RuleFound:
        """Return it without secrets, and no longer than a line: a secret that was cut would not be found."""
        return replace(self, wanted=_cut(redact(self.wanted)), found=_cut(redact(self.found)))


def rules_found(exists: Exists, wanted: str | None, compared: Compared, answer: Response) -> Iterator[RuleFound]:
    """Yield what each rule of `exists` found, in the order in which they decide."""
    content = answer.json()
    yield from _pairs("absent", compared.absent, content)
    if wanted is not None:
        text = answer.whole_text
        yield RuleFound("expected", _written(wanted), "", text is not None and contains(text, wanted))
    account = None
    if exists.compares:
        at = walk(content, exists.record or "")
        what = "no JSON" if content is None else _kind(at)
        if exists.record is not None:
            yield RuleFound("record", exists.record, what, at is not None)
        account = find(at, exists.match, wanted, contains) if at else None
        if exists.match is not None:
            shown = _nearest(at, exists.match) if account is None else _written(walk(account, exists.match))
            yield RuleFound("match", exists.match, shown, account is not None)
    if account is not None:
        yield from _pairs("where", compared.where, account)
        yield from _pairs("inactive", compared.inactive, account)
        yield from _pairs("invited", compared.invited, account)
    for name, path in exists.store_data.items():
        of_record = exists.compares and path.startswith("record.")
        value = walk(account, path.removeprefix("record.")) if of_record else answer.at(path)
        yield RuleFound("store_data", f"{name} from {path}", _written(value))


def _pairs(rule: str, wanted: Mapping[str, Any], content: Any) -> Iterator[RuleFound]:
    for path, value in wanted.items():
        there = walk(content, path)
        word = "wants" if rule == "where" else "is"
        yield RuleFound(f"{rule} {path}", f"{word} {_written(value)}", _written(there), same(there, value))


def _nearest(at: Any, match: str) -> str:
    """Say what stands at `match` in the first items, none of which is the account."""
    found = [walk(item, match) for item in (at if isinstance(at, list) else [at])]
    if found and all(value is None for value in found):
        return f"nothing there in {'the only item' if len(found) == 1 else f'any of {len(found)} items'}"
    return _written(found[:3])


def _written(value: Any) -> str:
    if (word := operator(value)) is not None:
        return f"{word} {_written(value[word])}"
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing there"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a record with {', '.join(list(value)[:8])}{', …' if len(value) > 8 else ''}"
        case _:
            return _written(value)
