"""`reconcile import` as users run it: what is asked, what is written, what is refused, and what stays as it is."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repo import GnupgHome, Repo, Result, call_cli
from tests.servers import Received, Reply, Service

TODAY = datetime.now(UTC).date()
STRUCTURE = {"email": "workEmail", "first_name": "firstName", "last_name": "lastName", "department": "department"}

TAKEN = (
    "give the import an `id` that tells them apart, or, if that is the same person with another address, change `email` "
    "in the file"
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.settings()
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    made.commit()
    return made


@pytest.fixture
def hr() -> Iterator[Service]:
    with Service() as service:
        yield service


def person(name: str, **more: Any) -> dict[str, Any]:
    return {"workEmail": f"{name}@example.com", "firstName": name.title(), "lastName": "Example", **more}


def asks(repo: Repo, hr: Service, people: list[Any] | None = None, **more: Any) -> None:
    """An import of the service, which answers with these people."""
    if people is not None:
        hr.route("GET", "/people", lambda _: {"employees": people})
    execute = [{"url": f"{hr.url}/people", "method": "GET"}]
    content = {"execute": execute, "data_from": "employees", "data_structure": STRUCTURE, **more}
    repo.write("config/imports/hr.yaml", content)


def from_csv(repo: Repo, text: str | bytes, **more: Any) -> None:
    file = repo.root.parent / "people.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    structure = {"email": "Email", "first_name": "First", "last_name": "Last"}
    repo.write("config/imports/hr.yaml", {"file": str(file), "data_structure": structure, **more})


def brought(repo: Repo, *arguments: str) -> Result:
    return call_cli(repo, "import", "hr", "--output", "json", *arguments)


def files(repo: Repo) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((repo.root / "hires").glob("*.yaml"))}


def hire(repo: Repo, stem: str) -> Any:
    return yaml.safe_load((repo.root / f"hires/{stem}.yaml").read_text())


# --- what is made, changed and ended --------------------------------------------------------------------------------


def test_import_without_options_writes_nothing(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [person("ada", department="R&D"), person("bob")])
    done = call_cli(repo, "import", "hr", "--output", "json")
    assert done.code == 2, done.err
    assert done.json == {
        "source": "hr",
        "created": [
            {
                "hire": "ada",
                "file": "hires/ada.yaml",
                "fields": {
                    "first_name": [None, "Ada"],
                    "last_name": [None, "Example"],
                    "email": [None, "ada@example.com"],
                    "department": [None, "R&D"],
                    "source": [None, "hr"],
                },
            },
            {
                "hire": "bob",
                "file": "hires/bob.yaml",
                "fields": {
                    "first_name": [None, "Bob"],
                    "last_name": [None, "Example"],
                    "email": [None, "bob@example.com"],
                    "source": [None, "hr"],
                },
            },
        ],
        "changed": [],
        "ended": [],
        "left_out": [],
    }
    assert files(repo) == {}


def test_written_files_name_their_source(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [person("ada", department="R&D")])
    looked = call_cli(repo, "import", "hr")
    assert (looked.code, "next: `reconcile import hr --write`, or --branch" in looked.err) == (2, True)
    done = call_cli(repo, "import", "hr", "--write")
    assert done.code == 2
    assert "1 file written; next: `git add hires && git diff --staged`, commit" in done.err
    assert files(repo)["ada.yaml"].decode() == (
        "email: ada@example.com\nfirst_name: Ada\nlast_name: Example\ndepartment: R&D\nsource: hr\n"
    )
    assert call_cli(repo, "validate").code == 0
    again = call_cli(repo, "import", "hr", "--write")
    assert (again.code, again.out) == (0, "hr: nothing to do\n")


def test_lines_that_did_not_change_stay_as_they_are(repo: Repo, hr: Service) -> None:
    before = (
        "# our first\nemail: Ada@Example.com   # her own\nlast_name: 'Example'\nfirst_name: Ada\n\n"
        "department: Sales # since 2024\r\naccess:\n  - slack\n"
    )
    repo.write("hires/ada.yaml", before.encode())
    for name in ("bob", "cyd", "dan"):
        repo.hire(name)
    asks(repo, hr, [person("ada", department="R&D"), person("bob"), person("cyd"), person("dan")])
    done = brought(repo, "--write")
    assert done.code == 2, done.err
    (changed,) = done.json["changed"]
    assert changed == {"hire": "ada", "file": "hires/ada.yaml", "fields": {"department": ["Sales", "R&D"]}}
    assert files(repo)["ada.yaml"].decode() == before.replace("Sales", "R&D")


def test_null_and_empty_values_are_left_out_and_unknown_keys_go_to_extra(repo: Repo, hr: Service) -> None:
    structure = {**STRUCTURE, "LOGIN": "login", "extra.BADGE": "badge", "phone": "phone"}
    asks(repo, hr, [person("ada", login="NO", badge=12, department=None, phone=" ")], data_structure=structure)
    assert brought(repo, "--write").code == 2
    assert hire(repo, "ada") == {
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Example",
        "extra": {"LOGIN": "NO", "BADGE": 12},
        "source": "hr",
    }


def test_address_of_a_known_hire_becomes_a_reference(repo: Repo, hr: Service) -> None:
    repo.hire("grace")
    structure = {**STRUCTURE, "manager": "boss", "buddy": {"hire": "buddy.email"}}
    ada = person("ada", boss="GRACE@example.com", buddy={"email": "bob@example.com"})
    bob = person("bob", boss="Grace Example", buddy={"email": "stranger@example.com"})
    asks(repo, hr, [ada, bob], data_structure=structure)
    assert brought(repo, "--write").code == 2
    assert (hire(repo, "ada")["manager"], hire(repo, "ada")["buddy"]) == ({"hire": "grace"}, {"hire": "bob"})
    assert hire(repo, "bob")["manager"] == "Grace Example"
    assert "buddy" not in hire(repo, "bob")
    assert hire(repo, "bob")["buddy_email"] == "stranger@example.com"
    assert brought(repo).code == 0


def test_update_only_changes(repo: Repo, hr: Service) -> None:
    for name in ("ada", "bob", "cyd", "dan"):
        repo.hire(name)
    people = [person("ada", department="R&D"), person("eve")]
    asks(repo, hr, people, action="update")
    done = brought(repo, "--write")
    assert done.code == 2
    assert [each["hire"] for each in done.json["changed"]] == ["ada"]
    assert done.json["created"] == done.json["ended"] == []
    assert "source" not in hire(repo, "ada")
    assert "eve.yaml" not in files(repo)


def test_only_a_file_of_this_import_is_ended_today(repo: Repo, hr: Service) -> None:
    for name in ("ada", "bob", "cyd", "dan", "eve"):
        repo.hire(name, source="hr")
    repo.hire("fay")
    repo.hire("gil", source="other")
    repo.hire("hal", source="hr", end="2020-01-31")
    asks(repo, hr, [person(name) for name in ("bob", "cyd", "dan", "eve")])
    before = files(repo)
    done = brought(repo, "--write")
    assert done.code == 2, done.err
    assert done.json["ended"] == [
        {"hire": "ada", "file": "hires/ada.yaml", "fields": {"end": [None, TODAY.isoformat()]}}
    ]
    assert hire(repo, "ada")["end"] == TODAY
    assert {name: raw for name, raw in files(repo).items() if name != "ada.yaml"} == {
        name: raw for name, raw in before.items() if name != "ada.yaml"
    }


def test_person_who_is_gone_before_the_first_day_gets_no_day(repo: Repo, hr: Service) -> None:
    start = TODAY + timedelta(days=10)
    repo.hire("ada", source="hr", start=start)
    for name in ("bob", "cyd", "dan"):
        repo.hire(name, source="hr")
    asks(repo, hr, [person(name) for name in ("bob", "cyd", "dan")])
    assert brought(repo, "--write").code == 2
    yesterday = TODAY - timedelta(days=1)
    assert (hire(repo, "ada")["start"], hire(repo, "ada")["end"]) == (yesterday, yesterday)
    assert call_cli(repo, "validate").code == 0


def test_leaves_fills_end_and_only_selects(repo: Repo, hr: Service) -> None:
    people = [
        person("ada", status="Active", terminationDate="2027-06-30T00:00:00+02:00"),
        person("bob", status="Active", terminationDate="0000-00-00"),
        person("cyd", status="Inactive"),
    ]
    asks(repo, hr, people, leaves="terminationDate", only={"status": "Active"})
    assert brought(repo, "--write").code == 2
    assert sorted(files(repo)) == ["ada.yaml", "bob.yaml"]
    assert hire(repo, "ada")["end"] == date(2027, 6, 30)
    assert "end" not in hire(repo, "bob")


def test_id_gives_the_stem(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [person("ada")], id="{{first_name}}.{{last_name}}")
    assert brought(repo, "--write").code == 2
    assert sorted(files(repo)) == ["Ada.Example.yaml"]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "people",
    [
        [],
        [person("ada", status="Inactive")],
        [{"firstName": "Ada"}],
        [{"workEmail": "a b@example.com", "firstName": "Ada"}],
    ],
)
def test_empty_answer_is_an_error_always(repo: Repo, hr: Service, people: list[Any]) -> None:
    repo.hire("ada", source="hr")
    before = files(repo)
    asks(repo, hr, people, only={"status": "Active"} if people and "status" in people[0] else {})
    done = brought(repo, "--write", "--yes-really")
    assert (done.code, done.out) == (1, "")
    assert "nothing was changed" in done.err
    assert files(repo) == before


def test_where_all_are_left_out_they_are_named(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [{**person("ada"), "workEmail": "ada"}, *({"firstName": f"P{n}"} for n in range(12))])
    done = brought(repo, "--write")
    assert (done.code, done.out) == (1, "")
    assert "all are left out (Ada Example: email: not an address; P0: no address; " in done.err
    assert "; and 3 more)" in done.err


def test_too_many_changes_are_an_error_unless_meant(repo: Repo, hr: Service) -> None:
    names = [f"p{number}" for number in range(8)]
    for name in names:
        repo.hire(name, source="hr")
    asks(repo, hr, [person(name) for name in names[3:]] + [person(f"new{number}") for number in range(20)])
    before = files(repo)
    done = brought(repo, "--write")
    assert done.code == 1
    assert "37.50 % is over 25 % (3/8) of the hires: 0 would change and 3 end" in done.err
    assert files(repo) == before
    meant = brought(repo, "--write", "--yes-really")
    assert meant.code == 2
    assert (len(meant.json["created"]), len(meant.json["ended"])) == (20, 3)
    assert len(files(repo)) == 28


def test_who_has_no_address_or_a_wrong_value_is_left_out_and_named(repo: Repo, hr: Service) -> None:
    people = [
        person("ada"),
        {"firstName": "Bob", "lastName": "Example"},
        person("cyd", workEmail="cyd at example.com"),
        person("dan", department={"id": 7}),
        person("eve", workEmail="x@example.com", start="01/12/2026"),
        person("fay", workEmail="twice@example.com"),
        person("gil", workEmail="Twice@example.com"),
        person("hal", workEmail="ada@example.org"),
        person("ida", start="2026-12-01", end="2026-11-01"),
    ]
    asks(repo, hr, people, data_structure={**STRUCTURE, "start": "start", "end": "end"})
    done = brought(repo, "--write")
    assert done.code == 2
    assert [each["hire"] for each in done.json["created"]] == ["ada"]
    why = [(each["fields"].get("first_name"), each["reason"]) for each in done.json["left_out"]]
    assert why == [
        ("Bob", "no address"),
        ("Cyd", "email: not an address"),
        ("Dan", "department: a map, and no value; write the path of what is in it"),
        ("Eve", "start: not a date: write it YYYY-MM-DD, such as 2026-12-01"),
        ("Fay", "several people have the address: item 6, item 7"),
        ("Gil", "several people have the address: item 6, item 7"),
        ("Hal", f"ada is another person's: {TAKEN}"),
        ("Ida", "end 2026-11-01 is before start 2026-12-01: the last day cannot come first"),
    ]
    assert sorted(files(repo)) == ["ada.yaml"]


def test_person_left_out_is_not_ended(repo: Repo, hr: Service) -> None:
    for name in ("ada", "bob", "cyd", "dan", "eve"):
        repo.hire(name, source="hr")
    people = [
        {"firstName": "Ada", "lastName": "Example"},  # lost her address
        person("bob", workEmail="bob@example.org"),  # has another one
        person("cyd", department=["a", "b"]),
        *[person(name) for name in ("dan", "eve")],
    ]
    asks(repo, hr, people)
    done = brought(repo, "--write")
    assert (done.code, done.json["ended"], done.json["changed"]) == (0, [], [])
    assert [each["hire"] for each in done.json["left_out"]] == [None, "bob", None]
    assert "hires/ada.yaml is not ended: its person may be one of those who are left out" in done.err


@pytest.mark.parametrize(
    ("left_out", "ended"), [({}, []), ({"firstName": "ada"}, []), ({"firstName": "Ada", "lastName": "Other"}, ["ada"])]
)
def test_who_has_no_address_may_be_whomever_no_name_excludes(
    repo: Repo, hr: Service, left_out: dict[str, str], ended: list[str]
) -> None:
    for name in ("ada", "bob", "cyd", "dan"):
        repo.hire(name, source="hr")
    asks(repo, hr, [left_out, *[person(name) for name in ("bob", "cyd", "dan")]])
    assert [each["hire"] for each in brought(repo).json["ended"]] == ended


def test_who_has_another_address_is_known_by_a_name_with_two_dots(repo: Repo, hr: Service) -> None:
    """A file that an import has made keeps its name: one more would be another hire, with accounts of their own."""
    repo.hire("ada..l", source="hr")
    asks(repo, hr, [person("ada..l", workEmail="ada..l@example.org")])
    done = brought(repo, "--write")
    assert [each["hire"] for each in done.json["left_out"]] == ["ada..l"]
    assert sorted(files(repo)) == ["ada..l.yaml"]


@pytest.mark.parametrize(
    ("local", "stem"),
    [
        ("a/b", "a-b"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("o'brien", "o-brien"),
        ("NO", "NO"),
        ("012345", "012345"),
    ],
)
def test_address_cannot_name_a_file_elsewhere(repo: Repo, hr: Service, local: str, stem: str) -> None:
    asks(repo, hr, [person("ada", workEmail=f"{local}@example.com")])
    assert brought(repo, "--write").code == 2
    assert sorted(files(repo)) == [f"{stem}.yaml"]
    assert hire(repo, stem)["email"] == f"{local}@example.com"
    assert repo.git("status", "--porcelain", "--untracked-files=all").count("hires/") == 1


@pytest.mark.parametrize(
    "name", ["NO", "012345", "1e3", "2026-12-01", "true", "null", "~", "{{x}}", "a: b", "- a", "# a"]
)
def test_text_from_outside_stays_text(repo: Repo, hr: Service, name: str) -> None:
    hostile = f"{name}\n'\"\\ \t\x07\u202e é 😀"
    asks(repo, hr, [person("ada", firstName=name, lastName=hostile)])
    assert brought(repo, "--write").code == 2
    assert call_cli(repo, "validate").code == 0
    from reconciler.repository.files import Reader
    from reconciler.repository.git.checkout import Checkout

    model = Reader().load(Checkout.open(repo.root).worktree()).hires["ada"].model
    assert (model.first_name, model.last_name) == (name, hostile)
    assert brought(repo).code == 0


def test_nothing_is_written_where_one_file_cannot_be(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [person("ada"), person("bob"), person("cyd")])
    (repo.root / "hires/cyd.yaml").mkdir()
    done = brought(repo, "--write")
    assert done.code == 1
    assert [path.name for path in (repo.root / "hires").rglob("*") if path.is_file()] == [".gitkeep"]


# --- reading --------------------------------------------------------------------------------------------------------


def pages(hr: Service, people: list[Any], size: int, fails_at: int | None = None) -> None:
    def page(received: Received) -> Any:
        number = int(received.query.get("page", ["0"])[0])
        if number == fails_at:
            return Reply(503, {"error": "come back later"})
        more = len(people) > (number + 1) * size
        chunk = people[number * size : (number + 1) * size]
        return {"employees": chunk, "next": f"{hr.url}/people?page={number + 1}" if more else None}

    hr.route("GET", "/people", page)


def test_page_that_fails_half_way_changes_nothing(repo: Repo, hr: Service) -> None:
    repo.hire("zoe", source="hr")
    pages(hr, [person(f"p{number}") for number in range(30)], 10, fails_at=2)
    asks(repo, hr, next_page_from="next")
    before = files(repo)
    done = brought(repo, "--write", "--yes-really")
    assert (done.code, done.out) == (1, "")
    assert "page 3 answered 503" in done.err
    assert files(repo) == before


def test_incomplete_reading_ends_no_hire(repo: Repo, hr: Service) -> None:
    for name in ("zoe", *(f"p{number}" for number in range(8))):
        repo.hire(name, source="hr")
    pages(hr, [person(f"p{number}") for number in range(30)], 2)
    asks(repo, hr, next_page_from="next")
    done = brought(repo, "--write")
    assert done.code == 2
    assert [request.query.get("page") for request in hr.requests] == [None, ["1"], ["2"], ["3"], ["4"]]
    assert done.json["ended"] == []
    assert "stopped after 5 pages and more follow, so nobody is ended" in done.err
    assert "end" not in hire(repo, "zoe")
    asks(repo, hr, next_page_from="next", amount_pages_to_fetch=0)
    assert [each["hire"] for each in brought(repo, "--yes-really").json["ended"]] == ["zoe"]


def test_requests_before_the_last_one_log_in(repo: Repo, hr: Service) -> None:
    hr.route("POST", "/login", lambda _: {"session": {"id": "s-123456"}})
    asks(repo, hr, [person("ada")])
    execute = [
        {"url": f"{hr.url}/login", "store_data": {"SESSION": "session.id"}},
        {"url": f"{hr.url}/people", "method": "GET", "headers": {"X-Session": "{{SESSION}}"}},
    ]
    asks(repo, hr, execute=execute)
    assert brought(repo).code == 2
    assert hr.requests[-1].headers["X-Session"] == "s-123456"


@pytest.mark.parametrize("refused", [1, 2], ids=["once", "for ever"])
def test_refused_token_is_fetched_once_more(repo: Repo, hr: Service, refused: int) -> None:
    def page(request: Received) -> Any:
        following = None if "page" in request.query else f"{hr.url}/people?page=2"
        if following is None and request.headers["Authorization"] in [
            f"Bearer token-{number}" for number in range(refused)
        ]:
            return Reply(401, {"error": "expired"})
        return {"employees": [person("bob" if following is None else "ada")], "next": following}

    hr.route("POST", "/token", lambda _: {"access_token": f"token-{tokens()}", "expires_in": 3600})
    hr.route("GET", "/people", page)
    access = {"url": f"{hr.url}/token", "data": {"client_id": "us"}}
    headers = {"Authorization": "Bearer {{oauth.access_token}}"}
    asks(
        repo, hr, headers=headers, oauth={"grant": "client_credentials", "access_token": access}, next_page_from="next"
    )

    def tokens() -> int:
        return len([request for request in hr.requests if request.path == "/token"]) - 1

    done = brought(repo)
    assert tokens() == 1
    if refused == 1:
        assert done.code == 2, done.err
        assert [each["hire"] for each in done.json["created"]] == ["ada", "bob"]
    else:
        assert (done.code, "page 2 answered 401" in done.err) == (1, True)


def test_host_that_is_not_allowed_is_not_asked(repo: Repo, hr: Service) -> None:
    repo.settings(allowed_hosts=["hr.example.com"])
    asks(repo, hr, [person("ada")])
    done = brought(repo)
    assert done.code == 1
    assert f"host {hr.host} is not allowed" in done.err
    assert hr.requests == []


def test_import_that_is_not_there(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [])
    done = call_cli(repo, "import", "hrr")
    assert done.code == 64
    assert "there is no config/imports/hrr.yaml; did you mean hr?" in done.err
    repo.write("config/imports/hr.yaml", "file: people.csv\n")
    done = call_cli(repo, "import", "hr")
    assert done.code == 1
    assert "config/imports/hr.yaml" in done.err


# --- a CSV ----------------------------------------------------------------------------------------------------------


def test_csv_on_this_machine(repo: Repo) -> None:
    from_csv(
        repo,
        '\ufeffEmail,First,Last,More\r\nada@example.com,Ada,"O""Hara, the\nfirst",x\r\nbob@example.com,NO,012345,\r\n',
    )
    done = call_cli(repo, "import", "hr", "--write")
    assert done.code == 2, done.err
    assert hire(repo, "ada")["last_name"] == 'O"Hara, the\nfirst'
    assert (hire(repo, "bob")["first_name"], hire(repo, "bob")["last_name"]) == ("NO", "012345")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_of_a_spreadsheet_has_its_own_separator(repo: Repo, separator: str) -> None:
    from_csv(repo, 'Email,First,Last\nada@example.com,Ada,"Ex; ample"\n'.replace(",", separator))
    assert brought(repo, "--write").code == 2
    assert hire(repo, "ada")["last_name"] == "Ex; ample"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("Mail,First,Last\na,b,c\n", "1: there is no column 'Email'; it has Mail, First, Last; did you mean Mail?"),
        ("Email,First,Last,Last\na,b,c,d\n", "1: two columns are called 'Last'"),
        (
            "Email,First,Last\nada@example.com,Ada,Example\nbob@example.com,Bob\n",
            "3: 2 columns, and the first line has 3",
        ),
        ('Email,First,Last\n"ada@example.com,Ada,Example\n', "not CSV"),
        (b"Email,First,Last\nada@example.com,Ad\xe9,Example\n", "2: not UTF-8"),
    ],
)
def test_csv_that_is_none_changes_nothing(repo: Repo, text: str | bytes, said: str) -> None:
    from_csv(repo, text)
    done = brought(repo, "--write")
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert files(repo) == {}


def test_csv_is_read_where_git_has_lost_the_commit(repo: Repo) -> None:
    structure = {"email": "Email", "first_name": "First", "last_name": "Last"}
    repo.write("config/imports/hr.yaml", {"file": "people.csv", "data_structure": structure})
    commit = repo.commit()
    repo.write("people.csv", "Email,First,Last\nada@example.com,Ada,Example\n")
    (repo.root / ".git" / "objects" / commit[:2] / commit[2:]).unlink()
    done = brought(repo)
    assert (done.code, [each["hire"] for each in done.json["created"]]) == (2, ["ada"]), done.err


@pytest.mark.parametrize("how", ["staged", "committed"])
def test_csv_in_git_is_refused(repo: Repo, how: str) -> None:
    repo.write("people.csv", "Email,First,Last\nada@example.com,Ada,Example\n")
    structure = {"email": "Email", "first_name": "First", "last_name": "Last"}
    repo.write("config/imports/hr.yaml", {"file": "people.csv", "data_structure": structure})
    there = brought(repo)
    assert there.code == 2
    assert "people.csv is in the checkout and not ignored: add it to .gitignore" in there.err
    if how == "staged":
        repo.git("add", "people.csv")
    else:
        repo.commit()
        repo.git("rm", "--quiet", "--cached", "people.csv")
    done = brought(repo, "--write")
    assert (done.code, files(repo)) == (1, {})
    assert "people.csv is in git, where everybody's data would stay in the history" in done.err


@pytest.mark.no_cover  # the same lines thousands of times
def test_ten_thousand_rows(repo: Repo) -> None:
    rows = "".join(f"p{number}@example.com,P{number},Example\n" for number in range(10_000))
    from_csv(repo, f"Email,First,Last\n{rows}")
    repo.commit()
    done = call_cli(repo, "import", "hr", "--branch", "import/hr", "--output", "json")
    assert done.code == 2, done.err
    assert len(done.json["created"]) == 10_000
    assert len(repo.git("ls-tree", "--name-only", "import/hr", "hires/").splitlines()) == 10_001


# --- a branch -------------------------------------------------------------------------------------------------------


def test_branch_starts_at_the_revision_in_force_and_nothing_else_changes(repo: Repo, hr: Service) -> None:
    repo.hire("bob")
    asks(repo, hr, [person("ada"), person("bob")])
    head = repo.commit()
    repo.write("hires/bob.yaml", "not committed")
    before, status = files(repo), repo.git("status", "--porcelain")
    done = call_cli(repo, "import", "hr", "--branch", "import/hr")
    assert done.code == 2, done.err
    assert (files(repo), repo.git("status", "--porcelain"), repo.git("rev-parse", "main")) == (before, status, head)
    assert repo.git("rev-parse", "import/hr^") == head
    assert repo.git("diff", "--name-status", "main", "import/hr") == "A\thires/ada.yaml"
    assert repo.git("show", "import/hr:hires/ada.yaml").startswith("email: ada@example.com")
    first = repo.git("rev-parse", "import/hr")
    assert call_cli(repo, "import", "hr", "--branch", "import/hr").code == 2
    assert repo.git("rev-parse", "import/hr") == first


def test_branch_is_recreated_unless_it_has_other_commits(repo: Repo, hr: Service) -> None:
    people = [person("ada")]
    asks(repo, hr, people)
    repo.commit()
    assert brought(repo, "--branch", "import/hr").code == 2
    people.append(person("bob"))
    assert brought(repo, "--branch", "import/hr").code == 2
    assert repo.git("rev-list", "--count", "main..import/hr") == "1"
    assert repo.git("diff", "--name-only", "main", "import/hr").splitlines() == ["hires/ada.yaml", "hires/bob.yaml"]
    repo.git("switch", "--quiet", "import/hr")
    theirs = repo.commit("a person's")
    repo.git("switch", "--quiet", "main")
    done = brought(repo, "--branch", "import/hr")
    assert done.code == 1
    assert f"branch import/hr has commit {theirs[:12]} of Ida Admin: merge it, or delete the branch" in done.err
    assert repo.git("rev-parse", "import/hr") == theirs


@pytest.mark.parametrize(
    ("branch", "said"),
    [
        ("main", "main is the branch in force"),
        ("work", "work is checked out"),
        ("-x", "cannot be the name of a branch"),
        ("a..b", "cannot be the name of a branch"),
        ("HEAD", "cannot be the name of a branch"),
        ("refs/heads/main", "cannot be the name of a branch"),
    ],
)
def test_branch_that_must_not_be_written_to(repo: Repo, hr: Service, branch: str, said: str) -> None:
    asks(repo, hr, [person("ada")])
    repo.commit()
    repo.git("switch", "--quiet", "--create", "work")
    before = repo.git("for-each-ref")
    done = call_cli(repo, "--branch=main", "import", "hr", f"--branch={branch}")
    assert done.code == 1
    assert said in done.err
    assert (repo.git("for-each-ref"), hr.requests) == (before, [])


def test_write_and_branch_are_two_things(repo: Repo) -> None:
    assert call_cli(repo, "import", "hr", "--write", "--branch", "b").code == 64


def test_each_person_is_one_line(repo: Repo, hr: Service) -> None:
    asks(repo, hr, [person(f"person{number}", department="R&D") for number in range(60)])
    out = call_cli(repo, "import", "hr").out
    assert out.startswith(
        "hr: 60 created\n"
        "created  hires/person0.yaml  first_name: Person0; last_name: Example; email: person0@example.com; department: R&D; source: hr\n"
    )
    assert out.count("\n") == 61


def test_text_of_a_pull_request(repo: Repo, hr: Service) -> None:
    people = [person("ada", firstName="@everyone `x` <b>"), {"firstName": "Bob"}]
    asks(repo, hr, people)
    done = call_cli(repo, "import", "hr", "--output", "markdown")
    assert done.code == 2
    assert done.out.startswith("**hr: 1 created, 1 left out**\n")
    assert "``@everyone `x` <b>``" in done.out
    assert "- `Bob`: `no address`" in done.out
    json.dumps(done.out)


def test_text_of_a_pull_request_has_an_end(repo: Repo) -> None:
    """GitHub takes 65,536 characters."""
    rows = "".join(f"p{number}@example.com,{'P' * 2000},Example\n" for number in range(1000))
    from_csv(repo, f"Email,First,Last\n{rows}")
    done = call_cli(repo, "import", "hr", "--yes-really", "--output", "markdown")
    assert done.code == 2
    assert done.out.startswith("**hr: 1000 created**\n")
    assert "\n- and 900 more" in done.out
    assert len(done.out) < 65_536


def test_a_secret_of_ours_that_the_source_repeats_is_neither_shown_nor_written(
    tmp_path: Path, gnupg_home: GnupgHome, hr: Service
) -> None:
    repo = Repo(tmp_path / "sealed", gnupg_home)
    repo.settings()
    repo.write("hires/.gitkeep", "")
    repo.write("manifests/.gitkeep", "")
    form = [{"id": "TOKEN", "name": "Token"}]
    asks(repo, hr, [person("ada", lastName="s3cr3t-t0ken"), person("bob")], initial_data_form=form)
    repo.initial_data("hr", {"TOKEN": "s3cr3t-t0ken"})
    repo.commit()
    for output in ("json", "table", "markdown"):
        done = call_cli(repo, "import", "hr", "--output", output)
        assert done.code == 2, done.err
        assert "last_name: it holds a secret of the initial data" in done.out
        assert "s3cr3t" not in done.out + done.err
    assert call_cli(repo, "import", "hr", "--write").code == 2
    assert list(files(repo)) == ["bob.yaml"]
