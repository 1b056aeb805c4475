"""The documentation as a site: it builds without a warning, and nothing in it asks another host for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_site_is_complete_in_itself(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").rglob("*.md")))
    for page in [*pages, *site.rglob("*.css")]:
        outside = r"""(?:src|href|action)=["']?(?:https?:)?//[^"'\s>]+|url\(["']?(?:https?:)?//[^)]+|@import[^;]+"""
        text = page.read_text()
        assert re.findall(outside, text) == [], page
        unread = r"```|<p>\||<p><code>[^<]*\n|\\\|"
        assert page.suffix == ".css" or re.findall(unread, text) == [], f"{page} shows Markdown"
