"""Draws the pictures of README.md, of what the program shows: `python -m website.pictures`, as `make docs` does.

A picture is HTML and a style sheet in an SVG, so it needs no browser to be drawn, is light and dark with the reader,
and a test sees that it is what this would draw.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from markdown import markdown

from reconciler.daemon.freshness import Freshness
from reconciler.daemon.runtime import ActiveRevision
from reconciler.engine.context import Context
from reconciler.gallery.catalog import everything
from reconciler.ledger.chain import Link
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Key, Record
from reconciler.model.hire import Hire
from reconciler.model.last_pass import LastPass
from reconciler.model.settings import Settings
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.repository.git.trees import OverlayTree
from reconciler.review.reviews import ReviewProgress
from reconciler.web.daemon_view import DaemonView, GitView, Live
from reconciler.web.guard import Visitor
from reconciler.web.render import STATIC, environment
from reconciler.web.views import overview

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
ENDS = datetime(2026, 12, 4, 17, tzinfo=UTC)
REVISION = "9fceb02d0ae5a1f3c7d48a6e2b90f4d7c1e85a36"
SERVICES = {"asana": 38, "figma": 11, "github": 24, "google-workspace": 41, "salesforce": 9, "slack": 41}
"""How many people have each, as git wants it."""

PEOPLE = {
    "ada": "department: Engineering\nextra: {GITHUB_LOGIN: ada}\n",
    "grace": "department: Engineering\nextra: {GITHUB_LOGIN: grace}\naccess: [figma]\n",
}
BRANCH = {
    "alan": "department: Engineering\nextra: {GITHUB_LOGIN: alan}\n",
    "grace": PEOPLE["grace"].replace("[figma]", "[{integration: github, values: {ROLE: admin}}]"),
}
"""What a pull request changes: somebody comes, and somebody becomes an owner and gives up a service."""

IVY = ("-c", "user.name=Ivy", "-c", "user.email=ivy@example.com")

SEQUENCE = """\
assign: {department: Engineering}
access:
  - asana
  - {integration: github, values: {ROLE: member}}
"""

COMMENT_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
body { color: light-dark(#1f2328, #e6edf3); }
article { border: 1px solid light-dark(#d1d9e0, #3d444d); border-radius: 6px; padding: 0 16px 4px; margin: 1px; }
article { background: light-dark(#ffffff, #0d1117); }
header { margin: 0 -16px 12px; padding: 8px 16px; border-bottom: 1px solid light-dark(#d1d9e0, #3d444d); }
header { background: light-dark(#f6f8fa, #151b23); border-radius: 6px 6px 0 0; }
ul { padding-left: 28px; }
code { background: light-dark(#eff1f3, #2a313c); border-radius: 6px; padding: 2px 6px; font-size: 85%; }
"""

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Company(DaemonView):
    """A company of made-up people, as the pages read a daemon's."""

    def __init__(self, state: StateLocation) -> None:
        self._state = state
        with closing(state.writer()) as ledger:
            ledger.save([*_as_wanted(), *_others()])

    def now(self) -> Live:
        """The daemon is well."""
        tree = OverlayTree({})
        tree.revision = REVISION
        active = ActiveRevision(cast(Context, None), tree, Settings(), "main", taken_over=True)
        return Live(now=NOW, active=active, freshness=Freshness(NOW, fetched_at=NOW - timedelta(seconds=40)))

    def git(self, hires: Collection[str] = ()) -> GitView:
        """Every service is in git, and everybody."""
        return GitView(
            integrations={name: name for name in SERVICES},
            hires={
                name: Hire(email=f"{name}@example.com", first_name=name.title(), last_name="Example") for name in hires
            },
        )

    def reviews(self, ledger: LedgerReader) -> list[ReviewProgress]:  # noqa: ARG002
        """No review is open."""
        return []

    def ledger(self) -> AbstractContextManager[LedgerReader]:
        """Open the state."""
        return self._state.reader()


def _record(hire: str, service: str, status: Status, **more: object) -> Record:
    said: dict[str, object] = {"checked_at": NOW - timedelta(minutes=4), **more}
    record = Record(Key(hire, service), f"{hire}@example.com", service, service, f"hires/{hire}.yaml:6", status=status)
    return replace(record, **said)  # type: ignore[arg-type]


