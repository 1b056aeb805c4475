"""The index of hires, brought up to date change by change, against one made from everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.repository.hire_index import HireIndex, HireSummary

paths = st.sampled_from([f"hires/{folder}{name}.yaml" for folder in ("", "x/", "y/") for name in "abc"])
summaries = st.builds(
    HireSummary,
    path=paths,
    blob=st.sampled_from("12"),
    valid=st.booleans(),
    email=st.sampled_from([None, "a@example.com", "A@example.com", "b@example.com"]),
    sequences=st.sampled_from([(), ("one",), ("one", "two")]),
    references=st.sampled_from([(), ("a",), ("a", "b")]),
)
changes = st.lists(st.tuples(st.lists(paths, max_size=2), st.lists(summaries, max_size=3)), max_size=6)


def answers(index: HireIndex) -> object:
    """Everything that an index can be asked."""
    return (
        dict(index.paths),
        sorted(index),
        index.shared_stems(),
        index.shared_addresses(),
        index.with_problems(),
        index.sequences,
        {hire: index.referrers([hire]) for hire in "abc"},
        [index.owner(email) for email in ("a@example.com", "B@EXAMPLE.com", "c@example.com")],
    )


@given(changes)
def test_an_updated_index_equals_one_made_from_all_files(steps):
    index = HireIndex()
    files: dict[str, HireSummary] = {}
    for gone, new in steps:
        before, said = index, answers(index)
        index = index.updated(gone, new)
        for path in gone:
            files.pop(path, None)
        files |= {summary.path: summary for summary in new}
        assert answers(index) == answers(HireIndex(dict(files)))
        assert answers(before) == said
