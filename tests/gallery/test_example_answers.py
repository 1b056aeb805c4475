"""What the ready manifests make of the services' own answers: who is there, who is not, and when nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from reconciler.gallery.catalog import everything
from reconciler.model.manifest import Manifest
from reconciler.model.request import Exists
from tests.gallery import samples
from tests.gallery.services import SERVICES, Described
from tests.gallery.slices import needs_slices
from tests.gallery.stand_in import StandIn
from tests.repo import Repo, call_cli

pytestmark = [
    needs_slices,
    pytest.mark.filterwarnings("ignore:Use of .* property is deprecated:DeprecationWarning"),
]

PEOPLE = [f"person{letter}x" for letter in "abcdefghijkl"]
ADA = PEOPLE[0]


class Stage:
    """A repository with one ready manifest, which leads to a stand-in of its service."""

    def __init__(self, repo: Repo, name: str, service: StandIn, described: Described) -> None:
        self.repo, self.name, self.service = repo, name, service
        origin = "://".join(urlsplit(described.base)[:2])
        text = everything()[name].text.replace(origin, service.url).replace("oauth.access_token", "OAUTH_TOKEN")
        self.content: Any = yaml.load(text, Loader=yaml.CSafeLoader)
        if self.content.pop("oauth", None):
            self.content["initial_data_form"].append({"id": "OAUTH_TOKEN", "name": "as if it were connected"})
        repo.manifest(name, self.content)
        self.manifest = Manifest.model_validate(self.content)
        self.values = {**samples.values(self.manifest), **described.values}
        repo.initial_data(self.manifest.service or name, samples.initial_data(self.manifest))

    def hire(self, *people: str, **values: Any) -> None:
        for person in people:
            entry = {"integration": self.name, "values": {**self.values, **values}}
            self.repo.hire(person, entry, extra=samples.extra(self.manifest, person))
        self.repo.commit()

    def grants(self, *options: str) -> dict[str, dict[str, Any]]:
        grants = call_cli(self.repo, *options, "--output", "json").json["grants"]
        return {grant["hire"]: grant for grant in grants}

    def check(self) -> str:
        """The operation that the check is."""
        assert self.manifest.exists is not None
        return self.service.operation(self.manifest.exists.url, self.manifest.exists.method)


def by_group(exists: Exists) -> bool:
    """Whether people are found by a group in their account: the examples' people are in none."""
    return '"value"' in (exists.expected or "")


@pytest.fixture(params=sorted(SERVICES))
def stage(request: pytest.FixtureRequest, repo: Repo) -> Iterator[Stage]:
    described = SERVICES[request.param]
    with StandIn(described) as service:
        yield Stage(repo, request.param, service, described)
        assert service.problems == [], "every request is as the service describes it"


def test_example_answers_present_and_missing(stage: Stage) -> None:
    stage.hire(ADA)
    service, operation, exists = stage.service, stage.check(), stage.manifest.exists
    assert exists is not None
    found = {}
    if by_group(exists):
        played = {"not-found": ("missing", "execute")}
    else:
        played = {"found": ("present", "none"), "not-found": ("missing", "execute")}
    wanted = {case: ends for case, ends in played.items() if service.can(operation, case, "page-1")}
    if not wanted:
        pytest.skip("there is no example answer")
    for case in wanted:
        service.begins(case, *([ADA] if case == "found" else []))
        grant = stage.grants("--dry-run")[ADA]
        found[case] = (grant["status"], grant["action"])
    assert found == wanted


def test_refused_token_is_unknown_and_executes_nothing(stage: Stage) -> None:
    stage.hire(ADA)
    stage.service.begins("refused")
    assert stage.grants("--yes")[ADA]["status"] == "unknown"
    assert stage.manifest.exists is not None
    sent = {call.method for call in stage.service.requests}
    assert sent <= {"GET", stage.manifest.exists.method}


def test_example_answers_inactive_and_invited(stage: Stage) -> None:
    stage.hire(ADA)
    service, operation, exists = stage.service, stage.check(), stage.manifest.exists
    assert exists is not None
    action = "update" if stage.manifest.updates else "none"
    wanted, found = {}, {}
    if service.can(operation, "inactive") and not by_group(exists):
        wanted["inactive"] = ("differs", action)
    if service.can(operation, "invited"):
        wanted["invited"] = ("unconfirmed", "none")
    if not wanted and exists.pending is None:
        pytest.skip("it knows neither, or there is no example answer")
    for case in wanted:
        service.begins(case, ADA)
        grant = stage.grants("--dry-run")[ADA]
        found[case] = (grant["status"], grant["action"])
    if exists.pending is not None:
        service.begins("found", invited=ADA)
        grant = stage.grants("--dry-run")[ADA]
        wanted["pending"] = ("unconfirmed", "none")
        found["pending"] = (grant["status"], grant["action"])
    assert found == wanted


def test_another_role_than_git_wants_differs(stage: Stage) -> None:
    exists = stage.manifest.exists
    assert exists is not None
    used = str(exists.where)
    field = next((field for field in stage.manifest.form if field.items and f"{{{{{field.id}}}}}" in used), None)
    if field is None or not stage.service.can(stage.check(), "found", "page-1"):
        pytest.skip("it compares no choice, or there is no example answer")
    assert field.items is not None
    stage.hire(ADA, **{field.id: field.items[1].id})
    stage.service.begins("found", ADA)
    grant = stage.grants("--dry-run")[ADA]
    assert (grant["status"], grant["action"]) == ("differs", "update")


def test_a_listing_is_read_to_its_end(stage: Stage) -> None:
    exists = stage.manifest.exists
    assert exists is not None
    if exists.listing is None or not stage.service.can(stage.service.operation(exists.listing.url), "page-1"):
        pytest.skip("it has no listing, or there is no example answer")
    if exists.listing.url == exists.url or not stage.service.can(stage.check(), "found", "page-1"):
        pytest.skip("the check is the listing itself, or there is no example answer")
    stage.hire(*PEOPLE)
    paged = stage.service.can(stage.service.operation(exists.listing.url), "page-2")
    there = PEOPLE[: 2 if paged else 1]
    stage.service.begins("found", *there)
    statuses = {person: grant["status"] for person, grant in stage.grants("--dry-run").items()}
    assert statuses == {person: "present" if person in there else "missing" for person in PEOPLE}
    asked = [call.target for call in stage.service.requests]
    assert sum("person" not in target for target in asked) >= len(there), "the pages"


def test_a_check_that_is_a_listing_is_read_to_the_person(stage: Stage) -> None:
    exists = stage.manifest.exists
    assert exists is not None
    if exists.pages is None or not stage.service.can(stage.check(), "page-2"):
        pytest.skip("its check has one page, or there is no example answer")
    stage.hire(ADA)
    stage.service.begins("found", PEOPLE[1], ADA)
    assert stage.grants("--dry-run")[ADA]["status"] == "present"
