"""What a forge said of pull requests, in the ledger (docs/design/rules.md, "Who gave it")."""

from __future__ import annotations

from datetime import timedelta

from reconciler.ledger import part_writers
from reconciler.ledger.entries import Event
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.attribution import Approval, Attribution, Merged, Source
from reconciler.model.grant import Key
from reconciler.model.status import EventType
from reconciler.model.value import replace
from tests.ledger.states import ADA, NOW

IDA = "Ida <ida@example.com>"
SIGNED, CLAIMED = Approval("Sam <sam@example.com>", Source.SIGNATURE), Approval("Mallory")
OLD, NEW = (
    Attribution(name * 40, IDA, IDA, NOW + timedelta(hours=hours), (SIGNED, CLAIMED), merges=("d" * 40,))
    for name, hours in (("a", 0), ("b", 1))
)
ANSWER = Merged(7, ("grace",), "ivy")
KEYS = [ADA.key, Key("bob", "tool"), Key("cid", "tool")]


def giving(ledger: LedgerWriter) -> None:
    ledger.save([replace(ADA, key=key) for key in KEYS])
    ledger.given.save([(ADA.key, OLD), (KEYS[1], NEW), (KEYS[2], NEW)], {})


def test_forges_word_takes_the_place_of_claims(ledger: LedgerWriter) -> None:
    giving(ledger)
    assert [each.revision for each in ledger.given.unanswered(5)] == [NEW.granted_in, OLD.granted_in], (
        "the newest first"
    )
    assert ledger.given.unanswered(1)[0].merges == NEW.merges
    assert not ledger.given.save_merged(NEW.granted_in, ANSWER, NOW)
    found = ledger.given.of(["ada", "bob"])
    assert found[ADA.key].approvals == (SIGNED, CLAIMED)
    assert found[KEYS[1]].approvals == (Approval("grace", Source.FORGE), SIGNED)
    assert (found[KEYS[1]].merged_by, found[ADA.key].merged_by) == ("ivy", None)
    lines = list(ledger.history.lines())
    assert [(line.key, line.event, line.approved_by) for line in lines] == [
        (key, EventType.APPROVED, ("grace", SIGNED.name)) for key in KEYS[1:]
    ]
    ledger.given.save([(KEYS[1], NEW)], {})  # what is traced again is not asked about again
    assert [each.revision for each in ledger.given.unanswered(5)] == [OLD.granted_in]


def test_no_pull_request_leaves_what_the_commit_says(ledger: LedgerWriter) -> None:
    giving(ledger)
    ledger.given.save_unmerged(OLD.granted_in, NOW, settled=False)
    ledger.given.save_unmerged(OLD.granted_in, NOW + timedelta(hours=1), settled=False)
    assert ledger.given.unanswered(5)[1].asked_at == NOW
    ledger.given.save_unmerged(OLD.granted_in, NOW, settled=True)
    assert [each.revision for each in ledger.given.unanswered(5)] == [NEW.granted_in]
    assert ledger.given.of(["ada"])[ADA.key].approvals == (SIGNED, CLAIMED)
    ledger.given.save_merged(NEW.granted_in, Merged(7, (), "ivy"), NOW)
    assert list(ledger.history.lines()) == [], "nobody approved it"


def test_lines_are_written_in_pieces_each_once(ledger: LedgerWriter, monkeypatch) -> None:
    monkeypatch.setattr(part_writers, "LINES", 1)
    monkeypatch.setattr(part_writers, "_UNTOLD", part_writers._untold())
    giving(ledger)
    ledger.given.save([(KEYS[1], OLD)], {})
    ledger.save((), [Event(NOW, KEYS[1], "tool", EventType.APPROVED)])  # of another commit
    ledger.given.save([(KEYS[1], NEW)], {})
    assert ledger.given.save_merged(NEW.granted_in, ANSWER, NOW)
    assert NEW.granted_in in {each.revision for each in ledger.given.unanswered(5)}, "a crash here loses nothing"
    while ledger.given.save_merged(NEW.granted_in, ANSWER, NOW):
        pass
    told = [line.key for line in ledger.history.lines() if line.granted_in == NEW.granted_in]
    assert told == KEYS[1:]
    assert NEW.granted_in not in {each.revision for each in ledger.given.unanswered(5)}
