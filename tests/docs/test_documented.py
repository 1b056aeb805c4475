"""Whatever users can write or read has a line in the docs: a table row whose first cell names it as code.

The other direction, that nothing is named that is not there, is in test_promises.py.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml
from prometheus_client import Counter, Info
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from reconciler import cli
from reconciler.cli.commands.initial_data import _own
from reconciler.cli.output.report import COLUMNS
from reconciler.daemon import dispatcher, loop, revisions, schedule
from reconciler.model import case, condition, config_files, hire, imports, manifest, settings
from reconciler.model.grant import Key, Record
from reconciler.model.report import Report, Row
from reconciler.model.status import Action, EventType, Status
from reconciler.notify.rules import News, NewsKind
from reconciler.web.metrics import Metrics
from website import gallery, reference

DOCS = Path(__file__).parents[2] / "docs"

PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "Manifest": ("manifest.md", ("The manifest",)),
    "FormField": ("manifest.md", ("form", "Paging", "Sent along")),
    "Exists": ("manifest.md", ("exists", "The record", "Sent along")),
    "Listing": ("manifest.md", ("list", "Paging", "Sent along")),
    "Pending": ("manifest.md", ("pending", "list", "Paging", "Sent along")),
    "Ready": ("manifest.md", ("ready", "exists", "Sent along")),
    "CountUp": ("manifest.md", ("count_up",)),
    "More": ("manifest.md", ("next_page_from",)),
    "Paging": ("manifest.md", ("Paging",)),
    "Invitation": ("manifest.md", ("invitation",)),
    "Events": ("manifest.md", ("events",)),
    "Signature": ("manifest.md", ("signature",)),
    "Token": ("manifest.md", ("token",)),
    "Request": ("manifest.md", ("Requests", "Sent along")),
    "Condition": ("manifest.md", ("continue_if",)),
    "Polling": ("manifest.md", ("polling",)),
    "Revoke": ("manifest.md", ("Requests", "revoke", "Sent along")),
    "InitialDataField": ("manifest.md", ("initial_data_form",)),
    "ExtraUserInfo": ("manifest.md", ("extra_user_info",)),
    "OAuth": ("manifest.md", ("oauth",)),
    "Notification": ("manifest.md", ("post_execute_notification",)),
    "Case": ("manifest.md", ("Case",)),
    "CannedAnswer": ("manifest.md", ("answers",)),
    "SentRequest": ("manifest.md", ("sends",)),
    "Before": ("manifest.md", ("before",)),
    "Hire": ("hires.md", ("Hire",)),
    "Person": ("hires.md", ("Hire",)),
    "HireRef": ("hires.md", ("Another hire",)),
    "Entry": ("hires.md", ("Access entry",)),
    "NamedChoice": ("hires.md", ("A choice by name",)),
    "Sequence": ("hires.md", ("Sequence",)),
    "Import": ("imports.md", ("The import",)),
    "ByAddress": ("imports.md", ("What fills a hire",)),
    "Settings": ("settings.md", ("All keys",)),
    "Git": ("settings.md", ("git",)),
    "Forge": ("settings.md", ("forge",)),
    "Checkpoints": ("settings.md", ("checkpoints",)),
    "Timestamping": ("settings.md", ("checkpoints",)),
    "Limits": ("settings.md", ("limits",)),
    "Drift": ("settings.md", ("drift",)),
    "Suspension": ("settings.md", ("suspend",)),
    "Pages": ("settings.md", ("pages",)),
    "Smtp": ("settings.md", ("smtp",)),
    "Twilio": ("settings.md", ("twilio",)),
    "Alert": ("settings.md", ("alerts",)),
    "IgnoredAccount": ("files.md", ("Ignored accounts",)),
    "Rule": ("settings.md", ("Policy",)),
    "Review": ("files.md", ("Access reviews",)),
    "ReviewLine": ("files.md", ("Access reviews",)),
}
"""Where each model's table is: the page, and the headings over it."""

WRITTEN_OTHERWISE = {"At", "Item"}
"""Models without a table: `at` is one word, and an item's keys are what `choice_value` and `choice_name` name."""


