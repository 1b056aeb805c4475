"""Accounts made from nothing: as many as the machine can, and as many as a service allows."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.accounts import MINUTE, Limit, accounts, told
from bench.daemons import Daemon
from bench.world import commit, folder

PEOPLE, SERVICES = 10_000, 8

LIMIT = 180
"""Creates a minute that a service takes, as Slack's does."""

MINUTES = 3
"""How long they are counted: until the first one after so many minutes of the service's."""

RATE = "limits: {rate: 3}\n"
"""The requests a second that a service with such a limit can take, whatever they are."""

SETTINGS = "interval: 1d\nlisten: 127.0.0.1:0\n"

LONGEST = 3600.0


def _repository(root: Path, urls: list[str], people: int, settings: str = "") -> Path:
    """Make a repository whose hires have an entry for each service; nobody has an account yet."""
    folder(root, urls[0], people, integrations=len(urls), settings=SETTINGS + settings)
    for manifest, url in zip(sorted((root / "manifests").iterdir()), urls, strict=True):
        text = manifest.read_text().replace(urls[0], url)
        manifest.write_text(text.replace("exists: {", "exists: {fail_when_4xx_response_code: false, "))
    commit(root)
    return root


def _until(root: Path, urls: list[str], people: int, longest: float = LONGEST) -> None:
    """Run a daemon until each service has so many people. Raises AssertionError where one was made twice."""
    running, until = Daemon(root, urls[0]), time.monotonic() + longest
    try:
        while any(told(url).people < people for url in urls) and time.monotonic() < until:
            running.check()
            time.sleep(0.2)
    finally:
        running.stop()
    for url in urls:
        found = told(url)
        if found.created != found.people:
            raise AssertionError(f"{found.created} creates for {found.people} people")


@cache
def _provisioned() -> tuple[float, float]:
    """Seconds of a daemon, from its start to the last account; of a bare aiohttp loop, with the same requests."""
    with accounts(SERVICES) as urls, tempfile.TemporaryDirectory() as name:
        root = _repository(Path(name), urls, PEOPLE)
        began = time.time()
        _until(root, urls, PEOPLE)
        ours = max(told(url).last for url in urls) - began
    with accounts(SERVICES) as urls:
        began = time.time()
        asyncio.run(_bare(urls, PEOPLE))
        return ours, time.time() - began


async def _bare(urls: list[str], people: int, connections: int = 20) -> None:
    """Look, make, and look again, for everybody at every service."""
    import aiohttp

    queue = iter([(url, f"p{number}@example.com") for number in range(people) for url in urls])
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            for url, email in queue:
                for method, path, data in (("GET", f"/{email}", None), ("POST", "", email), ("GET", f"/{email}", None)):
                    body = None if data is None else {"email": data}
                    async with session.request(method, f"{url}/users{path}", json=body) as answer:
                        await answer.json()

        await asyncio.gather(*(work() for _ in range(connections)))


def provisioned() -> Iterator[tuple[float, float]]:
    """Seconds until 10,000 people have an account at each of eight services that answer at once; of a bare loop."""
    yield _provisioned()


def made() -> Iterator[tuple[float, float]]:
    """Accounts a second in it, each looked for, made once and looked for again; of the bare loop."""
    ours, bare = _provisioned()
    yield PEOPLE * SERVICES / ours, PEOPLE * SERVICES / bare


def limited(*, told_by_service: bool) -> Iterator[tuple[float, float]]:
    """Accounts made a minute at a service that takes 180 creates in a minute, none of which it refuses; that limit.

    Where the service's answers do not tell, the settings have a `rate`, for all requests.
    """
    people = MINUTES * LIMIT + 1 if told_by_service else LIMIT
    with accounts(1, limit=Limit(LIMIT, told_by_service)) as urls, tempfile.TemporaryDirectory() as name:
        _until(_repository(Path(name), urls, people, "" if told_by_service else RATE), urls, people)
        found = told(urls[0])
        if found.refused:
            raise AssertionError(f"{found.refused} creates were answered with 429")
        yield MINUTE * (people - 1) / (found.last - found.first), LIMIT
