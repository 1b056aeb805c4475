"""`reconcile validate`: every problem of every file, offline."""

from __future__ import annotations

import click

from reconciler.cli.options import Asked, option, shared

__all__ = ["validate"]


@click.command()
@option("--worktree", is_flag=True, help="Read the uncommitted files instead of the commit.")
@option("--rev", metavar="REV", help="Read another commit.")
@shared
@click.pass_obj
def validate(asked: Asked, worktree: bool, rev: str | None) -> int:
    """Read every file and report every problem with file, line and what to do; list the hosts requests would go to.

    Offline: asks nobody, needs no key. Exits with 1 where a file has an error.
    """
    from datetime import UTC, datetime

    from reconciler.cli.show import emit_json
    from reconciler.engine.review import hosts_of, problems_of
    from reconciler.model.errors import Severity, SettingsError
    from reconciler.repository.files import Reader
    from reconciler.repository.source import Checkout

    checkout, reader = Checkout.open(asked.repo), Reader()
    tree = checkout.worktree() if worktree else checkout.at(rev) if rev else checkout.current("commit")
    hosts = []
    try:
        files = reader.load(tree)
    except SettingsError as error:
        problems = error.problems
    else:
        problems = problems_of(files, datetime.now(UTC))
        hosts = hosts_of(files)
    wrong = sum(problem.severity is Severity.ERROR for problem in problems)
    if asked.output == "json":
        emit_json({"problems": [problem.as_json() for problem in problems], "hosts": [host.as_json() for host in hosts]})
        return 1 if wrong else 0
    story = f"{wrong} error{'s' if wrong != 1 else ''}, {len(problems) - wrong} warnings"
    click.echo(f"{story if problems else 'all files are in order'}; requests would go to {len(hosts)} hosts")
    for problem in problems:
        click.echo(str(problem))
    for host in hosts:
        mark = "" if host.allowed else "  NOT ALLOWED: add it to allowed_hosts in config/reconciler.yaml"
        click.echo(f"host {host.host}  ({', '.join(host.files)}){mark}")
    return 1 if wrong else 0
