"""Append cases to a manifest's tests."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.output.logs import note
from reconciler.model.errors import UsageError

if TYPE_CHECKING:
    from reconciler.model.case import Case
    from reconciler.model.manifest import Manifest
    from reconciler.model.secret import Redactor
    from reconciler.workshop.testing import CaseResult

__all__ = ["cases_in", "save"]

NOT_COVERED = "# not covered: "
"""Begins a line at the end of a file of cases; each time that cases are saved there the lines are written anew."""


def save(file: Path, integration: str, saved: list[CaseResult], manifest: Manifest, redactor: Redactor) -> None:
    """Append cases to a file, each under a name that none there has, and say what none of them covers."""
    import yaml

    from reconciler.workshop.saving import uncovered

    if not saved:
        note(
            "nothing was saved, as nobody was checked: name a person (--hire ID, --email ADDRESS), and give what lacks"
        )
        return
    before = cases_in(file)
    names, said = {each.name for each in before}, []
    for case in (result.case for result in saved):
        name = next(it for it in chain([case.name], (f"{case.name} ({n})" for n in count(2))) if it not in names)
        names.add(name)
        dumped = case.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        hire = case.hire.model_dump(mode="json", exclude_defaults=True)
        said.append({**dumped, "name": name, "hire": hire} if hire else {**dumped, "name": name})
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith(NOT_COVERED)]
    text = yaml.safe_dump(redactor.redact_all(said), sort_keys=False, allow_unicode=True, width=120)
    left = [f"{NOT_COVERED}{each}" for each in uncovered(manifest, [*before, *(result.case for result in saved)])]
    file.write_text("\n".join([*kept, *text.splitlines(), *left, ""]), encoding="utf-8")
    read = file.name == f"{integration}.test.yaml"
    then = f"run `reconcile test {integration}`" if read else f"put it into manifests/{integration}.test.yaml"
    note(f"saved in {file}: {', '.join(repr(each['name']) for each in said)}: {then}")
    for each in left:
        note(each.removeprefix("# "))
    for result in saved:
        for failure in result.failures:
            note(f"the saved case {result.case.name!r} fails: {failure}")


def cases_in(file: Path) -> list[Case]:
    """Return a file's cases, none where there is no file. Raises UsageError if it has an error."""
    from reconciler.repository.cases import parse_cases

    if not file.exists():
        return []
    loaded = parse_cases(file.read_bytes(), str(file))
    if loaded.problems:
        raise UsageError(f"--save: {loaded.problems[0].clause}: mend it first")
    return [case for case, _ in loaded.cases]
