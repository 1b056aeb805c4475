"""What the documentation names is there: commands, options, environment variables, metrics, statuses, paths, keys.

The other direction, that what is there is named, is in test_documented.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from starlette.routing import Route

from reconciler import __version__
from reconciler.cli import run
from reconciler.gallery.catalog import everything
from reconciler.intake.forge import TOKEN
from reconciler.ledger.reading import HEAD
from reconciler.model.config_files import AccessRequest, Requestable, Rule
from reconciler.model.status import Action, EventType, Status
from reconciler.web.hooks import hook_route
from reconciler.web.pages import StatusPages
from reconciler.web.serve import app, callback_route
from tests.docs.test_documented import ALL, DOCS, PLACES, metric_names, rows
from website import reference

ROOT = DOCS.parent
WRITTEN = {"CHANGELOG.md", "options.md", "gallery.md"}
"""Pages about what was, and pages that the program writes."""

PAGES = sorted(
    [
        *(page for page in DOCS.rglob("*.md") if page.name not in WRITTEN),
        ROOT / "README.md",
        ROOT / "reconciler" / "cli" / "template" / "README.md",  # what `init` writes
    ]
)
SHIPPED = [
    *PAGES,
    *(file for folder in (ROOT / "deploy", DOCS / "monitoring") for file in folder.rglob("*") if file.is_file()),
    ROOT / "Containerfile",
]
ELSEWHERE = r"(?:sudo -u \w+ |docker compose exec \w+ |kubectl exec \S+ -- )?"
"""What may stand before a call, to have it made by another user or in a container."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- command lines ----------------------------------------------------------------------------------------------------


@cache
def options() -> dict[str, dict[str, click.Option]]:
    """Every command by its full name, with the options it takes."""
    return {
        name: {word: each for each in command.params if isinstance(each, click.Option) for word in each.opts}
        for name, command in reference.commands()
    }


def command_lines(text: str) -> Iterator[str]:
    """Every call of the program: a line of a block, or a piece of code within the prose."""
    blocks = [match[3] for match in FENCE.finditer(text)] + re.findall(r"(?:^(?: {4,}).*\n)+", text, re.MULTILINE)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(rf"(?:^\s*(?:\$ )?|&& |\| ){ELSEWHERE}(reconcile(?: .*)?)$", line)
    for span in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        if called := re.fullmatch(ELSEWHERE + r"(reconcile(?: .*)?)", " ".join(span.split())):
            yield called[1]


def wrong(line: str) -> str | None:
    """What a call has that the program has not."""
    line = re.split(r"\s#|[|<>;&]|\)", re.sub(r"\$\([^)]*\)", "REV", line).replace("\\|", "/"))[0]
    words = shlex.split(re.sub(r"[\[\]…]", " ", line))
    name, at = words[0], 1
    while at < len(words) and f"{name} {words[at]}" in options():
        name, at = f"{name} {words[at]}", at + 1
    if name == "reconcile request":  # an integration is short for `ask`
        name = "reconcile request ask"
    known = options()[name] | options()["reconcile"] if name == "reconcile" else options()[name]
    if name == "reconcile" and at < len(words) and re.fullmatch(r"[a-z][a-z-]*", words[at]):
        return f"{line}: no such command"
    for place, word in enumerate(words[at:], at):
        option, _, value = word.partition("=")
        if not option.startswith("-") or option in ("-", "-h", "--help"):
            continue
        if option not in known:
            return f"{line}: no such option {option}"
        kind = known[option].type
        value = value or (words[place + 1] if place + 1 < len(words) and not known[option].is_flag else "")
        if isinstance(kind, click.Choice) and re.fullmatch(r"[a-z_]+", value) and value not in kind.choices:
            return f"{line}: {option} does not take {value}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_call_of_the_program_is_one_that_it_takes(page: Path) -> None:
    assert [said for line in command_lines(page.read_text()) if (said := wrong(line))] == []


@pytest.mark.parametrize(
    "line",
    ["reconcile dance", "reconcile status --sideways", "reconcile --status asleep", "reconcile oauth connct x --yes"],
)
def test_a_call_that_the_program_does_not_take_is_noticed(line: str) -> None:
    assert wrong(line)


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    decisions = DOCS / "design" / "decisions"
    pages = {page for page in DOCS.rglob("*.md") if page.parent != decisions and page != DOCS / "index.md"}
    assert {name_of(page) for page in pages} - set(re.findall(r"\]\((docs/[^)#]+\.md)", text)) == set()


