"""Single checks, everything included (template, limits, verdict, ledger), against bare clients on the same server."""

from __future__ import annotations

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from bench.world import Pass, folder, reconcile_twice

PEOPLE = 3000


async def bare(url: str, people: int, connections: int = 10) -> float:
    """One httpx client for the host, so many connections, no more than the loop needs."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    queue = iter(range(people))
    async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:

        async def work() -> None:
            for number in queue:
                (await client.get(f"{url}/users/p{number}@example.com")).json()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        return people / (time.perf_counter() - began)


def with_requests(url: str, people: int) -> float:
    """`requests` with 32 threads, a session each."""
    import threading

    import requests

    local = threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        local.session.get(f"{url}/users/p{number}@example.com", timeout=30).json()

    began = time.perf_counter()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(one, range(people)))
    return people / (time.perf_counter() - began)


async def with_aiohttp(url: str, people: int, connections: int = 20) -> float:
    """A bare aiohttp loop: one session, so many at once."""
    import aiohttp

    queue = iter(range(people))
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            for number in queue:
                async with session.get(f"{url}/users/p{number}@example.com") as answer:
                    await answer.json()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        return people / (time.perf_counter() - began)


def ours(url: str, people: int) -> float:
    """A pass over as many grants that are known and present, in this process."""
    with tempfile.TemporaryDirectory() as name:
        return people / passed(folder(Path(name), url, people), people).seconds


def passed(root: Path, people: int) -> Pass:
    """The second of two passes: the first adopts the accounts."""
    first, second = reconcile_twice(root)
    assert first.report.summary == second.report.summary == {"present": people}, second.report.summary
    return second
