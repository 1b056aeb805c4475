"""`reconcile request`: ask for access on a branch of its own; list requests, and tidy those that ended.

`reconcile desk` serves a page where people without git ask for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.commands.files import compared
from reconciler.cli.context import context_of, until_stopped
from reconciler.cli.options import SharedOptions, key_and_value, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import code, columns, count, echo, emit, table_head
from reconciler.model.errors import LedgerError, SecretsError
from reconciler.model.grant import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.engine.context import Context, Revision
    from reconciler.intake.requesting import Asking
    from reconciler.model.grant import Record


class _WithDefault(click.Group):
    """A group whose other words are the integration that is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take everything that is no command and no --help for the arguments of `ask`."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["ask", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_WithDefault)
def request() -> None:
    """Ask for access for a while, list requests, and tidy those that ended.

    `reconcile request INTEGRATION --for 8h --reason TEXT` is short for `reconcile request ask INTEGRATION …`.
    """


@request.command()
@click.argument("integration", shell_complete=complete.integrations)
@option("--for", "lasts", envvar="RECONCILE_REQUEST_FOR", metavar="TIME", help="How long, such as 8h.")
@option(
    "--until",
    envvar="RECONCILE_REQUEST_UNTIL",
    metavar="WHEN",
    help="Until when: a date, or a time such as 2026-12-01T18:00.",
)
@option(
    "--at", envvar="RECONCILE_REQUEST_AT", metavar="WHEN", help="From when on: start, or a date.  [default: at once]"
)
@option("--reason", metavar="TEXT", required=True, help="Why.")
@option(
    "--hire",
    "hire",
    envvar="RECONCILE_REQUEST_HIRE",
    metavar="ID",
    shell_complete=complete.hires,
    help="For whom.  [default: git's user.email]",
)
@option("--value", "values", metavar="KEY=VALUE", multiple=True, help="A form field; repeatable.")
@option("--open", "opens", is_flag=True, help="Push the branch, and open a pull request at the settings' forge.")
@shared(csv=False)
def ask(
    options: SharedOptions,
    /,
    integration: str,
    *,
    values: tuple[str, ...],
    opens: bool,
    **asked: Any,
) -> int:
    """Ask for an integration, on a branch of its own.

    Commits a file in config/requests/ to a new branch, from the newest commit of the branch in force. The same
    request while one waits is that one. With --open its pull request is opened, and its address printed; the
    token is RECONCILE_FORGE_TOKEN. Exits with 1 where the request is refused, and says what may be asked for.
    """
    from reconciler.intake.requesting import Asked

    given = Asked(integration=integration, values=_values(values), **asked)
    asking = _asking(options)
    found = asking.wait_or_commit(given, opens=opens)
    url = None
    if opens:
        pull, warnings = asking.opened(found, partial(_description, asking.context))
        url = pull.url
        for each in warnings:
            note(each)
    emit(options, {**found.as_json(), "url": url}, [url or f"{found.branch}: config/requests/{found.stem}.yaml"])
    if url is None and options.output != "json":
        note("next: the same with --open, or push the branch and open a pull request")
    return 0


@request.command(name="list")
@shared(csv=False)
def list_(options: SharedOptions) -> int:
    """Show what waits on branches, holds and ended."""
    asking = _asking(options)
    found = [each.as_json() for each in asking.known(_records(asking.force))]
    head = ["request", "hire", "integration", "state", "until", "reason"]
    told = [each | ({"state": f"refused: {each['refused']}"} if "refused" in each else {}) for each in found]
    rows = [[str(each[name] or "") for name in head] for each in told]
    lines = columns([head, *rows]) if rows else ["there is no request, here or on a branch"]
    emit(options, found, lines, markdown=[*table_head(head), *(f"| {' | '.join(map(code, row))} |" for row in rows)])
    return 0


