"""What needs a person, and the next command to type. Pure: computed from what the ledger and the daemon know.

A command consists of fixed words and of names that are quoted for a shell. What a service said can only choose between
harmless commands.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from reconciler.engine.decide.existing import reason_not_to_accept
from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Key, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.revision_status import REF, Stale, Untrusted
from reconciler.model.status import Action, Status
from reconciler.model.value import Frozen, Unshown
from reconciler.model.verdict import Cause
from reconciler.notify.alerts import Outage
from reconciler.review.reviews import ReviewProgress


class NextStep(Frozen):
    """What to do, and the command for it, if there is one."""

    text: str
    command: str | None = None


class Need(Frozen):
    """Something that needs a person. `status` is that of an integration's grants, or None if it is not about grants.

    `grants` are examples of the `count` that it concerns. An `urgent` need is a fault; others wait for a decision.
    """

    title: str
    reason: str
    steps: tuple[NextStep, ...]
    status: Status | None = None
    integration: str = ""
    count: int = 1
    urgent: bool = True
    grants: Unshown[tuple[Record, ...]] = ()


EXAMPLES = 3
"""The most grants to name of those that need the same step."""

_TO_DECIDE = (Status.DIFFERS, Status.ORPHANED, Status.MISSING, Status.SUSPENDED)

_TITLES = {
    Status.FAILED: "failed, and nothing more runs on its own",
    Status.UNKNOWN: "could not be checked",
    Status.BLOCKED: "cannot be given as agreed",
    Status.INVALID: "is held back by an error in a file",
    Status.DIFFERS: "is not as agreed, and left to a person",
    Status.MISSING: "is gone at the service, and not made again",
    Status.ORPHANED: "is still there, and no longer wanted",
    Status.SUSPENDED: "is held by the guard",
}


def steps(record: Record) -> tuple[NextStep, ...]:
    """List what a person can do about one grant; empty if it needs nobody."""
    left = record.action is Action.NONE
    accept = _about("accept", record.key) if reason_not_to_accept(record) is None else None
    match record.status:
        case Status.FAILED:
            vouch = (NextStep("Or vouch for it, where it was mended by hand:", accept),) if accept else ()
            return (NextStep("Mend the cause, then start it afresh:", _about("retry", record.key)), *vouch)
        case Status.RETRYING:
            return (NextStep("Or start it afresh at the next pass:", _about("retry", record.key)),)
        case Status.UNKNOWN if record.cause is Cause.BUSY:
            return ()
        case Status.UNKNOWN | Status.BLOCKED:
            return (_of_service(record),)
        case Status.INVALID:
            return (
                NextStep(f"Mend {record.source.rpartition(':')[0]}, commit, and see whether it is right:", VALIDATE),
            )
        case Status.DIFFERS if left and not record.unseen:
            take = (NextStep("Or take it as it is:", accept),) if accept else ()
            return (NextStep("Make it as agreed:", _about("run", record.key)), *take)
        case Status.MISSING if left and record.lost:
            return (NextStep("Make the account again:", _about("run", record.key)),)
        case Status.ORPHANED if left and not record.keep:
            text = "Take it away; where the manifest has no revoke, remove the account at the service:"
            return (NextStep(text, _about("revoke", record.key)),)
        case Status.SUSPENDED if record.locked is not None:
            again = NextStep("Try to lock it again:", _about("retry", record.key))
            there = NextStep("Lock it at the service, by hand.")
            first = {LockState.FAILED: (again,), LockState.MANUAL: (there,)}.get(record.locked, ())
            return (*first, NextStep("Or end the lock:", _unlock(record.key.hire)))
        case Status.SUSPENDED if record.guarded and not record.uncounted:
            return (
                NextStep("See what would be done:", _dry_run(record.integration)),
                NextStep("Where that is meant, let it through once:", "reconcile --yes-really"),
            )
        case _:
            return ()


VALIDATE = "reconcile validate"


def needs_of_locks(locks: Iterable[Lock], records: Iterable[Record]) -> Iterator[Need]:
    """Sum up who is locked out, as long as an account is not locked, or git still wants the access."""
    rows = [record for record in records if record.locked is not None]
    for lock in locks:
        theirs = [each for each in rows if each.key.hire in lock.hires or each.email.lower() in lock.addresses]
        open_ = [each for each in theirs if each.locked is not LockState.DONE]
        wanted = [each for each in theirs if each.orphaned_at is None]
        if not (open_ or wanted):
            continue
        title = f"{lock.hire} is locked out"
        if open_:
            title += f", and {len(open_)} of {len(theirs)} accounts {'is' if len(open_) == 1 else 'are'} not locked"
        found = [NextStep("See where, and why:", f"reconcile status --hire {shlex.quote(lock.hire)}")] if open_ else []
        if wanted:
            found.append(NextStep(f"Take {lock.hire} out of git, which still wants the access, or set `end`."))
        found.append(NextStep("Or end the lock:", _unlock(lock.hire)))
        shown = tuple((open_ or wanted)[:EXAMPLES])
        yield Need(title, str(lock), tuple(found), Status.SUSPENDED, count=len(shown), grants=shown)


def _unlock(hire: str) -> str:
    return shlex.join(["reconcile", "unlock", hire])


def needs_of_grants(waiting: Iterable[tuple[int, Record]], outages: Mapping[str, list[Outage]]) -> Iterator[Need]:
    """Sum up grants: one need for each status of an integration. `waiting` is what `Pages.waiting` returns.

    If a service is down, that is the need, and its failed checks are not repeated.
    """
    down = {name: found[0] for name, found in outages.items() if found and found[0].until is None}
    for name, outage in down.items():
        title = f"{name} does not answer since {outage.since}"
        step = NextStep("Ask again, and read what it says:", _dry_run(name))
        yield Need(title, outage.reason, (step,), Status.UNKNOWN, name)
    groups: dict[tuple[str, Status], tuple[int, list[Record]]] = {}
    for count, record in waiting:
        groups.setdefault((record.integration, record.status), (count, []))[1].append(record)
    for (name, status), (count, records) in groups.items():
        if status is Status.UNKNOWN and name in down:
            continue
        many = f"{count} case{'' if count == 1 else 's'}"
        first = records[0]
        found = steps(first)
        if status is Status.FAILED and count > 1:
            found = (NextStep("Mend the cause, then start them afresh:", f"reconcile retry {_only(name)}"),)
        yield Need(
            f"{name}: {many} where access {_TITLES.get(status, status)}",
            first.reason,
            found,
            status,
            integration=name,
            count=count,
            urgent=status not in _TO_DECIDE,
            grants=tuple(records),
        )


def needs_of_git(
    stale: Stale | None, refused: Untrusted | None, fault: str | None, remote: str, branch: str | None
) -> Iterator[Need]:
    """Say what keeps the newest commits from being acted on."""
    if refused is not None and refused.unreadable:
        step = NextStep("See what git says, on this machine:", "git status")
        yield Need("The newest commit cannot be read", str(refused), (step,))
    elif refused is not None:
        vouch = shlex.join(["git", "update-ref", REF, refused.head])
        steps = (
            NextStep("See who made it, and have it signed:", shlex.join(["git", "show", "--stat", refused.head])),
            NextStep("Or vouch for it, on this machine:", vouch),
        )
        yield Need("The newest commit is not acted on", str(refused), steps)
    elif stale is not None and fault is None:
        fetch = shlex.join(["git", "fetch", "--", remote, *([branch] if branch else [])])
        step = NextStep("See what git says, on this machine:", fetch)
        yield Need(f"No new commit is taken over since {stale.since}", stale.reason, (step,))
    if fault is not None:
        yield Need(
            "The newest commit could not be taken over", fault, (NextStep("Read the files as they stand:", VALIDATE),)
        )


def needs_of_files(problems: Iterable[Problem]) -> Iterator[Need]:
    """Sum up the errors in the files in force."""
    wrong = [problem for problem in problems if problem.severity is Severity.ERROR]
    if wrong:
        title = "A file has an error" if len(wrong) == 1 else f"{len(wrong)} errors in files"
        step = NextStep("See each with its line, mend it, and commit:", VALIDATE)
        yield Need(title, str(wrong[0]), (step,), count=len(wrong))


def needs_of_accounts(unmanaged: Mapping[str, int]) -> Iterator[Need]:
    """Sum up the accounts that services have and git does not."""
    for name, count in sorted(unmanaged.items()):
        if count:
            title = f"{name}: {count} account{'' if count == 1 else 's'} that git does not know"
            reason = "nobody in git was given them; nothing is removed because of it"
            adopt = NextStep(
                "Take them into git, or name them in config/ignore.yaml:", f"reconcile adopt --all {_word(name)}"
            )
            see = NextStep("See whose they may be:", f"reconcile unmanaged {_only(name)}")
            strange = NextStep("Remove there, in the service itself, what is of nobody you know.")
            yield Need(title, reason, (see, adopt, strange), integration=name, count=count, urgent=False)


def needs_of_reviews(reviews: Iterable[ReviewProgress]) -> Iterator[Need]:
    """Sum up unfinished access reviews: one need for each period."""
    periods: dict[str, list[ReviewProgress]] = {}
    for review in reviews:
        periods.setdefault(review.file.period, []).append(review)
    for period, found in sorted(periods.items(), reverse=True):
        decisions = sum((review.decisions for review in found), Counter[str | None]())
        lines, undecided = decisions.total(), decisions[None]
        left, wrong = sum(review.open for review in found), sum(len(review.problems) for review in found)
        parts = [
            *([f"{undecided} of {lines} lines are not decided"] if undecided else []),
            *([f"{left} to be removed {'is' if left == 1 else 'are'} still there"] if left else []),
            *([f"{wrong} {'problem' if wrong == 1 else 'problems'} in its files"] if wrong else []),
        ]
        if parts:
            decide = f"Decide in config/reviews/{period}/ and commit; this says what is left:"
            step = NextStep(decide if undecided else "See which:", f"reconcile review check {_word(period)}")
            yield Need(f"The access review {period} is not done", "; ".join(parts), (step,), urgent=False)


def _of_service(record: Record) -> NextStep:
    """Say what to do about a grant that cannot be checked or cannot run."""
    if record.cause is Cause.INITIAL_DATA:
        text = "Give it a token that it takes:" if record.status is Status.UNKNOWN else "Give what is missing:"
        return NextStep(text, f"reconcile initial-data set {_word(record.service)}")
    if record.cause is Cause.CONNECTION:
        return NextStep("Connect it again:", f"reconcile oauth connect {_word(record.service)}")
    if record.status is Status.BLOCKED:
        return NextStep("See what it needs:", _about("explain", record.key))
    return NextStep("Ask again, and read what it says:", _dry_run(record.integration))


def _about(what: str, key: Key) -> str:
    return f"reconcile {what} {_word(*key)}"


def _word(*names: str) -> str:
    """Quote names as arguments of a command, after `--` if one looks like an option."""
    return shlex.join((["--"] if any(name.startswith("-") for name in names) else []) + list(names))


def _only(integration: str) -> str:
    return shlex.quote(f"--integration={integration}")


def _dry_run(integration: str) -> str:
    return f"reconcile --dry-run {_only(integration)}"
