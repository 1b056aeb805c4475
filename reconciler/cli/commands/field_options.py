"""`reconcile options`: show the choices of a form field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.context import run_in_context
from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.logs import set_up
from reconciler.cli.output.text import code, count, emit, printable
from reconciler.model.errors import RepositoryError, TransportError, UsageError
from reconciler.model.text import hint
from reconciler.model.value import replace
from reconciler.model.verdict import Unknown

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.model.manifest import FormField
    from reconciler.repository.files import Files
    from reconciler.repository.git.checkout import Tree
    from reconciler.requests.pages import Option

__all__ = ["options"]


@click.command()
@click.argument("integration", shell_complete=complete.integrations)
@click.argument("field", shell_complete=complete.fields)
@shared(csv=False)
def options(options: SharedOptions, integration: str, field: str) -> int:
    """Show the choices of a form field: its items, or what the service offers now.

    The first column is the value for a hire's `values`. You can also write a choice by its name: {name: …}.
    """
    from reconciler.cli.output.table import columns
    from reconciler.requests.template import plain, written

    redactor = set_up(options)
    found = run_in_context(options, redactor, lambda context: _options(context, integration, field))
    choices = redactor.redact_all([{"value": plain(option.value), "name": option.name} for option in found])
    shown = [[redactor.redact(text) for text in (written(option.value), option.name)] for option in found]
    headline = f"{integration} {field}: {count(len(found), 'choice')}"
    lines = columns([[printable(cell) for cell in row] for row in shown])
    items = [f"- {code(value)} {code(name)}" for value, name in shown]
    emit(options, choices, [headline, *(lines or [""])], markdown=[f"**{headline}**", "", *items])
    return 0


async def _options(context: Context, integration: str, field: str) -> list[Option]:
    from reconciler.engine.run.accepted import in_force
    from reconciler.requests.pages import Option

    tree = in_force(context).tree
    files = context.reader.load(tree)
    found = _field(files, integration, field)
    if not found.fetched:
        return [Option(item.id, item.name) for item in found.items or ()]
    return await _fetched(context, files, tree, integration, field)


def _field(files: Files, integration: str, name: str) -> FormField:
    """Find the field. Raises UsageError if it does not exist or has no choices."""
    loaded = files.manifests.get(integration)
    if loaded is None:
        if problems := files.broken["manifests"].get(integration):
            raise RepositoryError(f"the manifest of {integration} has an error: {problems[0].clause}: mend it first")
        raise UsageError(
            f"there is no manifests/{integration}.yaml in the commit in force{hint(integration, files.manifests)}"
        )
    form = {field.id: field for field in loaded.model.form}
    if name not in form:
        has = f"it has {', '.join(form)}" if form else "it has no form"
        raise UsageError(f"{loaded.path} has no form field {name}: {has}{hint(name, form)}")
    field = form[name]
    if field.type not in ("choice", "multiple_choice"):
        what = "any text fits" if field.type == "input" else "its value is made for each run"
        raise UsageError(f"{name} of {integration} has no choices: its type is {field.type}, {what}")
    return field


async def _fetched(context: Context, files: Files, tree: Tree, integration: str, field: str) -> list[Option]:
    """Ask the service for its choices. Raises Blocked and TransportError with the reason if it cannot be asked."""
    from reconciler.engine.observe.checker import Checker
    from reconciler.engine.observe.listings import Listings
    from reconciler.engine.observe.wiring import integrations_of
    from reconciler.engine.state import reading
    from reconciler.repository.desired import Desired

    def service_of(name: str) -> str:
        return files.manifests[name].model.service or name

    # Only this service's manifests, so that only its initial data is decrypted.
    wanted = service_of(integration)
    alone = replace(files, manifests={n: item for n, item in files.manifests.items() if service_of(n) == wanted})
    settings = files.settings
    with reading(context, settings, tree) as opened:
        desired = Desired(alone, context.clock.now().date())
        found = await integrations_of(context, desired, tree, settings, opened)
        meant = next(item for item in found if item.name == integration)
        meant.reachable()
        offered = await Checker(context.redactor, Listings(context.clock.now())).options(meant, field)
    if isinstance(offered, Unknown):
        raise TransportError(offered.reason, left=True)
    return offered
