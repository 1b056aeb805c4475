"""What a directory is asked: no value means anybody but whom it names."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.dn import as_attributes, escaped, parsed
from reconciler.model.errors import Blocked
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.requests.match import verdict
from reconciler.requests.record import Compared, is_whole, same
from reconciler.requests.render import render
from reconciler.transports.messages import Response

HOST = "ldaps://ldap.example.com"


def scope(**values: Any) -> Scope:
    return Scope((Layer("x", values),))


def asked(url: str, **values: Any) -> str:
    manifest = Manifest.model_validate({"exists": {"url": url, "expected": "x"}, "execute": []})
    assert manifest.exists is not None
    return unquote(render(manifest.exists, scope(**values), manifest).url.removeprefix(f"{HOST}/"))


def sent(method: str, data: Any, **values: Any) -> Any:
    url = f"{HOST}/uid=ada,dc=x"
    manifest = Manifest.model_validate({"execute": [{"url": url, "method": method, "data": data}]})
    return json.loads(render(manifest.execute[0], scope(**values), manifest).content or b"null")


@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\0" in text))
def test_a_value_in_a_name_is_one_value(text):
    name = parsed(f"uid={escaped(text)},dc=example")
    assert name is not None
    assert len(name) == 2
    ((_, value),) = name[0]
    assert value == " ".join(text.split()).casefold()


@pytest.mark.parametrize(
    ("url", "value", "comes"),
    [
        ("/uid={{v}},dc=x", "ada,ou=admins", r"uid=ada\,ou\=admins,dc=x"),
        ("/uid={{v}}+ou=y,dc=x", 'a"+<b>; #', r"uid=a\"\+\<b\>\; #+ou=y,dc=x"),
        ("/dc=x??sub?(uid={{v}})", "*)(uid=*", r"dc=x??sub?(uid=\2a\29\28uid=\2a)"),
        ("/dc=x??sub?(&(a=b)(uid={{v}}))", "\\\0ü?", r"dc=x??sub?(&(a=b)(uid=\5c\00ü?))"),
        ("/dc=x??sub?(member=uid={{v}},dc=x)", "a,b*", r"dc=x??sub?(member=uid=a\5c,b\2a,dc=x)"),
        ("/dc=x??sub?(&(a~={{v}})(b<={{v}})(c>={{v}}))", "2*", r"dc=x??sub?(&(a~=2\2a)(b<=2\2a)(c>=2\2a))"),
        ("/{{v}}", "uid=ada,dc=x", "uid=ada,dc=x"),
        ("/uid=ada,{{v}}?cn", "ou=p,dc=x", "uid=ada,ou=p,dc=x?cn"),
        ("/dc=x?{{v}}?one", "mail,cn", "dc=x?mail,cn?one"),
    ],
)
def test_values_are_escaped_where_they_stand(url, value, comes):
    assert asked(HOST + url, v=value) == comes
    assert asked("{{BASE}}" + url, v=value, BASE=HOST) == comes


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("/uid={{v}},dc=x", ""),
        ("/dc=x??sub?(uid={{v}})", ""),
        ("/{{v}}", "ada"),
        ("/{{v}}", ""),
        ("/uid=ada,{{v}}", "dc=x,"),
        ("/{{v}}=ada,dc=x", "uid"),
        ("/uid=ada+{{v}},dc=x", "cn=b"),
        ("/dc=x??sub?{{v}}", "(uid=*)"),
        ("/dc=x??sub?({{v}}=ada)", "uid"),
        ("/dc=x??sub?(member={{v}})", "nobody"),
        ("/dc=x?{{v}}", "cn?sub"),
        ("/dc=x??{{v}}", "children"),
        ("/dc=x????{{v}}", "x"),
    ],
)
def test_a_value_that_would_mean_others_is_blocked(url, value):
    with pytest.raises(Blocked):
        asked(HOST + url, v=value)


@pytest.mark.parametrize("value", [{"text": "x"}, ["a", {"b": "c"}], [["a"]]])
def test_a_value_is_a_text_or_bytes(value):
    for method, data in {"POST": {"cn": value}, "PATCH": {"replace": {"cn": value}}}.items():
        with pytest.raises(Blocked, match="cn: a value is a text, or bytes"):
            sent(method, data)


@pytest.mark.parametrize("attribute", ["member", "mail"])
def test_no_values_are_not_all_values_of_an_attribute(attribute):
    assert sent("PATCH", {"replace": {attribute: "{{v}}"}}, v=[]) == {"replace": {attribute: []}}
    assert sent("PATCH", {"delete": {attribute: []}}) == {"delete": {attribute: []}}
    with pytest.raises(Blocked, match=f"all values of {attribute} would be deleted"):
        sent("PATCH", {"delete": {attribute: "{{v}}"}}, v=[])


def test_names_within_data_are_names():
    data = {"cn": "a,b {{v}}", "member": ["uid={{v}},dc=x", "{{dn}}"], "manager": "{{dn}}"}
    assert sent("POST", data, v="x,y", dn="uid=b,dc=x") == {
        "cn": "a,b x,y",
        "member": [r"uid=x\,y,dc=x", "uid=b,dc=x"],
        "manager": "uid=b,dc=x",
    }
    assert sent("PUT", {"rdn": "uid={{v}}", "superior": "ou=z,{{dn}}"}, v="a+b", dn="dc=x") == {
        "rdn": r"uid=a\+b",
        "superior": "ou=z,dc=x",
    }
    assert sent("PATCH", {"replace": {"mail": "{{v}}", "title": None}}, v=["a", "b"]) == {
        "replace": {"mail": ["a", "b"], "title": None}
    }
    for method, wrong in [
        ("PUT", {"rdn": "{{v}}"}),
        ("PUT", {"rdn": "uid=a,dc=x"}),
        ("POST", {"member": "{{v}}"}),
        ("POST", {"member": "uid={{e}},dc=x"}),
        ("PATCH", {"mail": "x"}),
        ("POST", {"a b": "x"}),
        ("DELETE", {"mail": "x"}),
    ]:
        with pytest.raises(Blocked):
            sent(method, wrong, v="no name", e="")


@pytest.mark.parametrize("login", ["Basic {{DN}}:", "Basic {{DN}}:{{NONE}}", "Bearer {{DN}}", "{{LOGIN}}"])
def test_a_login_without_a_password_is_blocked(login):
    """The directory would take it for anonymous, and say that it succeeded."""
    manifest = Manifest.model_validate(
        {"headers": {"Authorization": login}, "exists": {"url": f"{HOST}/dc=x", "expected": "x"}, "execute": []}
    )
    assert manifest.exists is not None
    with pytest.raises(Blocked, match="neither may be empty"):
        render(manifest.exists, scope(DN="cn=a", NONE="", LOGIN="Basic clé"), manifest)


@pytest.mark.parametrize(
    ("there", "wanted", "equal"),
    [
        ("CN=Ada,OU=People,DC=x", "cn=ada, ou=people,dc=x", True),
        ("CN=Ada,OU=People,DC=x", "cn=ada,dc=x", False),
        ("Ada", "ada", False),
        ("Ada  Lovelace ", "Ada Lovelace", True),
        ("x", ["x"], True),
        (["x", "y"], ["y", "x"], True),
        (["x", "y"], "x", False),
        ("uid=a,dc=x", {"contains": "UID=a,dc=x"}, True),
        (["uid=a,dc=x", "uid=b,dc=x"], {"contains": ["uid=c,dc=x"]}, False),
        ("TRUE", True, True),
        ("x", None, False),
        ("x", {"not": "y"}, True),
    ],
)
def test_values_are_compared_as_a_directory_compares(there, wanted, equal):
    assert same(as_attributes(there), wanted) is equal


@pytest.mark.parametrize("url", [f"{HOST}/dc=x", "{{BASE}}/dc=x"])
def test_values_within_the_names_that_are_compared_are_escaped(url):
    where = {"manager": "uid={{v}},dc=x", "memberOf": {"contains": "cn={{v}},dc=x"}, "title": "{{v}}"}
    exists = Manifest.model_validate({"exists": {"url": url, "expected": "x", "where": where}, "execute": []}).exists
    assert exists is not None
    compared = Compared.of(exists, scope(v="a,b", BASE=HOST)).where
    assert compared == {"manager": r"uid=a\,b,dc=x", "memberOf": {"contains": r"cn=a\,b,dc=x"}, "title": "a,b"}


def test_one_of_several_addresses_is_the_account():
    assert is_whole(as_attributes(["ada@example.com", "al@example.com"]), "AL@example.com")
    assert not is_whole(as_attributes("joann@x.com"), "ann@x.com")


def test_only_no_such_object_and_entries_answer_a_check():
    exists = {"url": f"{HOST}/dc=x", "expected": "uid=ada,dc=x", "where": {"manager": "uid=b,dc=X"}, "record": ""}
    manifest = Manifest.model_validate({"exists": exists, "execute": []})
    assert manifest.exists is not None
    compared = Compared.of(manifest.exists, scope())

    def judged(status: int, content: Any, *, decided: bool) -> str:
        answer = Response(status, {}, json.dumps(content).encode(), decided=decided, directory=True)
        assert manifest.exists is not None
        return type(verdict(manifest.exists, "uid=ada,dc=x", answer, compared)).__name__

    entry = {"dn": "UID=ada,DC=x", "manager": "UID=B,dc=x"}
    assert judged(200, [entry], decided=True) == "Present"
    assert judged(200, [], decided=True) == "Missing"
    assert judged(404, {"result": 32}, decided=True) == "Missing"
    assert judged(400, {"result": 34}, decided=False) == "Unknown"
