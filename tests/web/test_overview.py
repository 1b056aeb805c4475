"""What the overview makes of outages."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.daemon.freshness import Freshness
from reconciler.model.settings import Settings
from reconciler.model.status import Status
from reconciler.notify.alerts import Outage
from reconciler.web.daemon_view import GitView, Live
from reconciler.web.views import state_of
from tests.ledger.states import NOW

DOWN = Outage("2026-12-01T09:00:00Z", "503")


@pytest.mark.parametrize(
    ("integrations", "counts", "word"),
    [
        ({"chat": "chat"}, {("chat", Status.UNKNOWN): 1}, "not answering"),
        ({}, {("chat", Status.UNKNOWN): 1}, "not answering"),
        ({"tool": "tool"}, {("chat", Status.ORPHANED): 1}, "1 to look at"),
        ({"chat": "chat"}, {("chat", Status.REVOKED): 1, ("tool", Status.UNKNOWN): 1}, "as it should be"),
        ({"chat": "chat"}, {}, "nobody has it"),
    ],
    ids=["down", "while git cannot be read", "manifest gone", "everybody revoked", "nobody left"],
)
def test_an_integration_that_is_no_longer_checked_is_not_down_for_ever(
    integrations: Mapping[str, str], counts: Mapping[tuple[str, Status], int], word: str
) -> None:
    live = Live(now=NOW, active=cast("Any", SimpleNamespace(settings=Settings())), freshness=Freshness(NOW))
    state = state_of("chat", live, GitView(integrations=integrations), counts=counts, checked={}, outages=[DOWN])
    assert state.word == word
