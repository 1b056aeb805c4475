"""Find the account's record in an answer, and compare it with what git wants.

Values are compared as text, exactly and with case, lists without regard to order. Missing values and null equal null
alone (docs/manifest.md). Everything here is pure; the manifest's templates are rendered before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.model.dn import folded, is_of_directory, name_valued
from reconciler.model.request import Exists, operator
from reconciler.model.scope import Scope, follow, steps, walk
from reconciler.model.secret import MASK
from reconciler.model.template import names
from reconciler.model.value import Frozen, Unshown
from reconciler.model.verdict import Difference
from reconciler.requests.protocols import asks_directory, names_in
from reconciler.requests.template import render_data, written


class Compared(Frozen):
    """What a check compares, path by path, for one grant."""

    where: Unshown[Mapping[str, Any]] = {}
    inactive: Unshown[Mapping[str, Any]] = {}
    invited: Unshown[Mapping[str, Any]] = {}
    absent: Unshown[Mapping[str, Any]] = {}
    secret: frozenset[str] = frozenset()
    """The paths of `where` at which a secret is to stand: neither it nor what stands there is shown."""

    @classmethod
    def of(cls, exists: Exists, scope: Scope) -> Compared:
        """Render the values for a grant. Raises MissingVariable."""
        scope = scope.now()
        secret = {path for path, value in exists.where.items() if any(scope.look_up(it).secret for it in names(value))}
        directory = asks_directory(exists.url or "", scope)
        return cls(
            where=_rendered(exists.where, scope, directory=directory),
            inactive=_rendered(exists.inactive, scope, directory=directory),
            invited=_rendered(exists.invited, scope, directory=directory),
            absent=_rendered(exists.absent, scope),
            secret=frozenset(secret),
        )

    def shown(self, path: str, value: Any, redact: Callable[[Any], Any]) -> Any:
        """Format a value to be shown and saved: without secrets, and no longer than a line. Nothing is no secret.

        A digest of all of a long one tells two apart that begin alike.
        """
        if path in self.secret and value is not None:
            return MASK
        value = redact(value)
        text = written(sorted(value, key=written) if isinstance(value, list) else value)
        if len(text) <= LONGEST:
            return value
        return f"{text[:LONGEST]}… (sha256 {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]})"


NOTHING = Compared()

LONGEST = 200
"""Characters of a value that are shown and remembered."""


def _rendered(templates: Mapping[str, Any], scope: Scope, *, directory: bool = False) -> dict[str, Any]:
    """Render what is compared; in a directory, values within names are escaped."""
    return {
        path: (names_in if directory and name_valued(path) else render_data)(value, scope)
        for path, value in templates.items()
    }


def same(there: Any, wanted: Any) -> bool:
    """Whether a value is the one wanted, or what `{not: V}` or `{contains: V}` says of it."""
    word = operator(wanted)
    if word == "not":
        return not same(there, wanted[word])
    if is_of_directory(there):
        return _same_in_directory(there, wanted, word)
    if word == "contains":
        held = set(map(written, there)) if isinstance(there, list) else set()
        some = wanted[word] if isinstance(wanted[word], list) else [wanted[word]]
        return bool(some) and held.issuperset(map(written, some))
    if there is None or wanted is None:
        return there is wanted
    if isinstance(there, list) or isinstance(wanted, list):
        both = isinstance(there, list) and isinstance(wanted, list)
        return both and sorted(map(written, there)) == sorted(map(written, wanted))
    return written(there) == written(wanted)


def _same_in_directory(there: Any, wanted: Any, word: str | None) -> bool:
    """Compare an attribute: a single value is a list of one, and names are compared as names."""
    held = [folded(value) for value in (there if isinstance(there, list) else [there])]
    value = wanted if word is None else wanted[word]
    some = [folded(each) for each in (value if isinstance(value, list) else [value]) if each is not None]
    if word == "contains":
        return bool(some) and set(held).issuperset(some)
    return sorted(held, key=repr) == sorted(some, key=repr)


def is_whole(there: Any, expected: str) -> bool:
    """Whether a value is `expected` as a whole, without case: what `match` compares."""
    if is_of_directory(there):  # one of its values, as in a filter
        held = {folded(value.lower()) for value in (there if isinstance(there, list) else [there])}
        return folded(expected.lower()) in held
    if there is None or isinstance(there, dict | list):
        return False
    return written(there).lower() == expected.lower()


def all_there(content: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether the content has all wanted values; False if none is wanted."""
    return bool(wanted) and all(same(walk(content, path), value) for path, value in wanted.items())


