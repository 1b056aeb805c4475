"""Writes docs/gallery.md from the ready manifests' own heads: `python -m website.gallery`, as `make docs` does.

The page is committed, so that it can be read in the repository too; a test sees that it is what this would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from reconciler.cli.commands.init import prerequisites
from reconciler.gallery.catalog import ReadyManifest, everything

PAGE = Path(__file__).parents[1] / "docs" / "gallery.md"

BEGINNING = """\
# Ready manifests

`reconcile add NAME` copies one of these manifests to `manifests/`, and lists what it requires. Read the copy and adapt
it to your service. For the meaning of `verified`, see [commands](commands.md#ready-manifests). This page is generated
from the manifests by `make docs`.

Every manifest can check for an account and create one. The column "can" has further features.
"""

TOLD = (
    ("plan", "Plan"),
    ("scopes", "Scopes"),
    ("revoke", "`revoke`"),
    ("cannot", "Limitations"),
    ("traps", "Pitfalls"),
    ("documentation", "Source"),
    ("verified", "Verified"),
)


def text() -> str:
    """The page."""
    every = sorted(everything().values(), key=lambda ready: (ready.service, ready.name))
    lines = [
        BEGINNING,
        "| name | service | what | can | verified |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, every),
    ]
    for service, manifests in groupby(every, key=lambda ready: ready.service):
        lines += ["", f"## {service}"]
        for ready in manifests:
            lines += ["", f"**`{ready.name}`**: {_safe(ready.title)}", "", *_details(ready)]
    return "\n".join(lines) + "\n"


def _row(ready: ReadyManifest) -> str:
    cells = (f"`{ready.name}`", f"[{ready.service}](#{ready.service})", _safe(ready.title), ", ".join(ready.can))
    return f"| {' | '.join(cells)} | {ready.head['verified']} |"


def _details(ready: ReadyManifest) -> Iterator[str]:
    for key, word in TOLD:
        if key in ready.head:
            yield f"- {word}: {_safe(ready.head[key])}"
    for line in prerequisites(ready, ready.service):
        yield f"- Required {line}"


def _safe(said: str) -> str:
    """A head's words as Markdown: what stands in it as it is, without a bar that ends a cell."""
    return said.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(text())