@request.command()
@option(
    "--branch", metavar="B", envvar="RECONCILE_TIDY_BRANCH", help="Take them out on this branch, for a pull request."
)
@shared(csv=False, branch=False)
def tidy(options: SharedOptions, branch: str | None) -> int:
    """Take out the files of requests that ended.

    In the work tree, or on a branch. Needs the state: a file stays until what it gave is revoked.
    """
    from reconciler.intake.requesting import FOLDER, State
    from reconciler.repository.git.branches import commit_to_branch, refuse_branch

    asking = _asking(options)
    if branch is not None:
        refuse_branch(asking.context.checkout, branch, asking.force.branch)
    records = _kept(asking.force)
    if not records:
        raise LedgerError("there is no state here that says what ended: run this where the daemon's state is")
    paths = [
        asking.files.requests[each.stem].path
        for each in asking.known(records)
        if each.state == State.ENDED
        and each.refused is None
        and (Key(each.asked.hire, each.stem) in records or each.asked.hire in asking.files.hires)
    ]
    if branch is not None and paths:
        message = f"Take out {count(len(paths), 'request')} that ended\n"
        commit_to_branch(asking.context.checkout, asking.tree.revision, branch, dict.fromkeys(paths), message)
    for path in paths if branch is None else ():
        (asking.context.checkout.root / path).unlink(missing_ok=True)
    emit(options, paths, paths or [f"no request in {FOLDER}/ ended"])
    if paths:
        note(f"committed to {branch}" if branch is not None else "next: `git add config/requests`, and commit")
    return 0


def _description(context: Context, base: str, head: str) -> str:
    """Describe what a branch changes, for its pull request."""
    from reconciler.cli.output.difference import as_markdown

    return as_markdown(compared(context.checkout, base, head)[0])


def _asking(options: SharedOptions) -> Asking:
    from reconciler.intake.requesting import Asking

    asking = Asking(context_of(options))
    if asking.fault is not None:
        note(asking.fault)
    return asking


def _records(force: Revision) -> Mapping[Key, Record]:
    """Return what the ledger has, where there is one that can be read."""
    with suppress(LedgerError, SecretsError):
        return _kept(force)
    return {}


def _kept(force: Revision) -> Mapping[Key, Record]:
    with force.location.reader() as ledger:
        return {record.key: record for record in ledger.grants.records()}


def _values(given: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in map(key_and_value, given):
        values[name] = [*values.get(name, []), value]
    return {name: several[0] if len(several) == 1 else several for name, several in values.items()}


def _listening(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    from reconciler.model.addresses import listening

    try:
        return listening(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Read an address; an empty one, as of a Compose file's variable that is not set, is none."""
    from reconciler.transports.address import parse

    if value and parse(value) is None:
        raise click.BadParameter("not an address: write it as https://access.example.com")
    return value or None


@click.command()
@option(
    "--listen",
    callback=_listening,
    metavar="HOST:PORT",
    envvar="RECONCILE_DESK_LISTEN",
    default="127.0.0.1:8090",
    help="Where to serve it.",
    show_default=True,
)
@option(
    "--public-url",
    metavar="URL",
    callback=_address,
    help="Its own address, which a form's Origin has to be.  [default: the Host]",
)
@option(
    "--status",
    callback=_address,
    metavar="URL",
    envvar="RECONCILE_DESK_STATUS",
    help="The daemon's address, to show how far a request is.",
)
@shared()
def desk(options: SharedOptions, listen: str, public_url: str | None, status: str | None) -> int:
    """Serve a page where people without git ask for access.

    Who is signed in is what the proxy of `pages.trusted_header` says; without that setting it does not start. It needs
    a clone and RECONCILE_FORGE_TOKEN, and neither a key nor the state. It never merges: give it a token that cannot.
    """
    import asyncio

    from reconciler.engine.context import SystemClock
    from reconciler.web.desk import Desk, statuses
    from reconciler.web.serve import serving

    def status_of(hire: str) -> Mapping[str, str]:
        return statuses(status, os.environ.get("RECONCILE_PAGES_TOKEN") or None, hire) if status else {}

    async def run() -> None:
        clock = SystemClock()
        served = Desk(context_of(options, redactor, clock), public_url, _description, status_of).application()
        with until_stopped(clock):
            async with serving(served, listen) as address:
                echo(f"http://{address}/")
                await clock.stopping.wait()

    redactor = set_up(options)
    asyncio.run(run())
    return 0
