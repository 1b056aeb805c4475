from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import Blocked, MissingVariable
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Secret
from reconciler.requests.template import render_data, render_text

HIRE = {
    "email": "ada@example.com",
    "first_name": "Ada",
    "last_name": "",
    "start": date(2026, 12, 1),
    "manager": None,
    "TEAMS": ["1", "2"],
    "COUNT": 3,
    "ADMIN": True,
    "TRICK": "{{TOKEN}} {{ email }}",
    "QUOTES": 'a"b\\c\nd',
    "extra": {"deep": {"list": [{"id": 7}]}},
}
SCOPE = Scope(
    (
        Layer("hires/ada.yaml", HIRE),
        Layer("config/initial_data/acme", {"TOKEN": "t0ken-value", "SHORT": "k"}, frozenset({"TOKEN", "SHORT"})),
    ),
    frozenset({"responses", "oauth"}),
)


@pytest.mark.parametrize(
    ("text", "rendered", "shown"),
    [
        ("plain", "plain", "plain"),
        ("{{first_name}} {{ first_name }} {{first_name }}", "Ada Ada Ada", "Ada Ada Ada"),
        ("[{{last_name}}]", "[]", "[]"),
        ("{{start}}", "2026-12-01", "2026-12-01"),
        ("{{TEAMS}}", "1,2", "1,2"),
        ("{{COUNT}} {{ADMIN}}", "3 true", "3 true"),
        ("{{TRICK}}", "{{TOKEN}} {{ email }}", "{{TOKEN}} {{ email }}"),
        ("Bearer {{TOKEN}}:{{SHORT}}", "Bearer t0ken-value:k", "Bearer ***:***"),
        ("{{extra.deep.list.0.id}}", "7", "7"),
        ("{{extra.deep}}", '{"list": [{"id": 7}]}', '{"list": [{"id": 7}]}'),
        ("{{responses.0.id}}/{{oauth.x}}", "{{responses.0.id}}/{{oauth.x}}", "{{responses.0.id}}/{{oauth.x}}"),
        ("{{ email | upper }} {% if %} {{", "{{ email | upper }} {% if %} {{", "{{ email | upper }} {% if %} {{"),
    ],
)
def test_text(text, rendered, shown):
    made = render_text(text, SCOPE)
    assert (made.text, made.shown) == (rendered, shown)
    assert "t0ken" not in repr(made)


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("{{manager}}", "manager", "variable {{manager}} has no value"),
        ("{{TEAM_IDS}}", "TEAM_IDS", "variable {{TEAM_IDS}} is not known"),
        ("{{extra.deep.nothing}}", "extra.deep.nothing", "variable {{extra.deep.nothing}} has no value"),
    ],
)
@pytest.mark.parametrize("render", [render_text, render_data])
def test_a_variable_without_a_value_is_named(text, name, says, render):
    with pytest.raises(MissingVariable) as raised:
        render(text, SCOPE)
    assert (raised.value.name, str(raised.value)) == (name, says)


def test_half_a_character_is_refused():
    scope = Scope((Layer("answer", {"x": "\ud800"}),))
    with pytest.raises(Blocked, match="x"):
        render_text("{{x}}", scope)


def test_a_secret_is_revealed_to_the_wire_only():
    scope = Scope((Layer("sealed", {"x": Secret("hush-hush")}),))
    made = render_text("{{x}}", scope)
    assert (made.text, made.shown) == ("hush-hush", "***")
    assert render_data({"x": "{{x}}"}, scope) == {"x": "hush-hush"}


@pytest.mark.parametrize(
    ("data", "rendered"),
    [
        ("{{TEAMS}}", ["1", "2"]),
        ("{{ TEAMS }}", ["1", "2"]),
        (" {{TEAMS}}", " 1,2"),
        ("{{COUNT}}", 3),
        ("{{ADMIN}}", True),
        ("{{start}}", "2026-12-01"),
        ("{{extra.deep}}", {"list": [{"id": 7}]}),
        ("{{QUOTES}}", 'a"b\\c\nd'),
        ("{{TRICK}}", "{{TOKEN}} {{ email }}"),
        (
            {"{{first_name}}": ["{{email}}", 1, None, 1.5, date(2026, 1, 2)]},
            {"Ada": ["ada@example.com", 1, None, 1.5, "2026-01-02"]},
        ),
        ({1: {True: "x"}}, {"1": {"true": "x"}}),
        ("{{responses.1.id}}", "{{responses.1.id}}"),
    ],
)
def test_data(data, rendered):
    assert render_data(data, SCOPE) == rendered


@given(st.text(), st.text())
def test_a_value_never_changes_the_structure(value, other):
    scope = Scope((Layer("x", {"a": value, "b": other}),))
    made = render_data({"k": ["{{a}}", "<{{a}}{{b}}>"], "{{a}}!": 1}, scope)
    assert made == {"k": [value, f"<{value}{other}>"], f"{value}!": 1}


def test_a_name_as_long_as_a_file_is_not_repeated_whole():
    with pytest.raises(MissingVariable, match=r"^variable … is not known$") as missing:
        render_text(f"{{{{{'a' * 500_000}}}}}", Scope())
    assert len(str(missing.value)) < 2100
