"""Check a period's access reviews: who decided each line, and whether the lines are those that were started.

Only commits count. The lines are compared with the first commit of the file, so that neither they nor the digest can be
changed afterwards. A line's reviewer is the author of the newest commit that set its decision (docs/design/rules.md,
"Access reviews").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache, partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from reconciler.ledger.reader import LedgerReader
from reconciler.model.attribution import Attribution
from reconciler.model.errors import Problem, ReconcilerError, RepositoryError, Severity
from reconciler.model.text import hint
from reconciler.repository.attribution.origins import Origins, origins_of
from reconciler.repository.attribution.provenance import Provenance, Traced
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.parts import Part
from reconciler.repository.git.trees import File, Tree
from reconciler.repository.people import identity, skeleton
from reconciler.repository.reviews import REVIEWS, Line, ReviewFile, canonical, decisions_in, is_review, read_review
from reconciler.review.reviews import Addresses, Removals, Reviews, names_of

A_DAY = timedelta(days=1)
"""The uncertainty of a date: which day it was depends on the time zone in force then."""

MAX_OF_KIND = 20
"""The most problems of one kind to report for a file."""


@dataclass(slots=True)
class Judged:
    """One integration's review. By line, `reviewers` has the commit that decided it and `open` why it is open."""

    review: ReviewFile
    reviewers: dict[int, Attribution] = field(default_factory=dict)
    open: dict[int, str] = field(default_factory=dict)
    of_file: list[Problem] = field(default_factory=list)
    of_lines: dict[int, Problem] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    """The hire's full name at the reviewed revision, by line."""
    signers: Mapping[str, str | None] = field(default_factory=dict)
    """The signer of each commit with a good signature."""

    @property
    def problems(self) -> list[Problem]:
        """The problems: those of the file, then those of its lines."""
        return [*self.of_file, *(self.of_lines[index] for index in sorted(self.of_lines))]

    @property
    def undecided(self) -> list[Line]:
        """The lines without a decision."""
        return [line for line in self.review.lines if line.decision is None]

    @property
    def doubtful(self) -> bool:
        """Whether the file differs from what was started, or somebody decided who must not."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "integration": self.review.integration,
            "file": self.review.path,
            "manager": self.review.manager,
            "due": self.review.due,
            "lines": len(self.review.lines),
            "undecided": len(self.undecided),
            "open": len(self.open),
            "problems": [problem.as_json() for problem in self.problems],
        }


def name_people(found: Collection[Judged], checkout: Checkout, tree: Tree, signer: Callable[[str], str | None]) -> None:
    """Add each hire's name, and the signer of each commit that decided a line, for the evidence."""
    addresses = Addresses(checkout, tree)
    commits = {given.granted_in for judged in found for given in judged.reviewers.values()}
    signers = {commit: signer(commit) for commit in sorted(commits)}
    for judged in found:
        revision = judged.review.text("revision")
        ours = [line for line in judged.review.lines if line.access is not None]
        judged.names = {line.index: addresses.name_of(line.who, revision) for line in ours}
        judged.signers = signers


def judge(
    checkout: Checkout,
    tree: Tree,
    period: str,
    ledger: LedgerReader,
    *,
    load: Callable[[Tree], Files],
    signer: Callable[[str], str | None],
) -> list[Judged]:
    """Check every review of a period at a commit; `load` reads a revision.

    `signer` returns who signed a commit, if anybody did.

    Raises RepositoryError if there is no such period, or git does not have its history.
    """
    files, folder = load(tree), f"{REVIEWS}/{period}"
    origins = origins_of(checkout.root, tree.revision, folder)
    reviews = Reviews().read(tree, period)
    there = {review.path for review in reviews}
    gone = sorted(path for path in origins.commits if path.endswith(".yaml") and path not in there)
    if not reviews and not gone:
        raise RepositoryError(_no_period(tree, period))
    provenance = Provenance(checkout.root, [folder], decisions_in, versions=64)
    deciders = _deciders(provenance, tree.revision, reviews)
    known = {*files.manifests, *files.broken["manifests"], *(name for name, _ in ledger.grants.counts())}
    addresses, grants_at = Addresses(checkout, tree), cache(partial(_grants_at, checkout, load))
    found = [Judged(ReviewFile(path, {}, ()), of_file=[_gone(provenance, path, origins)]) for path in gone]
    for review in reviews:
        judged = Judged(review, deciders[review.path], Removals(review, addresses, ledger).open)
        judged.of_file = [
            *review.problems,
            *_file_problems(checkout, judged, origins, known=known, grants_at=grants_at),
        ]
        judged.of_lines = {line.index: each for line, each in _conflicts(judged, addresses, checkout, signer)}
        found.append(judged)
    return sorted(found, key=lambda judged: judged.review.path)