def test_calls_are_found() -> None:
    text = "`reconcile --dry-run`\n\n```sh\ncd x && reconcile validate  # offline\n$ reconcile unmanaged\n```\n"
    assert sorted(command_lines(text)) == [
        "reconcile --dry-run",
        "reconcile unmanaged",
        "reconcile validate  # offline",
    ]
    assert sum(len(list(command_lines(page.read_text()))) for page in PAGES) > 150


def test_every_option_that_is_named_alone_is_one_of_the_programs() -> None:
    known = {word for each in options().values() for word in each} | {"--help"}
    elsewhere = {
        "--build-arg",
        "--confirm",
        "--index-url",
        "--maximum-removal-delta",
        "--requirement",
    }  # of other programs
    named = {
        (name_of(page), match)
        for page in PAGES
        for match in re.findall(r"`(--[a-z-]+)[^`]*`", FENCE.sub("", page.read_text()))
    }
    assert {(page, option) for page, option in named if option not in known | elsewhere} == set()


def test_every_ready_manifest_that_is_named_is_there() -> None:
    named = {word for page in PAGES for word in re.findall(r"\breconcile add ([a-z0-9][\w-]*)", page.read_text())}
    with_ = {
        word
        for page in PAGES
        for words in re.findall(r"--with ([a-z][\w,-]*)", page.read_text())
        for word in words.split(",")
    }
    imports = {"bamboohr", "deel", "gusto", "hibob", "personio", "rippling", "workday"}
    assert (named | with_) - imports - everything().keys() == set()


# --- names ------------------------------------------------------------------------------------------------------------


def test_every_variable_of_the_program_is_an_options() -> None:
    known = {each.envvar for command in options().values() for each in command.values()}
    named = {name for file in SHIPPED for name in re.findall(r"\bRECONCILE_[A-Z_]+\b", file.read_text())}
    assert named - known == {TOKEN, "RECONCILE_PAGES_TOKEN"}


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    read = r"""environ(?:ment)?\.(?:get|setdefault)\("([A-Z_]+)"|"([A-Z_]+)" in os\.environ"""
    sources = [file.read_text() for file in (ROOT / "reconciler").rglob("*.py") if "demo" not in file.parts]
    found = {name for text in sources for pair in re.findall(read, text) for name in pair if name}
    by_libraries = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "PAGER"}
    assert rows("commands.md", "Environment") == {name for name in found if "RECONCILE_" not in name} | by_libraries


def test_every_metric_that_is_named_is_there() -> None:
    names = metric_names()
    known = names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    named = {name for file in SHIPPED for name in re.findall(r"\breconciler_[a-z_]+\b", file.read_text())}
    assert named - known == set()


def test_every_status_in_a_query_or_in_json_is_there() -> None:
    words = {
        ("status", Status): r"""status=~?"([^"]+)"|"status": "([^"]+)\"""",
        ("action", Action): r""""action": "([^"]+)\"""",
        ("event", EventType): r"""--event (\w+)""",
    }
    for (what, kind), pattern in words.items():
        known = {str(each) for each in kind}
        found = [found for file in SHIPPED for found in re.findall(pattern, file.read_text())]
        named = {
            word
            for each in found
            for part in ([each] if isinstance(each, str) else each)
            for word in re.split(r"\\?\|", part)
        }
        assert named & known, f"no page has a {what}"
        assert named - known <= {""}, what


def test_exit_codes_are_the_programs() -> None:
    assert {code for code in rows("commands.md", "Exit codes") if code.isdigit()} == {"0", "1", "2", "64", "130"}
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^\| `(\d+)` \|", text, re.MULTILINE)) <= {"0", "1", "2", "64", "130"}


def test_every_field_of_json_is_one_that_the_program_writes() -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / "reconciler").rglob("*.py"))
    text = (DOCS / "commands.md").read_text().partition("\n## JSON\n")[2]
    named = set(re.findall(r'"([a-z_]+)"(?=[:,}\]])', text))
    assert len(named) > 60
    written = {name for name in named if f'"{name}"' in sources or re.search(rf"^    {name}: ", sources, re.MULTILINE)}
    values = {"prune", "report", "revoke", "present", "missing", "execute", "error", "ada", "asana"}
    assert named - written - values == set()


