"""Loading a whole revision: what is broken, what is not touched by it, and how it is said."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from reconciler.model.errors import Problem, RepositoryError, SettingsError
from reconciler.repository import hires as people
from reconciler.repository import parsing as module
from reconciler.repository.documents.yaml import Document, read
from reconciler.repository.files import Files, Reader
from reconciler.repository.git.checkout import Checkout
from tests.repo import Repo
from tests.timing import at_most

pytestmark = pytest.mark.usefixtures("parsed_anew")

ADA = "email: ada@example.com\nfirst_name: Ada\nlast_name: Lovelace\n"
MINIMAL = "execute: [{url: 'https://api.example.com/'}]\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Files]:
    def load(files: dict[str, str]) -> Files:
        for path, text in {"hires/.keep": "", "manifests/.keep": "", **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return Reader().load(Checkout.open(tmp_path).head())

    return load


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are parsed, in order."""
    found: list[str] = []

    def counted(raw: bytes, file: str) -> Document:
        found.append(file)
        return read(raw, file)

    monkeypatch.setattr(module, "read", counted)
    return found


def said(files: Files) -> list[str]:
    return [str(problem) for problem in files.problems]


def test_everything_of_a_good_repository(load) -> None:
    files = load(
        {
            "config/reconciler.yaml": "interval: 5m\n",
            "config/sequences/engineering.yaml": "assign: {department: R&D}\naccess:\n  - asana\n",
            "config/initial_data/asana.yaml.asc": "not looked at",
            "manifests/asana.yaml": MINIMAL,
            "manifests/chat/slack.json": json.dumps({"execute": [{"url": "https://slack.example.com"}]}),
            "manifests/README.md": "# not ours",
            "hires/ada.yaml": ADA
            + "sequences: [engineering]\naccess:\n  - slack\n  - integration: asana\n    at: start-3d\n",
            "hires/2026/bob.smith.yml": ADA.replace("ada", "bob"),
        }
    )
    assert files.problems == []
    assert files.broken == {"manifests": {}, "hires": {}, "sequences": {}, "imports": {}, "requests": {}}
    assert files.revision == "worktree"
    assert files.settings.interval.total_seconds() == 300
    assert set(files.manifests) == {"asana", "slack"}
    assert set(files.hires) == {"ada", "bob.smith"}
    assert set(files.sequences) == {"engineering"}
    ada = files.hires["ada"]
    assert (ada.stem, ada.path, ada.lines) == ("ada", "hires/ada.yaml", (6, 7))
    assert ada.document.line(("access", 1, "at")) == 8
    assert files.sequences["engineering"].lines == (3,)


@pytest.mark.parametrize(
    ("missing", "files"), [("hires", {"manifests/a.yaml": MINIMAL}), ("manifests", {"hires/a.yaml": ADA})]
)
def test_a_revision_without_its_folders_is_refused(tmp_path: Path, missing: str, files: dict[str, str]) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    with pytest.raises(RepositoryError, match=f"no {missing}/ folder"):
        Reader().load(Checkout.open(tmp_path).head())


