"""The ready manifests of OpenLDAP against a real slapd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("ldap", reason="no python-ldap: pip install -r requirements-ldap.lock, see .ci/run")

from tests.gallery.live import passed, taken
from tests.repo import Repo, call_cli
from tests.slapd import ADMIN, BASE, MISSING, Slapd

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    with Slapd() as made:
        yield made


def test_openldap(repo: Repo, slapd: Slapd) -> None:
    group = f"cn=design,ou=groups,{BASE}"
    slapd.add(group, {"objectClass": "groupOfNames", "member": f"cn=reader,{BASE}"})
    repo.settings(prune="revoke")
    taken(repo, "openldap", "openldap-group", host="ldap.example.com", url=slapd.url, scheme="ldaps")
    user, password = ADMIN.split(":")
    branches = {"PEOPLE": f"ou=people,{BASE}", "GROUPS": f"ou=groups,{BASE}"}
    repo.initial_data("openldap", {**branches, "BIND_DN": user, "BIND_PASSWORD": password})
    in_group = {"integration": "openldap-group", "values": {"GROUP": "design"}, "needs": ["openldap"]}
    repo.hire("ada", "openldap", in_group, extra={"LDAP_UID": "ada, the 1st"})
    assert passed(repo) == {"openldap": "present", "openldap-group": "present"}
    ada = rf"uid=ada\2C the 1st,ou=people,{BASE}"
    assert slapd.entries()[ada]["mail"] == [b"ada@example.com"]
    assert len(slapd.entries()[group]["member"]) == 2
    choices = call_cli(repo, "options", "openldap-group", "GROUP", "--output", "json")
    assert choices.json == [{"value": "design", "name": "design"}]
    repo.hire("ada", "openldap", in_group, extra={"LDAP_UID": "ada, the 1st"}, last_name="King")
    assert passed(repo) == {"openldap": "present", "openldap-group": "present"}
    assert slapd.entries()[ada]["sn"] == [b"King"]
    assert call_cli(repo, "unmanaged", "--detailed-exitcode").code == 0
    repo.remove("hires/ada.yaml")
    assert passed(repo) == {"openldap": "revoked", "openldap-group": "revoked"}
    assert ada not in slapd.entries()
    assert len(slapd.entries()[group]["member"]) == 1