def differences(record: Any, where: Mapping[str, Any]) -> dict[str, Difference]:
    """Return what is not as git wants it: by path, the value in the record (None if missing), and the one wanted."""
    found = {path: (walk(record, path), wanted) for path, wanted in where.items()}
    return {path: (there, wanted) for path, (there, wanted) in found.items() if not same(there, wanted)}


class Comparison:
    """What a check compares, read from a listing's items instead of the answers to checks."""

    def __init__(self, exists: Exists) -> None:
        self._match = exists.match
        parts = [*exists.where.items(), *exists.inactive.items(), *exists.invited.items()]
        self._paths = {path: steps(path) for path, _ in parts}
        self._of_null = {path for path, value in parts if value is None or operator(value) == "not"}

    def read(self, item: Any, who: str) -> dict[str, Any] | None:
        """Return what an item has at each path; None if one is missing, which the listing may only leave out.

        A null that is there is a value where null is compared. `who` is what the item was found by: with `match`, that
        has to stand there as well.
        """
        if self._match and not is_whole(walk(item, self._match), who):
            return None
        found = {path: follow(item, keys) for path, keys in self._paths.items()}
        lacks = any(value is None and not self._is_null(item, path) for path, value in found.items())
        return None if lacks else found

    def _is_null(self, item: Any, path: str) -> bool:
        *parents, last = self._paths[path]
        holder = follow(item, parents)
        return path in self._of_null and isinstance(holder, Mapping) and last in holder


def as_wanted(found: Mapping[str, Any], compared: Compared) -> bool:
    """Whether an account with these values, by path, is as git wants it, and active."""

    def stand(wanted: Mapping[str, Any]) -> bool:
        return all(same(found[path], value) for path, value in wanted.items())

    off = compared.inactive and stand(compared.inactive)
    return stand(compared.where) and not off and not (compared.invited and stand(compared.invited))


def find(
    at: Any, exists: Exists, expected: str | None, contains: Callable[[str, str], bool], inactive: Mapping[str, Any]
) -> Any | None:
    """Find the account in what is at `record`; None if it is not there.

    Of a list it is the item that holds `expected`, with `match` the one whose `match` equals it; of several the first
    that is not `inactive`, as rendered, for one that was switched off says nothing of another. `contains` says whether
    a text holds it. What is no list is the account itself, with `match` only where that equals `expected`.
    """
    if expected is None:
        return (at[0] if len(at) == 1 else None) if isinstance(at, list) else at
    match, items = exists.match, at if isinstance(at, list) else [at]
    if match is not None:
        found = (item for item in items if is_whole(walk(item, match), expected))
    elif items is at:
        found = (item for item in items if contains(json.dumps(item, ensure_ascii=False), expected))
    else:
        return at
    first = None
    for item in found:
        if not all_there(item, inactive):
            return item
        first = item if first is None else first
    return first


# --- when an account was last used ------------------------------------------------------------------------------------

FIRST = datetime(1990, 1, 1, tzinfo=UTC)
"""What is before it is no time: services write 0, or the first day that they can, for never."""

MILLISECONDS = 13
"""So many digits count milliseconds since 1970, and not seconds."""


def last_used(value: Any, now: datetime) -> datetime | None:
    """Read a time, or seconds or milliseconds since 1970; None where it is not known, which is never unused."""
    found = _moment(value)
    return found if found is not None and FIRST <= found <= now + timedelta(days=1) else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    try:
        if not isinstance(value, str) or text.replace(".", "", 1).isdecimal():
            whole = text.partition(".")[0]
            seconds = float(text) / (1000 if len(whole) == MILLISECONDS else 1)
            return datetime.fromtimestamp(seconds, UTC)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
