"""What the daemon counts of its requests: by integration and outcome, as a service saw them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from urllib.request import urlopen

import pytest

from reconciler import __version__
from reconciler.ledger.reader import Grants
from reconciler.ledger.reading import HEAD
from reconciler.web.metrics import Metrics
from reconciler.web.pages import pages_of
from reconciler.web.serve import serving
from tests.daemon.running import running, until
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
        tool.add("quinta@example.com")
        gone.close()
        for integration in ("tool", "wiki", "gone"):
            repo.hire({"tool": "quinta", "wiki": "bob", "gone": "cem"}[integration], integration)
        repo.commit()
        with Daemon(repo) as daemon:
            eventually(lambda: all(repo.record(hire, name) for hire, name in [("bob", "wiki"), ("cem", "gone")]))
            eventually(lambda: repo.has("bob", "wiki", "present"))
            text = daemon.get("/metrics")[1]
        requests = "reconciler_requests_total"
        assert count(text, requests, integration="tool", outcome="2xx") == 1
        assert count(text, requests, integration="wiki", outcome="4xx") == 1
        assert count(text, requests, integration="wiki", outcome="2xx") == 2
        assert count(text, requests, integration="gone", outcome="no_answer") >= 1
        assert count(text, "reconciler_request_seconds_count", integration="wiki", outcome="2xx") == 2
        assert count(text, "reconciler_build_info", schema=HEAD, version=__version__) == 1
        assert count(text, "reconciler_passes_total", outcome="done") >= 1
        assert "quinta" not in text
        assert "example.com" not in text


def test_grants_are_counted_beside_the_loop(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be millions, which are counted one by one."""
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    counts, threads = Grants.counts, set[int]()

    def counted(self: Grants) -> Counter[tuple[str, str]]:
        threads.add(threading.get_ident())
        return Counter(counts(self))

    def scraped(address: str) -> str:
        with urlopen(f"http://{address}/metrics") as answer:
            return str(answer.read().decode())

    async def walk() -> str:
        async with running(repo) as now:
            await until(lambda: accounts.created["ada@example.com"] and now.passes)
            monkeypatch.setattr(Grants, "counts", counted)
            async with serving(pages_of(now.daemon, Metrics()), "127.0.0.1:0") as address:
                return await asyncio.to_thread(scraped, address)

    assert count(asyncio.run(walk()), "reconciler_grants", integration="tool", status="present") == 1
    assert threads
    assert threading.get_ident() not in threads
