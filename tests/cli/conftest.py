"""The command line, called in this process: the same code as the program's, without half a second to start it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Protocol

import pytest
import structlog

from reconciler.cli import run
from tests.repo import Repo, Result


class Call(Protocol):
    """`reconcile ARGUMENTS` in a repository."""

    def __call__(self, repo: Repo, *arguments: str, given: str = "", env: dict[str, str] | None = None) -> Result: ...


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    def one(repo: Repo, *arguments: str, given: str = "", env: dict[str, str] | None = None) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in ("GITHUB_ACTIONS", "GNUPGHOME"):
                patch.delenv(name, raising=False)
            for name, value in {**repo.environment(env)}.items():
                patch.setenv(name, value)
            patch.chdir(repo.root)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            code = run(arguments)
        return Result(code, out.getvalue(), err.getvalue())

    yield one
    structlog.reset_defaults()
