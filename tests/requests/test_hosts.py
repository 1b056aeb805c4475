from __future__ import annotations

import pytest

from reconciler.model.errors import HostNotAllowed
from reconciler.model.manifest import Manifest
from reconciler.requests.hosts import AllowedHosts, named_hosts, written_hosts
from reconciler.transports.address import parse


def test_hosts_written_out_in_a_manifest():
    manifest = Manifest.model_validate(
        {
            "form": [
                {"id": "A", "type": "choice", "url": "https://Api.Example/teams", "next_page_token_from": "n",
                 "next_page": "https://pages.example/?t={{NEXT_PAGE_TOKEN}}"},
                {"id": "B", "type": "choice", "url": "https://unused.example/", "items": [{"id": "1", "name": "x"}]},
            ],
            "exists": {
                "url": "https://api.example/users/{{email}}",
                "expected": "{{email}}",
                "list": {"url": "https://api.example:8443/users", "match": "email"},
            },
            "execute": [
                {"url": "https://{{SUB}}.okta.example/users"},
                {"url": "{{BASE}}/users"},
                {"url": "https://bücher.example:/x"},
                {"url": "https://me@userinfo.example/x"},
                {"url": "http://127.0.0.1:9000?x"},
            ],
            "oauth": {
                "authenticate_url": "https://browser.example/authorize",
                "access_token": {"url": "https://token.example/token"},
            },
        }
    )  # fmt: skip
    assert written_hosts(manifest) == {
        "api.example": ["form.0", "exists"],
        "pages.example": ["form.0"],
        "api.example:8443": ["exists.list"],
        "xn--bcher-kva.example": ["execute.2"],
        "127.0.0.1:9000": ["execute.4"],
        "token.example": ["oauth.access_token"],
    }


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("api.example", "https://api.example/x"),
        ("api.example", "https://API.example:8443/x"),
        ("api.example:443", "https://api.example/x"),
        ("api.example:8443", "https://api.example:8443/x"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("127.0.0.1", "http://127.0.0.1:9/"),
        ("[::1]", "http://[::1]:9/"),
        ("localhost", "http://localhost/"),
    ],
)
def test_allowed(allowed, url):
    assert AllowedHosts(frozenset({allowed})).check(url, "manifests/a.yaml") == parse(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://other.example/t0p-secret", "manifests/a.yaml: host other.example is not allowed"),
        ("https://sub.api.example/", "host sub.api.example is not allowed"),
        ("https://api.example.evil.example/", "host api.example.evil.example is not allowed"),
        ("https://ported.example/", "host ported.example is not allowed"),
        ("https://ported.example:8444/", "host ported.example:8444 is not allowed"),
        ("http://api.example/", "manifests/a.yaml: host api.example is to be asked over http: only https is allowed"),
        ("t0p-secret", "manifests/a.yaml: a URL does not start with https:// and a host"),
        ("https://t0p-secret@api.example/", "manifests/a.yaml: a URL does not start"),
    ],
)
def test_not_allowed(url, says):
    with pytest.raises(HostNotAllowed, match=says) as raised:
        AllowedHosts(frozenset({"api.example", "ported.example:8443"})).check(url, "manifests/a.yaml")
    assert "t0p-secret" not in str(raised.value)


def test_malformed_url_is_reported_as_one() -> None:
    url = f"https://api.example.com/{'a' * 20_000}"
    with pytest.raises(
        HostNotAllowed, match=r"^m\.yaml: a URL of 20,024 characters: no server takes more than 16,384$"
    ):
        AllowedHosts(frozenset({"api.example.com"})).check(url, "m.yaml")


def test_the_host_that_a_browser_is_sent_to_is_named_and_takes_no_requests() -> None:
    oauth = {
        "authenticate_url": "https://login.example.com/authorize?x={{y}}",
        "access_token": {"url": "https://api.example.com/token"},
    }
    manifest = Manifest.model_validate({"oauth": oauth})
    assert named_hosts(manifest) == {"login.example.com", "api.example.com"}
    assert set(written_hosts(manifest)) == {"api.example.com"}
