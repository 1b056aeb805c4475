"""Files that are in order, for `tests.faults.fuzz` to put out of it: the sample repository's, and some with more."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from reconciler.model.base import Model
from reconciler.model.condition import Sequence
from reconciler.model.hire import Hire
from reconciler.model.manifest import Manifest
from reconciler.model.settings import Settings
from reconciler.repository.documents.yaml import read
from tests.faults.hostile import altered

ROOT = Path(__file__).parents[2]


def _keys(*models: type[Model]) -> list[str]:
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _samples(*patterns: str) -> list[Any]:
    """The sample repository's own files, parsed."""
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    assert files, patterns
    return [read(file.read_bytes(), file.name).data for file in files]


HIRE = {
    "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "start": date(2026, 12, 1),
    "manager": {"hire": "bob"}, "buddy": "Alan Turing", "extra": {"PERSONAL_EMAIL": "ada@home.example.com"},
    "sequences": ["engineering"],
    "access": ["slack", {"integration": "asana", "values": {"TEAM_ID": {"name": "Design"}, "MANY": ["1", "2"]},
        "at": "start-3d", "until": date(2027, 6, 30), "needs": ["slack"], "name": "second"}],
}  # fmt: skip
MANIFEST = {
    "service": "acme",
    "form": [{"id": "TEAM_ID", "name": "Team", "type": "choice", "items": [{"id": "1", "name": "Design"}]},
        {"id": "MANY", "type": "multiple_choice", "url": "http://127.0.0.1:9/teams", "data_from": "data",
            "next_page_token_from": "next", "next_page": "http://127.0.0.1:9/teams?after={{NEXT_PAGE_TOKEN}}"}],
    "exists": {"url": "http://127.0.0.1:9/users/{{email}}", "expected": "{{email}}", "store_data": {"ID": "data.0.id"},
        "list": {"url": "http://127.0.0.1:9/users", "data_from": "data", "match": "email", "next_page_from": "next"}},
    "execute": [{"url": "http://127.0.0.1:9/users", "data": {"email": "{{email}}", "team": "{{TEAM_ID}}"},
        "headers": {"Authorization": "Basic {{USER}}:{{KEY}}"}, "status_code": [200, "201"],
        "continue_if": {"response_notation": "a.0.b", "value": "{{first_name}}"},
        "polling": {"interval": 1, "amount": 2},
        "store_data": {"SAVED": "id"}, "save_as_file": "f.txt"},
        {"url": "http://127.0.0.1:9/x/{{responses.0.id}}", "data": '{"a": {{first_name}}}', "files": {"doc": "f.txt"}}],
    "revoke": [{"url": "http://127.0.0.1:9/users/{{SAVED}}", "method": "DELETE", "expected": "ok"}],
    "headers": {"Content-Type": "application/json"},
    "oauth": {"authenticate_url": "http://127.0.0.1:9/auth", "access_token": {"url": "http://127.0.0.1:9/token"}},
    "initial_data_form": [{"id": "USER", "name": "User"}, {"id": "KEY"}, {"id": "PW", "name": "generate"}],
    "extra_user_info": [{"id": "PERSONAL_EMAIL"}],
    "post_execute_notification": {"type": "email", "to": "{{email}}", "subject": "Hi", "message": "{{PW}}"},
}  # fmt: skip
WEBHOOK = {"execute": [{"url": "http://127.0.0.1:9/hook", "data": {"who": "{{first_name}} {{email}}"}}]}
SEQUENCE = {"assign": {"department": ["R&D"]}, "access": ["asana", {"integration": "slack", "at": "start+1d"}]}
SETTINGS = {
    "interval": "10m", "retry_delay": "1h", "git": {"remote": "origin", "branch": "main", "fetch": "1m"},
    "allowed_hosts": ["127.0.0.1"], "limits": {"concurrency": 9, "per_host": 3, "rate": 2.5, "timeout": "3s"},
    "drift": "heal", "prune": "revoke", "max_change_percent": 25,
    "suspend": [{"integration": "asana", "until": date(2026, 12, 24), "reason": "x"}], "listen": "127.0.0.1:0",
    "public_url": "https://it.example.com", "smtp": {"host": "127.0.0.1", "port": 9, "starttls": "never"},
    "twilio": {"account_sid": "AC1", "from_number": "+1", "url": "http://127.0.0.1:9"}, "timezone": "Europe/Amsterdam",
    "alerts": [{"email": "it@example.com"}, {"webhook": "http://127.0.0.1:9/alerts"}],
}  # fmt: skip

MANIFESTS = [MANIFEST, WEBHOOK, *_samples("manifests/*")]
HIRES = [HIRE, *_samples("hires/*")]
SEQUENCES = [SEQUENCE, *_samples("config/sequences/*")]
KINDS: dict[str, tuple[list[Any], list[str]]] = {
    "manifests": (MANIFESTS, _keys(Manifest)),
    "hires": (HIRES, _keys(Hire)),
    "sequences": (SEQUENCES, _keys(Sequence)),
    "settings": ([SETTINGS, *_samples("config/reconciler.yaml")], _keys(Settings)),
}


def one_of(kind: str) -> SearchStrategy[Any]:
    samples, keys = KINDS[kind]
    return altered(samples, keys)


SOUND = {
    "config/reconciler.yaml": SETTINGS,
    "config/sequences/engineering.yaml": SEQUENCE,
    "manifests/asana.yaml": {
        "exists": {"url": "http://127.0.0.1:9/users/{{email}}", "status_code": [200]},
        "execute": [{"url": "http://127.0.0.1:9/users", "data": {"email": "{{email}}"}}],
        "post_execute_notification": {"type": "email", "to": "{{email}}", "subject": "Hi", "message": "Hello"},
    },
    "manifests/slack.json": WEBHOOK,
    "hires/ada.yaml": {**HIRE, "manager": "Bob", "access": ["slack"]},
}

ANY = [sample for samples, _ in KINDS.values() for sample in samples]
KEYS = [key for _, keys in KINDS.values() for key in keys]

PERSON = "email: ada@example.com\nfirst_name: Ada\nlast_name: Lovelace\n"
LONG = (
    (PERSON + "access:\n", "- {integration: slack, name: e%d, needs: [e%d]}\n"),
    (PERSON + "access:\n", "- {integration: slack, name: e%d, needs: [e0, e1, e2, e%d]}\n"),
    (PERSON + "access:\n", "- {integration: asana, name: e%d, values: {TEAM_ID: {name: T%d}}}\n"),
    (PERSON + "access:\n", "- slackk%d%d\n"),
    (PERSON + "extra:\n", "  X%d: %d\n"),
    (PERSON + "sequences:\n", "- engineerin%d%d\n"),
    (PERSON, "emai%d: %d\n"),
    ("form:\n", "- {id: A%d, type: input, name: B%d}\n"),
    ("execute:\n", "- {url: 'https://{{A%d}}/{{B%d}}'}\n"),
    ("suspend:\n", "- {hire: h%d, integratio: %d}\n"),
    ("allowed_hosts:\n", "- h%d.example.com:%d\n"),
)
"""How a file begins, and what it then has very often."""


def long() -> SearchStrategy[bytes]:
    """A file that is in order, or nearly so, and has very many of one thing."""
    return st.builds(
        lambda begins, times: (begins[0] + "".join(begins[1] % (each, each + 1) for each in range(times))).encode(),
        st.sampled_from(LONG),
        st.sampled_from([20, 1000, 3000]),
    )
