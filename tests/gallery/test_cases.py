"""The tests that ready manifests bring along: each manifest has the cases that it needs, and all of them pass."""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files

import pytest

from reconciler.gallery.catalog import ReadyManifest, everything
from reconciler.model.case import Case, CaseFile
from reconciler.model.request import Listing
from reconciler.model.scope import walk
from reconciler.model.status import Status
from reconciler.repository.config_files import Listed, read_list
from reconciler.requests.record import last_used
from reconciler.workshop.stage import NOW, ManifestSource
from reconciler.workshop.testing import run_cases

FOLDER = files("reconciler.gallery") / "manifests"
SECONDS = 10


def cases_of(ready: ReadyManifest) -> Listed[Case]:
    assert ready.cases is not None, f"{ready.name} has no tests"
    return read_list(ready.cases.encode, f"manifests/{ready.name}.test.yaml", CaseFile)


def source_of(ready: ReadyManifest) -> ManifestSource:
    return {f"manifests/{ready.name}.yaml": ready.text.encode()}


def says_when(listing: Listing | None, case: Case) -> bool:
    """Whether an answer of the case has a listed account with a time at `used` that can be read."""
    if listing is None or listing.used is None:
        return False
    items = [item for answer in case.answers for item in walk(answer.body, listing.data_from) or []]
    return any(last_used(walk(item, listing.used), NOW) is not None for item in items)


def lacking(ready: ReadyManifest, cases: list[Case]) -> set[str]:
    """What no case shows of what the manifest can do."""
    exists = ready.manifest.exists
    assert exists is not None
    executes = bool(ready.manifest.execute)
    shown = {
        "present": any(case.expect is Status.PRESENT for case in cases),
        "missing": any(case.expect is Status.MISSING and bool(case.sends) is executes for case in cases),
        "a refused token": any(case.expect is Status.UNKNOWN and case.reason for case in cases),
        "update": any(case.expect is Status.DIFFERS and case.sends for case in cases),
        "revoke": any(case.orphan and case.sends for case in cases),
        "invited": any(case.expect is Status.UNCONFIRMED for case in cases),
        "list": any(case.listed for case in cases),
        "used": any(case.listed and says_when(exists.listing, case) for case in cases),
    }
    needed = {
        "update": bool(ready.manifest.updates),
        "revoke": bool(ready.manifest.revoke),
        "invited": bool(exists.invited or exists.pending),
        "list": exists.listing is not None,
        "used": exists.listing is not None and exists.listing.used is not None,
    }
    return {what for what, there in shown.items() if needed.get(what, True) and not there}


@pytest.mark.parametrize("name", sorted(everything()))
def test_each_manifest_has_the_cases_that_it_needs(name: str) -> None:
    ready = everything()[name]
    loaded = cases_of(ready)
    assert loaded.problems == ()
    assert lacking(ready, [case for case, _ in loaded.entries]) == set()


def test_all_cases_pass_in_seconds() -> None:
    ready = everything()
    chosen = {name: cases_of(each) for name, each in ready.items()}
    began = time.process_time()
    results = asyncio.run(run_cases(chosen, {name: source_of(each) for name, each in ready.items()}))
    took = time.process_time() - began
    failed = {f"{name}, line {line}": result.failures for name, line, result in results if result.failures}
    assert failed == {}
    assert took < SECONDS, f"{len(results)} cases took {took:.1f} s"
