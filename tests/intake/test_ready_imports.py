"""The ready imports, run by the program against services that answer as the vendors' documentation says they do."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import yaml

from reconciler.gallery.catalog import IMPORTS, everything
from tests.repo import GnupgHome, Repo, Result, call_cli
from tests.servers import Received, Reply, Service

KEYS = {
    "bamboohr": {"KEY": "invented-key-of-a-user", "COMPANY": "acme"},
    "personio": {"CLIENT_ID": "papi-invented-client", "CLIENT_SECRET": "papi-invented-secret"},
    "hibob": {"SERVICE_USER": "SERVICE-12345", "TOKEN": "invented-token-of-bob"},
    "rippling": {"TOKEN": "invented-token-of-rippling"},
    "gusto": {"CLIENT_ID": "invented-id", "CLIENT_SECRET": "invented-secret-of-gusto", "COMPANY": "acme"},
    "deel": {"TOKEN": "invented-token-of-deel"},
    "workday": {
        "USER": "isu",
        "PASSWORD": "invented-pass-of-workday",
        "TENANT": "acme",
        "OWNER": "owner",
        "REPORT": "Access",
    },
}
PUBLIC = ("acme", "SERVICE-12345", "isu", "owner", "Access")
"""What of these no secret is."""
ADA = {
    "email": "ada@example.com",
    "first_name": "Ada",
    "last_name": "Okafor",
    "position": "Engineer",
    "department": "R&D",
    "start": date(2026, 12, 1),
    "end": date(2027, 6, 30),
    "manager": {"hire": "grace"},
}


@pytest.fixture
def hr() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def repo(tmp_path: Any, gnupg_home: GnupgHome, hr: Service) -> Repo:
    made = Repo(tmp_path / "repo", gnupg_home)
    made.settings()
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    for name, ready in everything(IMPORTS).items():
        (host,) = {call.url.split("/")[2] for _, call in ready.manifest.calls() if call.url}
        made.write(f"config/imports/{name}.yaml", ready.text.replace(f"https://{host}", hr.url))
        made.initial_data(name, KEYS[name])
    made.commit()
    return made


def brought(repo: Repo, name: str) -> Result:
    done = call_cli(repo, "import", name, "--write")
    for secret in KEYS[name].values():
        if secret not in PUBLIC:
            assert secret not in done.out + done.err
    return done


def hires(repo: Repo) -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in (repo.root / "hires").glob("*.yaml")}


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# --- BambooHR -------------------------------------------------------------------------------------------------------


def bamboo(received: Received) -> Any:
    """A custom report: one page, nothing as an empty text, days that are not known as 0000-00-00."""
    if received.headers["Authorization"] != basic(KEYS["bamboohr"]["KEY"], "x"):
        return Reply(401, "")
    assert (received.query["format"], received.query["onlyCurrent"]) == (["JSON"], ["false"])
    fields = received.json()["fields"]
    people: list[list[Any]] = [
        ["Ada", "Okafor", "ada@example.com", "Engineer", "R&D", "2026-12-01", "2027-06-30", "grace@example.com", "Active"],
        ["Grace", "Lind", "grace@example.com", "CTO", "", "2020-01-01", "0000-00-00", "", "Active"],
        ["Old", "Hand", "old@example.com", "", "", "2010-01-01", "2019-01-01", "", "Inactive"],
        ["No", "Mail", None, "", "", "0000-00-00", "0000-00-00", None, "Active"],
    ]  # fmt: skip
    order = ("firstName", "lastName", "workEmail", "jobTitle", "department", "hireDate", "terminationDate",
             "supervisorEmail", "status")  # fmt: skip
    rows = [{"id": str(number), **dict(zip(order, person, strict=True))} for number, person in enumerate(people)]
    return {
        "title": "Access",
        "fields": [{"id": field, "type": "text", "name": field} for field in fields],
        "employees": [{key: row[key] for key in ("id", *fields)} for row in rows],
    }


def test_bamboohr(repo: Repo, hr: Service) -> None:
    hr.route("POST", "/api/gateway.php/acme/v1/reports/custom", bamboo)
    done = brought(repo, "bamboohr")
    assert done.code == 2, done.err
    assert hires(repo)["ada"] == {**ADA, "source": "bamboohr"}
    assert hires(repo)["grace"] == {
        "email": "grace@example.com",
        "first_name": "Grace",
        "last_name": "Lind",
        "position": "CTO",
        "start": date(2020, 1, 1),
        "source": "bamboohr",
    }
    assert sorted(hires(repo)) == ["ada", "grace"]
    assert "left out  No Mail: no address" in done.out
    assert brought(repo, "bamboohr").code == 0


def test_bamboohr_with_a_wrong_key(repo: Repo, hr: Service) -> None:
    hr.route("POST", "/api/gateway.php/acme/v1/reports/custom", lambda _: Reply(401, ""))
    done = brought(repo, "bamboohr")
    assert (done.code, hires(repo)) == (1, {})
    assert "page 1 answered 401" in done.err


def test_answer_over_a_mebibyte_is_read(repo: Repo, hr: Service) -> None:
    row = {"lastName": "Example", "jobTitle": "", "department": "", "hireDate": "", "terminationDate": "",
           "supervisorEmail": "", "status": "Active", "photo": "x" * 15_000}  # fmt: skip
    rows = [{"firstName": f"P{number}", "workEmail": f"p{number}@example.com", **row} for number in range(100)]
    assert len(json.dumps(rows)) > 1 << 20
    hr.route("POST", "/api/gateway.php/acme/v1/reports/custom", lambda _: {"employees": rows})
    done = call_cli(repo, "import", "bamboohr", "--branch", "import/bamboohr", "--output", "json")
    assert done.code == 2, done.err
    assert len(done.json["created"]) == 100


# --- Personio -------------------------------------------------------------------------------------------------------


class Personio:
    """Two endpoints: a token for the credentials, and employees in pages with every value in a box of its own."""

    def __init__(self, hr: Service, people: list[dict[str, Any]]) -> None:
        self.people = people
        self.fails_at: int | None = None
        hr.route("POST", "/v1/auth", self.token)
        hr.route("GET", "/v1/company/employees", self.employees)

    def token(self, received: Received) -> Any:
        given = received.form()
        right = (given["client_id"], given["client_secret"]) == tuple([value] for value in KEYS["personio"].values())
        if not right:
            return Reply(403, {"success": False, "error": {"code": 0, "message": "Wrong credentials"}})
        return {"success": True, "data": {"token": "papi-invented-bearer-token"}}

    def employees(self, received: Received) -> Any:
        if received.headers["Authorization"] != "Bearer papi-invented-bearer-token":
            return Reply(401, {"success": False, "error": {"code": 0, "message": "The token is invalid"}})
        limit, offset = int(received.query["limit"][0]), int(received.query["offset"][0])
        if self.fails_at == offset:
            return Reply(500, {"success": False, "error": {"code": 0, "message": "Something went wrong"}})
        return {
            "success": True,
            "metadata": {
                "total_elements": len(self.people),
                "current_page": offset // limit,
                "total_pages": -(-len(self.people) // limit),
            },
            "offset": str(offset),
            "limit": str(limit),
            "data": [{"type": "Employee", "attributes": person} for person in self.people[offset : offset + limit]],
        }


def employee(first: str, last: str, status: str = "active", **more: Any) -> dict[str, Any]:
    values = {"first_name": first, "last_name": last, "email": f"{first.lower()}@example.com", "status": status, **more}
    return {key: {"label": key, "value": value, "type": "standard"} for key, value in values.items()}


def test_personio(repo: Repo, hr: Service) -> None:
    supervisor = {"type": "Employee", "attributes": employee("Grace", "Lind")}
    ada = employee(
        "Ada",
        "Okafor",
        position="Engineer",
        department={"type": "Department", "attributes": {"id": 1, "name": "R&D"}},
        hire_date="2026-12-01T00:00:00+01:00",
        termination_date="2027-06-30T00:00:00+02:00",
        supervisor=supervisor,
    )
    grace = employee("Grace", "Lind", supervisor=None, department=None, termination_date=None)
    others = [employee(f"P{number}", "Example") for number in range(230)]
    Personio(hr, [ada, *others, grace, employee("Old", "Hand", "inactive")])
    done = brought(repo, "personio")
    assert done.code == 2, done.err
    asked = [request.query["offset"] for request in hr.requests if request.method == "GET"]
    assert asked == [["0"], ["100"], ["200"]]
    assert hires(repo)["ada"] == {**ADA, "source": "personio"}
    assert len(hires(repo)) == 232
    assert brought(repo, "personio").code == 0


def test_personio_with_a_page_that_fails(repo: Repo, hr: Service) -> None:
    Personio(hr, [employee(f"P{number}", "Example") for number in range(230)]).fails_at = 200
    done = brought(repo, "personio")
    assert (done.code, hires(repo)) == (1, {})
    assert "page 3 answered 500" in done.err


def test_personio_with_wrong_credentials(repo: Repo, hr: Service) -> None:
    repo.initial_data("personio", {"CLIENT_ID": "papi-another-client", "CLIENT_SECRET": "papi-another-secret"})
    Personio(hr, [])
    done = call_cli(repo, "import", "personio")
    assert (done.code, hires(repo)) == (1, {})
    assert "no token could be fetched" in done.err
    assert "papi-another-secret" not in done.err
    assert [request.path for request in hr.requests] == ["/v1/auth"]


# --- HiBob ----------------------------------------------------------------------------------------------------------


def bob(received: Received) -> Any:
    """Everybody in one answer: dates for machines, and the names of lists' entries beside their ids."""
    if received.headers["Authorization"] != basic(*KEYS["hibob"].values()):
        return Reply(401, {"error": "unauthorized"})
    body = received.json()
    assert (body["humanReadable"], body["showInactive"]) == ("APPEND", False)
    assert "work.reportsTo" in body["fields"]
    ada = {
        "id": "1",
        "email": "ada@example.com",
        "firstName": "Ada",
        "surname": "Okafor",
        "/root/email": {"value": "ada@example.com"},
        "work": {
            "title": "245610001",
            "department": "209192163",
            "startDate": "2026-12-01",
            "reportsTo": {"id": "2", "displayName": "Grace Lind", "email": "grace@example.com"},
        },
        "internal": {"terminationDate": "2027-06-30"},
        "humanReadable": {"work": {"title": "Engineer", "department": "R&D", "startDate": "01/12/2026"}},
    }
    grace = {
        "id": "2",
        "email": "grace@example.com",
        "firstName": "Grace",
        "surname": "Lind",
        "work": {"reportsTo": None},
    }
    return {"employees": [ada, grace]}


