"""`reconcile import`: read people from another system and write hires' files for a reviewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, context_of
from reconciler.cli.options import PENDING, SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import clipped, code, count, echo, emit_json
from reconciler.model.errors import NothingImported, RepositoryError, UsageError
from reconciler.model.text import hint, printable
from reconciler.model.value import replace
from reconciler.repository.naming import line_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.intake.importing import HireChange, ImportPlan
    from reconciler.intake.reading import LeftOut, SourceRecords
    from reconciler.ledger.sealing import ReadState
    from reconciler.model.imports import Import
    from reconciler.model.secret import Redactor
    from reconciler.repository.files import Files
    from reconciler.repository.git.trees import Tree

SHORTER = (100, 25, 5, 0)
"""The most people of a kind that a pull request's text names: the first that fits `LIMIT`."""

MAX_LENGTH = 200
"""The most characters of one field of one person."""

MAX_NAMED = 10
"""Of those who are left out, so many are named in an error."""


@click.command(name="import")
@click.argument("name", shell_complete=complete.imports)
@option("--write", is_flag=True, help="Change the files in the work tree.")
@option(
    "--branch",
    metavar="B",
    envvar="RECONCILE_IMPORT_BRANCH",
    help="Commit the changes to this branch, on top of the revision in force.",
)
@option(
    "--yes-really", envvar="RECONCILE_IMPORT_YES_REALLY", is_flag=True, help="Allow a change of too many hires, once."
)
@shared(csv=False, branch=False)
def import_(options: SharedOptions, name: str, branch: str | None, *, write: bool, yes_really: bool) -> int:
    """Show what the import NAME would change in the hires' files, or change it.

    Without an option nothing is written. --branch changes neither the branch in force nor the work tree. Exits with 0
    if there is nothing to do, with 2 if changes are pending or were written, and with 1 on an error.
    """
    import asyncio

    from reconciler.intake.files import write_all
    from reconciler.repository.git.branches import commit_to_branch

    if write and branch is not None:
        raise UsageError("--write changes the work tree and --branch a branch: give one of them")
    redactor = set_up(options)
    run = _ImportRun(options, redactor, name, branch)
    plan = asyncio.run(run.plan())
    if options.output == "json":
        emit_json(redactor.redact_all(plan.as_json()))
    else:
        echo(redactor.redact(_markdown(plan) if options.output == "markdown" else "\n".join(_table(plan))))
    for line in plan.notes:
        note(line)
    if plan.refusal is not None and not yes_really:
        raise NothingImported(plan.refusal)
    if not plan.changes:
        return 0
    files, root = {each.file: each.content for each in plan.changes}, run.context.checkout.root
    if write:
        write_all(root, files, {each.file: each.before for each in plan.changes if each.before is not None})
        next_steps = "`git add hires && git diff --staged`, commit, and `reconcile validate`"
        note(f"{count(len(plan.changes), 'file')} written; next: {next_steps}")
    elif branch is not None:
        parts = "\n".join(f"{word}: {len(of)}" for word, of in _parts(plan) if of)
        message = f"Import people from {plan.source}\n\n{parts}\n"
        commit = commit_to_branch(run.context.checkout, run.tree.revision, branch, files, message)
        note(f"committed to {branch}: {commit[:12]}")
    else:
        note(f"nothing is written; next: `reconcile import {name} --write`, or --branch for a pull request")
    return PENDING


class _ImportRun:
    """One call of the command: the tree to change, and the tree whose import is trusted."""

    def __init__(self, options: SharedOptions, redactor: Redactor, name: str, branch: str | None) -> None:
        from reconciler.engine.context import Revision
        from reconciler.repository.git.branches import refuse_branch
        from reconciler.repository.git.trees import WORKTREE

        self.name = name
        self.context = context_of(options, redactor)
        checkout = self.context.checkout
        force = None if branch is None and checkout.head_id() is None else Here(self.context).force
        if branch is not None and force is not None:
            refuse_branch(checkout, branch, force.branch)
        signed = force is not None and force.settings.git.verify_signatures
        # With `source: worktree`, a branch is made from HEAD.
        self.tree: Tree = checkout.worktree()
        if branch is not None and force is not None:
            self.tree = checkout.head() if force.tree.revision == WORKTREE else force.tree
        # Where commits have to be signed, uncommitted files may not say where requests go.
        trusted = force.tree if force is not None and signed else self.tree
        self.trusted = Revision.at(self.context, trusted)

    async def plan(self) -> ImportPlan:
        from reconciler.intake.importing import Importer
        from reconciler.intake.reading import people_of, without_secrets

        context = self.context
        try:
            trusted = self.trusted.files
            loaded = self._import(trusted)
            if loaded.file is None:
                reading = await self._asked(trusted)
            else:
                from reconciler.intake.reading import could_be_added, csv_file, read_csv

                path = csv_file(context.checkout, loaded)
                if could_be_added(context.checkout, path):
                    note(f"{loaded.file} is in the checkout and not ignored: add it to .gitignore")
                reading = read_csv(path, loaded)
        finally:
            await context.aclose()
        people = without_secrets(people_of(reading, loaded), context.redactor)
        if not people.taken:
            raise NothingImported(_empty(reading, self.name, people.left_out))
        hires = (trusted if self.trusted.tree is self.tree else context.reader.load(self.tree)).hires
        percent, today = trusted.settings.max_change_percent, self.trusted.today
        head = line_in(context.checkout.root, "hire", "hires")
        importer = Importer(name=self.name, imported=loaded, hires=hires, today=today, head=head)
        plan = importer.plan(people, whole=reading.whole, percent=percent)
        plan.notes += _unused_paths(reading, loaded)
        return plan

    def _import(self, files: Files) -> Import:
        if self.name in files.imports:
            return files.imports[self.name].model
        if problems := files.broken["imports"].get(self.name):
            raise RepositoryError(f"the import {self.name} has an error: {problems[0].clause}: mend it first")
        where = "" if self.tree.revision == "worktree" else f" at {self.tree.revision[:12]}, the revision in force"
        known = hint(self.name, files.imports)
        raise UsageError(f"there is no config/imports/{self.name}.yaml{where}{known}")

    async def _asked(self, files: Files) -> SourceRecords:
        from reconciler.daemon.authorize import renewing_state
        from reconciler.engine.context import SystemClock
        from reconciler.engine.state import reading

        imported = files.imports[self.name].model
        if imported.oauth is None or imported.oauth.grant is not None:
            with reading(self.trusted) as read:
                return await self._asked_with(files, read)
        async with renewing_state(self.trusted, SystemClock(), self.name) as renewing:
            return await self._asked_with(files, renewing.read_only)

    async def _asked_with(self, files: Files, state: ReadState) -> SourceRecords:
        from reconciler.engine.observe.wiring import integrations_of
        from reconciler.intake.reading import as_integrations, ask
        from reconciler.repository.desired import Desired

        desired = Desired(as_integrations(files, self.name), self.context.clock.now().date())
        (integration,) = (await integrations_of(self.trusted, desired, state)).values()
        if (connection := integration.connection) is not None and connection.fetches:
            integration = replace(integration, connection=connection.apart())
        integration.reachable()
        return await ask(integration, files.imports[self.name].model)


