"""`reconcile add --from-openapi`: a first manifest out of a description: valid, and each part with its operation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.model.scope import walk
from tests.cli.conftest import Call
from tests.gallery.slices import FOLDER, needs_slices
from tests.repo import Repo, call_cli

PERSON = {
    "type": "object",
    "required": ["email", "plan"],
    "properties": {
        "id": {"type": "integer"},
        "email": {"type": "string"},
        "first_name": {"type": "string"},
        "role": {"type": "string"},
        "plan": {"type": "string"},
        "colour": {"type": "string"},
    },
}
PAGE = {
    "type": "object",
    "properties": {
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Person"}},
        "has_more": {"type": "boolean"},
    },
}
JSON = "application/json"
IN_PATH = {"in": "path", "required": True, "schema": {"type": "string"}}


def description(**paths: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.3",
        "info": {"title": "Tool: the API", "version": "7"},
        "servers": [{"url": "https://{region}.example.com/v2/", "variables": {"region": {"default": "eu"}}}],
        "paths": {
            "/orgs/{org}/members": {
                "parameters": [{"name": "org", **IN_PATH}],
                "get": {
                    "summary": "List the members",
                    "parameters": [
                        {"name": "email", "in": "query", "schema": {"type": "string"}},
                        {"name": "after", "in": "query", "schema": {"type": "string"}},
                    ],
                    "responses": {200: {"content": {JSON: {"schema": PAGE}}}},
                },
                "post": {
                    "summary": "Add a member",
                    "requestBody": {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Person"}}}},
                    "responses": {"201": {"description": "made"}},
                },
            },
            "/orgs/{org}/members/{id}": {
                "patch": {"responses": {"200": {}}, "requestBody": {"content": {JSON: {"schema": PERSON}}}},
                "delete": {"summary": "Remove a member", "responses": {"204": {}}},
            },
            **paths,
        },
        "components": {
            "schemas": {"Person": PERSON},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        },
    }


def begun(repo: Repo, call: Call, content: str, *more: str) -> tuple[str, Any]:
    (repo.root / "described.txt").write_text(content)
    done = call(repo, "add", "--from-openapi", str(repo.root / "described.txt"), *more)
    assert done.code == 0, done.err
    text = (repo.root / done.out.strip()).read_text()
    return text, yaml.safe_load(text)


@pytest.fixture
def call() -> Call:
    return call_cli


@pytest.fixture
def empty(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    return made


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump], ids=["JSON", "YAML"])
def test_each_part_is_proposed_with_its_operation(empty: Repo, call: Call, write: Any) -> None:
    text, manifest = begun(empty, call, write(description()), "--as", "tool")
    place = "https://eu.example.com/v2/orgs/{{ORG}}/members"
    listing = {"url": place, "data_from": "data", "match": "email"}
    assert manifest["exists"] == {
        "url": f"{place}?email={{{{email}}}}",
        "expected": "{{email}}",
        "record": "data",
        "match": "email",
        "where": {"role": "{{ROLE}}"},
        "store_data": {"ACCOUNT_ID": "record.id"},
        "list": {**listing, "next_page_from": {"more": "has_more", "parameter": "after", "from": "data.-1.id"}},
    }
    (made,) = manifest["execute"]
    assert (made["url"], made["status_code"]) == (place, [201])
    assert made["data"] == {"email": "{{email}}", "first_name": "{{first_name}}", "role": "{{ROLE}}", "plan": ""}
    assert manifest["update"][0]["url"] == f"{place}/{{{{ACCOUNT_ID}}}}"
    assert manifest["revoke"] == [{"url": f"{place}/{{{{ACCOUNT_ID}}}}", "method": "DELETE", "status_code": [204]}]
    assert manifest["headers"]["X-Key"] == "{{TOKEN}}"
    assert [item["id"] for item in manifest["initial_data_form"]] == ["TOKEN", "ORG"]
    for comment in ("GET /orgs/{org}/members: List the members", "DELETE /orgs/{org}/members/{id}: Remove a member"):
        assert f"# {comment}\n" in text
    assert call(empty, "validate").code == 0


def test_what_is_not_there_is_not_found(empty: Repo, call: Call) -> None:
    described = {"swagger": "2.0", "host": "api.example.com", "basePath": "/v1", "paths": {"/things": {"get": {}}}}
    text, manifest = begun(empty, call, json.dumps(described), "things")
    assert (empty.root / "manifests/things.yaml").exists()
    assert all(f"# {part}: not found" in text for part in ("exists", "execute", "update", "revoke"))
    assert "exists" not in manifest
    assert call(empty, "validate").code == 0


@pytest.mark.parametrize("content", ["", "[]", "openapi: 3.0.0", "{", "paths: 1", "\tx: y"])
def test_what_is_no_description_is_wrong_usage(empty: Repo, call: Call, content: str) -> None:
    (empty.root / "described.txt").write_text(content)
    done = call(empty, "add", "--from-openapi", str(empty.root / "described.txt"))
    assert done.code == 64
    assert "described.txt" in done.err
    assert not list((empty.root / "manifests").glob("*.yaml"))


def test_circle_of_references_ends(empty: Repo, call: Call) -> None:
    described = description(**{"/users": {"get": {"responses": {"200": {"$ref": "#/components/schemas/A"}}}}})
    described["components"]["schemas"]["A"] = {"$ref": "#/components/schemas/A"}
    begun(empty, call, json.dumps(described), "tool")


def test_what_a_description_says_in_several_places_is_put_together(empty: Repo, call: Call) -> None:
    """A person's record in parts of parts, a page's address in an object, a look-up beside the listing."""
    base = {"allOf": [{"properties": {"id": {}}}, {"allOf": [{"properties": {"primaryEmail": {"type": "string"}}}]}]}
    page = {"properties": {"people": {"items": base}, "next_page": {"properties": {"offset": {}, "uri": {}}}}}

    def answer(schema: Any) -> Any:
        return {"responses": {"200": {"content": {JSON: {"schema": schema}}}}}

    asks = {"parameters": [{"in": "query", "name": "email", "schema": {"type": "string"}}]}
    paths = {"/user.byEmail": {"get": {**asks, **answer({})}}, "/user.list": {"get": answer(page)}}
    described = {"openapi": "3.0.3", "servers": [{"url": "https://api.example.com"}], "paths": paths}
    _, manifest = begun(empty, call, json.dumps(described), "tool")
    assert manifest["exists"]["url"] == "https://api.example.com/user.byEmail?email={{email}}"
    assert manifest["exists"]["list"] == {
        "url": "https://api.example.com/user.list",
        "data_from": "people",
        "match": "primaryEmail",
        "next_page_from": "next_page.uri",
    }


NO_ADDRESS = {"github", "slack"}
"""Whose listing's people have no address that the description names."""


@needs_slices
@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.json")) if FOLDER.is_dir() else [])
def test_manifest_begun_from_a_vendors_description_is_valid(empty: Repo, call: Call, name: str) -> None:
    _, manifest = begun(empty, call, (FOLDER / f"{name}.json").read_text(), "tool")
    listing = manifest["exists"]["list"]
    pages = [json.loads(file.read_text()) for file in sorted((FOLDER / "examples" / name).glob("page-?.json"))]
    found = [walk(item, listing["match"]) for page in pages for item in walk(page["body"], listing["data_from"])]
    assert all(found) is (name not in NO_ADDRESS)
    done = call(empty, "validate", "--output", "json")
    assert [each for each in done.json["problems"] if each["severity"] == "error"] == []
