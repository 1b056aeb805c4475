"""The problems that passes find where files are joined: each is known until a pass over the same hire finds it gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Key
from reconciler.model.last_pass import LastPass
from reconciler.model.selection import Selection

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
INTERVAL = timedelta(minutes=10)
ADA, BOB = (Problem(f"hires/more/{hire}.yaml", 5, "access tool: it does not fit") for hire in ("ada", "bob"))
FILE = Problem("manifests/tool.yaml", 1, "not YAML", Severity.WARNING)
RULE = Problem("config/policy.yaml", 1, "policy own: tool is given to 2, at most 1")
EVERYBODY = Selection()


def only(*hires: str) -> Selection:
    return Selection(hires=frozenset(hires))


def after(
    last: LastPass, selection: Selection, *found: Problem, passed: timedelta = timedelta(), revision: str = "abc"
) -> LastPass:
    """What the ledger has after another pass, so long after the first."""
    of_files = [each for each in found if each == FILE]
    followed = last.followed(revision, NOW + passed, selection, of_files=of_files, found=found, interval=INTERVAL)
    assert LastPass.read(followed.written()) == followed
    return followed


def test_pass_over_others_takes_nothing_back_and_one_over_the_same_hire_does() -> None:
    last = after(after(LastPass(), only("ada"), ADA, FILE), only("bob"), BOB)
    assert last.problems == (ADA, BOB)
    of_one_grant = Selection.of([Key("ada", "tool")])
    for part in (of_one_grant, Selection(integrations=frozenset({"tool"})), Selection(without=frozenset({"tool"}))):
        assert after(last, part).problems == (ADA, BOB)
    assert after(last, only("ada"), FILE).problems == (BOB, FILE)
    assert after(last, EVERYBODY).problems == ()


def test_problem_of_everybody_is_known_as_long_as_the_revision() -> None:
    last = after(after(LastPass(), EVERYBODY, RULE, ADA), only("bob"), passed=9 * INTERVAL)
    assert last.problems == (RULE,)
    assert after(last, only("bob"), passed=11 * INTERVAL, revision="def").problems == (RULE,)
    assert after(last, only("bob"), passed=11 * INTERVAL + timedelta(seconds=1), revision="def").problems == ()
    assert after(last, EVERYBODY).problems == ()


def test_note_of_an_earlier_release_is_read() -> None:
    assert LastPass.read(None) == LastPass()
    assert LastPass.read(b'{"revision": "abc", "problems": null}') == LastPass("abc")
