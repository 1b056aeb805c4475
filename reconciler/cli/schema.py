"""`reconcile schema`: JSON Schema of the users' files, for editors."""

from __future__ import annotations

from typing import Literal

import click

from reconciler.cli.options import Asked, shared

__all__ = ["schema"]


@click.command()
@click.argument("kind", type=click.Choice(["manifest", "hire", "sequence", "settings", "ignore", "import"]))
@shared
@click.pass_obj
def schema(asked: Asked, kind: Literal["manifest", "hire", "sequence", "settings", "ignore", "import"]) -> int:  # noqa: ARG001
    """Print the JSON Schema of KIND, whatever --output says.

    For an editor that speaks YAML's language server, as the file's first line:
    `# yaml-language-server: $schema=../.schemas/hire.json`
    """
    from reconciler.cli.text import emit_json
    from reconciler.repository.documents.schema import json_schema

    emit_json(json_schema(kind))
    return 0