# --- versions ---------------------------------------------------------------------------------------------------------


def test_every_version_that_is_named_is_this_one() -> None:
    shipped = [*SHIPPED, *(DOCS / "ci").iterdir()]
    named = {
        name for file in shipped for name in re.findall(r"access[_-]reconciler(?:-|==)(\d[\d.]*\d)", file.read_text())
    }
    assert named == {__version__}
    assert f"reconcile {__version__}, schema {HEAD}" in (DOCS / "how-to" / "upgrade.md").read_text()


def test_the_changelog_has_this_version_and_a_place_for_what_comes() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d", heads[1])


# --- paths that are served --------------------------------------------------------------------------------------------


UNUSED: Any = None
"""Routes are looked at here, and none is asked for anything."""

SIGNING_IN = {"/sign-in", "/sign-out", "/static/*", "/*"}
"""What the pages lead to themselves, and what answers that there is no page."""


def routes() -> set[str]:
    """What `listen` serves, with `*` where a path has a variable part."""
    of_pages = StatusPages(UNUSED, UNUSED, str).routes()
    of_all = app(healthy=UNUSED, ready=UNUSED, metrics=UNUSED, guard=UNUSED, hosts=UNUSED).routes
    others = [callback_route(UNUSED), hook_route(UNUSED, UNUSED)]
    paths = [each.path for each in [*of_all, *of_pages, *others] if isinstance(each, Route)]
    return {re.sub(r"\{\w+(?::\w+)?\}", "*", path) for path in paths}


def test_every_path_that_is_served_is_documented_and_no_other() -> None:
    told = rows("operations.md", "Pages, health and metrics") | rows("pages.md", "Status pages")
    assert {re.sub(r"<\w+>|\b[A-Z]+\b", "*", path) for path in told} == routes() - SIGNING_IN


# --- keys in examples -------------------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, str]]:
    """Every block of YAML in the documentation."""
    for page in PAGES:
        for number, (_, language, block) in enumerate(FENCE.findall(page.read_text())):
            if language == "yaml":
                yield f"{name_of(page)}:{number}", block.replace("…", "x")


def unknown(model: type[BaseModel], given: Any) -> list[str] | None:
    """The keys that a model does not have; None where it is another model's to begin with."""
    keys = {field.alias or name for name, field in model.model_fields.items()}
    if not isinstance(given, dict) or not given.keys() & keys:
        return None
    try:
        model.model_validate(given)
    except ValidationError as error:
        return [".".join(map(str, each["loc"])) for each in error.errors() if each["type"] == "extra_forbidden"]
    return []


@pytest.mark.parametrize(("where", "block"), [pytest.param(*each, id=each[0]) for each in examples()])
def test_every_example_has_keys_that_are_there(where: str, block: str) -> None:
    given = yaml.safe_load(block) or {}
    if "scrape_configs" in given:
        return  # Prometheus' own
    if "services" in given:
        return  # Compose's own
    if "apiVersion" in given:
        return  # Kubernetes' own
    items = given if isinstance(given, list) else [given] * bool(given)
    for item in items:
        models: list[type[BaseModel]] = [*ALL, Rule, Requestable, AccessRequest]
        tried = [found for model in models if (found := unknown(model, item)) is not None]
        assert min(tried, key=len, default=[f"{where}: of no model"]) == []


def validated(root: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `reconcile validate` says of a folder with these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert run(["validate", "--repo", str(root)]) == 0, capsys.readouterr().out
    return capsys.readouterr().out


def test_the_steps_of_writing_a_manifest_are_whole_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "how-to" / "write-a-manifest.md").read_text()
    steps = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [Path(name).name for name, _ in steps] == ["example.yaml", "ada.yaml"] * 2 + ["example.yaml"]
    for last in (2, 4, 5):  # a manifest's step is whole with the hire of it
        said = validated(tmp_path, dict(steps[:last]), capsys)
        assert said.startswith("all files are in order"), steps[last - 1]


def test_tables_name_no_key_that_is_not_there() -> None:
    keys: dict[tuple[str, str], set[str]] = {}
    for model in ALL:
        page, headings = PLACES.get(model.__name__, ("", ()))
        for heading in headings:
            fields = {field.alias or name for name, field in model.model_fields.items()}
            keys.setdefault((page, heading), set()).update(fields)
    assert {place: more for place, known in keys.items() if (more := rows(*place) - known)} == {}
