"""What a commit touches, from the paths that it changed."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from reconciler.model.selection import Selection
from reconciler.repository.desired import Desired, touched
from reconciler.repository.files import Reader
from reconciler.repository.git.checkout import Checkout
from tests.repo import Repo

EVERYTHING = Selection()


def hires(*names: str) -> Selection:
    return Selection(hires=frozenset(names))


def integrations(*names: str) -> Selection:
    return Selection(integrations=frozenset(names))


@pytest.fixture
def desired(repo: Repo) -> Desired:
    manifest = {"execute": [{"url": "https://example.com/"}]}
    repo.manifest("tool", manifest)
    repo.manifest("mail", {"service": "suite", **manifest})
    repo.manifest("chat", {"service": "suite", **manifest})
    repo.manifest("monday.com", manifest)
    repo.write("manifests/broken.yaml", "nonsense")
    repo.hire("ada", "tool", manager={"hire": "grace"})
    repo.hire("grace", "tool")
    repo.commit()
    return Desired(Reader().load(Checkout.open(repo.root).head()), date(2026, 12, 1))


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        pytest.param(["hires/ada.yaml"], [hires("ada")], id="a hire"),
        pytest.param(["hires/team/ada.yaml", "hires/bob.yaml"], [hires("ada", "bob")], id="in a folder, and gone"),
        pytest.param(["hires/grace.yaml"], [hires("grace", "ada")], id="somebody's manager"),
        pytest.param(["manifests/tool.yaml"], [integrations("tool")], id="a manifest"),
        pytest.param(
            ["manifests/mail.yaml"], [integrations("mail", "chat")], id="one of a service: its hosts are shared"
        ),
        pytest.param(["manifests/broken.yaml"], [integrations("broken")], id="a manifest that is broken"),
        pytest.param(
            ["config/initial_data/suite.yaml.gpg"], [integrations("mail", "chat")], id="a service's initial data"
        ),
        pytest.param(["config/initial_data/monday.com.sops.yaml"], [integrations("monday.com")], id="with a dot"),
        pytest.param(["config/initial_data/nobody.yaml.gpg"], [], id="initial data of no service"),
        pytest.param(
            ["manifests/tool.yaml", "hires/ada.yaml"],
            [Selection(hires=frozenset({"ada"}), without=frozenset({"tool"})), integrations("tool")],
            id="both: a hire's grants of an integration that changed are checked with all of that",
        ),
        pytest.param(["config/reconciler.yaml", "hires/ada.yaml"], [EVERYTHING], id="the settings"),
        pytest.param(["config/sequences/ops.yaml"], [EVERYTHING], id="a sequence"),
        pytest.param(["config/reviews/2026-Q4/tool.yaml"], [], id="an access review"),
        pytest.param(["README.md", ".github/workflows/ci.yml"], [], id="nothing of ours"),
    ],
)
def test_touched(repo: Repo, desired: Desired, paths: list[str], found: list[Selection]) -> None:
    assert touched(frozenset(paths), desired, Checkout.open(repo.root).head()) == found


def request(hire: str) -> dict[str, Any]:
    return {"hire": hire, "access": {"integration": "tool", "for": "8h"}, "reason": "INC-12"}


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        pytest.param(None, request("ada"), hires("ada"), id="new"),
        pytest.param(request("ada"), None, hires("ada"), id="gone"),
        pytest.param(request("ada"), "nonsense", hires("ada"), id="broken"),
        pytest.param(request("ada"), request("grace"), hires("ada", "grace"), id="for somebody else"),
        pytest.param("nonsense", request("grace"), EVERYTHING, id="mended: whom it was for before, nobody can tell"),
    ],
)
def test_touched_by_a_request(repo: Repo, desired: Desired, was: Any, now: Any, found: Selection) -> None:
    path = "config/requests/r1.yaml"
    checkout, trees = Checkout.open(repo.root), []
    for content in (was, now):
        if content is not None:
            repo.write(path, content)
        elif (repo.root / path).exists():
            repo.remove(path)
        repo.commit()
        trees.append(checkout.head())
    before, after = trees
    assert touched(checkout.changed(before, after), Desired(Reader().load(after), desired.today), before) == [found]
