"""The sample repository at the top: every file is what its model wants, and they fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.demo import asana
from reconciler.demo.stage import SCIM_PORT
from reconciler.model.base import Model
from reconciler.model.condition import Sequence
from reconciler.model.config_files import RequestableFile
from reconciler.model.hire import Hire
from reconciler.model.manifest import Manifest
from reconciler.model.settings import Settings

TOP = Path(__file__).parents[2]
FILES = [
    *((path, Manifest) for path in sorted((TOP / "manifests").iterdir())),
    *((path, Hire) for path in sorted((TOP / "hires").iterdir())),
    *((path, Sequence) for path in sorted((TOP / "config/sequences").iterdir())),
    (TOP / "config/reconciler.yaml", Settings),
    (TOP / "config/requestable.yaml", RequestableFile),
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())  # JSON is YAML too


@pytest.mark.parametrize(("path", "model"), FILES, ids=lambda value: getattr(value, "name", None))
def test_every_file_is_valid(path: Path, model: type[Model]) -> None:
    model.model_validate(load(path))


def test_every_address_is_invented() -> None:
    hires = [Hire.model_validate(load(path)) for path, model in FILES if model is Hire]
    assert 3 <= len(hires) <= 5
    assert all(hire.email.endswith("@example.com") for hire in hires)


def test_access_names_manifests_that_are_there() -> None:
    stems = {path.stem for path, model in FILES if model is Manifest}
    holders: list[Hire | Sequence] = []
    for path, model in FILES:
        if model in (Hire, Sequence):
            holders.append(model.model_validate(load(path)))
    named = {entry.integration for holder in holders for entry in holder.access}
    assert named == {"asana", "scim"} <= stems, "the demo runs these two services, and no other"


@pytest.mark.parametrize(("name", "port"), [("asana.json", asana.PORT), ("scim.yaml", SCIM_PORT)])
def test_manifests_go_to_the_sample_services(name: str, port: int) -> None:
    manifest = Manifest.model_validate(load(TOP / "manifests" / name))
    urls = [call.url for _, call in manifest.calls()]
    assert urls
    assert all(url is not None and url.startswith(f"http://127.0.0.1:{port}/") for url in urls)


def test_no_initial_data_is_committed() -> None:
    assert [path.name for path in (TOP / "config/initial_data").iterdir()] == [".gitkeep"]