def test_hibob(repo: Repo, hr: Service) -> None:
    hr.route("POST", "/v1/people/search", bob)
    done = brought(repo, "hibob")
    assert done.code == 2, done.err
    assert hires(repo)["ada"] == {**ADA, "source": "hibob"}
    assert sorted(hires(repo)) == ["ada", "grace"]
    assert brought(repo, "hibob").code == 0


def test_hibob_asks_for_a_pause(repo: Repo, hr: Service) -> None:
    answers = iter([Reply(429, "", {"Retry-After": "0"})])
    hr.route("POST", "/v1/people/search", lambda received: next(answers, None) or bob(received))
    assert brought(repo, "hibob").code == 2
    assert len(hr.requests) == 2


def test_initial_data_that_is_missing_is_named(repo: Repo, hr: Service) -> None:
    repo.remove("config/initial_data/hibob.yaml.gpg")
    done = call_cli(repo, "import", "hibob")
    assert (done.code, hr.requests) == (1, [])
    assert "initial data SERVICE_USER, TOKEN is missing" in done.err
    assert "`reconcile initial-data set hibob` asks for it" in done.err


# --- Rippling, Gusto, Deel, Workday ---------------------------------------------------------------------------------


def bearer(received: Received, token: str) -> None:
    assert received.headers["Authorization"] == f"Bearer {token}"


