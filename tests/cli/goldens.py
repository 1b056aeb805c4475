"""Golden files: what the program writes, word for word, beside the tests as plain files.

`RECONCILER_GOLDEN=write pytest tests/cli` writes them anew; the difference is then for a person to read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.repo import Repo

FOLDER = Path(__file__).parent / "golden"


def same(name: str, text: str) -> None:
    """See that a text is what the golden file `name` holds."""
    file = FOLDER / name
    if os.environ.get("RECONCILER_GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    assert text == file.read_bytes().decode(), f"{file} differs"


def steady(text: str, repo: Repo) -> str:
    """Without what differs from run to run: times, days, ports and commit ids."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "DAY", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    head = repo.git("rev-parse", "HEAD")
    return text.replace(head, "COMMIT").replace(head[:12], "COMMIT").replace(str(repo.root), "REPO")
