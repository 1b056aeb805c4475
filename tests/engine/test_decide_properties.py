"""What holds of every plan, whatever the ledger remembers and whatever a check says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.orphans import decide_orphan
from reconciler.engine.decide.wanted import decide
from reconciler.model.decision_inputs import Policy
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.run import Kind, OpenRun, Outcome, Step
from reconciler.model.settings import Drift, Settings
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, NoCheck, Present, Unknown
from tests.records import but, manifest

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
TEXTS = ("a", "b", "c")
ACTIONS = {
    Status.PRESENT: {Action.NONE},
    Status.DIFFERS: {Action.NONE, Action.UPDATE},
    Status.MISSING: {Action.EXECUTE, Action.NONE},
    Status.UNCONFIRMED: {Action.NONE},
    Status.DONE: {Action.NONE},
    Status.RETRYING: {Action.WAIT, Action.RETRY},
    Status.FAILED: {Action.NONE},
    Status.UNKNOWN: {Action.NONE},
    Status.BLOCKED: {Action.NONE},
    Status.ORPHANED: {Action.NONE, Action.REVOKE},
    Status.REVOKED: {Action.NONE},
}
"""docs/design/states.md, "Precedence"."""

moments = st.none() | st.integers(-48, 48).map(lambda hours: NOW + timedelta(hours=hours))
policies = st.builds(
    Policy,
    settings=st.builds(
        Settings,
        retry_delay=st.just(timedelta(hours=1)),
        drift=st.sampled_from([Drift(), Drift(missing="report", differs="report"), Drift(inactive="heal")]),
        prune=st.sampled_from(["report", "revoke"]),
    ),
    now=st.just(NOW),
)
verdicts = st.sampled_from([Present(), Present(under="old@example.com"), Missing(), Unknown("answered 500"), NoCheck()])


@st.composite
def runs(draw: st.DrawFn) -> tuple[Step, ...]:
    """The steps of a run as they can come about: each before the last was done, or counted as done."""
    length = draw(st.integers(0, 3))
    mutates = [draw(st.booleans()) for _ in range(length)]
    outcomes = [Outcome.DONE] * max(length - 1, 0) + ([draw(st.sampled_from(list(Outcome)))] if length else [])
    if length > 1 and True in mutates[:-1] and draw(st.booleans()):
        outcomes[mutates.index(True)] = draw(st.sampled_from([Outcome.LOST, Outcome.SENT, Outcome.UNMET]))
    return tuple(Step(place, TEXTS[place], mutates[place], outcomes[place]) for place in range(length))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record as the ledger can have it."""
    phase = draw(st.sampled_from(list(Phase)))
    unsettled = phase in (Phase.RETRYING, Phase.FAILED)
    confirmed = draw(moments) or (NOW if phase is Phase.CONFIRMED else None)
    executed = draw(moments) or (NOW if phase in (Phase.EXECUTED, Phase.DONE) else None)
    run = OpenRun(
        kind=draw(st.sampled_from(Kind)),
        digest=draw(st.sampled_from([None, "d", "e"])),
        by_hand=draw(st.booleans()),
        retry_at=draw(moments) if phase is Phase.RETRYING else None,
        steps=draw(runs()),
    )
    return Record(
        key=Key("ada", "tool"),
        email="ada@example.com",
        integration="tool",
        service="tool",
        source="hires/ada.yaml:5",
        phase=phase,
        attempts=draw(st.integers(1, 2)) if unsettled else 0,
        last_error=draw(st.none() | st.just("answered 500")),
        confirmed_at=confirmed,
        executed_at=executed,
        healed_at=draw(moments),
        lost=draw(st.booleans()),
        fresh=draw(st.booleans()) if unsettled else False,
        open=run if unsettled else None,
    )


changes = st.sampled_from([{}, {"TEAM": ("7", "8")}])


@given(records() | st.none(), verdicts, policies, changes)
def test_a_plan_keeps_to_the_table_and_never_acts_on_what_it_does_not_know(record, verdict, policy, differing):
    decision = decide(record, Facts(verdict, changes=differing, digest="d", texts=TEXTS), policy)
    assert decision.action in ACTIONS[decision.status]
    assert decision.reason or decision.status is Status.RETRYING
    if isinstance(verdict, Unknown):
        assert decision.action in (Action.NONE, Action.WAIT)
    if isinstance(verdict, Present):
        assert decision.action is not Action.EXECUTE
        asked = record is not None and record.run.by_hand
        assert decision.action is not Action.RETRY or decision.resume > 0 or asked, "nobody is created twice"
    if record is not None and record.phase in (Phase.DONE, Phase.CONFIRMED) and isinstance(verdict, NoCheck):
        assert decision.action is Action.NONE, "a webhook runs once"
    assert 0 <= decision.resume <= len(TEXTS)
    assert not decision.heals or decision.action in (Action.EXECUTE, Action.RETRY)


@given(records(), verdicts, policies)
def test_deciding_twice_gives_the_same_decision(record, verdict, policy):
    facts = Facts(verdict, digest="d", texts=TEXTS)
    assert decide(record, facts, policy) == decide(record, facts, policy)


@given(records(), verdicts, policies, st.booleans(), st.booleans())
def test_no_revocation_of_missing_or_kept_accounts(record, verdict, policy, can, same_as):
    other = "ada/other" if same_as else None
    facts = Facts(verdict, manifest(*(["revoke"] if can else [])), digest="d", texts=TEXTS, same_as=other)
    decision = decide_orphan(record, facts, policy)
    assert decision.action in ACTIONS[decision.status]
    if decision.action in (Action.REVOKE, Action.RETRY):
        assert can
        assert not same_as
        under_way = record.revoking and any(step.may_have_effect for step in record.run.steps)
        assert isinstance(verdict, Present) or (isinstance(verdict, Missing) and under_way) or record.revoking
    if decision.action is Action.REVOKE:
        assert policy.settings.prune == "revoke"
        assert isinstance(verdict, Present)
    if decision.status is Status.REVOKED and record.phase is not Phase.REVOKED:
        assert isinstance(verdict, Missing)


@given(records(), policies, st.booleans())
def test_command_takes_nothing_away_that_may_not_be_there(record, policy, can):
    facts = Facts(Unknown("answered 500"), manifest(*(["revoke"] if can else [])), digest="d", texts=TEXTS)
    decision = decide_orphan(record, facts, policy, by_hand=True)
    assert decision.action in (Action.NONE, Action.WAIT)
    assert decision.status is not Status.REVOKED or record.phase is Phase.REVOKED


@given(records(), policies)
def test_time_alone_starts_nothing_once_two_attempts_failed(record, policy):
    record = but(record, phase=Phase.FAILED, fresh=False, digest="d")
    later = replace(policy, now=NOW + timedelta(days=4000))
    for verdict in (Present(), Missing(), NoCheck(), Unknown("x")):
        facts = Facts(verdict, manifest("revoke"), digest="d", texts=TEXTS)
        lost = record.run.kind.updates and isinstance(verdict, Missing)  # the account to update is gone: that is drift
        if not (record.revoking or lost):
            assert decide(record, facts, later).action is Action.NONE
        assert decide_orphan(but(record, kind=Kind.REVOKE), facts, later).action is Action.NONE
