"""What the daemon counts of its requests: by integration and outcome, as a service saw them."""

from __future__ import annotations

import re

from reconciler import __version__
from reconciler.ledger.migrate import HEAD
from tests.repo import Daemon, Repo
from tests.servers import AccountService, eventually


def count(text: str, name: str, **labels: str) -> float:
    """A sample's value; 0 where there is none."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^{re.escape(name)}{{{re.escape(told)}}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_requests_are_counted_by_integration_and_outcome(repo: Repo) -> None:
    with AccountService() as tool, AccountService() as gone:
        repo.settings()
        repo.manifest("tool", tool.manifest())
        repo.manifest("wiki", {**tool.manifest(), "service": "tool"})
        repo.manifest("gone", gone.manifest())
        tool.add("ada@example.com")
        gone.close()
        for integration in ("tool", "wiki", "gone"):
            repo.hire({"tool": "ada", "wiki": "bob", "gone": "cem"}[integration], integration)
        repo.commit()
        with Daemon(repo) as daemon:
            eventually(lambda: all(repo.record(hire, name) for hire, name in [("bob", "wiki"), ("cem", "gone")]), 20)
            eventually(lambda: repo.has("bob", "wiki", "present"), 20)
            text = daemon.get("/metrics")[1]
        requests = "reconciler_requests_total"
        assert count(text, requests, integration="tool", outcome="2xx") == 1
        assert count(text, requests, integration="wiki", outcome="4xx") == 1
        assert count(text, requests, integration="wiki", outcome="2xx") == 2
        assert count(text, requests, integration="gone", outcome="no_answer") >= 1
        assert count(text, "reconciler_request_seconds_count", integration="wiki", outcome="2xx") == 2
        assert count(text, "reconciler_build_info", schema=HEAD, version=__version__) == 1
        assert count(text, "reconciler_passes_total", outcome="done") >= 1
        assert "ada" not in text
        assert "example.com" not in text
