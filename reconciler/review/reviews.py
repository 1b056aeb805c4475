"""The progress of each access review by what is committed, and which removals are open.

A `remove` is open until the ledger says that the grant was revoked, whatever git says. For an account that git does not
know, it is open until a complete listing, read after the review, no longer shows the account.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import PurePosixPath

from reconciler.engine.context import Revision
from reconciler.engine.decide.existing import as_shown
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.config_files import REMOVE
from reconciler.model.errors import Problem, RepositoryError
from reconciler.model.grant import APART, Key, Phase, Record
from reconciler.model.secret import MASK
from reconciler.model.status import EventType
from reconciler.model.value import Frozen
from reconciler.notify.alerts import alert_of
from reconciler.notify.rules import News, NewsKind
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.parts import FileVersion, parse_version
from reconciler.repository.git.trees import WORKTREE, File, Tree
from reconciler.repository.reviews import REVIEWS, Line, ReviewFile, is_review, read_review

NOTE = "reviews_overdue"
"""The name of the note that has the files of which an alert was sent."""

A_SECOND = timedelta(seconds=1)
"""The precision of `read_at`."""

_GONE = (EventType.REVOKED, EventType.DROPPED)


class ReviewProgress(Frozen):
    """How far one integration's review is; `open` is the number of removals that are not done.

    `problems` are those of the file alone: `reconcile review check` also compares it with its history.
    """

    file: ReviewFile
    decisions: Counter[str | None]
    open: int
    problems: tuple[Problem, ...] = ()


class Reviews:
    """The reviews of a revision; parsed files are cached while they do not change."""

    def __init__(self) -> None:
        self._known: dict[File, ReviewFile] = {}

    def read(self, tree: Tree, period: str | None = None) -> list[ReviewFile]:
        """Read every review of a revision, or those of one period, sorted by path."""
        found = {file: self._known.get(file) or read_review(tree, file) for file in _files_of(tree, period)}
        self._known = found
        return list(found.values())

    def progress(self, checkout: Checkout, tree: Tree, ledger: LedgerReader) -> list[ReviewProgress]:
        """Compute the progress of each. It may parse megabytes if files have changed: call it in a thread."""
        addresses = Addresses(checkout, tree)
        return [
            ReviewProgress(
                each,
                Counter(line.decision for line in each.lines),
                len(Removals(each, addresses, ledger).open),
                (*each.doubts(), *each.not_whole()),
            )
            for each in self.read(tree)
        ]


def _files_of(tree: Tree, period: str | None = None) -> list[File]:
    """List the files of reviews, all or those of one period, sorted by path."""
    folder = REVIEWS if period is None else f"{REVIEWS}/{period}"
    return [file for file in tree.files(folder) if is_review(file.path)]


class Addresses:
    """The addresses and names of hires at the reviewed revision and at other commits."""

    def __init__(self, checkout: Checkout, tree: Tree) -> None:
        self._checkout = checkout
        self._trees: dict[str, tuple[Tree, dict[str, File]] | None] = {tree.revision: (tree, _stems(tree))}
        self._now = tree.revision

    def of(self, hire: str, *revisions: str | None, now: bool = True) -> set[str]:
        """List a hire's addresses at these commits, and `now`, in lower case, as far as git has them."""
        asked = (self._now, *revisions) if now else revisions
        found = [self._at(revision, hire) for revision in asked if revision]
        return {said.email for said in found if said is not None and said.email}

    def name_of(self, hire: str, *revisions: str | None) -> str:
        """Return a hire's full name at the first of these commits that has it, else now; empty if there is none."""
        found = (self._at(revision, hire) for revision in (*revisions, self._now) if revision)
        fields: Mapping[str, object] = next((said.fields for said in found if said is not None), {})
        return " ".join(str(part) for part in (fields.get("first_name"), fields.get("last_name")) if part)

    def _at(self, revision: str, hire: str) -> FileVersion | None:
        if revision not in self._trees:
            try:
                tree = self._checkout.at(revision)
                self._trees[revision] = tree, _stems(tree)
            except RepositoryError:
                self._trees[revision] = None
        known = self._trees[revision]
        file = None if known is None else known[1].get(hire)
        if known is None or file is None:
            return None
        return parse_version(known[0].read(file), file.path)


