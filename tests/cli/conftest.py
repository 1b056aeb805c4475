"""The command line, called in this process."""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.repo import Repo, Result, call_cli


class Call(Protocol):
    """`reconcile ARGUMENTS` in a repository."""

    def __call__(self, repo: Repo, *arguments: str, given: str = "", env: dict[str, str] | None = None) -> Result: ...


@pytest.fixture
def call() -> Call:
    return call_cli
