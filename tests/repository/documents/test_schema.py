"""The schemas that editors get, compared with what the reader itself takes and refuses."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import json
from datetime import date
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError

from reconciler.repository.documents.schema import KINDS, json_schema
from reconciler.repository.documents.yaml import read
from reconciler.repository.naming import Kind

ADA = "{email: ada@example.com, first_name: Ada, last_name: Lovelace"


def as_editors_see_it(value: Any) -> Any:
    """A date is text to JSON Schema."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: as_editors_see_it(item) for key, item in value.items()}
    return [as_editors_see_it(item) for item in value] if isinstance(value, list) else value


def verdicts(kind: Kind, text: str) -> tuple[bool, bool]:
    """Whether the schema takes it, and whether the reader does."""
    data = read(text.encode(), "x.yaml").data
    validator = jsonschema.Draft7Validator(json_schema(kind))
    try:
        KINDS[kind][0].model_validate(data)
    except ValidationError:
        reader = False
    else:
        reader = True
    return validator.is_valid(as_editors_see_it(data)), reader


GOOD: list[tuple[Kind, str]] = [
    ("hire", ADA + "}"),
    ("hire", "{email: o'brien@example.com, first_name: , last_name: 12}"),
    ("hire", ADA + ", start: 2026-12-01, phone: 12, department: R&D, extra: {A: [1, {b: c}], B_2: x}, position: null}"),
    ("hire", ADA + ", manager: Grace, buddy: {hire: alan}, manager_email: g@example.com, sequences: [a, b]}"),
    ("hire", ADA + ", access: [slack, {integration: asana, values: {T: '1', U: {name: x}, V: [a, {name: b}], W: 1}}]}"),
    ("hire", ADA + ", access: [{integration: a, name: b, at: start-3d, until: 2027-06-30, needs: [slack]}]}"),
    ("hire", ADA + ", access: [{integration: a, at: commit}, {integration: b, at: start}, {integration: c, at: 2026-12-01}]}"),
    ("sequence", "{assign: {department: [R&D, Design], position: Engineer}, access: [{integration: a}, b]}"),
    ("sequence", "{access: []}"),
    ("manifest", "{}"),
    ("manifest", "{form: [{id: T, type: choice, url: x, data_from: data}, {id: U, type: input, name: x}]}"),
    ("manifest", "{form: [{id: T, type: multiple_choice, items: [{id: 1, name: one}]}, {id: G, type: generate}]}"),
    ("manifest", "{exists: {url: x, method: get, expected: '{{email}}', fail_when_4xx_response_code: false}}"),
    ("manifest", "{exists: {url: x, status_code: [200, '404']}}"),
    ("manifest", "{exists: {url: x, expected: y, list: {url: x, match: email, next_page_from: next}}}"),
    ("manifest", "{execute: [{url: x, data: {a: [1]}, continue_if: {response_notation: a, value: 1}, polling: {interval: '5', amount: 3}}]}"),
    ("manifest", "{execute: [{url: x, method: Delete}], headers: {A: b, C: 1}}"),
    ("manifest", "{execute: [{url: x}], headers: [{key: A, value: b}], revoke: [{url: y, expected: z}]}"),
    ("manifest", "{oauth: {authenticate_url: x, access_token: {url: x}, refresh: {}}, service: asana-eu.1}"),
    ("manifest", "{post_execute_notification: {type: email, to: x, subject: s, message: m}}"),
    ("manifest", "{post_execute_notification: [{type: text, to: x, message: m}], initial_data_form: [{id: A, secret: false}]}"),
    ("manifest", "{oauth: {}, exists: [], execute: [{url: x, data: '', continue_if: {}, polling: [], save_as_file: ''}]}"),
    ("manifest", "{form: [{id: T, type: choice, url: '', items: [{gid: 1, title: x}], choice_value: gid, choice_name: title}]}"),
    ("manifest", "{exists: {url: x, expected: y, data: {q: z}, record: data, match: m, where: {a: [b], c: 1}, inactive: {d: false}, absent: {e: f}, invited: {g: h}}}"),
    ("manifest", "{exists: {url: x, expected: y, ready: {url: x, status_code: [200]}, pending: {url: x, match: m, store_data: {I: id}}}, withdraw: [{url: x}], invitation: {expires: 7d}}"),
    ("manifest", "{exists: {url: x, expected: y, list: {url: x, match: m, data: {p: '{{NEXT_PAGE_TOKEN}}'}, next_page_token_from: t, account: id, fields: {email: e, extra.L: l}, only: {bot: false}}}}"),
    ("manifest", "{exists: {url: x, expected: y, list: {url: x, match: m, count_up: {parameter: p, first: 0, step: 100, total_from: t}}}}"),
    ("manifest", "{exists: {url: x, expected: y, where: {a: null, b: {not: c}, d: {contains: e}, f: {not: {contains: g}}}}}"),
    ("manifest", "{exists: {url: x, expected: y, pages: {next_page_from: {more: m, parameter: p, from: data.-1.id}}}}"),
    ("manifest", "{exists: {url: x, expected: y, data: {p: '{{NEXT_PAGE_TOKEN}}'}, pages: {next_page_token_from: t}}}"),
    ("manifest", "{execute: [{url: x, quote: soql}]}"),
    ("manifest", "{execute: [{url: x, quote: odata, fail_when_4xx_response_code: false}], update: execute, form: [{id: T, type: input, identity: true}]}"),
    ("manifest", "{oauth: {grant: client_credentials, access_token: {url: x}}, update: [{url: x}]}"),
    ("manifest", "{post_execute_notification: [{type: text, to: '', message: m}, {type: text, message: m}]}"),
    ("settings", "{}"),
    ("settings", "{interval: 10m, retry_delay: 3600, git: {fetch: null}, limits: {rate: 1.5, timeout: 30s}, gnupg_home: null}"),
    ("settings", "{git: {fetch: never}, state: 'postgresql://h/d', listen: '127.0.0.1:0', timezone: Europe/Amsterdam}"),
    ("settings", "{suspend: [{integration: a, until: 2026-12-24, reason: x}, {hire: b}], alerts: [{email: a@example.com}, {webhook: x}]}"),
    ("settings", "{smtp: {host: h, starttls: true}, twilio: {account_sid: a, from_number: 12}, allowed_hosts: [a.example.com]}"),
]  # fmt: skip