def _stems(tree: Tree) -> dict[str, File]:
    return {PurePosixPath(file.path).stem: file for file in tree.files("hires")}


class Removals:
    """Which removals of a review are open."""

    def __init__(self, review: ReviewFile, addresses: Addresses, ledger: LedgerReader) -> None:
        self._review = review
        self._addresses = addresses
        self._ledger = ledger

    @cached_property
    def open(self) -> dict[int, str]:
        """The lines whose access counts as present, with the reason."""
        lines = [line for line in self._review.lines if line.decision == REMOVE]
        return dict(self._open(lines)) if lines else {}

    def _open(self, lines: Iterable[Line]) -> Iterator[tuple[int, str]]:
        for line in lines:
            why = self._account(line) if line.access is None else self._grant(line, line.access)
            if why is not None:
                yield line.index, why

    def _grant(self, line: Line, access: str) -> str | None:
        """Say why a grant counts as present; None once it was revoked, or dropped because it never existed.

        What was given again since is another grant, and so is what somebody else, by address and name, was given under
        the id. What only a lock took away comes back with its end.
        """
        emails = names_of(line, self._review, self._addresses)
        if self._at is None:
            return "the file does not say when it was read"
        rows = self._rows(line, access, emails)
        hires = {line.who, *(row.key.hire for row in rows)}
        said = list(self._ledger.history.lines(hires=hires, events=(*_GONE, EventType.LOCKED), since=self._at))
        locked = {(each.key, each.at) for each in said if each.event is EventType.LOCKED}
        gone = {each.key: each.at for each in said if each.event in _GONE and (each.key, each.at) not in locked}
        known = _revisions_of(line, self._review)
        then = self._addresses.of(line.who, *known, now=False)
        same = self._addresses.name_of(line.who) in ("", self._addresses.name_of(line.who, *known))
        ended = max((gone[row.key] for row in rows if row.key in gone and row.email.lower() in then), default=None)
        left = (row for row in rows if (row.phase is not Phase.REVOKED or _comes_back(row)) and row.key not in gone)
        there = (row for row in left if same or ended is None or row.email.lower() in then or _since(row) <= ended)
        if rows:
            return next((f"the ledger has it as {row.status}" for row in there), None)
        if Key(line.who, access) in gone:
            return None
        if _text(line.data, "since") is not None and self._same_ledger and self._forgot:
            return None  # it was forgotten, which needs that no account is left
        return "the ledger has not heard of it"

    def _rows(self, line: Line, access: str, emails: Collection[str]) -> list[Record]:
        """Read the rows of a grant.

        After a rename, the row has the hire's new id and the same address; the former id may be somebody else's by now.
        If the entry is about another thing or account since, the row that is about this one has another name, and the
        same values. Rows that the review has lines of their own for are not this one's.
        """
        rows = list(self._ledger.grants.records([line.who], emails))
        then = self._addresses.of(line.who, *_revisions_of(line, self._review), now=False)
        if any(row.key.hire != line.who and row.email.lower() in then for row in rows):
            rows = [row for row in rows if row.email.lower() in then]
        named = [row for row in rows if row.key.access == access]
        said = line.data.get("values")
        values = said if isinstance(said, dict) else {}
        entry, apart, _ = access.partition(APART)
        if apart and any(_has(row, values) for row in named):
            return named
        others = {each.access for each in self._review.lines if each.who == line.who} - {access}
        mine = (row for row in rows if row.key.access.partition(APART)[0] == entry and row.key.access not in others)
        return [row for row in mine if _has(row, values)] or named

    def _account(self, line: Line) -> str | None:
        """Say why an account counts as present; None once a complete listing, read later, does not show it."""
        if any(MASK in text for text in _called(line)):
            return "its name holds a secret of the service, so that the listing cannot be searched for it"
        integration = self._review.integration
        listed = self._ledger.accounts.listed_at(integration)
        if self._at is None or listed is None or listed <= self._at + A_SECOND:
            return "no listing was read whole since the review; a daemon reads each once an interval"
        return "the listing still shows it" if self._shown & account_digests(line) else None

    @cached_property
    def _shown(self) -> set[str]:
        return set(self._ledger.accounts.first_seen(self._review.integration))

    @cached_property
    def _at(self) -> datetime | None:
        try:
            at = datetime.fromisoformat(self._review.text("read_at") or "")
        except ValueError:
            return None
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

    @cached_property
    def _forgot(self) -> bool:
        return any(self._ledger.history.lines(events=(EventType.FORGOTTEN,), since=self._at))

    @cached_property
    def _same_ledger(self) -> bool:
        digest = self._review.text("history")
        return digest is not None and self._ledger.history.has_line(digest)