def rows(page: str, heading: str, cell: int = 1) -> set[str]:
    """What the first cells of the tables under a heading name as code, or all of their cells of another place."""
    text = (DOCS / page).read_text()
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    under = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert heading in under, f"docs/{page} has no heading {heading!r}"
    lines = re.findall(r"^\|.*\|$", under[heading].replace(r"\|", "/"), flags=re.MULTILINE)
    cells = [line.split("|")[cell] for line in lines]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all that its fields lead to."""
    seen: set[type[BaseModel]] = set()
    waiting: list[Any] = [root]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in seen:
                seen.add(kind)
                waiting += [field.annotation for field in kind.model_fields.values()]
                yield kind
        else:
            waiting += get_args(kind)


ROOTS = (
    manifest.Manifest,
    hire.Hire,
    condition.Sequence,
    case.Case,
    settings.Settings,
    config_files.IgnoredAccount,
    imports.Import,
    config_files.Rule,
)
ALL = sorted(
    {model for root in (*ROOTS, config_files.Review) for model in models(root)},
    key=lambda model: model.__name__,
)


def test_every_model_has_its_place() -> None:
    assert {model.__name__ for model in ALL} == PLACES.keys() | WRITTEN_OTHERWISE


@pytest.mark.parametrize(
    "model", [model for model in ALL if model.__name__ in PLACES], ids=lambda model: str(model.__name__)
)
def test_every_key_is_documented(model: type[BaseModel]) -> None:
    page, headings = PLACES[model.__name__]
    told = set[str]().union(*(rows(page, heading) for heading in headings))
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert keys - told == set(), f"docs/{page}, under {headings[-1]!r}, says nothing of these"


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        (settings.Settings, "All keys"),
        (settings.Git, "git"),
        (settings.Limits, "limits"),
        (settings.Smtp, "smtp"),
        (settings.Twilio, "twilio"),
    ],
)
def test_every_default_of_a_setting_is_the_programs(model: type[BaseModel], heading: str) -> None:
    text = (DOCS / "settings.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    required = {name: "x" for name, field in model.model_fields.items() if field.is_required()}
    defaults = model.model_validate(required)
    read = model.model_validate(required | {key: yaml.safe_load(value) for key, value in told.items()})
    assert told
    assert {key: value for key in told if (value := getattr(read, key)) != getattr(defaults, key)} == {}


@pytest.mark.parametrize(
    ("heading", "words"),
    [("Statuses", Status), ("Actions", Action), ("Events", EventType)],
    ids=["statuses", "actions", "events"],
)
def test_every_member_of_a_closed_set_is_documented(heading: str, words: type[Status | Action | EventType]) -> None:
    assert rows("commands.md", heading) == {str(word) for word in words}


def test_options_page_matches_the_program() -> None:
    assert reference.PAGE.read_text() == reference.text(), "run `make docs`, and commit docs/options.md"


ALIKE = {"HIRE", "INTEGRATION", "REASON", "RECIPIENT", "REV", "VALUE", "WRITE", "DETAILED_EXITCODE"}
"""What several commands say of an option in words of their own, and mean alike."""


def test_environment_variable_stands_for_one_meaning() -> None:
    said: dict[str, set[str]] = {}
    for _, command in reference.commands():
        for option in reference.options_of(command):
            said.setdefault(str(option.envvar).removeprefix("RECONCILE_"), set()).add(f"{option.type} {option.help}")
    assert {name for name, words in said.items() if len(words) > 1} == ALIKE


def test_the_page_of_ready_manifests_is_what_they_say() -> None:
    assert gallery.PAGE.read_text() == gallery.text(), "run `make docs`, and commit docs/gallery.md"


def test_every_kind_and_field_of_an_alert_is_documented() -> None:
    assert rows("settings.md", "What a webhook gets") == {str(kind) for kind in NewsKind}
    text = (DOCS / "settings.md").read_text().partition("### What a webhook gets")[2]
    assert [name for name in News.__struct_fields__ if f'"{name}": ' not in text] == []


def test_every_command_is_documented() -> None:
    told = [words for name in rows("commands.md", "All commands") if (words := name.split())[0] == "reconcile"]
    names = [name.split() for name, command in reference.commands() if not isinstance(command, click.Group)]
    assert [name for name in names if not any(words[: len(name)] == name for words in told)] == []


def test_every_option_of_a_pass_is_documented() -> None:
    told = {name.partition(" ")[0] for name in rows("commands.md", "Options of a pass")}
    here = {max(option.opts, key=len) for option in reference.options_of(cli.reconcile)}
    assert here - told == {"--version"}


def test_every_command_is_in_the_readme() -> None:
    text = (DOCS.parent / "README.md").read_text()
    table = text.partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"[a-z-]+", table))
    assert cli.COMMANDS.keys() - named == set()


def metrics() -> list[MetricWrapperBase]:
    """Every metric that is served."""
    return [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]


def metric_names() -> set[str]:
    """What they are called when they are scraped."""
    endings = {Counter: "_total", Info: "_info"}
    return {f"{each._name}{endings.get(type(each), '')}" for each in metrics()}


def test_every_metric_is_documented() -> None:
    labels = {label for each in metrics() for label in each._labelnames}
    assert rows("operations.md", "Metrics") == metric_names()
    assert labels <= rows("operations.md", "Metrics", cell=2)


def test_every_reason_of_a_pass_is_documented() -> None:
    source = "\n".join(inspect.getsource(module) for module in (dispatcher, loop, revisions, schedule))
    whys = set(re.findall(r"PassRequest\([^\n]*, \"(\w+)\"", source))
    whys |= {why for pair in re.findall(r"why = \"(\w+)\" if .* else \"(\w+)\"", source) for why in pair}
    assert len(whys) >= 6
    assert whys <= rows("operations.md", "Metrics", cell=3)


def test_every_key_of_the_programs_own_initial_data_is_documented() -> None:
    assert rows("operations.md", "Secrets") == set(_own(settings.Settings()).fields)


def test_every_field_of_the_json_is_documented() -> None:
    told = (DOCS / "commands.md").read_text().partition("\n## JSON\n")[2]
    row = Row.of(Record(Key("ada", "saas"), "ada@example.com", "saas", "saas", "hires/ada.yaml:1"))
    fields = Report(None, dry_run=True).as_json().keys() | row.as_json().keys()
    assert [name for name in fields if f'"{name}"' not in told and f"`{name}`" not in told] == []


def test_every_column_of_an_audit_is_documented() -> None:
    assert rows("how-to/audit.md", "A file for the auditor") == set(COLUMNS)


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        text = (page.parent / file if file else page).read_text()
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in headings, f"{page.name} links to {target}"