HIRES = [
    pytest.param("email: x\n", "hires/a.yaml:1: error: email: not an address", id="address"),
    pytest.param("email: a b@example.com\n", "email: not an address (no double quotes, backslashes, blanks", id="blank"),
    pytest.param("emial: x\n", ":4: error: emial: unknown key; allowed: email, first_name, ", id="unknown-key"),
    pytest.param("emial: x\n", "; did you mean email?", id="did-you-mean"),
    pytest.param("Email: x\n", "; did you mean email?", id="did-you-mean-without-case"),
    pytest.param("start: 12\n", ":4: error: start: not a date: write it YYYY-MM-DD", id="date"),
    pytest.param("manager: [a]\n", "manager: must be text or a map {hire: …}", id="union"),
    pytest.param("manager: {hier: a}\n", "manager.hier: unknown key; allowed: hire; did you mean hire?", id="union-map"),
    pytest.param("manager:\n  hire: {a: b}\n", ":5: error: manager.hire: must be text", id="union-inside"),
    pytest.param("access: slack\n", "access: must be a list: begin each line of it with `- `", id="no-list"),
    pytest.param("end:\n", "end: is empty: give it a value, or take the key out", id="empty"),
    pytest.param("access:\n- a\n- 5\n", ":6: error: access.1: must be an integration's name or a map; allowed", id="entry"),
    pytest.param("access:\n- a\n- {name: b}\n", ":6: error: access.1.integration: required, and not there", id="missing"),
    pytest.param("access:\n- a\n- b\n- a\n", ":7: error: access.2: 'a' stands twice: give each a name", id="twice"),
    pytest.param("access:\n- integration: a\n  at: later\n", ":6: error: access.0.at: must be commit, start", id="at"),
    pytest.param("access:\n- {integration: a, values: {T: {nme: x}}}\n", "values.T.nme: unknown key; allowed: name", id="form"),
    pytest.param("access:\n- {integration: a, values: {T: [[]]}}\n", "values.T.0: must be true or false, a number,", id="deep"),
    pytest.param("access:\n- {integration: a, values: [T]}\n", "access.0.values: must be a map of `key: value`", id="values"),
    pytest.param("extra: {a-b: 1}\n", ":4: error: extra.a-b: an id has letters A-Z", id="extra-id"),
    pytest.param("extra:\n  X: 1\n  manager: 1\n", ":6: error: extra.manager: 'manager' means the hire's own", id="extra-known"),
    pytest.param("extra: {oauth: 1}\n", "extra.oauth: 'oauth' means the program's own already", id="extra-oauth"),
    pytest.param("email: other@example.com\n", ":4: error: duplicate key 'email'", id="duplicate"),
    pytest.param("x: [\n", "error: not YAML: ", id="no-yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), HIRES)
def test_a_broken_hire_touches_only_itself(load, text: str, part: str) -> None:
    raw = text if text.startswith("email: x") or " b@" in text else ADA + text
    files = load({"hires/a.yaml": raw, "hires/b.yaml": ADA.replace("ada@", "b@"), "manifests/m.yaml": MINIMAL})
    assert any(part in line for line in said(files)), said(files)
    assert all(line.startswith("hires/a.yaml") for line in said(files))
    assert set(files.broken["hires"]) == {"a"}
    assert files.broken["hires"]["a"] == files.problems
    assert set(files.hires) == {"b"}
    assert set(files.manifests) == {"m"}


def test_a_file_that_cannot_be_read_is_broken_in_a_commit_and_then_in_its_folder(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    for path, text in (
        ("hires/ada.yaml", ADA),
        ("hires/bob.yaml", "#" * (1 << 20) + "#"),
        ("manifests/m.yaml", MINIMAL),
    ):
        repo.write(path, text)
    (repo.root / "hires/cleo.yaml").symlink_to("ada.yaml")
    repo.commit()
    reader, checkout = Reader(), Checkout.open(repo.root)
    for tree in (checkout.head(), checkout.worktree(), checkout.head()):
        files = reader.load(tree)
        assert (set(files.hires), set(files.broken["hires"])) == ({"ada"}, {"bob", "cleo"})


def test_the_message_of_the_contract(load) -> None:
    files = load({"hires/bob.yaml": "first_name: Bob\nlast_name: B\nemail: nobody\n"})
    assert [problem.as_json() for problem in files.problems] == [
        {"file": "hires/bob.yaml", "line": 3, "severity": "error", "message": "email: not an address"}
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text\n", "12\n", "null\n"])
@pytest.mark.parametrize("path", ["hires/a.yaml", "manifests/a.yaml", "config/sequences/a.yaml"])
def test_a_file_that_is_no_map(load, path: str, text: str) -> None:
    (problem,) = load({path: text}).problems
    assert problem.file == path
    assert "the file is empty" in problem.message or "must be a map; allowed keys: " in problem.message


MANIFESTS = [
    pytest.param("form: [{id: A-B, type: input}]", "error: form.0.id: 'A-B': an id has letters", id="dash"),
    pytest.param("form: [{id: größe, type: input}]", "warning: form.0.id: 'größe': an id has", id="unicode"),
    pytest.param("service: s\nform: [{id: größe, type: input}]", "error: form.0.id: 'größe'", id="unicode-ours"),
    pytest.param("form: [{id: email, type: input}]", "warning: form.0.id: 'email' means the hire's own", id="known"),
    pytest.param("service: s\nform: [{id: email, type: input}]", "error: form.0.id: 'email' means", id="known-ours"),
    pytest.param("form: [{id: oauth, type: input}]", "error: form.0.id: 'oauth' means the program's own", id="oauth"),
    pytest.param("initial_data_form: [{id: start}]", "warning: initial_data_form.0.id: 'start' means", id="initial"),
    pytest.param("initial_data_form:\n- {id: T}\n- {id: T}", ":3: error: initial_data_form.1.id: 'T' stands twice", id="twice"),
    pytest.param("initial_data_form: [{id: T}]\nform: [{id: T, type: input}]", "warning: initial_data_form.0.id", id="both"),
    pytest.param("service: s\ninitial_data_form: [{id: T}]\nform: [{id: T, type: input}]", "error: initial_data", id="both-ours"),
    pytest.param("extra_user_info: [{id: 'A B'}]", "error: extra_user_info.0.id: 'A B'", id="extra-info"),
    pytest.param("form: [{id: T, type: choice}]", "error: form.0: a choice needs items, or a url to fetch", id="choice"),
    pytest.param("form: [{id: T, type: chioce}]", "'chioce' is not known; allowed: choice, multiple_choice, inp", id="type"),
    pytest.param("exists: {url: x}", "error: exists: expected is empty", id="expected"),
    pytest.param("exists:\n  url: x\n  expcted: y", ":3: error: exists.expcted: unknown key; allowed: headers, ", id="unknown"),
    pytest.param("exists: {url: x, expected: y, list: {url: x}}", "exists.list.match: required, and not there", id="alias"),
    pytest.param("execute:\n- url: x\n- url: y\n  status_code: [99]", ":4: error: execute.1.status_code.0: must be at l", id="least"),
    pytest.param("execute: [{url: x, polling: {interval: 1, amount: 2}}]", "execute.0: polling needs continue_if", id="polling"),
    pytest.param("post_execute_notification: {type: sms, to: x, message: y}", "'sms' is not known; allowed: email, text", id="one"),
    pytest.param("headers: {A: [b]}", "error: headers.A: must be text", id="headers"),
    pytest.param("execute: [{url: 'x/{{ email|lower }}'}]", "error: execute.0.url: {{ email|lower }}: filters", id="filter"),
    pytest.param("execute: [{url: x, data: {a: ['{{ {% if %} }}']}}]", "error: execute.0.data.a.0: {{ {% if", id="block"),
    pytest.param("exists: {url: 'x/{% firstof email %}', expected: y}", "error: exists.url: {% firstof email %}: template", id="tag"),
    pytest.param("exists: {url: x, expected: '{# all #}y'}", "error: exists.expected: {# all #}: template comments", id="comment"),
    pytest.param("headers:\n- {key: A, value: 'b'}\n- {key: B, value: '{% x %}'}", ":3: error: headers.1.value: {% x %}", id="header"),
    pytest.param("execute: [{url: x, data: {'{% a %}': 1}}]", "error: execute.0.data.{% a %}: {% a %}", id="tag-key"),
    pytest.param("oauth: {authenticate_url: 'x{% x %}', access_token: {url: x}}", "error: oauth.authenticate_url: {%", id="tag-oauth"),
    pytest.param("form: [{id: T, type: choice, url: '{% x %}'}]", "error: form.0.url: {% x %}", id="tag-form"),
    pytest.param("exists: {url: x, expected: y, list: {url: 'z{% x %}', match: m}}", "error: exists.list.url: {%", id="tag-list"),
    pytest.param("post_execute_notification: {type: text, to: x, message: 'Hi {% if a %}'}", "error: post_execute_notification.message: {%", id="tag-message"),
    pytest.param("execute:\n- url: x\n  store_data: {email: id}", ":3: error: execute.0.store_data.email: 'email' means the hire's own already; store", id="store-known"),
    pytest.param("exists: {url: x, expected: y, store_data: {oauth: id}}", "error: exists.store_data.oauth: 'oauth' means the program's", id="store-ours"),
    pytest.param("form: [{id: ROLE, type: input}]\nexecute: [{url: x, store_data: {ROLE: id}}]", "error: execute.0.store_data.ROLE: 'ROLE' is an id of form already", id="store-form"),
    pytest.param("initial_data_form: [{id: ORG}]\nrevoke: [{url: x, store_data: {ORG: id}}]", "error: revoke.0.store_data.ORG: 'ORG' is an id of initial_data_form", id="store-initial"),
    pytest.param("execute: [{url: x, data: {'{{ a b }}': 1}}]", "error: execute.0.data.{{ a b }}: ", id="key"),
    pytest.param("execute: [{url: 'x/{{TEAM}}'}]\nform: [{id: TEAM_ID, type: input}]", "warning: execute.0.url: {{TEAM}}: nothing gives this variable but a hire's `extra`; did you mean TEAM_ID?", id="unfilled"),
    pytest.param("execute: [{url: x, data: {a: '{{ email }'}}]", "warning: execute.0.data.a: email has a brace too few, and is sent as it stands: write {{email}}", id="half-closed"),
    pytest.param("headers: {A: 'Bearer {{oauth.access_token}}'}", "warning: headers.A: {{oauth.access_token}}: no manifest of the service has oauth", id="unconnected"),
    pytest.param("exists: &e {url: x, expected: y}\nupdate: [{url: x}]", ":2: error: update: nothing tells that an account differs", id="update"),
    pytest.param("exists: {url: x, expected: y, where: {a: b}}\nupdate: execute", "error: update: there is nothing to execute", id="execute"),
    pytest.param("update: excute", "error: update: must be a list of these or the word execute", id="update-word"),
    pytest.param("invitation: {expires: 7d}\nexecute: [{url: x}]", "error: invitation: nothing tells that an invitation is open", id="invitation"),
    pytest.param("withdraw: [{url: x}]", "error: withdraw: nothing tells that an invitation is open", id="withdraw"),
    pytest.param("form:\n- {id: T, type: input, identity: true}\nexists: {url: x, expected: y}", ":2: error: form.0.identity: exists does not use {{T}}", id="identity"),
    pytest.param("exists: {url: x, status_code: [200], absent: {e: f}}", "error: exists: absent needs expected", id="absent"),
    pytest.param("exists: {url: x, expected: y, pending: {url: x}}", "error: exists.pending.match: required, and not", id="pending"),
    pytest.param("exists: {url: x, expected: y, where: {'': b}}", "error: exists.where: a path is empty", id="path"),
    pytest.param("exists: {url: x, expected: y, where: {a: {contains: null}}}", "error: exists.where: a: contains is empty; write what", id="contains-null"),
    pytest.param("exists: {url: x, expected: y, where: {a: {b: c}}}", "error: exists.where: a: a map is not compared", id="map"),
    pytest.param("exists: {url: x, method: HEAD, expected: y, inactive: {a: b}}", "error: exists.inactive: the answer to a HEAD", id="head"),
    pytest.param("exists: {url: x, expected: y, list: {url: x, match: m, fields: {emial: e}}}", "error: exists.list.fields: emial is no key of a hire", id="fields"),
    pytest.param("initial_data_form: [{id: PW, name: generate}]\nrevoke: [{url: 'x/{{PW}}'}]", ":2: warning: revoke: {{PW}} is generated and has no value here", id="generated"),
    pytest.param("form: [{id: PW, type: generate}]\nexecute: [{url: x, data: {p: '{{PW}}', m: '{{email}}'}}]\nupdate: execute", ":3: warning: update: {{PW}} is generated and has no value here", id="generated-again"),
    pytest.param("{}", ":1: warning: it does nothing, and its entries would count as done: write execute, exists or both", id="nothing"),
    pytest.param("exists: {url: x, expected: 'user: {{email}}', match: m}", "warning: exists.expected: is more than one value, and match can equal only one", id="several"),
    pytest.param("exists: {url: x, expected: 'user: {{email}}'}\nevents: {account: a, token: {header: h, value: '{{S}}'}}", "warning: exists.expected: is more than one value, and events can equal only one", id="events"),
    pytest.param("exists: {url: x, status_code: [200]}\nevents: {account: a, token: {header: h, value: '{{S}}'}}", "warning: events: nothing is checked", id="events-of-nobody"),
    pytest.param("exists: {url: x, expected: '{{first_name}} {{email}}', match: m}", "warning: exists.expected: is more than one value, and match can equal only one", id="two-variables"),
    pytest.param("exists: {url: x, expected: y, list: {url: x, match: m, count_up: {parameter: p}, next_page_from: n}}", "error: exists.list: count_up is a way to page of its own", id="count"),
    pytest.param("oauth: {access_token: {url: x}}", "error: oauth: authenticate_url is where a person allows it", id="oauth-url"),
    pytest.param("oauth: {grant: client_credential, access_token: {url: x}}", "did you mean client_credentials?", id="grant"),
    pytest.param("post_execute_notification: {type: email, to: '', message: y}", "error: post_execute_notification.0: an email needs to", id="to"),
    pytest.param("type: import_users\nexecute: [{url: x}]", "error: this manifest imports people instead of making accounts: move it to config/imports/", id="imports"),
    pytest.param("execute: [{url: x}]\ndata_structure: {email: e}\naction: create", "error: this manifest imports people", id="imports-structure"),
    pytest.param("post_execute_notification: {type: email, to: it-at-example.com, message: y}", "warning: post_execute_notification.0.to: 'it-at-example.com' is not an address", id="no-address"),
    pytest.param("post_execute_notification: {type: text, to: '{{fone}}', message: y}", "warning: post_execute_notification.to: {{fone}}", id="notification"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), MANIFESTS)
def test_a_manifest_with_a_problem(load, text: str, part: str) -> None:
    files = load({"manifests/a.yaml": text + "\n", "manifests/b.yaml": MINIMAL})
    (line,) = said(files)
    assert part in line
    broken = ": error: " in line
    assert set(files.broken["manifests"]) == ({"a"} if broken else set())
    assert set(files.manifests) == ({"b"} if broken else {"a", "b"})


@pytest.mark.parametrize(
    "to", ["it@example.com", "IT <it@example.com>, hr@example.com", "it@bücher.example", "{{buddy_email}}"]
)
def test_receiver_of_an_email(load, to: str) -> None:
    notification = f"post_execute_notification: {{type: email, to: '{to}', message: y}}\n"
    assert said(load({"manifests/a.yaml": notification})) == []


FULL = """
    form: [{id: TEAM_ID, type: choice, url: 'https://x/{{ORG}}', next_page: 'https://x/{{NEXT_PAGE_TOKEN}}', next_page_token_from: t}]
    exists: {url: 'https://x/{{email}}', expected: '{{ email }}', store_data: {ACCOUNT: data.id}}
    execute:
      - {url: 'https://x/{{TEAM_ID}}/{{ACCOUNT}}', data: {'{{first_name}}': '{{responses.0.id}}', p: '{{PASSWORD}}'}, store_data: {NEW: id}}
      - {url: 'https://x/{{NEW}}/{{PERSONAL}}/{{access_overview}}'}
    headers: {Authorization: 'Bearer {{oauth.access_token}}'}
    oauth: {authenticate_url: 'https://x?redirect_uri={{redirect_url}}', access_token: {url: x, data: {code: '{{code}}'}}}
    initial_data_form: [{id: ORG, description: 'Found under {{ settings|here }}'}, {id: PASSWORD, name: generate}]
    extra_user_info: [{id: PERSONAL, name: 'Private {{ mail }}'}]
    description: '{{ not a | template }}'
"""


def test_withdraw_needs_a_check_that_shows_invitations(load) -> None:
    text = "exists: {url: x, expected: y, invited: {state: pending}}\nwithdraw: [{url: x}]\n"
    assert said(load({"manifests/a.yaml": text})) == []


def test_every_variable_that_something_gives(load) -> None:
    assert said(load({"manifests/a.yaml": textwrap.dedent(FULL)})) == []


def test_the_manifests_of_a_service_give_to_each_other(load) -> None:
    files = {
        "manifests/asana.yaml": MINIMAL + "initial_data_form: [{id: ORG}]\n",
        "manifests/asana-team.yaml": "service: asana\nexecute: [{url: 'https://x/{{ORG}}'}]\n",
        "manifests/other.yaml": "service: other\nexecute: [{url: 'https://x/{{ORG}}'}]\n",
    }
    (line,) = said(load(files))
    assert line.startswith("manifests/other.yaml:2: warning: ")


def test_a_broken_sibling_may_be_the_one_that_gives_it(load) -> None:
    files = {
        "manifests/asana.yaml": "initial_data_form: [{id: ORG}]\nexcute: []\n",
        "manifests/asana-team.yaml": "service: asana\nexecute: [{url: 'https://x/{{ORG}}'}]\n",
    }
    (line,) = said(load(files))
    assert "excute" in line


def test_code_and_next_page_tokens_are_known_in_their_place_only(load) -> None:
    files = load({"manifests/a.yaml": "execute: [{url: 'https://x/{{code}}/{{NEXT_PAGE_TOKEN}}'}]\n"})
    assert len(files.problems) == 2


SEQUENCES = [
    pytest.param("assign: {departmnt: x}", "assign.departmnt: unknown key; allowed: email,", id="field"),
    pytest.param("assign: {departmnt: x}", "did you mean department?", id="near"),
    pytest.param("assign: {}", "assign: must not be empty", id="empty"),
    pytest.param("assign: {sequences: x}", "assign.sequences: unknown key", id="no-field"),
    pytest.param("assign: {any: []}", "assign: any: must be a list of conditions", id="no-condition"),
    pytest.param("assign: {not: {}}", "assign: not: must be a condition", id="not-nothing"),
    pytest.param(
        "assign: {any: [{departmnt: x}]}", "assign: any.0.departmnt: unknown key; allowed: email,", id="inner-field"
    ),
    pytest.param("assign: {department: {nor: x}}", "department: must be a value, a list of values", id="no-value"),
    pytest.param("assign: {department: []}", "department: must be a value, a list of values", id="no-values"),
    pytest.param(
        "acess: []", "acess: unknown key; allowed: assign, include, access; did you mean access?", id="unknown"
    ),
    pytest.param("access: [a, {integration: b, name: a}]", "access.1.name: 'a' stands twice", id="twice"),
    pytest.param(f"access: [{'a' * 256}]", "access.0.integration: must have at most 255 characters", id="long"),
    pytest.param(r'access: [{integration: saas, name: "a\0"}]', "access.0.name: NUL cannot stand in it", id="nul"),
]


@pytest.mark.parametrize(("text", "part"), SEQUENCES)
def test_a_broken_sequence(load, text: str, part: str) -> None:
    files = load({"config/sequences/s.yaml": text + "\n"})
    (line,) = said(files)
    assert part in line
    assert set(files.broken["sequences"]) == {"s"}


def test_one_stem_for_two_files_is_an_error_on_both(load) -> None:
    files = load(
        {
            "hires/ada.yaml": ADA,
            "hires/x/ada.yml": ADA.replace("ada@", "a2@"),
            "hires/b.yaml": ADA.replace("ada@", "b@"),
        }
    )
    assert [problem.file for problem in files.problems] == ["hires/ada.yaml", "hires/x/ada.yml"]
    assert "hires/x/ada.yml has the stem 'ada' too" in files.problems[0].message
    assert set(files.hires) == {"b"}
    assert files.broken["hires"]["ada"] == files.problems


def test_a_manifest_in_two_formats_is_one_stem_twice(load) -> None:
    files = load({"manifests/a.yaml": MINIMAL, "manifests/sub/a.json": '{"execute": [{"url": "x"}]}'})
    assert set(files.broken["manifests"]) == {"a"}
    assert len(files.problems) == 2


def test_one_address_for_two_hires_is_an_error_on_both(load) -> None:
    files = load({"hires/a.yaml": ADA, "hires/b.yaml": ADA.replace("ada@example", "ADA@Example")})
    assert said(files) == [
        "hires/a.yaml:1: error: email: hires/b.yaml has this address too: an address belongs to one hire",
        "hires/b.yaml:1: error: email: hires/a.yaml has this address too: an address belongs to one hire",
    ]
    assert set(files.broken["hires"]) == {"a", "b"}
    assert files.hires == {}


def test_the_address_of_a_broken_hire_counts(load) -> None:
    files = load({"hires/a.yaml": ADA, "hires/b.yaml": "x: 1\n" + ADA})
    assert set(files.broken["hires"]) == {"a", "b"}
    assert "hires/b.yaml:2: error: email: hires/a.yaml has this address too: an address belongs to one hire" in said(
        files
    )


def test_similar_file_that_is_not_read_is_reported(load) -> None:
    files = load({"hires/a.json": "{}", "hires/b.YAML": ADA, "hires/notes.txt": "x"})
    assert said(files) == [
        f"hires/{name}: warning: not read: a name in hires/ ends in .yaml, .yml; rename it; did you mean {meant}?"
        for name, meant in (("a.json", "a.yaml"), ("b.YAML", "b.yaml"), ("notes.txt", "notes.yaml"))
    ]


def test_submodule_is_reported(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    repo.write("manifests/.gitkeep", "")
    repo.git("add", ".")
    for name in ("hires/team", "hires/bob.yaml"):
        repo.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{name}")
    repo.git("commit", "-qm", "Submodules")
    files = Reader().load(Checkout.open(repo.root).head())
    assert [str(problem) for problem in files.problems if "hires" in str(problem)] == [
        "hires/bob.yaml: error: is a symbolic link or a submodule, which is not followed; commit the file itself in its place",
        (
            "hires/team: warning: not read: a name in hires/ ends in .yaml, .yml; rename it; did you mean team.yaml?"
            " Of a link to a folder and of a submodule, commit the files themselves"
        ),
    ]


def test_name_that_is_not_utf_8_is_reported_escaped(tmp_path: Path) -> None:
    repo, reader = Repo(tmp_path / "repo"), Reader()
    repo.write("hires/Zo\udceb.yaml", ADA)
    repo.write("manifests/\udcff.json", "{}")
    repo.commit()
    checkout = Checkout.open(repo.root)
    told = [
        "hires/Zo\\xeb.yaml: error: not read: its name is not UTF-8; rename it",
        "manifests/\\xff.json: error: not read: its name is not UTF-8; rename it",
    ]
    for tree in (checkout.worktree(), checkout.head()):
        files = reader.load(tree)
        assert said(files) == told
        assert list(files.hires) == []
    repo.git("mv", "hires/Zo\udceb.yaml", "hires/zoe.yaml")
    repo.commit()
    assert said(files := reader.load(checkout.head())) == told[1:]
    assert list(files.hires) == ["zoe"]


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hires/a.yaml", ADA + "".join(f"k{number}: 1\n" for number in range(30_000))),
        ("hires/a.yaml", f"{ADA}access:\n" + "- []\n" * 50_000),
        ("hires/a.yaml", f"{ADA}extra:\n" + "".join(f"  a {number}: 1\n" for number in range(25_000))),
        ("manifests/a.yaml", "execute:\n" + "- {urll: 1}\n" * 25_000),
        (
            "manifests/a.yaml",
            "form:\n"
            + "".join(f"- {{id: a{number}, type: input}}\n" for number in range(3_500))
            + f"execute:\n- url: https://{''.join(f'{{{{ba{number}}}}}' for number in range(7_000))}\n",
        ),
    ],
    ids=["keys", "entries", "extra", "requests", "placeholders"],
)
def test_at_most_a_hundred_problems_are_reported(load, path: str, text: str) -> None:
    with at_most(20):
        told = said(load({path: text}))
    assert len(told) == 101
    assert sum("there are more than 100: mend these first" in line for line in told) == 1


def test_a_name_as_long_as_a_file_is_not_repeated_whole(load) -> None:
    (told,) = said(load({"hires/a.yaml": f"{ADA}? {'k' * 300_000}\n: 1\n"}))
    assert len(told) < 2100
    assert "did you mean" not in told


def test_access_that_is_an_alias_has_a_line_for_each_entry(load) -> None:
    files = load({"hires/a.yaml": ADA + "extra: {X: &x [a, b]}\naccess: *x\n"})
    assert files.hires["a"].lines == (5, 5)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("intervall: 1\n", [":1: intervall: unknown key", "did you mean interval?"]),
        (
            "interval: 10x\ndrift: heall\n",
            [":1: interval: not a duration", ":2: drift: 'heall'", "heal?"],
        ),
        ("timezone: Mars\n", ["timezone: not an IANA time zone"]),
        ("limits:\n  per_host: 0\n", [":2: limits.per_host: must be at least 1"]),
        ("limits: {rate: 1e-320}\n", ["limits.rate: must be at least 0.01"]),
        (
            "max_change_percent: true\nsmtp: {port: true}\n",
            [":1: max_change_percent: must be a number", ":2: smtp.port: "],
        ),
        ("public_url: 'https://[::1'\n", [":1: public_url: not an address: write it as https://access.example.com"]),
        ("limits: {rate: inf}\n", ["limits.rate: must be at most 10000"]),
        ("limits: {rate: nan}\n", ["limits.rate: must be at most 10000"]),
        ("interval: 0.5\n", ["interval: an interval of less than 1s would be over before its first check"]),
        ("interval: 999999d\n", [":1: interval: must be at most 99999d"]),
        ("limits: {timeout: 2d}\n", [":1: limits.timeout: must be at most 1d"]),
        ("interval: ٣m\n", ["interval: not a duration"]),
        ("listen: a..b:80\n", ["listen: must be host:port"]),
        ("listen: 127.0.0.1:²\n", ["listen: must be host:port"]),
        ("git: {branch: ''}\n", ["git.branch: must not be empty"]),
        ('git: {branch: "a\\0"}\n', ["git.branch: control characters cannot stand in it"]),
        ('state: "sqlite:///a\\0"\n', ["state: control characters cannot stand in it"]),
        ("state: sqlite:///\n", ["state names no file"]),
        ("state: sqlite:///..\n", ["state names no file"]),
        ("gnupg_home: ~nobody/x\n", ["gnupg_home: only ~/ stands for a home"]),
        ("allowed_hosts: [ü..example.com]\n", ["not a name that a host can have"]),
        ("a: [\n", ["not YAML"]),
        ("- a\n", ["must be a map; allowed keys: interval, "]),
        ("drift: {inactiv: heal}\n", ["drift.inactiv: unknown key", "did you mean inactive?"]),
        ("prune: maybe\n", ["prune: must be the word report or revoke or a map"]),
        (
            "prune:\n  slack: revok\n",
            ["prune.slack: 'revok' is not known; allowed: report, revoke; did you mean revoke?"],
        ),
        ("state: mysql://x\n", ["state: must be sqlite:///path or postgresql://"]),
        (
            "source: worktree\nstate: postgresql://a@b/c\n",
            ["one machine's files, and a postgresql:// state is a fleet's"],
        ),
    ],
)
def test_broken_settings_refuse_the_whole(load, text: str, parts: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"config/reconciler.yaml": text})
    assert all(isinstance(problem, Problem) for problem in caught.value.problems)
    assert all(part in str(caught.value) for part in parts)