def worker(first: str, last: str, **more: Any) -> dict[str, Any]:
    name = {"given_name": first, "family_name": last}
    return {"work_email": f"{first.lower()}@example.com", "user": {"name": name}, "status": "ACTIVE", **more}


def test_rippling(repo: Repo, hr: Service) -> None:
    ada = worker(
        "Ada",
        "Okafor",
        title="Engineer",
        department={"name": "R&D"},
        start_date="2026-12-01",
        end_date="2027-06-30",
        manager=worker("Grace", "Lind"),
    )

    def workers(received: Received) -> Any:
        bearer(received, KEYS["rippling"]["TOKEN"])
        assert received.query["expand"] == ["user,manager,department"]
        second = "cursor" in received.query
        found = [worker("Grace", "Lind"), worker("Old", "Hand", status="TERMINATED")] if second else [ada]
        return {"results": found, "next_link": None if second else f"{hr.url}{received.target}&cursor=2"}

    hr.route("GET", "/workers", workers)
    assert brought(repo, "rippling").code == 2
    assert hires(repo)["ada"] == {**ADA, "source": "rippling"}
    assert sorted(hires(repo)) == ["ada", "grace"]
    assert brought(repo, "rippling").code == 0


def test_gusto(repo: Repo, hr: Service) -> None:
    """With a token in place of the connection, which a browser makes."""
    file = repo.root / "config/imports/gusto.yaml"
    content = yaml.safe_load(file.read_text())
    del content["oauth"]
    repo.write(
        "config/imports/gusto.yaml", yaml.safe_dump(content).replace("{{oauth.access_token}}", "{{CLIENT_SECRET}}")
    )
    repo.commit()
    ada = {
        "first_name": "Ada",
        "last_name": "Okafor",
        "email": "ada@home.example",
        "work_email": "ada@example.com",
        "department": "R&D",
        "jobs": [{"title": "Engineer", "hire_date": "2026-12-01", "primary": True}],
        "terminations": [{"effective_date": "2027-06-30"}],
        "terminated": False,
    }
    others = [
        {"first_name": "No", "last_name": "Mail", "email": "no@home.example", "work_email": None, "terminated": False},
        {"first_name": "Old", "last_name": "Hand", "work_email": "old@example.com", "terminated": True},
    ]

    def employees(received: Received) -> Any:
        bearer(received, KEYS["gusto"]["CLIENT_SECRET"])
        return {"1": [ada], "2": others}.get(received.query["page"][0], [])

    hr.route("GET", "/v1/companies/acme/employees", employees)
    done = brought(repo, "gusto")
    assert done.code == 2, done.err
    assert hires(repo) == {"ada": {**{key: ADA[key] for key in ADA if key != "manager"}, "source": "gusto"}}
    assert "left out  No Mail: no address" in done.out