def _as_wanted() -> list[Record]:
    return [
        _record(f"person{number}", name, Status.PRESENT, reason="exists check: found")
        for name, count in SERVICES.items()
        for number in range(count)
    ]


def _others() -> list[Record]:
    gone = {"reason": "no longer in git", "orphaned_at": NOW - timedelta(days=1)}
    return [
        _record(
            "grace",
            "salesforce",
            Status.FAILED,
            reason="gave up after a retry",
            last_error="POST …/sobjects/User answered 400: LICENSE_LIMIT_EXCEEDED",
            attempts=2,
        ),
        _record("alan", "figma", Status.ORPHANED, **gone),
        _record("ivy", "figma", Status.PRESENT, reason="exists check: found", ends_at=ENDS, expire_at=ENDS),
        _record("ada", "github", Status.UNCONFIRMED, reason="invited; not accepted yet"),
        _record("ada", "asana", Status.SCHEDULED, action=Action.WAIT, reason="begins on 2026-12-14"),
        _record("ada", "slack", Status.SCHEDULED, action=Action.WAIT, reason="begins on 2026-12-14"),
    ]


class _Written(HTMLParser):
    """Writes a page's body as XML, less what a picture has no use for."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Write a start tag, each attribute with a value."""
        self._within = self._within or tag == "body"
        given = "".join(f' {key}="{escape(value or "")}"' for key, value in attrs if key != "href")
        space = ' xmlns="http://www.w3.org/1999/xhtml"' if tag == "body" else ""
        self._write(f"<{tag}{space}{given}{'/' if tag in VOID else ''}>")

    def handle_endtag(self, tag: str) -> None:
        """Write an end tag."""
        self._write(f"</{tag}>")
        self._within = self._within and tag != "body"

    def handle_data(self, data: str) -> None:
        """Write text."""
        self._write(escape(data, quote=False))

    def _write(self, text: str) -> None:
        if self._within:
            self.parts.append(text)


def _svg(html: str, style: str, title: str, width: int, height: int) -> str:
    written = _Written()
    written.feed(html)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f"<title>{escape(title)}</title>\n<style>{escape(style, quote=False)}</style>\n"
        f'<foreignObject width="{width}" height="{height}">{"".join(written.parts)}</foreignObject>\n</svg>\n'
    )


def _comment(root: Path) -> str:
    """Return what `reconcile diff` writes for the pull request."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
        return done.stdout

    def commit(files: dict[str, str]) -> None:
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        run("git", "add", "--all")
        run("git", *IVY, "commit", "--quiet", "--message", "Change")

    def hires(bodies: dict[str, str]) -> dict[str, str]:
        head = "email: {0}@example.com\nfirst_name: {1}\nlast_name: Example\n"
        return {f"hires/{name}.yaml": head.format(name, name.title()) + body for name, body in bodies.items()}

    run("git", "init", "--quiet", "--initial-branch=main")
    ready = {f"manifests/{name}.yaml": everything()[name].text for name in ("asana", "figma", "github")}
    settings = {"config/reconciler.yaml": "prune: revoke\n", "config/sequences/engineering.yaml": SEQUENCE}
    commit({**ready, **settings, **hires(PEOPLE)})
    run("git", "switch", "--quiet", "--create", "branch")
    commit(hires(BRANCH))
    return run(sys.executable, "-m", "reconciler", "diff", "main", "branch", "--output", "markdown")


def pictures() -> dict[str, str]:
    """Draw each picture; by the name of its file."""
    with TemporaryDirectory() as folder:
        comment = _comment(Path(folder)).replace("<details>", '<details markdown="1">')
    commented = markdown(comment, extensions=["md_in_html"])
    html = f"<body><article><header><b>access</b> commented</header>{commented}</article></body>"
    with TemporaryDirectory() as folder:
        shown = overview(Company(StateLocation("sqlite:///state.db", Path(folder))), ())
    shown |= {"last": LastPass(REVISION, NOW - timedelta(minutes=4)), "history": Link(1204, "")}
    page = environment(str).get_template("overview.html").render(path="/", visitor=Visitor(), **shown)
    style = STATIC["style.css"][0].decode()
    return {
        "overview.svg": _svg(page, style, "The overview of the status pages", 1160, 1162),
        "comment.svg": _svg(html, COMMENT_STYLE, "The comment on a pull request", 720, 480),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text)