def test_settings_under_another_name_are_not_passed_over(load) -> None:
    with pytest.raises(SettingsError, match="rename the file"):
        load({"config/reconciler.yml": "interval: 1m\n"})
    assert load({"config/reconciler.yaml": "# all defaults\n"}).settings.interval.total_seconds() == 600


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("sequences", "{}\n", id="nothing"),
        pytest.param("sequences", "access: [asana]\n", id="sequence"),
        pytest.param(
            "imports", "type: import_users\nfile: /srv/people.csv\ndata_structure: {email: mail}\n", id="import"
        ),
    ],
)
def test_a_copy_in_another_folder_is_a_file_of_its_own(load, name: str, text: str) -> None:
    files = load({"manifests/copied.yaml": text, f"config/{name}/copied.yaml": text, "manifests/asana.yaml": MINIMAL})
    assert "copied" in getattr(files, name)
    assert not [line for line in said(files) if line.startswith("config/")]


def test_an_unchanged_file_is_not_parsed_again(tmp_path: Path, parsed: list[str]) -> None:
    repo = Repo(tmp_path / "repo")
    repo.write("hires/ada.yaml", ADA)
    repo.write("hires/broken.yaml", "x: [\n")
    repo.write("manifests/m.yaml", MINIMAL)
    repo.commit()
    checkout, reader = Checkout.open(repo.root), Reader()
    first = reader.load(checkout.head())
    assert sorted(parsed) == ["hires/ada.yaml", "hires/broken.yaml", "manifests/m.yaml"]
    parsed.clear()
    again, folder = reader.load(checkout.head()), reader.load(checkout.worktree())
    assert parsed == []
    assert again == first
    assert folder.hires == first.hires
    repo.write("hires/ada.yaml", ADA + "position: Engineer\n")
    repo.commit()
    parsed.clear()
    changed = reader.load(checkout.head())
    assert parsed == ["hires/ada.yaml"]
    assert changed.hires["ada"].model.position == "Engineer"
    assert first.hires["ada"].model.position is None


