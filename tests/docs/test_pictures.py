"""The pictures of README.md and the documentation are what the program shows."""

from __future__ import annotations

import re
from pathlib import Path

from website.pictures import FOLDER, pictures

ROOT = Path(__file__).parents[2]


def test_pictures_are_as_they_would_be_drawn_now() -> None:
    drawn = pictures()
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == drawn, "draw them with `make docs`"
    shown = re.findall(r"!\[[^\]]+\]\(docs/pictures/([\w.]+)\)", (ROOT / "README.md").read_text())
    assert sorted(shown) == sorted(drawn)