def _no_period(tree: Tree, period: str) -> str:
    known = sorted({PurePosixPath(file.path).parts[2] for file in tree.files(REVIEWS)})
    return (
        f"no review {period} is committed at {tree.revision[:12]}{hint(period, known)}: commit {REVIEWS}/{period}/, "
        f"or start it with `reconcile review start {period}`"
    )


def _deciders(
    provenance: Provenance, revision: str, reviews: Iterable[ReviewFile]
) -> dict[str, dict[int, Attribution]]:
    """Find the commit that decided each line, by file and line, as far as git has it."""
    traced: dict[str, list[tuple[int, Traced]]] = {}
    for review in reviews:
        decided = (line for line in review.lines if line.decision is not None)
        traced[review.path] = [(line.index, Traced(review.path, Part.ENTRY, line.key)) for line in decided]
    provenance.trace(revision, (part for parts in traced.values() for _, part in parts))
    return {
        path: {index: provenance.given(part.commit, part.merges) for index, part in parts if part.commit is not None}
        for path, parts in traced.items()
    }


def _gone(provenance: Provenance, path: str, origins: Origins) -> Problem:
    commit = origins.commits[path][0]
    author = provenance.given(commit, ()).author
    return Problem(
        path, None, f"it is gone: {author} started it in {commit[:12]}; `git checkout {commit[:12]} -- {path}` has it"
    )


def _file_problems(
    checkout: Checkout, judged: Judged, origins: Origins, *, known: Collection[str], grants_at: GrantsAt
) -> Iterator[Problem]:
    """Report how a file differs from what was started."""
    review = judged.review
    if review.integration not in known and not _was_there(checkout, review):
        yield Problem(review.path, 1, f"there is no integration {review.integration}{hint(review.integration, known)}")
    yield from review.not_whole()
    if review.header.get("complete") is False and review.header.get("listed") is None:
        what = "there is no listing: accounts that git does not know are not in it"
        yield Problem(review.path, review.place("complete"), what, Severity.WARNING)
    decided = len(review.lines) - len(judged.undecided)
    if review.path in origins.cut_off or len(judged.reviewers) < decided:
        what = "git does not have the commits that started and decided it: `git fetch --unshallow`"
        yield Problem(review.path, None, what)
        return
    began = [(commit, _at(checkout, commit, review.path)) for commit in origins.commits[review.path]]
    if len({first.digest for _, first in began}) > 1:
        commits = " and ".join(commit[:12] for commit, _ in began)
        yield Problem(review.path, None, f"it was started more than once, each time with other lines: in {commits}")
    commit, first = began[0]
    if first.text("digest") != first.digest:
        what = f"its lines are not those that its digest is of: edited before it was committed, in {commit[:12]}"
        yield Problem(review.path, review.place("digest"), what)
    beside = [path for path in sorted(origins.commits) if first.manager is not None and _is_beside(path, first)]
    if not beside or first.path == beside[0]:
        lines = {str(line) for path in beside for line in _at(checkout, origins.commits[path][0], path).lines}
        yield from _few(_omitted(first, lines, grants_at))
    yield from _edited(review, first, commit[:12])


def _was_there(checkout: Checkout, review: ReviewFile) -> bool:
    """Whether the reviewed revision had the integration's manifest."""
    try:
        tree = checkout.at(review.text("revision") or "")
    except RepositoryError:
        return False
    return any(PurePosixPath(file.path).stem == review.integration for file in tree.files("manifests"))


def _at(checkout: Checkout, commit: str, path: str) -> ReviewFile:
    tree = checkout.at(commit)
    return read_review(tree, tree.find(path) or File(path, ""))


def _is_beside(path: str, review: ReviewFile) -> bool:
    """Whether a path is that of a review of the same integration, of any manager's people."""
    return PurePosixPath(path).name == PurePosixPath(review.path).name and is_review(path) and path.count("/") > 3


def _edited(review: ReviewFile, first: ReviewFile, commit: str) -> Iterator[Problem]:
    """Report how the lines differ from those that were started."""
    for key in sorted({*review.header, *first.header}):
        if canonical(review.header.get(key)) != canonical(first.header.get(key)):
            line = review.place(key) if key in review.header else None
            yield Problem(review.path, line, f"{key} is not what it was when the review was started, in {commit}")
    was, now = (Counter(line.population for line in each.lines) for each in (first, review))
    less, more = was - now, now - was
    taken = [line for line in first.lines if line.population in less]
    put = [line for line in review.lines if line.population in more]
    before, after = ({str(line) for line in lines} for lines in (taken, put))
    out = (line for line in taken if str(line) not in after)
    yield from _few(Problem(review.path, None, f"the line of {line} was taken out: {commit} has it") for line in out)
    yield from _few(_put_in(review, line, commit, edited=str(line) in before) for line in put)