def _empty(reading: SourceRecords, name: str, left_out: Sequence[LeftOut]) -> str:
    if not reading.items:
        return f"{name} gave nobody at all, which is taken for a mistake: nothing was changed"
    named = "; ".join(f"{one.called}: {one.reason}" for one in left_out[:MAX_NAMED])
    more = f"; and {len(left_out) - MAX_NAMED} more" if len(left_out) > MAX_NAMED else ""
    why = f", and all are left out ({named}{more})" if left_out else ", and `only` takes none of them"
    return f"{name} gave {len(reading.items)} items{why}: look at data_structure and `only`; nothing was changed"


def _unused_paths(reading: SourceRecords, imported: Import) -> Iterator[str]:
    """Note the paths at which no item has a value: most likely a typo."""
    from reconciler.model.imports import ByAddress

    for key, source in imported.fills.items():
        path = source.hire if isinstance(source, ByAddress) else source
        if all(reading.at(item, path) is None for item in reading.items):
            yield f"{key}: nobody has anything at {path}"


def _parts(plan: ImportPlan) -> tuple[tuple[str, list[HireChange]], ...]:
    return ("created", plan.created), ("changed", plan.changed), ("ended", plan.ended)


def _headline(plan: ImportPlan) -> str:
    parts = [f"{len(of)} {word}" for word, of in _parts(plan) if of]
    left = [f"{len(plan.left_out)} left out"] if plan.left_out else []
    return f"{plan.source}: {', '.join([*parts, *left]) or 'nothing to do'}"


def _differences(change: HireChange) -> Iterator[tuple[str, str]]:
    """Write each field that changes, and how."""
    for key, (old, new) in change.fields.items():
        yield key, _text(new) if old is None else f"{_text(old)} → {_text(new)}"


def _text(value: Any) -> str:
    return f"{{hire: {value['hire']}}}" if isinstance(value, dict) and "hire" in value else str(value)


def _table(plan: ImportPlan) -> list[str]:
    lines = [_headline(plan)]
    for word, of in _parts(plan):
        for each in of:
            how = "; ".join(f"{key}: {clipped(text, MAX_LENGTH)}" for key, text in _differences(each))
            lines.append(printable(f"{word}  {each.file}  {how}"))
    for one in plan.left_out:
        where = f" ({one.file})" if one.file else ""
        lines.append(printable(f"left out  {one.called}{where}: {one.reason}"))
    return lines


def _markdown(plan: ImportPlan) -> str:
    from reconciler.cli.output.difference import LIMIT

    texts = ("\n".join(_markdown_lines(plan, most)) for most in SHORTER)
    return next((text for text in texts if len(text) < LIMIT), f"**{_headline(plan)}**")


def _markdown_lines(plan: ImportPlan, most: int) -> list[str]:
    lines = [f"**{_headline(plan)}**"]
    for word, of in _parts(plan):
        if of:
            lines += ["", f"{word}:", ""]
            for each in of[:most]:
                how = ", ".join(f"{code(key)} {code(clipped(text, MAX_LENGTH))}" for key, text in _differences(each))
                lines.append(f"- {code(each.file)}: {how}")
            lines += _more(of, most)
    if plan.left_out:
        told = ((one.called, one.reason) for one in plan.left_out[:most])
        lines += ["", "left out:", "", *(f"- {': '.join(code(clipped(it, MAX_LENGTH)) for it in one)}" for one in told)]
        lines += _more(plan.left_out, most)
    notes = [f"- {code(clipped(note, MAX_LENGTH))}" for note in plan.notes[:most]]
    return [*lines, "", *notes, *_more(plan.notes, most)] if plan.notes else lines


def _more(of: Sequence[object], most: int) -> list[str]:
    return [f"- and {len(of) - most} more"] if len(of) > most else []
