"""What a plan shows of a request's body: everything but secrets."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Secret
from reconciler.requests.render import shown_body

SCOPE = Scope(
    (
        Layer("initial data", {"TOKEN": Secret("s3cret-token"), "ORG": "77"}, frozenset({"TOKEN"})),
        Layer("store_data of an earlier run", {"SAVED": {"id": "s"}}, frozenset({"SAVED"})),
        Layer("hires/ada.yaml", {"email": "ada@example.com", "TEAMS": ["1", "2"], "SEATS": 30, "buddy": None}),
    ),
    frozenset({"responses", "PASSWORD"}),
)

JSON_TEXT = '{"user": "{{email}}", "seats": {{SEATS}}}'


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        ({"data": {"user": "{{email}}", "org": "{{ORG}}"}}, {"user": "ada@example.com", "org": "77"}),
        ({"data": {"teams": "{{TEAMS}}", "n": "{{SEATS}}"}}, {"teams": ["1", "2"], "n": 30}),
        ({"data": {"key": "{{TOKEN}}", "text": "Bearer {{TOKEN}}"}}, {"key": "***", "text": "Bearer ***"}),
        ({"data": {"id": "{{SAVED.id}}"}}, {"id": "***"}),
        ({"data": {"password": "{{PASSWORD}}"}}, {"password": "(generated)"}),
        ({"data": {"id": "{{responses.0.id}}", "who": "{{buddy}}"}}, {"id": "{{responses.0.id}}", "who": "{{buddy}}"}),
        ({"data": JSON_TEXT}, {"user": "ada@example.com", "seats": 30}),
        (
            {"data": "a={{email}}&k={{TOKEN}}", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            "a=ada@example.com&k=***",
        ),
        ({}, None),
        ({"data": {}}, None),
        ({"data": '{"n": "{{email}}"}', "cast_data_to_json": True}, '{"n": "ada@example.com"}'),
        ({"data": {"a": "1"}, "files": {"photo": "face.png"}}, {"a": "1", "photo": "(the file face.png)"}),
    ],
    ids=[
        "texts",
        "types",
        "secrets",
        "stored",
        "generated",
        "run time",
        "json text",
        "form",
        "none",
        "empty",
        "cast",
        "files",
    ],
)
def test_planned_requests_are_shown(request_: dict[str, Any], body: Any) -> None:
    manifest = Manifest.model_validate(
        {
            "initial_data_form": [{"id": "PASSWORD", "name": "generate"}],
            "execute": [{"url": "https://x.example.com/", **request_}],
        }
    )
    assert shown_body(manifest.execute[0], SCOPE, manifest) == body