def _comes_back(row: Record) -> bool:
    """Whether only a lock took it away, which git still has."""
    return row.locked is not None and row.orphaned_at is None


def _since(row: Record) -> datetime:
    known = [at for at in (row.executed_at, row.confirmed_at) if at is not None]
    return min(known, default=datetime.min.replace(tzinfo=UTC))


def _has(row: Record, values: Mapping[str, object]) -> bool:
    return all(as_shown(row.values.get(name)) == as_shown(value) for name, value in values.items())


def names_of(line: Line, review: ReviewFile, addresses: Addresses) -> set[str]:
    """List the lower-case names of a line's subject: a hire's addresses, or an account's names."""
    if line.access is None:
        return {text.lower() for text in _called(line)}
    return addresses.of(line.who, *_revisions_of(line, review))


def _revisions_of(line: Line, review: ReviewFile) -> tuple[str | None, str | None]:
    """Return the revision at which a line's grant was reviewed, and the one that gave it."""
    return review.text("revision"), _text(line.data, "granted_in")


def account_digests(line: Line) -> set[str]:
    """List the digests by which the ledger may know an account: of its name, its address, and what it is matched by."""
    texts = _called(line)
    texts |= {text.lower() for text in texts if "@" in text}
    return {hashlib.sha256(text.encode(errors="replace")).hexdigest() for text in texts}


def _called(line: Line) -> set[str]:
    values = line.data.get("values")
    account: Mapping[str, object] = values if isinstance(values, dict) else {}
    return {line.who, *(text for key in ("email", "match") if isinstance(text := account.get(key), str))}


def _text(data: Mapping[str, object], key: str) -> str | None:
    said = data.get(key)
    return said if isinstance(said, str) and said else None


async def alert_overdue(revision: Revision, ledger: OpenLedger) -> None:
    """Send an alert of each review that is overdue, if none was sent of it."""
    tree = revision.tree
    if not revision.settings.alerts or not _files_of(tree):
        return
    known: set[str] = set(json.loads(await ledger.run(lambda reader: reader.notes.get(NOTE) or b"[]")))
    today = revision.today

    def read() -> list[tuple[str, str, int]]:
        checkout = Checkout.open(revision.context.root)  # the pass's own may only be used in its thread
        own = checkout.worktree() if tree.revision == WORKTREE else checkout.at(tree.revision)
        reviews = [review for review in Reviews().read(own) if review.path not in known and review.overdue(today)]
        return [(each.path, each.due or "", sum(not line.decision for line in each.lines)) for each in reviews]

    found = await asyncio.to_thread(read)
    if not found:
        return
    note = json.dumps(sorted(known | {path for path, _, _ in found})).encode()
    await ledger.run(lambda writer: writer.notes.put(NOTE, note))
    said = "; ".join(f"{path}: {left} undecided, due {due}" for path, due, left in found)
    await alert_of(revision, News(NewsKind.REVIEW_OVERDUE, "", len(found), said))
