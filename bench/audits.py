"""Audits of a thousand people as whole processes: what the service is asked, and how long it takes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.server import PAGE, heard, serving
from bench.world import folder, reconcile_twice, took

PEOPLE = 1000

SCRIPT = """
import asyncio, pathlib, sys
import aiohttp, yaml

async def main(root, url):
    people = [yaml.load(file.read_bytes(), yaml.CSafeLoader) for file in pathlib.Path(root, "hires").rglob("*.yaml")]
    async with aiohttp.ClientSession() as session:
        async def there(email):
            async with session.get(f"{url}/users/{email}") as answer:
                return email in await answer.text()
        found = await asyncio.gather(*(there(person["email"]) for person in people))
    for person, there in zip(people, found):
        print(person["email"], "present" if there else "missing")

asyncio.run(main(*sys.argv[1:]))
"""
"""What somebody writes in ten minutes."""

ON_ONE = "import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); os.execv(sys.argv[1], sys.argv[1:])"
"""Start a program on one processor."""


def asked(people: int = PEOPLE) -> Iterator[tuple[float, float]]:
    """Requests of an audit of people who are all in a listing in pages of a hundred; its pages."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, people, listing=True)
        while True:
            before = heard(url)[0]
            took(_audit(root))
            yield heard(url)[0] - before, people / PAGE


def audited(busy: float = 0.0) -> Iterator[tuple[float, float]]:
    """Milliseconds of the same audit, against a script that asks for each; `busy` is what a request takes there."""
    with serving(busy=busy) as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, PEOPLE, listing=True)
        while True:
            yield 1000 * took(_audit(root)), 1000 * took([sys.executable, "-c", SCRIPT, str(root), url])


def divided() -> Iterator[tuple[float, float]]:
    """Seconds of an audit of 4,000 people with twenty entries each, on all processors, and on one."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, 4 * PEOPLE, integrations=20, listing=True)
        reconcile_twice(root)
        while True:
            yield took(_audit(root)), took([sys.executable, "-c", ON_ONE, *_audit(root)])


def _audit(root: Path) -> list[str]:
    program = Path(sys.executable).with_name("reconcile")
    return [str(program), "--repo", str(root), "--dry-run"]
