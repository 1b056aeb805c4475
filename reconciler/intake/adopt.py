"""Propose hires' files for existing accounts: a new file, or the line that an existing hire's file lacks.

The proposed files are read with all others, as if they were on disk, before any is written: each entry has to be valid,
and its check has to find the account that it is for. Otherwise nothing is proposed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import found_by
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.run.accepted import in_force
from reconciler.engine.state import reading
from reconciler.intake.files import hire_text, stem_of
from reconciler.intake.yaml_edit import block_item, with_item
from reconciler.model.base import as_text, day
from reconciler.model.errors import Problem, ReconcilerError, Severity
from reconciler.model.hire import DAYS, EXTRA
from reconciler.model.template import PLACEHOLDER
from reconciler.model.value import Frozen, replace
from reconciler.repository.config_files import IGNORE
from reconciler.repository.desired import Desired
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.files import Reader
from reconciler.repository.git.trees import OverlayTree, Tree
from reconciler.repository.naming import line_in, modeline
from reconciler.repository.parsing import read_hire
from reconciler.review.findings import MissingValues
from reconciler.review.population import compared, known_integration
from reconciler.review.unmanaged import AccountKind, UnknownAccount

MOST = 20
"""The most objections that are shown."""


class NotAdopted(ReconcilerError):
    """An account cannot be adopted; nothing was written."""

    def __init__(self, why: Sequence[str]) -> None:
        more = [f"and {len(why) - MOST} more"] if len(why) > MOST else []
        super().__init__("\n".join([*why[:MOST], *more, "nothing is adopted"]))


class Proposal(Frozen):
    """A hire's file after adoption: `text` is what is new in it, `before` its old content, if any."""

    hire: str
    path: str
    text: str
    content: bytes
    before: bytes | None = None
    also: tuple[str, ...] = ()
    """What else a new hire is given, by sequences that its fields match."""


async def proposed(
    context: Context, integration: str, accounts: Collection[str] = (), *, into: Tree | None = None
) -> tuple[list[Proposal], list[str]]:
    """Propose files that adopt these accounts, or all that git does not know, and say who has to wait for a file.

    Raises NotAdopted.

    The listing is read with the manifest in force. The files are for the work tree, or for the new repository `into`.
    """
    revision = in_force(context)
    known_integration(revision.files, integration)
    beside = into or context.checkout.worktree()
    files = Reader().load(beside)
    broken = [each for problems in files.broken["sequences"].values() for each in problems]
    broken += [*files.broken["manifests"].get(integration, ()), *(p for p in files.problems if p.file == IGNORE)]
    if errors := sorted({str(each) for each in broken if each.severity == "error"}):
        raise NotAdopted(errors)
    desired = Desired(files, revision.today)
    (read,) = await compared(revision, [integration], beside=desired, remembered=into is None)
    if not read.complete:
        raise NotAdopted([f"{integration}: {read.fault or read.unlisted}"])
    chosen = _chosen(read.accounts, accounts)
    with reading(revision) as opened:
        trusted = Desired(revision.files, desired.today)
        meant = (await integrations_of(revision, trusted, opened))[integration]
    head = modeline("hire", "hires") if into else line_in(context.checkout.root, "hire", "hires")
    proposals, refused = adopt(meant, chosen, desired, head=head)
    known = [each for each in proposals if context.redactor.redact(each.text) != each.text]
    if known:
        raise NotAdopted([f"{each.hire}: its account holds a secret of the initial data" for each in known])
    return proposals, refused


def _chosen(found: list[UnknownAccount], accounts: Collection[str]) -> list[UnknownAccount]:
    """Choose the accounts of these names or addresses, or every unmanaged one; one that is listed twice is one."""
    found = list({(each.account.name, each.account.who): each for each in found}.values())
    if not accounts:
        return [each for each in found if each.kind is AccountKind.UNMANAGED]
    chosen, objections = dict[str, UnknownAccount](), list[str]()
    for name in dict.fromkeys(accounts):
        folded = name.lower()
        meant = [each for each in found if folded in (each.account.name.lower(), (each.email or "").lower())]
        if len(meant) == 1:
            chosen[meant[0].account.name] = meant[0]
        elif meant:
            objections.append(f"{name}: {len(meant)} accounts are called so")
        else:
            objections.append(f"{name}: no such account that git does not know; `reconcile unmanaged` lists them")
    if objections:
        raise NotAdopted(objections)
    return list(chosen.values())


def adopt(
    integration: Integration, chosen: Iterable[UnknownAccount], desired: Desired, *, head: str
) -> tuple[list[Proposal], list[str]]:
    """Return the files that give hires these accounts beside those of what is desired, and why others have none.

    New files begin with the lines of `head`. Whose file cannot be read is refused, and nobody else for it.

    Raises NotAdopted with all that is in the way.
    """
    chosen = list(chosen)
    objections: list[str] = []
    proposals: dict[str, tuple[Proposal, UnknownAccount]] = {}
    refused: list[str] = []
    broken, tree = [*_broken(desired)], desired.hires.tree
    stems = {stem.casefold(): path for stem, path in _stems(tree)}
    for found in chosen:
        if (whose := _broken_file(found, broken)) is not None:
            refused.append(f"{found.account.name}: {whose}")
            continue
        try:
            proposal = _proposed(integration, found, desired, stems, head=head)
        except ReconcilerError as error:
            objections.append(f"{found.account.name}: {error}")
            continue
        if proposal.path in proposals:
            objections.append(f"{found.account.name}: another account here is {proposal.hire}'s too: adopt one of them")
            continue
        stems.setdefault(proposal.hire.casefold(), proposal.path)
        proposals[proposal.path] = (proposal, found)
    if objections:
        raise NotAdopted(objections)
    after = OverlayTree({path: proposal.content for path, (proposal, _) in proposals.items()}, tree)
    wanted = Desired(Reader().load(after), desired.today)
    objections = [*_judged(integration, proposals, wanted, desired)]
    if objections:
        raise NotAdopted(objections)
    made = [replace(proposal, also=_also(proposal, wanted, integration.name)) for proposal, _ in proposals.values()]
    return made, refused