def test_a_renamed_file_is_called_by_its_new_name(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    repo.write("hires/ada.yaml", ADA + "emial: x\n")
    repo.write("manifests/m.yaml", MINIMAL)
    repo.commit()
    checkout, reader = Checkout.open(repo.root), Reader()
    reader.load(checkout.head())
    repo.git("mv", "hires/ada.yaml", "hires/lovelace.yaml")
    repo.commit()
    assert [problem.file for problem in reader.load(checkout.head()).problems] == ["hires/lovelace.yaml"]


def with_more_and_more(number: int) -> dict[str, str]:
    """Files of so many hires, each with one entry more than the one before, and a start."""
    text = "email: h{0}@example.com\nfirst_name: A\nlast_name: B\nstart: 2027-01-0{1}\naccess: {2}\n"
    return {
        f"hires/h{place}.yaml": text.format(place, place + 1, [f"tool{each}" for each in range(place)])
        for place in range(number)
    }


def test_last_hires_are_kept_parsed_and_first_ones_as_plain_data_up_to_the_limit(
    load, parsed: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(people, "MAX_PACKED", 1)  # so one
    loaded = load(with_more_and_more(6))
    assert loaded.hires["h5"] is loaded.hires["h5"]
    assert loaded.hires["h4"] is loaded.hires["h4"]
    parsed.clear()
    assert loaded.hires["h0"].model.access == []
    assert parsed == []
    for _ in range(2):
        found = {hire: [entry.access for entry in loaded.hires[hire].model.access] for hire in loaded.hires}
        assert found == {f"h{place}": [f"tool{each}" for each in range(place)] for place in range(6)}
    assert "hires/h0.yaml" not in parsed
    assert loaded.hires["h5"].model.access[0] is loaded.hires["h1"].model.access[0]  # all who have it share it


def test_a_hire_kept_as_plain_data_is_the_same(load, parsed: list[str], monkeypatch) -> None:
    usual = load(files := with_more_and_more(3))
    monkeypatch.setattr(people, "LAST", 0)
    packed = load(files)
    parsed.clear()
    for hire in usual.hires:
        assert packed.hires[hire] == usual.hires[hire]
        assert packed.hires[hire].document.data == usual.hires[hire].document.data
        for path in (("email",), ("access", 1), ("start",)):
            assert packed.hires[hire].document.line(path) == usual.hires[hire].document.line(path)
    assert parsed == []


def test_nothing_of_a_revision_that_could_not_be_read_is_in_the_next(repo: Repo) -> None:
    """Of a damaged or partial clone, say: what of it was parsed before that was found out."""
    repo.write("hires/ada.yaml", ADA)
    repo.write("hires/bob.yaml", ADA.replace("ada@", "bob@"))
    repo.write("manifests/m.yaml", MINIMAL)
    repo.commit()
    checkout, reader = Checkout.open(repo.root), Reader()
    assert reader.load(checkout.head()).hires["ada"].model.email == "ada@example.com"
    repo.write("hires/ada.yaml", ADA.replace("ada@", "somebody-else@"))
    repo.write("hires/bob.yaml", ADA.replace("ada@", "robert@"))
    repo.write("hires/aaa.yml.YAML", ADA)
    repo.commit()
    blob = repo.git("rev-parse", "HEAD:hires/bob.yaml").strip()
    (repo.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(RepositoryError, match=r"no content for hires/bob.yaml"):
        reader.load(checkout.head())
    repo.git("reset", "HEAD~1")
    repo.write("hires/ada.yaml", ADA)
    repo.write("hires/bob.yaml", ADA.replace("ada@", "bob@"))
    repo.remove("hires/aaa.yml.YAML")
    repo.write("README.md", "mended\n")
    repo.commit()
    mended = reader.load(checkout.head())
    assert mended.hires["ada"].model.email == "ada@example.com"
    assert mended.problems == []


def test_prune_names_integrations_that_are_there(load) -> None:
    settings = "prune:\n  default: report\n  asana: revoke\n  salck: revoke\n"
    files = load({"config/reconciler.yaml": settings, "manifests/asana.yaml": MINIMAL, "manifests/slack.yaml": "{"})
    (problem,) = [problem for problem in files.problems if problem.file == "config/reconciler.yaml"]
    assert (problem.line, problem.severity) == (4, "warning")
    assert problem.message == "prune.salck: there is no integration of that name; did you mean slack?"


DOUBTFUL = [
    pytest.param("suspend:\n- {integration: slakc}", 2, "suspend.0.integration: there is no integration slakc; did you mean slack?", id="integration"),
    pytest.param("suspend:\n- {integration: slack}\n- {hire: aad}", 3, "suspend.1.hire: there is no hire aad; did you mean ada?", id="hire"),
    pytest.param("alerts: [{webhook: 'http://chat.example.com/hook'}]", 1, "alerts.0.webhook: it is never asked: only https:// is", id="webhook"),
    pytest.param("alerts: [{webhook: hooks.example.com}]", 1, "alerts.0.webhook: it is never asked: only https:// is", id="no-url"),
    pytest.param("alerts: [{webhook: 'https://[::1/x'}]", 1, "alerts.0.webhook: it is never asked", id="half-an-address"),
    pytest.param("twilio: {account_sid: a, from_number: b, url: 'http://texts.example.com'}", 1, "twilio.url: it is never asked", id="twilio"),
    pytest.param("allowed_hosts: [a.example.com, 'https://b.example.com']", 1, "allowed_hosts.1: allows nothing", id="url"),
    pytest.param("allowed_hosts: ['*.example.com']", 1, "allowed_hosts.0: allows nothing", id="pattern"),
    pytest.param("alerts: [{webhook: 'https://hooks.example.com/a b'}]", 1, "alerts.0.webhook: it is never asked", id="blank"),
    pytest.param("alerts: [{webhook: 'https://u:p@hooks.example.com/a'}]", 1, "alerts.0.webhook: it is never asked", id="user"),
    pytest.param("public_url: https://access.example.com/?a=b", 1, "public_url: no browser comes back to it", id="query"),
    pytest.param("smtp: {host: 'mail.example.com:587'}", 1, "smtp.host: no server has this name", id="mail"),
    pytest.param("public_url: access.example.com", 1, "public_url: no browser comes back to it", id="public"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "line", "message"), DOUBTFUL)
def test_a_setting_that_can_have_no_effect_is_a_warning(load, settings: str, line: int, message: str) -> None:
    ada = "email: ada@example.com\nfirst_name: Ada\nlast_name: L\n"
    files = load({"config/reconciler.yaml": settings + "\n", "manifests/slack.yaml": MINIMAL, "hires/ada.yaml": ada})
    (problem,) = files.problems
    assert (problem.file, problem.line, problem.severity) == ("config/reconciler.yaml", line, "warning")
    assert problem.message.startswith(message)


def test_settings_that_have_an_effect_are_no_warning(load) -> None:
    settings = """\
suspend: [{integration: slack, hire: ada}, {integration: broken}]
alerts: [{webhook: "https://chat.example.com/{{ KEY }}"}, {webhook: "{{HOOK}}"}, {webhook: "http://127.0.0.1:9/x"}]
public_url: http://localhost:8080
"""
    ada = "email: ada@example.com\nfirst_name: Ada\nlast_name: L\n"
    files = {"manifests/slack.yaml": MINIMAL, "manifests/broken.yaml": "{", "hires/ada.yaml": ada}
    found = load({"config/reconciler.yaml": settings, **files}).problems
    assert {problem.file for problem in found} == {"manifests/broken.yaml"}


@pytest.mark.parametrize(
    "files",
    [
        {"manifests/reconciler.yaml": "execute: [{url: 'https://x'}]"},
        {"manifests/mail.yaml": "execute: [{url: 'https://x'}]\nservice: reconciler"},
        {"config/imports/reconciler.yaml": "execute: [{url: 'https://x'}]\ndata_structure: {email: e}"},
    ],
    ids=["stem", "service", "import"],
)
def test_the_programs_own_secrets_are_given_to_no_service(load, files: dict[str, str]) -> None:
    found = load(files)
    ((path, _),) = files.items()
    assert [(problem.file, problem.severity) for problem in found.problems] == [(path, "error")]
    assert found.problems[0].message.startswith("'reconciler' is the program itself")
    assert found.manifests == found.imports == {}
    assert sum(map(len, found.broken.values())) == 1


def test_a_sequence_may_be_called_as_the_program_is(load) -> None:
    assert load({"config/sequences/reconciler.yaml": "access: []\n"}).problems == []


def test_the_phone_of_a_hire_is_a_variable(load) -> None:
    text = "post_execute_notification: {type: text, to: '{{phone}}', message: Hello}"
    assert said(load({"manifests/a.yaml": text + "\n"})) == []


UNCHANGED = """
oauth: {}
exists: []
form:
- {id: TEAM, type: choice, url: "", choice_value: gid, choice_name: title, items: [{gid: 1, title: One}]}
execute:
- {url: "https://a.example.com", data: "", continue_if: {}, polling: [], save_as_file: "", headers: {}}
"""


def test_empty_keys_of_the_builder_count_as_absent(load) -> None:
    files = load({"manifests/a.yaml": UNCHANGED})
    assert said(files) == []
    manifest = files.manifests["a"].model
    (request,) = manifest.execute
    left_out = (request.data, request.continue_if, request.polling, request.save_as_file)
    assert left_out == (None, None, None, None)
    assert (manifest.oauth, manifest.exists) == (None, None)
    assert [(item.id, item.name) for item in manifest.form[0].items or ()] == [(1, "One")]
    assert not manifest.form[0].fetched


IGNORED = (
    "- {integration: asana, account: '*-bot@example.com', reason: CI, owner: ops@example.com, until: 2027-06-30}\n"
)


def test_ignored_accounts_hold_through_their_last_day(load) -> None:
    files = load({"manifests/asana.yaml": MINIMAL, "config/ignore.yaml": IGNORED})

    (entry,) = files.ignore
    assert said(files) == []
    assert (entry.reason, entry.owner) == ("CI", "ops@example.com")
    assert entry.covers(["CI-Bot@Example.com"], date(2027, 6, 30))
    assert not entry.covers(["ci-bot@example.com"], date(2027, 7, 1))
    assert not entry.covers(["ci-bot@example.com.evil.example"], date(2027, 6, 30))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- {integration: asana, account: x}\n", "config/ignore.yaml:1: error: 0.reason: required, and not there"),
        ("- integration: asana\n  account: x\n  reason: ''\n", "config/ignore.yaml:3: error: 0.reason: must not be empty"),
        ("- integration: asana\n  account: x\n  reason: r\n  untill: 2027-01-01\n", "config/ignore.yaml:4: error: 0.untill: unknown key; allowed: integration, account, reason, owner, until; did you mean until?"),
        ("- {integration: asana, account: x, reason: r, until: soon}\n", "config/ignore.yaml:1: error: 0.until: not a date: write it YYYY-MM-DD, such as 2026-12-01"),
        ("asana: x\n", "config/ignore.yaml:1: error: must be a list: begin each line of it with `- `, or write it in [ ]"),
        ("- {integration: asana, account: x, reason: r\n", "config/ignore.yaml:2: error: not YAML: did not find expected ',' or '}'; a [ or { is not closed, or a comma is missing"),
    ],
)  # fmt: skip
def test_a_broken_file_of_ignored_accounts_ignores_nothing(load, text: str, problem: str) -> None:
    files = load({"manifests/asana.yaml": MINIMAL, "config/ignore.yaml": text})

    assert files.ignore == ()
    assert said(files) == [problem]
    assert "asana" in files.manifests


def test_accounts_of_an_unknown_integration_are_a_warning(load) -> None:
    text = f"{IGNORED}- {{integration: slak, account: x, reason: r}}\n"
    files = load({"manifests/asana.yaml": MINIMAL, "manifests/slack.yaml": MINIMAL, "config/ignore.yaml": text})

    assert said(files) == [
        "config/ignore.yaml:2: warning: 1.integration: there is no integration slak; did you mean slack?"
    ]
    assert len(files.ignore) == 2


@pytest.mark.parametrize("name", ["reconciler", "ignore", "policy", "requestable"])
def test_file_of_config_beside_the_one_that_is_read_is_reported(load, name: str) -> None:
    content = "interval: 1m\n" if name == "reconciler" else "[]\n"
    paths = [f"config/{name}.yaml", f"config/{name}.yml", f"config/{name}.json", f"config/old/{name}.yaml"]
    reported = [problem for problem in load(dict.fromkeys(paths, content)).problems if problem.file in paths]
    assert sorted(problem.file for problem in reported) == sorted(paths[1:])
    assert all("not read" in problem.message for problem in reported)


@pytest.mark.parametrize("name", ["reconciler", "ignore", "policy", "requestable"])
def test_folder_of_config_that_is_called_like_a_file_is_reported(load, name: str) -> None:
    path = f"config/{name}/rules.yaml"
    (problem,) = [problem for problem in load({path: "[]\n"}).problems if problem.file == path]
    assert problem.message.startswith("not read: in config/ are ")


def test_misnamed_file_of_ignored_accounts_is_reported(load) -> None:
    files = load({"config/ignore.yml": IGNORED})

    assert said(files) == ["config/ignore.yml: warning: not read: rename it to config/ignore.yaml"]
