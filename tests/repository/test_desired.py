"""Long and tangled lists of access: what needs what, and how much is said of what does not fit."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import LONGEST, Problem
from reconciler.model.grant import Key
from reconciler.model.status import Status
from reconciler.repository.desired import Desired
from reconciler.repository.files import Reader
from reconciler.repository.joined_problems import first_error, problems_of
from reconciler.repository.needs import circular_among, needed_first
from tests.secrets.keys import Files
from tests.timing import at_most

NAMES = "abcdef"
NEEDS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES + "x"), max_size=3))


def reached(needs: dict[str, list[str]], start: str) -> set[str]:
    """Everything that an entry needs, and that in turn."""
    found: set[str] = set()
    waiting = list(needs[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs.get(name, [])
    return found


@given(NEEDS)
def test_entries_that_need_themselves_are_circular(needs: dict[str, list[str]]) -> None:
    assert circular_among(needs) == {name for name in needs if name in reached(needs, name)}


@given(NEEDS)
def test_needed_entries_come_first_and_the_order_is_kept_otherwise(needs: dict[str, list[str]]) -> None:
    order = needed_first(needs)
    assert sorted(order) == sorted(needs)
    circular = circular_among(needs)
    for place, name in enumerate(order):
        if name not in circular:
            assert set(order[:place]) >= {need for need in needs[name] if need in needs and need not in circular}
    if not any(set(theirs) & set(needs) for theirs in needs.values()):
        assert order == list(needs)


ADA = "email: ada@example.com\nfirst_name: Ada\nlast_name: Lovelace\naccess:\n"
MANIFEST = "execute: [{url: 'https://api.example.com/'}]\n"


def problems(known: Desired) -> list[Problem]:
    """What joining finds of all hires."""
    return sorted({each for hire in known.hires for each in problems_of(known, hire, known.grants(hire))})


def desired(hire: str, manifest: str = MANIFEST) -> Desired:
    files = Files({"hires/ada.yaml": hire.encode(), "manifests/tool.yaml": manifest.encode()})
    return Desired(Reader().load(files), date(2026, 12, 1))


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize("circle", [False, True], ids=["chain", "circle"])
def test_ten_thousand_entries_that_need_each_other(circle: bool) -> None:
    last = "e0" if circle else "e10000"
    entries = [
        f"- {{integration: tool, name: e{number}, needs: [{last if number == 9999 else f'e{number + 1}'}]}}\n"
        for number in range(10_000)
    ]
    if not circle:
        entries.append("- {integration: tool, name: e10000}\n")
    with at_most(20):
        grants = desired(ADA + "".join(entries)).grants("ada")
    if circle:
        assert all(grant.hold is not None and grant.hold.status is Status.INVALID for grant in grants)
    else:
        assert [grant.key.access for grant in grants] == [f"e{number}" for number in range(10_000, -1, -1)]
        assert not any(grant.hold for grant in grants)


@pytest.mark.no_cover  # the same lines thousands of times
def test_many_requests_of_one_hire_for_one_integration() -> None:
    manifest = f"{MANIFEST}form: [{{id: SEAT, type: input}}]\nexists: {{url: '{{{{SEAT}}}}', expected: x}}\n"
    asked = "hire: ada\nreason: on call\naccess: {integration: tool, for: 3d, values: {SEAT: '%d'}}\n"
    files = {f"config/requests/r{number}.yaml": (asked % (number // 2)).encode() for number in range(600)}
    files |= {"hires/ada.yaml": ADA[:-8].encode(), "manifests/tool.yaml": manifest.encode()}
    known = Desired(Reader().load(Files(files)), date(2026, 12, 1))
    with at_most(3):
        grants = known.grants("ada")
    beside = {grant.key.access: grant.requested.beside for grant in grants if grant.requested is not None}
    assert beside == {f"r{number}": (f"r{number ^ 1}",) for number in range(600)}


def test_a_reason_names_a_few_of_many_items() -> None:
    items = "".join(f"  - {{id: '{number}', name: Team {number}}}\n" for number in range(5000))
    manifest = f"{MANIFEST}form:\n- id: TEAM\n  type: choice\n  items:\n{items}"
    (grant,) = desired(f"{ADA}- {{integration: tool, values: {{TEAM: {{name: Team 12x}}}}}}\n", manifest).grants("ada")
    assert grant.hold is not None
    assert grant.hold.reason.startswith("values.TEAM: 'Team 12x' is not among the items: Team 0, Team 1, ")
    assert grant.hold.reason.endswith("Team 29 and others: did you mean Team 12?")


def test_a_long_value_is_shortened_in_the_reason() -> None:
    manifest = f"{MANIFEST}form:\n- id: TEAM\n  type: choice\n  items: [{{id: '1', name: One}}]\n"
    given = f"{{TEAM: {'x' * 200_000}}}"
    (grant,) = desired(f"{ADA}- {{integration: tool, values: {given}}}\n", manifest).grants("ada")
    assert grant.hold is not None
    assert len(grant.hold.reason) <= LONGEST + 10


def test_the_last_grants_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.repository.desired.MAX_KEPT", 2 * 2 + 1)
    files = {f"hires/h{n}.yaml": f"email: h{n}@example.com\n{ADA[23:]}- tool\n".encode() for n in range(5)}
    known = Desired(Reader().load(Files({**files, "manifests/tool.yaml": MANIFEST.encode()})), date(2026, 12, 1))
    hires = sorted(known.hires)

    first = {hire: known.grants(hire) for hire in hires}

    assert [hire for hire in reversed(hires) if known.grants(hire) is first[hire]] == ["h4", "h3"]
    assert {hire: known.grants(hire) for hire in hires} == first


ASSIGNED = b"assign: {department: [sales]}\naccess: [crm]\n"
NAMED = b"access: [chat, {integration: tool, name: second}]\n"
PEOPLE = {
    "plain": "access: [tool, {integration: wiki, name: notes, until: 2020-01-01}]",
    "in-sales": "department: sales\naccess: [tool]",
    "named": "sequences: [named, gone]\naccess: [wiki]",
    "nothing": "department: none",
    "broken": "access: 5",
}


@pytest.mark.parametrize("sequences", [{}, {"named": NAMED}, {"named": NAMED, "given": ASSIGNED}], ids=len)
def test_the_integrations_of_a_hire_are_those_of_its_grants_and_of_entries_that_are_over(
    sequences: dict[str, bytes],
) -> None:
    files = {
        f"hires/{name}.yaml": f"email: {name}@example.com\nfirst_name: A\nlast_name: B\n{text}\n".encode()
        for name, text in PEOPLE.items()
    }
    files |= {f"manifests/{name}.yaml": MANIFEST.encode() for name in ("tool", "chat", "crm")}
    files |= {f"config/sequences/{name}.yaml": text for name, text in sequences.items()}
    known = Desired(Reader().load(Files(files)), date(2026, 12, 1))
    for hire in PEOPLE:
        wanted = {grant.integration for grant in known.grants(hire)}
        over = {"wiki"} if hire == "plain" and "given" not in sequences else set()
        assert set(known.integrations(hire)) == wanted | over, hire
    assert set(known.integrations("in-sales")) == ({"tool", "crm"} if "given" in sequences else {"tool"})
    assert set(known.integrations("named")) == ({"wiki", "chat", "tool"} if sequences else {"wiki"})


@pytest.mark.parametrize(
    ("assign", "given"),
    [
        ("{source: bamboohr}", {"ada"}),
        ("{end: 2027-06-30}", {"ada"}),
        ("{end: [2027-06-30, 2028-01-01], source: [hibob, bamboohr]}", {"ada"}),
        ("{source: hibob}", {"bob"}),
        ("{manager: grace}", {"bob"}),
        ("{manager: ' GRACE '}", {"bob"}),
        ("{end: {not: 2027-06-30}}", {"bob"}),
        ("{source: {not: [hibob, other]}}", {"ada"}),
        ("{any: [{manager: grace}, {source: bamboohr, end: 2027-06-30}]}", {"ada", "bob"}),
        (
            "{any: [{manager: grace}, {source: bamboohr, end: 2027-06-30}], not: {first_name: a, source: hibob}}",
            {"ada"},
        ),
        ("{extra.TEAM: 7}", {"bob"}),
        ("{extra.TEAM: {not: 7}}", {"ada"}),
    ],
)
def test_a_sequence_is_assigned_by_any_field_of_a_hire(assign: str, given: set[str]) -> None:
    person = "email: {0}@example.com\nfirst_name: A\nlast_name: B\n"
    files = {
        "hires/ada.yaml": f"{person.format('ada')}end: 2027-06-30\nsource: bamboohr\n",
        "hires/bob.yaml": f"{person.format('bob')}source: hibob\nmanager: {{hire: grace}}\nextra: {{TEAM: 7}}\n",
        "config/sequences/s.yaml": f"assign: {assign}\naccess: [tool]\n",
        "manifests/tool.yaml": MANIFEST,
    }
    loaded = Reader().load(Files({path: text.encode() for path, text in files.items()}))
    assert loaded.problems == []
    known = Desired(loaded, date(2026, 12, 1))
    assert {hire for hire in known.hires if known.grants(hire)} == given


PERSON = "email: ada@example.com\nfirst_name: A\nlast_name: B\n"


def included(sequences: dict[str, str], hire: str = "sequences: [top]") -> Desired:
    files = {f"config/sequences/{name}.yaml": text for name, text in sequences.items()}
    files |= {f"manifests/{name}.yaml": MANIFEST for name in ("tool", "wiki", "chat")}
    files["hires/ada.yaml"] = f"{PERSON}{hire}\n"
    return Desired(Reader().load(Files({path: text.encode() for path, text in files.items()})), date(2026, 12, 1))


def sources(known: Desired) -> dict[str, str]:
    return {grant.key.access: grant.source for grant in known.grants("ada")}


def test_included_sequences_give_their_entries_and_own_ones_win() -> None:
    top = "include: [mid]\naccess: [tool]"
    known = included({"top": top, "mid": "include: [low]\naccess: [tool, wiki]", "low": "access: [wiki, chat]"})
    assert sources(known) == {
        "tool": "config/sequences/top.yaml:2",
        "wiki": "config/sequences/mid.yaml:2",
        "chat": "config/sequences/low.yaml:1",
    }
    assert set(known.integrations("ada")) == {"tool", "wiki", "chat"}
    assert [known.entries.includer("ada", name) for name in ("low", "mid", "top")] == ["mid", "top", None]
    given = {grant.key.access: grant.sequences for grant in known.grants("ada")}
    assert given == {"tool": ("top",), "wiki": ("mid", "top"), "chat": ("low", "mid", "top")}


def test_a_grant_is_of_each_sequence_that_gives_it() -> None:
    sequences = {"a": "include: [low]", "b": "include: [low]\nassign: {first_name: A}", "low": "access: [tool]"}
    (grant,) = included({**sequences, "same": "access: [tool]"}, "sequences: [a, same]").grants("ada")
    assert (grant.origin, grant.through, grant.hold) == ("low", ("a", "b", "same"), None)
    (own,) = included(sequences, "sequences: [a]\naccess: [tool]").grants("ada")
    assert own.sequences == ()


def test_a_hire_can_do_without_an_entry_of_its_sequences() -> None:
    known = included({"top": "access: [tool, wiki]"}, "sequences: [top]\nwithout: [wiki, wkii]")
    assert set(sources(known)) == {"tool"}
    assert [str(problem) for problem in problems(known)] == [
        "hires/ada.yaml:5: warning: without: no sequence of this hire gives wkii"
    ]
    assert first_error(known, "ada") is None, "a warning holds nothing back"
    own = included({"top": "access: [tool, wiki]"}, "sequences: [top]\nwithout: [wiki]\naccess: [wiki]")
    assert sources(own)["wiki"] == "hires/ada.yaml:6", "its own entry is not the sequence's"


def test_included_sequences_that_disagree_are_a_conflict_unless_the_sequence_says() -> None:
    other = {"a": "access: [{integration: tool, keep: true}]", "b": "access: [tool]"}
    known = included({"top": "include: [a, b]", **other})
    (grant,) = known.grants("ada")
    assert grant.hold is not None
    assert "the sequences a, b give it different values" in grant.hold.reason
    assert included({"top": "include: [a, b]\naccess: [tool]", **other}).grants("ada")[0].hold is None


def test_a_circle_of_included_sequences_is_an_error_of_each() -> None:
    known = included({"top": "include: [mid]", "mid": "include: [top]", "low": "access: [tool]"})
    assert [(problem.file, problem.line) for problem in known.files.problems] == [
        ("config/sequences/mid.yaml", 1),
        ("config/sequences/top.yaml", 1),
    ]
    assert set(known.files.sequences) == {"low"}


def test_what_a_broken_or_missing_included_sequence_gave_is_held_and_the_rest_goes_on() -> None:
    for low in ({"low": "acess: []"}, {}):
        known = included({"top": "include: [low]\naccess: [tool]", **low})
        assert set(sources(known)) == {"tool"}
        assert known.grants("ada")[0].hold is None
        assert known.unreadable(Key("ada", "x"), "ada@example.com", ["low"]) is not None
        assert first_error(known, "ada") is not None


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ("{integration: tool, at: start}", "hires/ada.yaml:5"),
        ("{integration: tool, needs: [wiki]}", "hires/ada.yaml:5"),
        ("{integration: tool, at: start, until: 2026-01-01}", "hires/ada.yaml:5"),
        ("{integration: tool, at: 2026-02-01, until: 2026-01-01}", "config/sequences/s.yaml:2"),
        ("{integration: tool, needs: [tool]}", "config/sequences/s.yaml:2"),
        ("{integration: toll}", "config/sequences/s.yaml:2"),
    ],
)
def test_an_entry_of_a_sequence_that_does_not_fit_a_hire_is_a_problem_of_the_hires_file(entry: str, where: str) -> None:
    begins = "start: 2026-11-01\n" if "until" in entry else "# no start\n"
    files = {
        "hires/ada.yaml": f"email: ada@example.com\nfirst_name: A\nlast_name: B\n{begins}sequences: [s]\n",
        "config/sequences/s.yaml": f"access:\n  - {entry}\n",
        "manifests/tool.yaml": MANIFEST,
    }
    known = Desired(Reader().load(Files({path: text.encode() for path, text in files.items()})), date(2026, 12, 1))
    assert [f"{problem.file}:{problem.line}" for problem in problems(known)] == [where]
