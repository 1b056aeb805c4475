"""A review's file says what it was started with, whatever services and people are called, and digests as documented."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.intake.files import review_text
from reconciler.repository.reviews import review_in

PATH = "config/reviews/2026-Q4/saas.yaml"
ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=20)
LINES = st.fixed_dictionaries(
    {
        "who": ANYTHING,
        "access": st.none() | ANYTHING,
        "values": st.dictionaries(
            ANYTHING, ANYTHING | st.lists(ANYTHING, max_size=2) | st.integers(-9, 99), max_size=2
        ),
        "since": st.none() | st.just("2026-12-01T09:00:00Z"),
        "granted_in": st.sampled_from([None, "1" * 40, "1e5" + "0" * 37]),
        "author": st.none() | ANYTHING,
        "approved_by": st.lists(ANYTHING, max_size=2),
        "decision": st.none(),
        "reason": st.none(),
    }
)


def fit(value: Any) -> Any:
    """The data as a file can hold it."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {fit(key): fit(item) for key, item in value.items()}
    return [fit(item) for item in value] if isinstance(value, list) else value


def documented(data: dict[str, Any]) -> str:
    """The digest as docs/design/rules.md, "Access reviews", describes it."""

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    header = {key: value for key, value in data.items() if key not in ("digest", "lines")}
    lines = [{key: line[key] for key in line if key not in ("decision", "reason")} for line in data["lines"]]
    return hashlib.sha256(
        "".join(f"{each}\n" for each in [text(header), *sorted(map(text, lines))]).encode()
    ).hexdigest()


@given(st.lists(LINES, max_size=3))
def test_file_reads_back_as_it_was_started(lines: list[dict[str, Any]]) -> None:
    header = {"revision": "0" * 40, "read_at": "2026-12-01T09:00:00Z", "listed": None, "matched": 1, "ignored": 0}
    data = {**header, "complete": False, "history": None, "lines": lines}
    raw = review_text(data, PATH)
    found = review_in(raw, PATH)
    assert found.problems == ()
    assert [dict(line.data) for line in found.lines] == fit(lines)
    assert found.header["digest"] == found.digest == documented(fit(data))
    assert found.doubts() == []
    if not any(not str(each).isprintable() for line in lines for each in line.values()):
        assert yaml.safe_load(raw)["lines"] == fit(lines), "another reader takes it for the same"
