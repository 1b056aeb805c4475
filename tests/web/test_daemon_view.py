"""What pages see of a daemon: without waiting for a loop that stands still, and without running gpg for strangers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.model.errors import SecretsError
from reconciler.model.secret import Redactor
from reconciler.model.settings import Settings
from reconciler.web import daemon_view
from reconciler.web.daemon_view import DaemonView, GitView
from tests.servers import PATIENCE


class Initial:
    """Initial data that says what it is told to, and counts how often it was asked."""

    def __init__(self, says: Callable[[], dict[str, str] | None]) -> None:
        self.says = says
        self.asked = 0

    def read(self, _tree: Any, _service: str) -> dict[str, str] | None:
        self.asked += 1
        return self.says()


def made(initial: Initial) -> DaemonView:
    context = SimpleNamespace(redactor=Redactor(), last_desired=None)
    tree = SimpleNamespace(revision="abc")
    active = SimpleNamespace(settings=Settings(), tree=tree, initial_data=initial, location=None)
    daemon = SimpleNamespace(runtime=SimpleNamespace(context=context, active=active))
    return DaemonView(cast(Any, daemon))


def inside(work: Callable[[], Any]) -> Any:
    """What work gives in a running loop, where `DaemonView` is made."""

    async def run() -> Any:
        return work()

    return asyncio.run(run())


def refuse() -> dict[str, str] | None:
    raise SecretsError("config/initial_data/reconciler.yaml.gpg: no secret key")


@pytest.mark.parametrize("says", [None, {}, {"SMTP_PASSWORD": "x"}, {"PAGES_TOKEN": ""}])
def test_there_may_be_no_token(says: dict[str, str] | None) -> None:
    assert inside(lambda: made(Initial(lambda: says)).token()) is None


def test_the_token_is_read_once_a_revision_and_known_to_the_redactor() -> None:
    initial = Initial(lambda: {"PAGES_TOKEN": "correct horse"})
    found = inside(lambda: made(initial))
    assert [found.token().reveal() for _ in range(3)] == ["correct horse"] * 3
    assert initial.asked == 1
    assert found.redact("it is correct horse") == "it is ***"
    found._runtime.active.tree = SimpleNamespace(revision="def")
    initial.says = lambda: {"PAGES_TOKEN": "another one"}
    assert found.token().reveal() == "another one"


def test_a_token_that_cannot_be_read_is_not_tried_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    initial = Initial(refuse)
    found = inside(lambda: made(initial))
    for _ in range(3):
        with pytest.raises(SecretsError, match="no secret key"):
            found.token()
    assert initial.asked == 1
    later = daemon_view.RETRY_SECONDS + 1
    monkeypatch.setattr(daemon_view, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later))
    initial.says = lambda: {"PAGES_TOKEN": "correct horse"}
    assert found.token().reveal() == "correct horse"


def test_pages_are_made_while_the_daemons_loop_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_view, "PATIENCE_SECONDS", 0.05)

    def blocking() -> GitView:
        with ThreadPoolExecutor(1) as pages:
            return pages.submit(made(Initial(lambda: None)).git).result(PATIENCE)

    assert inside(blocking) == GitView()
