"""A company for all tests of a file that only look at its pages; its daemon ends with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.repo import GnupgHome, Repo
from tests.web.world import World, company


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, gnupg_home: GnupgHome) -> Iterator[World]:
    with company(Repo(tmp_path_factory.mktemp("pages") / "repo", gnupg_home)) as found:
        yield found
