"""`reconcile schema`: JSON Schema of the users' files, for editors."""

from __future__ import annotations

from typing import get_args

import click

from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.text import emit_json
from reconciler.repository.naming import Kind

__all__ = ["schema"]


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(get_args(Kind)))
@shared
@click.pass_obj
def schema(options: SharedOptions, kind: Kind) -> int:  # noqa: ARG001
    """Print the JSON Schema of a kind of file, regardless of --output.

    KIND is manifest, hire, sequence, settings, ignore, import, policy, review, test, request or requestable.

    A new repository has the schemas in .schemas/. YAML's language server in an editor finds one by a file's first line:
    `# yaml-language-server: $schema=../.schemas/hire.json`
    """
    from reconciler.repository.documents.schema import json_schema

    emit_json(json_schema(kind))
    return 0
