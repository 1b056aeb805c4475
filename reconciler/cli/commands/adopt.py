"""`reconcile adopt`: write hires' files for accounts that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.commands.accounts import compared, known_integration
from reconciler.cli.context import run_in_context
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import count, emit_json, fit
from reconciler.model.errors import UsageError
from reconciler.repository.naming import line_in, modeline

if TYPE_CHECKING:
    from collections.abc import Collection

    from reconciler.engine.context import Context
    from reconciler.intake.adopt import Proposal
    from reconciler.repository.git.trees import Tree
    from reconciler.review.unmanaged import UnknownAccount

__all__ = ["adopt", "proposed"]


@click.command()
@click.argument("integration", shell_complete=complete.integrations)
@click.argument("accounts", metavar="[ACCOUNT]...", nargs=-1)
@option(
    "--all", "everybody", is_flag=True, help="Every account that git does not know, except ignored and orphaned ones."
)
@option("--write", is_flag=True, help="Write the files to the work tree: all of them, or none.")
@shared(csv=False)
def adopt(options: SharedOptions, integration: str, accounts: tuple[str, ...], *, everybody: bool, write: bool) -> int:
    """Print hires' files for existing accounts of INTEGRATION, or the line that an existing file lacks.

    The values come from `fields` of the manifest's list. With --write, an existing file gets the line, and no other
    byte of it changes. After you commit the files, the next pass finds the accounts and sends nothing.
    """
    from reconciler.intake.files import write_all

    if bool(accounts) == everybody:
        raise UsageError("name accounts, or take --all; `reconcile unmanaged` lists those that git does not know")
    redactor = set_up(options)
    found, refused = run_in_context(options, redactor, lambda context: proposed(context, integration, accounts))
    if write:
        before = {each.path: each.before for each in found if each.before is not None}
        write_all(options.repo, {each.path: each.content for each in found}, before)
    if options.output == "json":
        files = [{"hire": e.hire, "file": e.path, "new": e.before is None, "text": e.text} for e in found]
        emit_json({"files": redactor.redact_all(files), "written": write})
    else:
        text = "\n".join(f"# {each.path}\n{each.text}" for each in found)
        click.echo(fit(redactor.redact(text)), nl=False)
    for each in found:
        if each.also:
            note(f"{each.hire} is given {', '.join(each.also)} too: a pass makes what is not there yet", "warning")
    if write and found:
        next_steps = "`git add hires && git diff --staged`, commit, and `reconcile --dry-run`"
        note(f"{count(len(found), 'file')} written; next: {next_steps}")
    elif not (found or refused):
        note(f"{integration} has no account to adopt")
    for why in refused:
        note(f"not adopted: {redactor.redact(why)}", "error")
    return 1 if refused else 0


async def proposed(
    context: Context, integration: str, accounts: Collection[str] = (), *, into: Tree | None = None
) -> tuple[list[Proposal], list[str]]:
    """Propose files that adopt these accounts, or all that git does not know, and say who has to wait for a file.

    Raises NotAdopted.

    The listing is read with the manifest in force. The files are for the work tree, or for the new repository `into`.
    """
    from reconciler.engine.observe.wiring import integrations_of
    from reconciler.engine.run.accepted import in_force
    from reconciler.engine.state import reading
    from reconciler.intake.adopt import NotAdopted
    from reconciler.intake.adopt import adopt as adopted
    from reconciler.model.decision_inputs import Policy
    from reconciler.repository.config_files import IGNORE
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Reader

    tree = in_force(context).tree
    known_integration(context.reader.load(tree), integration)
    settings = context.reader.load(tree).settings
    beside = into or context.checkout.worktree()
    files = Reader().load(beside)
    broken = [each for problems in files.broken["sequences"].values() for each in problems]
    broken += [*files.broken["manifests"].get(integration, ()), *(p for p in files.problems if p.file == IGNORE)]
    if errors := sorted({str(each) for each in broken if each.severity == "error"}):
        raise NotAdopted(errors)
    desired = Desired(files, Policy.of(settings, context.clock.now()).today)
    (read,) = await compared(context, tree, [integration], beside=desired, remembered=into is None)
    if not read.complete:
        raise NotAdopted([f"{integration}: {read.fault or read.unlisted}"])
    chosen = _chosen(read.accounts, accounts)
    with reading(context, settings, tree) as opened:
        trusted = Desired(context.reader.load(tree), desired.today)
        there = await integrations_of(context, trusted, tree, settings, opened)
        meant = next(each for each in there if each.name == integration)
    head = modeline("hire", "hires") if into else line_in(context.checkout.root, "hire", "hires")
    proposals, refused = adopted(meant, chosen, desired, beside, head=head)
    known = [each for each in proposals if context.redactor.redact(each.text) != each.text]
    if known:
        raise NotAdopted([f"{each.hire}: its account holds a secret of the initial data" for each in known])
    return proposals, refused


def _chosen(found: list[UnknownAccount], accounts: Collection[str]) -> list[UnknownAccount]:
    """Choose the accounts of these names or addresses, or every unmanaged one."""
    from reconciler.intake.adopt import NotAdopted
    from reconciler.review.unmanaged import AccountKind

    if not accounts:
        return [each for each in found if each.kind is AccountKind.UNMANAGED]
    chosen, objections = [], []
    for name in dict.fromkeys(accounts):
        folded = name.lower()
        meant = [each for each in found if folded in (each.account.name.lower(), (each.email or "").lower())]
        if len(meant) == 1:
            chosen += meant
        elif meant:
            objections.append(f"{name}: {len(meant)} accounts are called so")
        else:
            objections.append(f"{name}: no such account that git does not know; `reconcile unmanaged` lists them")
    if objections:
        raise NotAdopted(objections)
    return chosen