def _put_in(review: ReviewFile, line: Line, commit: str, *, edited: bool) -> Problem:
    what = f"was edited: {commit} has it otherwise" if edited else f"was put in: {commit} does not have it"
    return Problem(review.path, review.place("lines", line.index), f"the line of {line} {what}")


def _conflicts(
    judged: Judged, addresses: Addresses, checkout: Checkout, signer: Callable[[str], str | None]
) -> Iterator[tuple[Line, Problem]]:
    """Report the lines whose reviewer has the access, granted it, or is unknown.

    Whoever wrote, committed or signed the decision is its reviewer, and so it is with whoever granted.
    """
    review = judged.review
    for line in review.lines:
        given = judged.reviewers.get(line.index)
        if given is None:
            continue
        commit = given.granted_in[:12]
        reviewers = _people(given.author, given.committer, signer(given.granted_in))
        if not identity(given.author):
            who = f"{given.author} in {commit}"
            what = f"{line} was decided by {who}, which names no address: nobody can tell whose decision it is"
        elif own := reviewers.keys() & {_called(name) for name in names_of(line, review, addresses)}:
            who = f"{reviewers[min(own)]} in {commit}"
            what = f"{line} was decided by {who}, and is their own access: somebody else has to decide over it"
        elif gave := reviewers.keys() & _granters(line, checkout, signer).keys():
            who = f"{reviewers[min(gave)]} in {commit}"
            what = f"{line} was granted by the person who decided over it, {who}: somebody else has to decide"
        else:
            continue
        yield line, Problem(review.path, review.place("lines", line.index, "decision"), what)


def _granters(line: Line, checkout: Checkout, signer: Callable[[str], str | None]) -> dict[str, str]:
    """Return who granted a line: its author, and the committer and signer of the commit that it names."""
    commit = line.data.get("granted_in")
    found = checkout.commit_if_there(commit) if isinstance(commit, str) else None
    return _people(line.data.get("author"), *(() if found is None else (found.committer, signer(found.revision))))


def _people(*people: object) -> dict[str, str]:
    """Return people as they are compared, each with how they write themselves."""
    return {address: str(person) for person in people if (address := identity(person))}


def _called(name: str) -> str:
    """Return an account's name, which may be no address, as people's are compared."""
    return identity(name) or skeleton(name)


def _few(problems: Iterator[Problem]) -> Iterator[Problem]:
    found = list(islice(problems, MAX_OF_KIND + 1))
    yield from found[:MAX_OF_KIND]
    if len(found) > MAX_OF_KIND:
        yield Problem(found[0].file, None, "and more of the kind: mend these first")


GrantsAt = Callable[[str, date], list[tuple[str, str]]]
"""Lists the grants that certainly existed at a revision, as integration and `hire/access`; none if git has it not."""


def _omitted(started: ReviewFile, beside: Collection[str], grants_at: GrantsAt) -> Iterator[Problem]:
    """Report grants that existed at the revision that was reviewed, and have no line in the review's first commit.

    Who removes a line before the first commit can also make a new digest; git's history shows it. `beside` are the
    lines that the integration's other files of the period had.
    """
    try:
        day = datetime.fromisoformat(started.text("read_at") or "").date()
    except ValueError:
        return
    there = {*beside, *(str(line) for line in started.lines)}
    revision = started.text("revision") or ""
    for integration, grant in grants_at(revision, day):
        if integration == started.integration and grant not in there:
            left_out = f"{grant} is left out, which {revision[:12]} had: it was edited, or is of no start"
            yield Problem(started.path, None, left_out)


def _grants_at(checkout: Checkout, load: Callable[[Tree], Files], revision: str, day: date) -> list[tuple[str, str]]:
    try:
        files = load(checkout.at(revision))
    except ReconcilerError:
        return []
    days = [Desired(files, each) for each in (day - A_DAY, day + A_DAY)]
    found = [
        {
            (grant.integration, str(grant.key))
            for hire in each.hires
            for grant in each.grants(hire)
            if grant.lasts is None  # else only the ledger knows whether it was over
        }
        for each in days
    ]
    return sorted(found[0] & found[1])
