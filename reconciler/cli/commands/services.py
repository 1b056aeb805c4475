"""`reconcile oauth connect`: authorize a service in a browser; `reconcile options`: show the choices of its fields."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, run_in_context
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import as_json, code, columns, count, echo, emit
from reconciler.model.errors import RepositoryError, TransportError, UsageError
from reconciler.model.text import hint
from reconciler.model.value import replace
from reconciler.model.verdict import Unknown

if TYPE_CHECKING:
    from reconciler.engine.context import Context, Revision
    from reconciler.engine.state import OpenState
    from reconciler.model.form import FormField
    from reconciler.repository.files import Files
    from reconciler.requests.pages import Option

POLL_SECONDS = 0.25
"""How often to read the outcome of the authorization."""


def _span(_ctx: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    from reconciler.model.base import duration

    try:
        return duration(int(value) if value.isascii() and value.isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def oauth() -> None:
    """Connect services that use OAuth."""


@oauth.command(short_help="Authorize a service, in a browser")
@click.argument("integration", shell_complete=complete.services)
@option("--timeout", default="10m", show_default=True, callback=_span, help="How long to wait for the callback.")
@shared(csv=False)
def connect(options: SharedOptions, integration: str, timeout: timedelta) -> int:
    """Authorize an integration: open the URL that is printed, and allow access.

    If a daemon runs, it serves the callback on `listen`, otherwise this command does. INTEGRATION may also be the name
    of a service or an import.
    """
    redactor = set_up(options)
    why = run_in_context(options, redactor, lambda context: _connect(context, options, integration, timeout))
    if why:
        note(f"error: {integration} is not connected: {redactor.redact(why)}", "error")
        return 1
    if options.output != "json":
        echo(f"{integration} is connected")
    return 0


async def _connect(context: Context, options: SharedOptions, integration: str, timeout: timedelta) -> str:  # noqa: ASYNC109
    """Begin, and wait; return why it is not connected, or an empty text."""
    import asyncio

    from reconciler.daemon.authorize import begin, outcome, shared_state

    force = Here(context).force
    listen = force.settings.listen
    with shared_state(force) as state:
        authorization = await begin(force, state, integration)
        async with AsyncExitStack() as stack:
            if _in_use(listen):
                note(
                    f"waiting for the daemon that listens on {listen} to be called back; if another program has that "
                    "port, free it, or set another `listen`"
                )
            else:
                await stack.enter_async_context(_serving_callback(force, state))
                note(f"waiting on {listen} to be called back")
            # Not redacted, unlike anywhere else: the person has to open it, with its client id and state.
            echo(as_json({"url": authorization.url}) if options.output == "json" else authorization.url)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout.total_seconds()):
                    # Another process may serve the callback: only the ledger shows what came of it.
                    while (result := await outcome(state, authorization)) is None:  # noqa: ASYNC110
                        await asyncio.sleep(POLL_SECONDS)
                    return result
        return f"nobody came back within {timeout.total_seconds():g} s"


def _serving_callback(revision: Revision, state: OpenState) -> Any:
    from starlette.applications import Starlette

    from reconciler.daemon.authorize import callback
    from reconciler.web.serve import callback_route, in_this_loop, serving

    answer = in_this_loop(partial(callback, revision, state))
    return serving(Starlette(routes=[callback_route(answer)]), revision.settings.listen)


def _in_use(listen: str) -> bool:
    """Whether another process listens there already."""
    import socket

    host, _, port = listen.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=2):
        return True
    return False


@click.command()
@click.argument("integration", shell_complete=complete.integrations)
@click.argument("field", shell_complete=complete.fields)
@shared(csv=False)
def options(options: SharedOptions, integration: str, field: str) -> int:
    """Show the choices of a form field: its items, or what the service offers now.

    The first column is the value for a hire's `values`. You can also write a choice by its name: {name: …}.
    """
    from reconciler.requests.template import plain, written

    redactor = set_up(options)
    found = run_in_context(options, redactor, lambda context: _options(context, integration, field))
    choices = redactor.redact_all([{"value": plain(option.value), "name": option.name} for option in found])
    shown = [[redactor.redact(text) for text in (written(option.value), option.name)] for option in found]
    headline = f"{integration} {field}: {count(len(found), 'choice')}"
    lines = columns(shown)
    items = [f"- {code(value)} {code(name)}" for value, name in shown]
    emit(options, choices, [headline, *(lines or [""])], markdown=[f"**{headline}**", "", *items])
    return 0


async def _options(context: Context, integration: str, field: str) -> list[Option]:
    from reconciler.requests.pages import Option

    here = Here(context)
    found = _field(here.files, integration, field)
    if not found.fetched:
        return [Option(item.id, item.name) for item in found.items or ()]
    return await _fetched(here, integration, field)


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


async def _fetched(here: Here, integration: str, field: str) -> list[Option]:
    """Ask the service for its choices. Raises Blocked and TransportError with the reason if it cannot be asked."""
    from reconciler.engine.observe.checker import Checker
    from reconciler.engine.observe.listings import Listings
    from reconciler.engine.observe.wiring import integrations_of
    from reconciler.engine.state import reading
    from reconciler.repository.desired import Desired

    context, files = here.context, here.files
    # Only this service's manifests, so that only its initial data is decrypted.
    names = here.desired.services[here.desired.service_of(integration)].manifests
    alone = replace(files, manifests={name: files.manifests[name] for name in names})
    with reading(here.force) as opened:
        desired = Desired(alone, context.clock.now().date())
        meant = (await integrations_of(here.force, desired, opened))[integration]
        meant.reachable()
        offered = await Checker(context.redactor, Listings(context.clock.now())).options(meant, field)
    if isinstance(offered, Unknown):
        raise TransportError(offered.reason, left=True)
    return offered