BAD: list[tuple[Kind, str]] = [
    ("hire", "{first_name: a, last_name: b}"),
    ("hire", "{email: ada, first_name: a, last_name: b}"),
    ("hire", "{email: a b@example.com, first_name: a, last_name: b}"),
    ("hire", "{email: '\"a\"@example.com', first_name: a, last_name: b}"),
    ("hire", ADA + ", emial: x}"),
    ("hire", ADA + ", start: soon}"),
    ("hire", ADA + ", start: 20261201}"),
    ("hire", ADA + ", access: slack}"),
    ("hire", ADA + ", access: [5]}"),
    ("hire", ADA + ", access: ['']}"),
    ("hire", ADA + ", access: [slack, slack]}"),
    ("hire", ADA + ", access: [{name: x}]}"),
    ("hire", ADA + ", access: [{integration: a, at: start-3}]}"),
    ("hire", ADA + ", access: [{integration: a, at: later}]}"),
    ("hire", ADA + ", access: [{integration: a, values: {T: {nme: x}}}]}"),
    ("hire", ADA + ", access: [{integration: a, values: {T: [[x]]}}]}"),
    ("hire", ADA + ", manager: {hier: x}}"),
    ("hire", ADA + ", manager: [x]}"),
    ("hire", ADA + ", department: [x]}"),
    ("sequence", "{assign: {departmnt: x}}"),
    ("sequence", "{assign: {}}"),
    ("sequence", "{acess: []}"),
    ("manifest", "{form: [{id: T, type: choice}]}"),
    ("manifest", "{form: [{id: T, type: multiple_choice, items: []}]}"),
    ("manifest", "{form: [{id: T, type: chioce, url: x}]}"),
    ("manifest", "{form: [{id: T, type: choice, url: x, next_page: y}]}"),
    ("manifest", "{form: [{id: T, type: choice, url: x, next_page: y, next_page_token_from: t, next_page_from: n}]}"),
    ("manifest", "{exists: {url: x}}"),
    ("manifest", "{exists: {url: x, expected: ''}}"),
    ("manifest", "{exists: {url: x, status_code: []}}"),
    ("manifest", "{exists: {url: x, status_code: [200], list: {url: x, match: y}}}"),
    ("manifest", "{exists: {url: x, expected: y, method: FETCH}}"),
    ("manifest", "{exists: {url: x, expected: y, listing: {url: x, match: y}}}"),
    ("manifest", "{execute: [{url: ''}]}"),
    ("manifest", "{execute: [{url: x, status_code: [99]}]}"),
    ("manifest", "{execute: [{url: x, polling: {interval: 1, amount: 2}}]}"),
    ("manifest", "{execute: [{url: x, expected: y}]}"),
    ("manifest", "{headers: [{key: a}]}"),
    ("manifest", "{oauth: {authenticate_url: x, access_token: {url: x}, refresh: {data: 1}}}"),
    ("manifest", "{service: '-x'}"),
    ("manifest", "{post_execute_notification: {type: sms, to: x, message: m}}"),
    ("manifest", "{exceute: []}"),
    ("manifest", "{oauth: {access_token: {url: x}}}"),
    ("manifest", "{update: excute}"),
    ("manifest", "{invitation: {resend: 1}}"),
    ("manifest", "{exists: {url: x, expected: y, ready: {url: x}}}"),
    ("manifest", "{exists: {url: x, status_code: [200], absent: {a: b}}}"),
    ("manifest", "{exists: {url: x, expected: y, pending: {url: x}}}"),
    ("manifest", "{exists: {url: x, status_code: [200], pages: {next_page_from: n}}}"),
    ("manifest", "{exists: {url: x, expected: y, pages: {next_page: n}}}"),
    ("manifest", "{exists: {url: x, expected: y, pages: {next_page_from: {more: m, parameter: p}}}}"),
    ("manifest", "{execute: [{url: x, quote: sql}]}"),
    ("manifest", "{post_execute_notification: {type: email, message: m}}"),
    ("settings", "{interval: 10x}"),
    ("settings", "{interval: -5}"),
    ("settings", "{drift: heall}"),
    ("settings", "{limits: {per_host: 0}}"),
    ("settings", "{listen: x}"),
    ("settings", "{state: 'mysql://x'}"),
    ("settings", "{alerts: [{email: a@example.com, webhook: x}]}"),
    ("settings", "{alerts: [{}]}"),
    ("settings", "{suspend: [{until: 2026-12-24}]}"),
    ("settings", "{suspend: [{hire: a, until: soon}]}"),
    ("settings", "{smtp: {starttls: maybe}}"),
    ("settings", "{max_change_percent: 101}"),
    ("settings", "{intervall: 1m}"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_schema_accepts_files_that_the_reader_accepts(kind: Kind, text: str) -> None:
    assert verdicts(kind, text) == (True, True)


@pytest.mark.parametrize(("kind", "text"), BAD)
def test_schema_rejects_files_that_the_reader_refuses(kind: Kind, text: str) -> None:
    assert verdicts(kind, text) == (False, False)


@pytest.mark.parametrize("extra", ["{email: x}", "{oauth: x}", "{a-b: x}", "{a b: x}"])
def test_names_under_extra(extra: str) -> None:
    schema, _reader = verdicts("hire", ADA + f", extra: {extra}}}")
    assert not schema


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_and_can_be_written(kind: Kind) -> None:
    schema = json_schema(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["title"].startswith("Access reconciler: ")
    assert schema["description"]


def objects(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "properties" in schema and "title" in schema:
            yield schema
        for item in schema.values():
            yield from objects(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from objects(item)


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_closed_and_every_property_explained(kind: Kind) -> None:
    found = list(objects(json_schema(kind)))
    assert found
    for each in found:
        assert each["additionalProperties"] is False, each["title"]
        assert all(item.get("description") for item in each["properties"].values()), each["title"]


def test_defaults_are_written_as_users_write_them() -> None:
    settings = json_schema("settings")["properties"]
    assert (settings["interval"]["default"], settings["retry_delay"]["default"]) == ("10m", "1h")
    entry = json_schema("hire")["$defs"]["Entry"]["properties"]
    assert entry["at"]["default"] == "commit"
