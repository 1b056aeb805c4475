"""`{{name}}` and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.template import PLACEHOLDER, misuse, names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("no placeholder { } }} {{", set(), id="plain"),
        pytest.param("{{a}}{{ b.c }}\n{{\n d \t}}", {"a", "b.c", "d"}, id="spaces-and-dots"),
        pytest.param({"{{key}}": [{"x": "{{value}}"}, 1, None, True]}, {"key", "value"}, id="structure-keys-too"),
        pytest.param("{{{email}}}", {"email"}, id="three-braces"),
        pytest.param("{{ naïve_größe }}", {"naïve_größe"}, id="unicode"),
        pytest.param("{{ x|upper }}", set(), id="filter-is-no-name"),
    ],
)
def test_names(value: object, expected: set[str]) -> None:
    assert names(value) == expected


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        pytest.param("{{ x|upper }}", ["filters", "{{ x }}"], id="filter"),
        pytest.param("{{ {% if x %} }}", ["blocks"], id="block"),
        pytest.param("{{ a b }}", ["no variable"], id="two-words"),
        pytest.param("{{ user['x'] }}", ["no variable"], id="code"),
        pytest.param("{{ a-b }}", ["{{ a-b }}", "no variable"], id="dash"),
        pytest.param("{{}}", ["empty"], id="empty"),
        pytest.param({"k": ["{{ok}}", {"{{ no! }}": 1}]}, ["no!"], id="inside-a-structure"),
        pytest.param("a{% if x %}b", ["{% if x %}", "blocks"], id="tag"),
        pytest.param("a{# why #}b", ["{# why #}", "comments"], id="comment"),
        pytest.param("{%\n endif\n%}", ["blocks"], id="tag-over-lines"),
        pytest.param({"{% now 'Y' %}": 1}, ["{% now 'Y' %}"], id="tag-as-key"),
        pytest.param("{% " + "x " * 100 + "%}", ["…"], id="long-tags-are-cut"),
        pytest.param("{{ " + "x " * 100 + "}}", ["…"], id="long-ones-are-cut"),
    ],
)
def test_misuse(value: object, parts: list[str]) -> None:
    (message,) = misuse(value)
    assert all(part in message for part in parts)
    assert len(message) < 200


@pytest.mark.parametrize(
    "text",
    ["{% if x", "{#", "100%}", "{{", "}} {{", "{{a}}", "{{{a}}}", '{"a": {"b": "{{c}}"}}', "{ {a} }"],
)
def test_ordinary_text_is_no_misuse(text: str) -> None:
    assert misuse(text) == []


@given(st.text(alphabet="{}ab. |%", max_size=60))
def test_every_closed_pair_is_a_name_or_reported(text: str) -> None:
    left = PLACEHOLDER.sub("X", text)
    opened = left.find("{{")
    pair = opened >= 0 and "}}" in left[opened + 2 :]
    assert bool(misuse(text)) >= pair
    assert pair or bool(misuse(text)) == ("{%" in left and "%}" in left[left.find("{%") + 2 :])


@pytest.mark.parametrize("opening", ["{%", "{#", "{{"])
def test_thousands_of_openings_are_scanned_once(opening):
    assert misuse(opening * 60_000) == []  # looking on from each of them takes minutes, and this test has two