def _broken(desired: Desired) -> Iterator[tuple[str, str, Problem]]:
    """Return the id, the text and the problem of each hire's file that cannot be read."""
    tree = desired.hires.tree
    for stem, problems in desired.broken_hires.items():
        for path in sorted({problem.file for problem in problems}):
            file = tree.find(path)
            try:
                text = "" if file is None else tree.read(file).decode(errors="replace")
            except BrokenFile:
                text = ""
            yield stem.casefold(), text.casefold(), problems[0]


def _broken_file(found: UnknownAccount, broken: Iterable[tuple[str, str, Problem]]) -> str | None:
    """Return the problem of a file that may be the account's person's: it is called so, or has their address."""
    address = (found.email or "").casefold()
    for stem, text, problem in broken:
        if stem == _stem_of(found).casefold() or (address and address in text):
            return problem.clause
    return None


def _stem_of(found: UnknownAccount) -> str:
    return stem_of((found.email or "").partition("@")[0].lower())


def _also(proposal: Proposal, wanted: Desired, integration: str) -> tuple[str, ...]:
    if proposal.before is not None:
        return ()
    others = (grant for grant in wanted.grants(proposal.hire) if grant.key.access != integration)
    return tuple(f"{grant.key.access} ({grant.source})" for grant in others)


def _stems(tree: Tree) -> Iterator[tuple[str, str]]:
    for file in tree.files("hires"):
        name = file.path.rpartition("/")[2]
        yield name.rpartition(".")[0] or name, file.path


def _proposed(
    integration: Integration, found: UnknownAccount, desired: Desired, stems: Mapping[str, str], *, head: str
) -> Proposal:
    if found.email is None and found.hire is None:
        raise ReconcilerError("it has no address: let `fields` of the manifest's list say where that stands")
    values = _values(integration, found)
    entry: str | dict[str, Any] = integration.name
    if values:
        entry = {"integration": integration.name, "values": values}
    owner = found.hire or desired.owner(found.email or "")
    if owner is not None:
        loaded = desired.hires[owner]
        if (there := desired.entries.of(loaded).get(integration.name)) is not None:
            path = there.source.rpartition(":")[0]
            raise ReconcilerError(f"{path} has an entry named {integration.name} already: add one by hand, with a name")
        before = read_hire(desired.hires.tree, desired.hires.index.file(owner))
        text = "".join(f"{line}\n" for line in ("access:", *block_item(entry, 2)))
        return Proposal(owner, loaded.path, text, with_item(before, loaded.path, "access", entry), before)
    stem = _stem_of(found)
    if not stem:
        raise ReconcilerError(f"no file can be called after {found.email}: write one by hand")
    if (taken := stems.get(stem.casefold())) is not None:
        raise ReconcilerError(f"its file would be hires/{stem}.yaml, and {taken} is there: write one by hand")
    text = hire_text({**_person(found), "access": [entry]}, head)
    return Proposal(stem, f"hires/{stem}.yaml", text, text.encode())


def _values(integration: Integration, found: UnknownAccount) -> dict[str, Any]:
    """Return the form's values from the listing: those of its URL, and a field that `expected` is."""
    values: dict[str, Any] = dict(found.values)
    exists = integration.manifest.exists
    whole = PLACEHOLDER.fullmatch((exists.expected or "") if exists is not None else "")
    if (
        whole is not None
        and found.account.who is not None
        and whole[1] in {each.id for each in integration.manifest.form}
    ):
        values.setdefault(whole[1], found.account.who)
    return values


def _person(found: UnknownAccount) -> dict[str, Any]:
    """Return the keys of a hire that the listing fills, without values of a wrong type or empty ones."""
    person: dict[str, Any] = {"email": found.email, "first_name": "", "last_name": ""}
    for key, value in found.account.fields.items():
        text = as_text(value)
        if key.startswith(EXTRA):
            person[key] = value
        elif key in DAYS and isinstance(text, str):
            try:
                person[key] = day(text[:10])
            except ValueError:
                continue
        elif key != "email" and isinstance(text, str) and text.strip():
            person[key] = text
    return person


def _judged(
    integration: Integration,
    proposals: Mapping[str, tuple[Proposal, UnknownAccount]],
    wanted: Desired,
    desired: Desired,
) -> Iterator[str]:
    """Return the problems of the files once they are added, and accounts that a pass would not find."""
    new = {*wanted.files.problems} - {*desired.files.problems}
    yield from sorted(problem.clause for problem in new if problem.severity is Severity.ERROR)
    lacking = MissingValues(wanted)
    for proposal, found in proposals.values():
        if proposal.hire not in wanted.hires:
            continue  # its file is reported above
        grants = [grant for grant in wanted.grants(proposal.hire) if grant.key.access == integration.name]
        gaps = [f"{proposal.path}: {grant.hold.reason}" for grant in grants if grant.hold is not None]
        gaps += [problem.clause for problem in lacking.of(proposal.hire, grants)]
        yield from gaps
        looked_for = [found_by(integration, integration.scope(grant.layers))[1] for grant in grants]
        if not gaps and [_lower(each) for each in looked_for] != [_lower(found.account.who)]:
            instead = looked_for[0] if grants else "nothing"
            yield f"{found.account.name}: a pass would not find it, but look for {instead}"


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