def test_deel(repo: Repo, hr: Service) -> None:
    def of(first: str, last: str, **more: Any) -> dict[str, Any]:
        emails = [
            {"type": "primary", "value": f"{first.lower()}@home.example"},
            {"type": "work", "value": f"{first.lower()}@example.com"},
        ]
        return {"first_name": first, "last_name": last, "emails": emails, "hiring_status": "active", **more}

    people = [
        of(
            "Ada",
            "Okafor",
            job_title="Engineer",
            department={"name": "R&D"},
            start_date="2026-12-01",
            completion_date="2027-06-30",
            direct_manager={"work_email": "grace@example.com"},
        ),
        of("Grace", "Lind"),
        of("Old", "Hand", hiring_status="inactive"),
    ]

    def listed(received: Received) -> Any:
        bearer(received, KEYS["deel"]["TOKEN"])
        assert received.query["offset"] == ["0"]
        return {"data": people, "page": {"total_rows": 3, "offset": 0, "items_per_page": 100}}

    hr.route("GET", "/rest/v2/people", listed)
    assert brought(repo, "deel").code == 2
    assert hires(repo)["ada"] == {**ADA, "source": "deel"}
    assert sorted(hires(repo)) == ["ada", "grace"]


def test_workday(repo: Repo, hr: Service) -> None:
    ada = {
        "Work_Email": "ada@example.com",
        "First_Name": "Ada",
        "Last_Name": "Okafor",
        "Business_Title": "Engineer",
        "Department": "R&D",
        "Hire_Date": "2026-12-01",
        "Termination_Date": "2027-06-30",
        "Manager_Email": "grace@example.com",
    }
    grace = {"Work_Email": "grace@example.com", "First_Name": "Grace", "Last_Name": "Lind"}

    def report(received: Received) -> Any:
        assert received.headers["Authorization"] == basic("isu@acme", KEYS["workday"]["PASSWORD"])
        return {"Report_Entry": [ada, grace]}

    hr.route("GET", "/ccx/service/customreport2/acme/owner/Access", report)
    assert brought(repo, "workday").code == 2
    assert hires(repo)["ada"] == {**ADA, "source": "workday"}
    assert sorted(hires(repo)) == ["ada", "grace"]
